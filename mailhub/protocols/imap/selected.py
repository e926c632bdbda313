"""The selected mailbox of a session: the store's mailbox, this session's view of it, and the wire between the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from mailhub.errors import NotPermitted
from mailhub.interfaces import IHold, IMailbox, rights_of
from mailhub.keys import KEYWORDS_PER_MAILBOX
from mailhub.message.flags import SEEN, SYSTEM_FLAGS, Flags, union
from mailhub.message.record import (
    READ_ONLY,
    WRITING,
    Added,
    Change,
    Entry,
    FlagsChanged,
    MailboxGone,
    Rights,
    storable,
)
from mailhub.wire.imap import responses
from mailhub.wire.imap.view import View

GONE = "Some of the messages are gone"
# Different ones: an older mailbox may have more, but FLAGS tells no more, and none can be added.
KEYWORD_LIMIT = KEYWORDS_PER_MAILBOX.default


@attrs.define(eq=False)
class Selected:
    """Watches the mailbox from before its rows are read until `release`, so that no change is missed.

    `examined`: by EXAMINE, which changes nothing. `gone`: the mailbox was deleted while it was selected. `flags`: what
    FLAGS has told.
    """

    mailbox: IMailbox
    examined: bool
    _notify: Callable[[], None]
    keyword_limit: int = KEYWORD_LIMIT
    gone: bool = False
    flags: Flags = SYSTEM_FLAGS
    uid_next: int = 1
    _flags_untold: bool = False
    _view: View | None = None
    _early: list[Change] = attrs.field(factory=list)
    _stop: Callable[[], None] | None = None
    _hold: IHold | None = None

    @classmethod
    async def open(
        cls,
        mailbox: IMailbox,
        *,
        examined: bool,
        claim: Callable[[Sequence[Entry]], set[int]],
        notify: Callable[[], None],
        keyword_limit: int = KEYWORD_LIMIT,
    ) -> Selected:
        """Take up the mailbox. `notify` is called after each change. Raises NoSuchMailbox, NotPermitted,
        StoreUnavailable."""
        if "r" not in rights_of(mailbox):
            raise NotPermitted
        selected = cls(mailbox, examined, notify, keyword_limit)
        selected._stop = mailbox.watch(selected._changed)
        selected._hold = hold = mailbox.hold()
        try:
            # The counter first: a message that comes in between may raise it, but none is above it unseen.
            status = await mailbox.status()
            selected._begin(View(await mailbox.entries(), claim, hold.let_go), status.uid_next)
        except BaseException:
            selected.release()
            raise
        return selected

    def _begin(self, view: View, uid_next: int) -> None:
        self._view = view
        self.uid_next = max(uid_next, view.uids[-1] + 1 if view else 0)
        self._learn(view.entries)
        self._flags_untold = False
        early, self._early = self._early, []
        for change in early:
            self._changed(change)

    @property
    def view(self) -> View:
        """What the client has been told."""
        assert self._view is not None, "open() gives no mailbox without a view"
        return self._view

    @property
    def rights(self) -> Rights:
        """What the client may do here (RFC 4314 4); a backend may change its mind."""
        return READ_ONLY if self.examined else rights_of(self.mailbox)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed."""
        return not self.rights & WRITING

    def release(self) -> None:
        """Stop watching, and let go of what was kept readable."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    def _changed(self, change: Change) -> None:
        if isinstance(change, MailboxGone):
            self.gone = True
        elif self._view is None:
            self._early.append(change)
            return
        else:
            self._view.apply(change)
            if isinstance(change, Added | FlagsChanged):
                self._learn(change.entries)
        self._notify()

    def _learn(self, entries: Sequence[Entry]) -> None:
        """Take note of keywords not met before."""
        fresh = {entry.flags for entry in entries if not entry.flags <= self.flags}
        for flags in fresh:
            if not self._full() and not flags <= self.flags:
                known, self.flags = self.flags, union(self.flags, flags)
                self._flags_untold = self._flags_untold or self.flags != known

    def _full(self) -> bool:
        """Whether the mailbox takes no keyword that is not told."""
        return len(self.flags - SYSTEM_FLAGS) >= self.keyword_limit

    def opening(self) -> bytes:
        """The untagged responses to SELECT (RFC 3501 6.3.1)."""
        view = self.view
        lines = [
            self._flag_lines(),
            responses.exists(len(view)),
            responses.recent(view.recent),
            responses.ok("Message UIDs are valid", responses.uidvalidity_code(self.mailbox.uid_validity)),
            responses.ok("Predicted next UID", responses.uidnext_code(self.uid_next)),
        ]
        unseen = next((position for position, entry in enumerate(view.entries) if SEEN not in entry.flags), None)
        if unseen is not None:
            lines.append(responses.ok("First unseen message", responses.unseen_code(unseen + 1)))
        return b"".join(lines)

    def _flag_lines(self) -> bytes:
        kept = storable(self.flags, self.rights)
        if not kept:
            code, text = responses.permanentflags_code(kept, keywords=False), "No flag can be changed"
        elif self._full() or "w" not in self.rights:
            code, text = responses.permanentflags_code(kept, keywords=False), "Kept for good, but no new keyword"
        else:
            code, text = responses.permanentflags_code(kept), "Kept for good, as is any new keyword"
        return responses.flags(self.flags) + responses.ok(text, code)

    def updates(self, *, expunge: bool) -> bytes:
        """The next portion of what the client has to be told; nothing at the end."""
        return self.new_keywords() + self.view.updates(expunge=expunge)

    def new_keywords(self) -> bytes:
        """FLAGS, if there are others than told; best told before the first message that has them."""
        if not self._flags_untold:
            return b""
        self._flags_untold = False
        return self._flag_lines()
