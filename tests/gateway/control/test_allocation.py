"""One total, divided by four algorithms (docs/allocation.md)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control.allocation import ALGORITHMS, Party, allocate
from gateway.control.allocation.base import entitled, fill, floors

PAGE = Path(__file__).parents[3] / "docs" / "allocation.md"
TOTAL_MW = 4_000_000
EXAMPLE = (
    Party("gw/1", 400_000, 1_000_000, priority=3, ask=300),
    Party("gw/2", 700_000, 1_000_000, priority=2, ask=100),
    Party("gw/3", 900_000, 500_000, priority=1, cap=150),
    Party("gw/4", 1_500_000, 1_000_000, priority=2, cap=400),
    Party("gw/5", 1_200_000, 500_000, priority=0, least_mw=100_000, cap=250),
)

quick = settings(max_examples=100, deadline=None, derandomize=True)

powers = st.integers(0, 5_000)
prices = st.integers(0, 5)


@st.composite
def parties(draw: st.DrawFn) -> list[Party]:
    made = []
    for n in range(draw(st.integers(0, 6))):
        least = draw(st.sampled_from([0, 0, 7, 300]))
        most = draw(st.one_of(st.none(), powers.map(lambda mw, least=least: least + mw)))
        cap = draw(st.one_of(st.none(), prices))
        made.append(
            Party(f"gw/{n}", draw(powers), draw(powers), draw(prices), least, most, draw(prices), cap, 1 + draw(prices))
        )
    return made


def table() -> str:
    """The example as the page prints it, in W."""

    def w(mw: int) -> str:
        assert mw % 1000 == 0
        return str(mw // 1000)

    results = {name: {s.name: s.limit_mw for s in allocate(name, TOTAL_MW, EXAMPLE)} for name in ALGORITHMS}
    rows = [
        "| EMA | wants | own | priority | asks | pays | priority | matching | game | negotiation |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in EXAMPLE:
        cells = [p.name, w(p.demand_mw), w(p.own_mw), str(p.priority), str(p.ask or "–"), str(p.cap or "–")]
        rows.append("| " + " | ".join([*cells, *(w(results[name][p.name]) for name in ALGORITHMS)]) + " |")
    sums = [w(sum(result.values())) for result in results.values()]
    lacks = [w(sum(max(p.demand_mw - r[p.name], 0) for p in EXAMPLE)) for r in results.values()]
    unused = [w(sum(max(r[p.name] - p.demand_mw, 0) for p in EXAMPLE)) for r in results.values()]
    wants, own = w(sum(p.demand_mw for p in EXAMPLE)), w(sum(p.own_mw for p in EXAMPLE))
    rows.append("| " + " | ".join(["sum", wants, own, "", "", "", *sums]) + " |")
    rows.append("| " + " | ".join(["wanted, not given", "", "", "", "", "", *lacks]) + " |")
    rows.append("| " + " | ".join(["given, not wanted", "", "", "", "", "", *unused]) + " |")
    return "\n".join(rows)


def test_the_table_of_the_page_is_what_the_code_does() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), f"docs/allocation.md should hold\n{table()}"


@pytest.mark.parametrize("name", ALGORITHMS)
@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_the_sum_is_the_total(name: str, total: int, made: list[Party]) -> None:
    shares = allocate(name, total, made)
    given_mw = sum(share.limit_mw for share in shares)
    if made and any(p.most_mw is None for p in made):
        assert given_mw == total
    else:
        assert given_mw == min(total, sum(p.most_mw or 0 for p in made))
    assert [share.name for share in shares] == [p.name for p in made]
    for share, party, floor in zip(shares, made, floors(total, made), strict=True):
        assert floor <= share.limit_mw <= (total if party.most_mw is None else party.most_mw)


@pytest.mark.parametrize("name", ALGORITHMS)
@given(total=st.integers(0, 40_000), made=parties())
@quick
def test_where_all_can_be_satisfied_all_are(name: str, total: int, made: list[Party]) -> None:
    if sum(p.wants_mw for p in made) > total or (name in ("matching", "negotiation") and any(p.ask for p in made)):
        return
    assert [s.name for s, p in zip(allocate(name, total, made), made, strict=True) if s.limit_mw < p.wants_mw] == []


@pytest.mark.parametrize("name", ALGORITHMS)
@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_same_inputs_same_output(name: str, total: int, made: list[Party]) -> None:
    assert allocate(name, total, made) == allocate(name, total, list(made))


@pytest.mark.parametrize("name", ["matching", "negotiation"])
@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_nobody_lends_what_it_wants_itself_or_below_its_ask(name: str, total: int, made: list[Party]) -> None:
    own = entitled(total, made)
    shares = allocate(name, total, made)
    highest = max((p.cap if p.cap is not None else 99 for p in made), default=0)
    for party, before, share in zip(made, own, shares, strict=True):
        assert share.limit_mw >= min(before, party.wants_mw)
        assert share.limit_mw >= before or party.ask <= highest
        assert share.limit_mw <= max(before, party.wants_mw)


@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_a_smaller_number_gets_nothing_more_while_a_greater_lacks(total: int, made: list[Party]) -> None:
    limits = {s.name: s.limit_mw for s in allocate("priority", total, made)}
    least = dict(zip((p.name for p in made), floors(total, made), strict=True))
    for low, high in itertools.permutations(made, 2):
        if low.priority < high.priority and limits[high.name] < high.wants_mw:
            assert limits[low.name] == least[low.name]


@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_no_matching_moves_more(total: int, made: list[Party]) -> None:
    own = entitled(total, made)
    moved = sum(max(s.limit_mw - o, 0) for s, o in zip(allocate("matching", total, made), own, strict=True))
    assert moved == greatest_flow(made, own)


def greatest_flow(made: Sequence[Party], own: Sequence[int]) -> int:
    """By augmenting paths, which knows nothing of orders and prices that nest."""
    source, sink, count = -1, -2, len(made)
    left: dict[tuple[int, int], int] = {}
    for n, (party, limit) in enumerate(zip(made, own, strict=True)):
        left[source, n] = max(limit - party.wants_mw, 0)
        left[count + n, sink] = max(party.wants_mw - limit, 0)
        for m, other in enumerate(made):
            if m != n and (other.cap is None or party.ask <= other.cap):
                left[n, count + m] = 10**9
    nodes = [source, sink, *range(2 * count)]
    flow = 0
    while True:
        before: dict[int, int] = {source: source}
        queue = [source]
        for at in queue:
            for to in nodes:
                if to not in before and left.get((at, to), 0) > 0:
                    before[to] = at
                    queue.append(to)
        if sink not in before:
            return flow
        path, at = [], sink
        while at != source:
            path.append((before[at], at))
            at = before[at]
        most = min(left[edge] for edge in path)
        flow += most
        for a, b in path:
            left[a, b] -= most
            left[b, a] = left.get((b, a), 0) + most


@given(total=st.integers(0, 20_000), made=parties())
@quick
def test_nash_nobody_could_gain_more_than_the_other_loses(total: int, made: list[Party]) -> None:
    """Where the product is greatest, moving 1 mW to one who still wants more does not raise it."""
    limits = [s.limit_mw for s in allocate("game", total, made)]
    gains = [limit - floor for limit, floor in zip(limits, floors(total, made), strict=True)]
    for n, m in itertools.permutations(range(len(made)), 2):
        if limits[n] < made[n].wants_mw and gains[m] > 0:
            # w_n ÷ (g_n + 1) ≤ w_m ÷ (g_m − 1)
            assert made[n].weight * (gains[m] - 1) <= made[m].weight * (gains[n] + 1)


@given(
    st.integers(0, 10_000), st.lists(st.tuples(st.one_of(st.none(), powers), st.integers(0, 9)), min_size=1, max_size=8)
)
@quick
def test_water_fills_what_there_is_room_for(amount: int, vessels: list[tuple[int | None, int]]) -> None:
    rooms, weights = [room for room, _ in vessels], [weight for _, weight in vessels]
    parts = fill(amount, rooms, weights)
    room = sum(r for r in rooms if r is not None)
    assert sum(parts) == (amount if None in rooms else min(amount, room))
    assert all(part >= 0 and (r is None or part <= r) for part, r in zip(parts, rooms, strict=True))


@pytest.mark.parametrize(
    ("total", "made", "wrong"),
    [
        (-1, (), "a total of -1 mW"),
        (1, (Party("gw/1", 1, 1), Party("gw/1", 1, 1)), "gw/1 is there twice"),
        (1, (Party("gw/1", 1, 1, least_mw=2, most_mw=1),), "gw/1: .* contradicts itself"),
    ],
)
def test_what_cannot_be_is_named(total: int, made: tuple[Party, ...], wrong: str) -> None:
    for name in ALGORITHMS:
        with pytest.raises(ValueError, match=wrong):
            allocate(name, total, made)
    with pytest.raises(ValueError, match="chance is no algorithm: priority, matching"):
        allocate("chance", 1, ())
