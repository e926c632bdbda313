"""What the router of lists and its agents are called in the configuration and in the rows of the queue."""

from __future__ import annotations

LISTS = "lists"  # the router's name
LIST = "list"  # the agent's that knows the members
# See `mailhub.delivery.list_desk`, `list_holding`, `list_returns`.
REQUEST_AGENT, HOLD_AGENT, BOUNCE_AGENT = "list-request", "list-hold", "list-bounces"
LIST_AGENTS = (LIST, REQUEST_AGENT, HOLD_AGENT, BOUNCE_AGENT)
