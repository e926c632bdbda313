"""How much TLS a next hop gets (RFC 7435 opportunistic security)."""

from __future__ import annotations

from typing import Literal

TlsPolicy = Literal["never", "opportunistic", "required"]
