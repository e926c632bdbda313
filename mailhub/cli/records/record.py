"""Records as a master file has them (RFC 1035 5)."""

from __future__ import annotations

import attrs

from mailhub.message.zone_file import character_strings

TTL_SECONDS = 3600


@attrs.frozen
class Record:
    """One record: `name` with A-labels and without the dot at its end, `data` as in a master file. `is_known`: nothing
    in it is to be filled in, which stands in angle brackets."""

    name: str
    type: str
    data: str
    is_known: bool = True

    def __str__(self) -> str:
        """For a person."""
        return f"{self.name}.  {self.type}  {self.data}"

    @property
    def in_zone(self) -> str:
        """For a master file; a comment where it has to be filled in."""
        return f"{'' if self.is_known else '; '}{self.name}. {TTL_SECONDS} IN {self.type} {self.data}"


def txt(name: str, text: str | bytes) -> Record:
    """A TXT record, in strings that are not too long."""
    octets = text.encode() if isinstance(text, str) else text
    return Record(name, "TXT", " ".join(character_strings(octets)))
