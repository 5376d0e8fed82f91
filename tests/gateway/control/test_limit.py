"""What limits the site, as a table (docs/control.md, "The limit")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.clock import Instant
from gateway.control.limit import limit_at, next_change
from gateway.site.event import Direction, DrEvent, Grant, Loan
from gateway.site.picture import Timeline

WALL = 1_760_000_000.0
NOW = Instant(1000.0, WALL)


def event(number: int, watts: float, start: float = -10, end: float = 100, modification: int = 1) -> DrEvent:
    return DrEvent("ems", number, modification, WALL + start, WALL + end, watts)


def grant(watts: float, until: float = 50) -> Grant:
    return Grant("ems", "lamp-1", watts, WALL + until)


@pytest.mark.parametrize(
    ("timeline", "said", "changes_after"),
    [
        (Timeline(), "no limit", None),
        (Timeline(threshold_w=1000), "1000 W (threshold)", None),
        (Timeline(threshold_w=1000, events=(event(17, 800),)), "800 W (event 17)", 100),
        (Timeline(threshold_w=500, events=(event(17, 800),)), "500 W (threshold)", 100),  # an event lifts nothing
        (Timeline(events=(event(17, 800), event(18, 600, end=30))), "600 W (event 18)", 30),  # they overlap
        (Timeline(events=(event(17, 800), event(18, 600, start=20))), "800 W (event 17)", 20),
        (Timeline(events=(event(17, 800, end=0),)), "no limit", None),  # its end is not part of it
        (Timeline(events=(event(17, 800), event(17, 900, modification=2))), "900 W (event 17)", 100),
        (Timeline(events=(event(17, 800), event(17, 900, end=-10, modification=2))), "no limit", None),  # cancelled
        (Timeline(threshold_w=1000, grants=(grant(60),)), "1060 W (threshold 1000 W, granted lamp-1 +60 W)", 50),
        (Timeline(threshold_w=1000, grants=(grant(60, -1),)), "1000 W (threshold)", None),
        (Timeline(threshold_w=1000, hard_w=1020, grants=(grant(60),)), "1020 W (hard)", 50),  # nothing lifts hard
        (Timeline(hard_w=1020, grants=(grant(60),)), "1020 W (hard)", 50),
        (
            Timeline(threshold_w=1000, loans=(Loan(1, "gw/2", -200, WALL + 9),)),
            "800 W (threshold 1000 W, lent to gw/2 -200 W)",
            9,
        ),
        (
            Timeline(threshold_w=100, loans=(Loan(1, "gw/2", -200, WALL + 9),)),
            "0 W (threshold 100 W, lent to gw/2 -200 W)",
            9,
        ),
        (
            Timeline(threshold_w=100, loans=(Loan(1, "gw/2", 50, WALL + 9), Loan(2, "gw/3", 50, WALL - 1))),
            "150 W (threshold 100 W, borrowed from gw/2 +50 W)",
            9,
        ),
    ],
)
def test_import(timeline: Timeline, said: str, changes_after: float | None) -> None:
    assert str(limit_at(timeline, NOW)) == said
    expected = None if changes_after is None else pytest.approx(NOW.mono + changes_after)
    assert next_change(timeline, NOW) == expected


def test_terms_add_up() -> None:
    timeline = Timeline(threshold_w=1000, grants=(grant(60), grant(40)), loans=(Loan(1, "gw/2", -200, WALL + 9),))
    limit = limit_at(timeline, NOW)
    assert sum(term.watts for term in limit.terms) == limit.import_w == 900
    assert [term.until for term in limit.terms] == [None, WALL + 50, WALL + 50, WALL + 9]


def test_an_untrusted_clock_judges_no_event() -> None:
    early = Instant(5.0, 100.0, trusted=False)
    timeline = Timeline(threshold_w=1000, events=(event(17, 800),), grants=(grant(60),), last_threshold_w=700)
    assert limit_at(timeline, early).import_w == 700
    assert limit_at(replace(timeline, last_threshold_w=None), early).import_w == 1000
    assert next_change(timeline, early) is None


def test_what_is_lent_binds_without_a_clock_too_and_what_is_borrowed_does_not_count() -> None:
    early = Instant(5.0, 100.0, trusted=False)
    loans = (Loan(1, "gw/2", -200, 3600.0), Loan(2, "gw/3", 500, 3600.0))
    limit = limit_at(Timeline(threshold_w=1000, last_threshold_w=700, loans=loans), early)
    assert str(limit) == "500 W (last threshold, clock not trusted 700 W, lent to gw/2 -200 W)"


def test_export_has_its_own_events() -> None:
    timeline = Timeline(
        threshold_w=1000,
        export_w=500,
        phase_a=(16, 16, 16),
        events=(replace(event(3, 200), direction=Direction.EXPORT),),
    )
    limit = limit_at(timeline, NOW)
    assert (limit.import_w, limit.export_w, limit.phase_a) == (1000, 200, (16, 16, 16))
    assert [term.source for term in limit.export_terms] == ["event 3"]
