"""Moving in: tickets of another tool, from its CSV or JSONL export.

`reading` gives rows, `mapping` says what their columns mean, `planning` makes drafts or names what is wrong by line and
column, `importing` puts drafts into the ledger. docs/move-in.md is for people.
"""
