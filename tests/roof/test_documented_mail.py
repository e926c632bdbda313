"""The documentation's list and outbox: what a router sees, and mail that does not come by SMTP."""

from __future__ import annotations

import tomllib
from io import BytesIO
from typing import Any

import pytest
from twisted.web.test.requesthelper import DummyRequest

from mailhub.errors import NotPermitted
from mailhub.interfaces import Origin, ReversePath
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.testing.hubs import Internet
from mailhub.testing.waiting import result_of
from tests.delivery.test_pipeline import Stage
from tests.documented import code_block


def documented(plugin: str, table: str, hub: Any = None) -> Any:
    """The component of a plugin in the documentation, with the options that stand behind it there."""
    names: dict[str, Any] = {"__name__": "documented"}
    exec(code_block(f"{plugin}.py"), names)
    kind, name = table.split(".")
    options = tomllib.loads(code_block(f"{plugin}.toml"))[kind][name]
    options.pop("type", None)
    factory = names[name]
    return factory.build(factory.options(**options), hub)


TEAM = Address.parse("team@xx.example")


def test_members_write_to_their_list_and_its_owner_hears_of_failures() -> None:
    stage = Stage(routers=[documented("team_plugin", "router.team")])
    transaction = result_of(stage.pipeline.begin(Origin("smtp"), Mail(Address.parse("ben@yy.example"))))
    with pytest.raises(NotPermitted):
        result_of(stage.begin(Origin("smtp")).recipient(Recipient(TEAM)))
    stage.store.users.add("ann@xx.example")
    result_of(transaction.recipient(Recipient(TEAM)))
    transaction.body()
    result_of(transaction.commit())
    ((submission, _),) = stage.queue.submissions
    owner = ReversePath(Address.parse("ann@xx.example"))
    assert [(route.agent, str(route.recipient), route.reverse_path) for route in submission.plan.routes] == [
        ("store", "ann@xx.example", owner),
        ("smtp", "ben@yy.example", owner),
    ]
    assert {route.originals for route in submission.plan.routes} == {(Recipient(TEAM),)}


def test_mail_of_lists_is_filed_by_configuration_alone() -> None:
    names: dict[str, Any] = {"__name__": "documented"}
    exec(code_block("listbox_plugin.py"), names)
    with Internet(seed=1) as internet:
        config = tomllib.loads(code_block("listbox_plugin.toml"))
        xx = internet.hub("xx.example", users=["ann"], config=config, plugins=[names["by_list"]])

        async def account() -> Any:
            return await xx.hub.store.account("ann@xx.example")

        async def filed(name: str) -> list[Any]:
            return [entry.flags for entry in await (await (await account()).mailbox(name)).entries()]

        internet.wait(internet.wait(account()).create("Lists/twisted"))
        for list_id in (b"Twisted <twisted.python.example>", b"<other.example>", b"<../../x>", b"none"):
            message = b"From: s@yy.example\r\nList-Id: " + list_id + b"\r\n\r\nx\r\n"
            xx.submit("", ["ann@xx.example"], message)
        assert internet.wait(filed("Lists/twisted")) == [{"$List"}]
        assert internet.wait(filed("INBOX")) == [{"$List"}, frozenset(), frozenset()]


class Request(DummyRequest):
    content: BytesIO
    failed: Any = None

    def processingFailed(self, failure: Any) -> None:
        self.failed = failure


def post(stage: Stage, to: list[bytes], token: str = "correct horse battery staple") -> tuple[int, bytes]:
    site = documented("outbox_plugin", "service.outbox", stage)
    request = Request([b""])
    request.requestHeaders.addRawHeader(b"authorization", f"Bearer {token}".encode())
    request.args = {b"to": to}
    request.content = BytesIO(b"Subject: report\r\n\r\nAll is well.\r\n")
    written = site.resource.render_POST(request)
    assert request.failed is None
    return request.responseCode or 200, b"".join(request.written) or written


def test_a_program_posts_mail() -> None:
    stage = Stage()
    assert post(stage, [b"a@xx.example", b"c@yy.example"]) == (200, b"id1\n")
    ((submission, _),) = stage.queue.submissions
    assert submission.mail.reverse_path == Address.parse("reports@xx.example")
    assert (len(submission.plan.deposits), len(submission.plan.routes)) == (1, 1)
    assert b"\r\nMessage-ID: <" in stage.queue.octets[0]


@pytest.mark.parametrize(
    ("to", "token", "code"),
    [
        ([b"a@xx.example"], "guessed", 401),
        ([b"nobody@xx.example"], "correct horse battery staple", 400),
        ([b"nobody"], "correct horse battery staple", 400),
        ([], "correct horse battery staple", 400),
    ],
)
def test_what_cannot_be_posted_is_refused_and_leaves_nothing(to: list[bytes], token: str, code: int) -> None:
    stage = Stage()
    assert post(stage, to, token)[0] == code
    assert stage.queue.submissions == []
