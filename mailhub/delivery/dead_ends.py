"""Routes that lead nowhere: no delivery agent is asked, and the queue returns the mail of such a recipient at once."""

from __future__ import annotations

from mailhub.interfaces import Route
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome

# The message has been here before.
LOOP = "loop"
LOOP_STATUS, LOOP_TEXT = "5.4.6", "Mail forwarding loop: this message has been here before"
# An account does not take the message. The route's target is the status and the text of its refusal.
REFUSED = "refused"


def refusing(recipient: Address, refusal: Outcome) -> Route:
    """A route by which the sender is told of a refusal."""
    return Route(REFUSED, recipient, f"{refusal.status} {refusal.reply}")


def without_agent(route: Route) -> Outcome | None:
    """The outcome of a route that leads nowhere; None for any other."""
    if route.agent == LOOP:
        return Outcome.failed(LOOP_TEXT, status=LOOP_STATUS)
    if route.agent == REFUSED:
        status, _, text = route.target.partition(" ")
        return Outcome.failed(text, status=status)
    return None
