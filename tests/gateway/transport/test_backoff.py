"""Waits between tries."""

from __future__ import annotations

import random

from gateway.transport.backoff import Backoff


def test_it_doubles_up_to_its_bound_and_starts_anew() -> None:
    backoff = Backoff(random.Random(3), first_s=1.0, most_s=8.0)
    for full in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert full / 2 <= backoff.next() <= full
    backoff.reset()
    assert backoff.next() <= 1.0


def test_two_that_failed_together_do_not_come_back_together() -> None:
    assert Backoff(random.Random(1)).next() != Backoff(random.Random(2)).next()
