"""What lending may never do, on virtual time with losses, delays and crashes (docs/negotiation.md, "What holds")."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control.negotiation.book import CoordinatorRules, Sharing
from gateway.control.negotiation.state import MemberRules
from tests.gateway.control.lending_world import LONGEST_S, Faults, World

HARSH = Faults(0.2, 0.2, 0.1, member_crash_s=1800, coordinator_crash_s=1800, down_s=300, torn=0.02)
NONE = Faults(0, 0, 0, member_crash_s=0, coordinator_crash_s=0, torn=0)
DAY_S, WEEK_S = 86_400.0, 7 * 86_400.0

quick = settings(max_examples=60, deadline=None, derandomize=True)


def ended(world: World) -> None:
    """Nothing was broken on the way, and nothing is left."""
    world.drain()
    assert world.broken == []
    assert world.left() == []
    assert world.excess == 0


@given(st.integers(0, 1_000_000))
@quick
def test_among_four_on_the_worst_of_links_the_sum_stays_and_all_loans_end(seed: int) -> None:
    world = World(seed, 4, HARSH, demand_s=300, event_s=1800)
    world.run(2 * 3600.0)
    ended(world)


@pytest.mark.parametrize(
    ("rules", "going"),
    [
        (CoordinatorRules(Sharing.EQUAL, longest_s=LONGEST_S), None),
        (CoordinatorRules(partial=False, longest_s=LONGEST_S), None),
        (CoordinatorRules(longest_s=LONGEST_S), 200),
    ],
)
def test_so_it_is_by_every_rule(rules: CoordinatorRules, going: int | None) -> None:
    granted = 0
    for seed in range(8):
        world = World(seed, 4, HARSH, demand_s=300, event_s=7200, rules=rules, going=going)
        world.run(4 * 3600.0)
        ended(world)
        granted += world.seen["granted"]
    assert granted > 0


def test_without_faults_nobody_is_cut_for_a_loan_at_all() -> None:
    """Sudden events too: the borrower falls and the lender has it back within the passes that a site has to follow."""
    world = World(1, 100, NONE, demand_s=1800, event_s=3600)
    world.run(DAY_S)
    ended(world)
    assert world.seen["cut while a recall was not answered"] == 0
    assert world.seen["sudden events"] > 100
    assert world.seen["recalled"] > 100


def test_a_day_of_a_hundred() -> None:
    world = World(2, 100, Faults(), demand_s=1800)
    world.run(DAY_S)
    ended(world)
    for happened in ("granted", "denied", "lent", "refused", "recalled", "ended", "crashes", "coordinator crashes"):
        assert world.seen[happened] > 5, happened
    assert world.seen["torn steps"] > 5


@pytest.mark.parametrize("seed", range(3))
def test_a_lender_that_does_not_wait_is_found_out(seed: int) -> None:
    """The world sees what it is there to see."""
    world = World(seed, 20, Faults(), demand_s=600)
    world.member_rules = MemberRules(guard_s=-10.0)
    for node in world.nodes.values():
        world._start_member(node)
    world.run(DAY_S)
    assert "above their sum" in " ".join(world.broken)


@pytest.mark.soak
def test_a_week_of_a_thousand() -> None:
    began = time.process_time()
    world = World(7, 1000, Faults())
    world.run(WEEK_S)
    ended(world)
    assert world.seen["granted"] > 10_000
    assert world.seen["crashes"] > 10_000
    print(f"\n{dict(sorted(world.seen.items()))}\n{time.process_time() - began:.0f} s of CPU")
