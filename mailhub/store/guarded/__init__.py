"""A mailbox store of somebody else's, asked through a guard: every answer has a time, and is looked at before it
counts."""
