"""EMAs lend each other power: a ledger in which the sum of all limits never changes (docs/negotiation.md).

``ledger``: the coordinator's book. ``coordinator``: the side of the EMS, or of an EMA above EMAs. ``member`` (with
``lender`` and ``borrower``): an EMA's side. Nothing here reads a clock or sends: a step takes a state, what happened
and the moment, and returns the next state, the rows that must be on disk first, and the messages that may leave then.
"""
