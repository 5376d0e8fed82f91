"""The outbox's arithmetic against a plain list."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.journal.spans import Spans, boot_and_seq, footprint, position

steps = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 9)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("upto"), st.integers(0, 40)),
    st.tuples(st.just("one"), st.integers(0, 40)),
    st.tuples(st.just("count"), st.integers(0, 40)),
)


@given(st.lists(steps, max_size=60), st.data())
def test_counts_like_a_list(moves: list[tuple[str, int]], data: st.DataObject) -> None:
    spans = Spans(640.0, 2560.0)
    model: list[int] = []
    boot = seq = 1
    wall = 0.0
    for move, number in moves:
        if move == "add":
            for _ in range(number):
                wall += number
                spans.add(position(boot, seq), 4.0, wall)
                model.append(position(boot, seq))
                seq += 1
        elif move == "restart":
            boot, seq = boot + 1, 1
        elif model and move == "upto":
            place = model[number % len(model)]
            spans.drop_upto(place)
            model = [p for p in model if p > place]
        elif model and move == "one":
            place = model.pop(number % len(model))
            spans.drop_one(place, 4.0)
        elif model:
            after, upto = sorted(data.draw(st.tuples(st.sampled_from(model), st.sampled_from(model))))
            assert spans.count(after, upto) == sum(1 for p in model if after < p <= upto)
        assert bool(spans) == bool(model)
        assert spans.count(0, position(boot, seq)) == len(model)
        assert spans.size == pytest.approx(4.0 * len(model), abs=1e-6)
        if model:
            assert (spans.oldest.first, spans.newest.last) == (model[0], model[-1])


def test_positions() -> None:
    assert boot_and_seq(position(7, 12)) == (7, 12)
    assert position(7, 2**40 - 1) < position(8, 0)


@pytest.mark.parametrize(
    ("ages", "now", "dropped"),
    [
        # a record every 10 s, most 100 s old, spans of 100 / 256 s: each its own
        ([10, 20, 30], 100, 0),
        ([10, 20, 30], 125, 2),
        ([10, 20, 30], 1000, 3),
        ([0, 0, 30], 60, 0),  # undated ones (the clock was not trusted) wait for the next that is dated
        ([0, 0, 30], 1000, 3),
        ([0, 0, 0], 1000, 0),
    ],
)
def test_age(ages: list[float], now: float, dropped: int) -> None:
    spans = Spans(64.0, 100.0)
    for seq, at in enumerate(ages, start=1):
        spans.add(position(1, seq), 1.0, at)
    count = 0
    while (place := spans.aged(now, 100.0)) is not None:
        spans.drop_upto(place)
        count = boot_and_seq(place)[1]
    assert count == dropped


@pytest.mark.parametrize(
    ("body", "least"),
    [(100, 148), (1_900, 2_000), (2_100, 4_096), (4_000, 4_096), (5_000, 8_192), (40_000, 40_960)],
)
def test_footprint_counts_the_packing(body: int, least: float) -> None:
    assert least <= footprint(body) <= 2 * least + 100
