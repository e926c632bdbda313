"""BDAT: a message in counted chunks (RFC 3030 2), each of which is answered.

The octets of a chunk follow its command whatever the answer will be, so those of a refused one are passed over: what
is in a message must never be read as commands.
"""

from __future__ import annotations

import re

from mailhub.wire.smtp.dialogue import Dialogue
from mailhub.wire.smtp.events import DataStart
from mailhub.wire.smtp.grammar import CommandRefused, refused
from mailhub.wire.smtp.reception import TOO_LARGE, Chunk, Chunks, most_waited_for
from mailhub.wire.smtp.replies import Reply, reply

# bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF
_BDAT = re.compile(r"0*([0-9]+)(?: +(.*))?")
_DIGITS = 20  # more are no size of anything


def receive_chunk(dialogue: Dialogue, argument: str) -> DataStart | None:
    """The action of BDAT, with the chunk to come. Its answer follows it."""
    match = _BDAT.fullmatch(argument)
    if match is None or (match[2] or "LAST").upper() != "LAST":
        raise refused(501, "5.5.4", "Syntax: BDAT octets [LAST]")
    transaction, settings = dialogue.transaction, dialogue.settings
    assert transaction is not None, "the table says so"
    if not transaction.recipients:
        raise refused(503, "5.5.1", "No valid recipients")
    if _is_beyond(match[1], settings.message_size_limit):
        raise CommandRefused(TOO_LARGE)
    first = transaction.chunks is None
    if transaction.chunks is None:
        transaction.chunks = Chunks(settings.bare_lines, settings.message_size_limit, binary=transaction.binary)
    dialogue.reception = Chunk(int(match[1]), last=match[2] is not None, chunks=transaction.chunks)
    return DataStart() if first else None


def pass_over_chunk(dialogue: Dialogue, argument: str, refusal: Reply) -> bool:
    """BDAT is refused: have the octets that follow it passed over before that is said. False where none follow."""
    match = _BDAT.fullmatch(argument)
    if match is None:
        return False
    if _is_beyond(match[1], dialogue.settings.message_size_limit):
        dialogue.close_with(TOO_LARGE)
    else:
        dialogue.reception = Chunk(int(match[1]), last=False, chunks=None, refusal=refusal)
    return True


def chunk_received(chunk: Chunk) -> Reply:
    """The answer to a chunk that is not the last one."""
    return reply(250, "2.0.0", f"{chunk.size} octets received")


def _is_beyond(digits: str, size_limit: int) -> bool:
    """Whether the octets are too many even to be passed over."""
    return len(digits) > _DIGITS or int(digits) > most_waited_for(size_limit)
