"""The demo's screen: numbers, the bar, and lines cut to the terminal."""

from __future__ import annotations

import io

import pytest

from lab.demo.screen import BAR, DIM, PLAIN, Frame, Line, Screen, bar, fit, watts


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.4, "0 W"), (-894.0, "-894 W"), (9999.0, "9999 W"), (12_340.0, "12.3 kW")]
)
def test_watts(value: float | None, text: str) -> None:
    assert watts(value) == text


@pytest.mark.parametrize(
    ("power", "limit", "filled", "mark"),
    [(0, None, 0, None), (50, None, 20, None), (50, 75, 20, 30), (200, 100, 39, 39), (-50, 50, 0, 20)],
)
def test_bar(power: float, limit: float | None, filled: int, mark: int | None) -> None:
    drawn = bar(power, limit, 100.0)
    assert len(drawn) == BAR
    assert drawn.count("█") == filled
    assert (drawn.find("┃") if mark is not None else None) == mark


@pytest.mark.parametrize(
    ("line", "columns", "expected"),
    [
        ("short", 10, "short"),
        ("much too long", 8, "much to…"),
        (f"{DIM}much{PLAIN} too long", 8, f"{DIM}much{PLAIN} to…"),
    ],
)
def test_fit(line: str, columns: int, expected: str) -> None:
    assert fit(line, columns) == expected


def _frame(limit: float | None) -> Frame:
    device = Line("hall", "mqtt", 2, "on, dimming 5", 180.0, "on dimming 5", True)
    return Frame("smartema", "14:00:00", 600.0, limit, "500 W (event 1)", -100.0, "event 1", "links", [device], "end")


def test_over_the_limit_is_said_in_a_word_not_by_colour_alone() -> None:
    screen = Screen(io.StringIO(), tty=True)
    assert any("OVER" in line for line in screen.lines(_frame(500.0), 30))
    assert any("under its limit" in line for line in screen.lines(_frame(700.0), 30))
    assert any("no limit" in line for line in screen.lines(_frame(None), 30))


def test_a_log_gets_lines_without_escape_sequences() -> None:
    out = io.StringIO()
    screen = Screen(out, tty=False)
    screen.open()
    screen.decided("14:00:00", "hall off")
    screen.draw(_frame(500.0))
    screen.close()
    assert out.getvalue() == "14:00:00 hall off\n14:00:00 power 600 W, limit 500 W (event 1), event 1\n"


def test_the_newest_decisions_stay_in_sight() -> None:
    screen = Screen(io.StringIO(), tty=True)
    for number in range(200):
        screen.decided("t", f"decision {number}")
    lines = screen.lines(_frame(500.0), 20)
    assert len(lines) <= 20
    assert any("decision 199" in line for line in lines)


LONG = "over by 671 W of 1550 W: battery discharges 400 W, desk off, workshop off, hall on dimming 5 and so on, whole"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (132, 34)])
def test_a_decision_is_shown_whole_and_the_word_of_the_limit_too(columns: int, rows: int) -> None:
    screen = Screen(io.StringIO(), tty=True)
    for _ in range(20):
        screen.decided("14:00:00", LONG)
    lines = [fit(line, columns) for line in screen.lines(_frame(700.0), rows, columns)]
    assert len(lines) < rows
    assert not any("…" in line for line in lines)
    assert any(line.rstrip().endswith("500 W (event 1)") for line in lines)
    words = " ".join(" ".join(lines).split())
    assert words.count(LONG) >= 2
    assert "under its limit" in words
