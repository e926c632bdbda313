"""Every contract of mailhub, in one low place: a module a subject, and all of it here.

Built-in parts and plugins meet here and nowhere else. Methods are `async def` where a backend may have to wait;
they run on the reactor thread and must not block it. A plugin's may give a Deferred instead (`mailhub.answers`).
Errors are those of `mailhub.errors`. Addresses, envelopes and records are the pure values of `mailhub.message`.
"""

from __future__ import annotations

from mailhub.interfaces.accounts import (
    Account,
    IAccounts,
    IAuthenticator,
    INames,
    ISubmitter,
    KeptNames,
    Origin,
)
from mailhub.interfaces.database import IDatabase
from mailhub.interfaces.environment import Disk, Environment, INetwork, IResolver, IThreads, MailExchanger
from mailhub.interfaces.mailboxes import IHold, IMailAccount, IMailbox, IMailStore, IUniqueIds, rights_of
from mailhub.interfaces.octets import IBlobReader, IBody, IBodyWriter, IHeadedBodyWriter
from mailhub.interfaces.pipeline import Committed, IConversation, IPipeline, ITransaction, OwnTransaction
from mailhub.interfaces.plugins import IComponentFactory, IHub, Part
from mailhub.interfaces.rules import IMailRules, Placement, Placements, Redirect, Refusal, Reply
from mailhub.interfaces.screens import (
    ACCEPT,
    AddRecipient,
    ChangeReversePath,
    Edit,
    IMessageView,
    IPolicy,
    IScreen,
    ITransactionView,
    NoteResult,
    RemoveRecipient,
    Screen,
    Verdict,
)
from mailhub.interfaces.services import IService, Service
from mailhub.interfaces.transport import (
    ALIAS,
    AT_ONCE,
    NO_QUOTAS,
    STORE,
    Claim,
    Delivery,
    Deposit,
    IDeliveryAgent,
    IQueue,
    IRouter,
    Plan,
    QueuedMessage,
    QueuedRecipient,
    Receipt,
    Refusals,
    ReversePath,
    Route,
    Settlement,
    Submission,
)
from mailhub.message.edits import AddField, RemoveField, ReplaceField

__all__ = [
    "ACCEPT",
    "ALIAS",
    "AT_ONCE",
    "NO_QUOTAS",
    "STORE",
    "Account",
    "AddField",
    "AddRecipient",
    "ChangeReversePath",
    "Claim",
    "Committed",
    "Delivery",
    "Deposit",
    "Disk",
    "Edit",
    "Environment",
    "IAccounts",
    "IAuthenticator",
    "IBlobReader",
    "IBody",
    "IBodyWriter",
    "IComponentFactory",
    "IConversation",
    "IDatabase",
    "IDeliveryAgent",
    "IHeadedBodyWriter",
    "IHold",
    "IHub",
    "IMailAccount",
    "IMailRules",
    "IMailStore",
    "IMailbox",
    "IMessageView",
    "INames",
    "INetwork",
    "IPipeline",
    "IPolicy",
    "IQueue",
    "IResolver",
    "IRouter",
    "IScreen",
    "IService",
    "ISubmitter",
    "IThreads",
    "ITransaction",
    "ITransactionView",
    "IUniqueIds",
    "KeptNames",
    "MailExchanger",
    "NoteResult",
    "Origin",
    "OwnTransaction",
    "Part",
    "Placement",
    "Placements",
    "Plan",
    "QueuedMessage",
    "QueuedRecipient",
    "Receipt",
    "Redirect",
    "Refusal",
    "Refusals",
    "RemoveField",
    "RemoveRecipient",
    "ReplaceField",
    "Reply",
    "ReversePath",
    "Route",
    "Screen",
    "Service",
    "Settlement",
    "Submission",
    "Verdict",
    "rights_of",
]
