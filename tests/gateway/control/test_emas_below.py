"""An EMA below as control sees it: limited by priority, given back, asked for power; tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.decide import decide
from gateway.control.power import counted_power
from gateway.control.rdr import answer_rdr, grant_action
from gateway.control.rules import Memory, Rules
from gateway.site.command import Pending
from gateway.site.event import RdrRequest
from gateway.site.picture import ResourceState, Site, Timeline
from gateway.site.resource import Kind, Reading, Resource, Setpoint, Setting
from tests.gateway.control.site_text import NOW, site

RULES = Rules()


def ema(
    power: float,
    priority: int = 0,
    most: float = 1000.0,
    least: float = 0.0,
    held: float | None = None,
    age: float = 0.5,
    **more: object,
) -> ResourceState:
    resource = Resource(
        "gw/2", 90_002, Kind.EMA, priority, switch=False, setpoint=Setpoint(least, most), latency_s=6.0, **more
    )  # type: ignore[arg-type]
    setting = None if held is None else Setting(setpoint_w=held)
    reading = Reading(NOW.mono - age, power, True)
    return ResourceState(resource, reading=reading, held=setting, held_seq=int(held is not None))


def said(state: ResourceState, others: str, limit: float | None) -> str:
    whole = Site((state, *site(others).resources))
    outcome = decide(whole, Timeline(threshold_w=limit), RULES, Memory(), NOW)
    return ", ".join(a.words for d in outcome.decisions for a in d.actions) or "nothing"


@pytest.mark.parametrize(
    ("state", "others", "limit", "expected"),
    [
        (ema(300), "lamp:60/1", 360, "nothing"),
        (ema(300), "lamp:60/1", 200, "gw/2 at most 140 W"),  # the smaller number first, and just enough
        (ema(300, 2), "lamp:60/1", 200, "lamp-1 off, gw/2 at most 200 W"),
        (ema(300), "lamp:60/1", 40, "gw/2 at most 0 W, lamp-1 off"),
        (ema(300, least=200), "lamp:60/1", 200, "gw/2 at most 200 W, lamp-1 off"),  # never below its least
        (ema(300, never_shed=True), "lamp:60/1", 310, "lamp-1 off"),
        (ema(-300), "lamp:60/1", 0, "nothing"),  # it feeds in, and that counts
        (ema(300, held=400), "lamp:60/1", 200, "gw/2 at most 140 W"),  # held above what it draws is no relief
        # Given back: all where the most it may draw has room, a part where not, and never less than it has.
        (ema(100, held=100), "lamp:60/1", 2000, "gw/2 free"),
        (ema(100, held=100), "lamp:60/1", None, "gw/2 free"),
        (ema(100, held=100), "lamp:60/1", 400, "gw/2 at most 320 W"),
        (ema(100, held=330), "lamp:60/1", 400, "nothing"),
        (ema(100, held=310), "lamp:60/1", 400, "nothing"),  # not worth a command
        (ema(100, held=100, most=250), "lamp:60/1", 400, "gw/2 free"),
    ],
)
def test_a_pass(state: ResourceState, others: str, limit: float | None, expected: str) -> None:
    assert said(state, others, limit) == expected


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        (ema(300), 300),
        (ema(300, age=31), 1000),  # too old: the most it may draw
        (replace(ema(300, age=29), present=False), 300),  # gone, and it may draw on
        (replace(ema(300, age=31), present=False), 1000),
        (replace(ema(300, age=500), present=False), 1000),  # its lease ends in no safe state of ours
        (ema(1200, age=31), 1200),  # it was seen to draw more
    ],
)
def test_silence_is_worst_case(state: ResourceState, counts: float) -> None:
    assert counted_power(state, NOW, RULES) == counts


def test_what_it_opted_in_to_counts_until_its_reading_shows_it() -> None:
    shed = Pending(7, Setting(setpoint_w=150.0), 150.0, 300.0, NOW.mono - 1, 6.0)
    assert counted_power(replace(ema(300, age=2), pending=shed), NOW, RULES) == 150
    raised = Pending(7, Setting(free=True), 1000.0, 300.0, NOW.mono - 1, 6.0)
    assert counted_power(replace(ema(300, age=2), pending=raised), NOW, RULES) == 1000


@pytest.mark.parametrize(
    ("state", "limit", "asked", "expected"),
    [
        (ema(300, held=300), 500, 100, "granted"),
        (ema(300), 500, 100, "granted"),  # its own limit binds it, and it may ask all the same
        (ema(300, held=300), 350, 100, "pending"),  # asked of the one above
        (ema(300, held=300, age=31), 5000, 100, "denied"),
        (replace(ema(300), present=False), 500, 100, "denied"),
    ],
)
def test_it_adds_what_it_is_granted_itself(state: ResourceState, limit: float, asked: float, expected: str) -> None:
    request = RdrRequest("gw/2", 90_002, asked, 600.0)
    whole = Site((state,))
    result, decision, action = answer_rdr(whole, Timeline(threshold_w=limit), RULES, request, NOW)
    assert result.value == expected, decision.why
    assert action is None, "a command beside the grant would give it twice"
    assert grant_action(whole, request, NOW, RULES) is None
