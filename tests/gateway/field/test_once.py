"""What is said of a fault, of one that comes and goes, and of a device that does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from gateway.field.once import CHANGES, REMEMBERED, Changes, Once
from tests.gateway.field.site import Lines, listening_logger
from tests.support.site import Site

HELD = "; it comes and goes, said no more until it is quiet for 600 s"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def said(lines: Lines) -> list[str]:
    """Level and text, what a log at INFO shows."""
    return [f"{r.levelname} {r.getMessage()}" for r in lines.records if r.levelno > logging.DEBUG]


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        # (moment, what happens)*                                    what an operator reads
        ([(0, "bad"), (1, "bad"), (2, "bad")], ["WARNING bad"]),
        ([(0, "bad"), (9, "well")], ["WARNING bad", "INFO well"]),
        ([(0, "well")], []),
        ([(0, "bad"), (9, "well"), (10, "well")], ["WARNING bad", "INFO well"]),
        # again within ten minutes: it flaps, and that is said once
        (
            [(n, "bad" if n % 20 == 0 else "well") for n in range(0, 500, 10)],
            ["WARNING bad", "INFO well", f"WARNING bad{HELD}"],
        ),
        # quiet for ten minutes: well for good, and a new story after that
        (
            [(0, "bad"), (10, "well"), (20, "bad"), (30, "well"), (629, "settle"), (630, "settle"), (640, "bad")],
            ["WARNING bad", "INFO well", f"WARNING bad{HELD}", "INFO well, for 600 s now", "WARNING bad"],
        ),
        # once only, long ago: a new story, without a word between
        ([(0, "bad"), (10, "well"), (610, "settle"), (700, "bad")], ["WARNING bad", "INFO well", "WARNING bad"]),
        ([(0, "bad"), (10, "well"), (700, "bad")], ["WARNING bad", "INFO well", "WARNING bad"]),
        # still down: nothing is well
        ([(0, "bad"), (10, "well"), (20, "bad"), (2000, "settle")], ["WARNING bad", "INFO well", f"WARNING bad{HELD}"]),
    ],
)
def test_a_fault(story: list[tuple[float, str]], expected: list[str]) -> None:
    logger, lines = listening_logger("once")
    time = Time()
    once = Once(logger, time)
    for moment, what in story:
        time.now = 1000.0 + moment
        if what == "settle":
            once.settle()
        else:
            (once.say if what == "bad" else once.over)("lease", 1, what)
    assert said(lines) == expected
    assert len(lines.records) <= len(story)


def test_without_a_clock_each_recovery_is_a_new_story() -> None:
    logger, lines = listening_logger("once")
    once = Once(logger)
    for _ in range(2):
        once.say("lease", 1, "bad")
        once.say("lease", 1, "bad")
        once.over("lease", 1, "well")
    assert said(lines) == ["WARNING bad", "INFO well"] * 2


def test_others_are_others() -> None:
    logger, lines = listening_logger("once")
    once = Once(logger, Time())
    once.say("lease", 1, "one")
    once.say("lease", 2, "two")
    once.say("type", 1, "three")
    assert said(lines) == ["WARNING one", "WARNING two", "WARNING three"]


def test_names_that_a_peer_makes_up_do_not_fill_the_memory() -> None:
    logger, _ = listening_logger("once")
    once = Once(logger, Time())
    for n in range(3 * REMEMBERED):
        once.say("stranger", n, "x" * 10_000)
    assert len(once._known) == REMEMBERED


def test_comings_and_goings() -> None:
    logger, lines = listening_logger("changes")
    time = Time()
    changes = Changes(logger, time)
    for n in range(100):
        time.now += 10.0
        changes.say(1, "lamp-1 came" if n % 2 == 0 else "lamp-1 went")
        changes.settle()
    assert said(lines) == [
        "INFO lamp-1 came",
        "INFO lamp-1 went",
        "INFO lamp-1 came",
        f"INFO lamp-1 went{HELD}",
    ]
    assert CHANGES == 4
    changes.say(2, "lamp-2 came")
    time.now += 600.0
    changes.settle()
    changes.say(1, "lamp-1 came")
    assert said(lines)[4:] == ["INFO lamp-2 came", "INFO lamp-1 went, 600 s ago; quiet since", "INFO lamp-1 came"]


async def test_a_device_that_flaps_is_few_lines_in_the_log(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smartema.control")
    site = make(60.0)
    for _ in range(50):
        await site.turn(5)
        site.engine.gone(1, "its link broke", lost=True)
        await site.turn(5)
        site.engine.appeared(site.field, site.field.lamps[1].resource)
        site.field.report(1)
    told = [r.getMessage() for r in caplog.records if "came over" in r.getMessage() or "went:" in r.getMessage()]
    assert len(told) <= CHANGES
    await site.turn(660)
    assert caplog.records[-1].getMessage() == "led-1 came over mqtt, priority 1, 600 s ago; quiet since"
