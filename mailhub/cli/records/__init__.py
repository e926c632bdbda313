"""The records that DNS has to have for a server and its domains: what there should be, what there is, and what is
wrong. `mailhub dns`, `mailhub init` and `mailhub check --dns` all ask here."""
