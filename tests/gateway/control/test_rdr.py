"""What becomes of an RDR, as a table (docs/control.md, "RDR and loans")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.bookkeeping import after_action
from gateway.control.decide import decide
from gateway.control.rdr import answer_rdr, grant_action
from gateway.control.rules import Memory, Rules
from gateway.site.event import DrEvent, Grant, RdrRequest, RdrResult, Reservation
from gateway.site.picture import Site, Timeline
from gateway.site.resource import Setting
from tests.gateway.control.site_text import NOW, site

LIMIT = Timeline(threshold_w=200.0)


def ask(devices: Site, timeline: Timeline, watts: float, number: int = 1, rules: Rules | None = None) -> str:
    result, decision, action = answer_rdr(
        devices, timeline, rules or Rules(), RdrRequest("lamp-1", number, watts, 60.0), NOW
    )
    assert (action is not None) is (result is RdrResult.GRANTED)
    assert decision.actions == (() if action is None else (action,))
    return f"{result.value}: {action.words if action is not None else decision.why}"


@pytest.mark.parametrize(
    ("devices", "watts", "expected"),
    [
        ("lamp:60,held/1 lamp:140/2", 60, "granted: lamp-1 on"),  # the margin needs no hysteresis
        ("lamp:60,held,dim/1 lamp:140/2", 30, "granted: lamp-1 dimming 4"),  # within what it asks
        ("ev:3680,held,min60,max200/1", 100, "granted: ev-1 at most 110 W"),
        ("lamp:60,held/1 lamp:150/2", 60, "pending: lamp-1 asks 60 W back: 50 W of margin under 200 W (threshold)"),
        ("lamp:60,held/1 lamp:40/2", 20, "denied: lamp-1 asks 20 W back: nothing of it fits into what it asks for"),
        ("lamp:60/1 lamp:40/2", 60, "denied: lamp-1 asks 60 W back: it is on already"),
        ("lamp:60,held,min10,off3/1", 60, "denied: lamp-1 asks 60 W back: minimum off time, 7 s left"),
        ("lamp:60,held/1 lamp:40,age31/2", 60, "denied: lamp-1 asks 60 W back: no fresh reading of lamp-2"),
        (
            "lamp:60,held/1 lamp:240/2!",
            60,
            "denied: lamp-1 asks 60 W back: over by 40 W of 200 W (threshold) and nothing more may be shed",
        ),
        ("lamp:60,held/1 lamp:240/2", 60, "pending: lamp-1 asks 60 W back: -40 W of margin under 200 W (threshold)"),
        ("lamp:60,held/1", 0, "denied: lamp-1 asks 0 W back: it asks for nothing"),
    ],
)
def test_answers(devices: str, watts: float, expected: str) -> None:
    assert ask(site(devices), LIMIT, watts) == expected


def test_denied_at_once_over_the_hard_limit_and_of_the_unknown() -> None:
    devices = site("lamp:60,held/1 lamp:150/2")
    hard = Timeline(threshold_w=180.0, hard_w=200.0)
    assert ask(devices, hard, 60) == "denied: lamp-1 asks 60 W back: 150 W + 60 W is over the hard limit of 200 W"
    assert ask(devices, LIMIT, 60, number=9) == "denied: lamp-1 asks 60 W back: device 9 is not known"
    away = replace(devices, resources=(replace(devices.resources[0], present=False), devices.resources[1]))
    assert ask(away, LIMIT, 60) == "denied: lamp-1 asks 60 W back: it is not connected"


def test_reserve_and_reservations_are_no_margin() -> None:
    devices = site("lamp:60,held/1 lamp:100/2 lamp:40,held/3")
    assert ask(devices, LIMIT, 60).startswith("granted")
    assert ask(devices, LIMIT, 60, rules=Rules(reserve_w=50.0)).startswith("pending")
    reserved = replace(devices, reservations=(Reservation("lamp-3", 50.0, NOW.mono + 5),))
    assert ask(reserved, LIMIT, 60).startswith("pending")


def test_a_lamp_that_was_off_of_its_own_is_turned_on_and_stays_so() -> None:
    devices = site("lamp:60,held/1")
    state = replace(devices.resources[0], held=None, held_seq=0, wish=Setting(on=False))
    request = RdrRequest("lamp-1", 1, 60.0, 60.0)
    action = grant_action(replace(devices, resources=(state,)), request, NOW)
    assert action is not None
    assert (action.words, action.effect_w) == ("lamp-1 on", 60.0)
    after = after_action(state, action, 5, NOW, 1)
    assert (after.held, after.wish.on) == (None, True)


def test_a_granted_device_goes_last_while_its_grant_lasts_but_limits_come_first() -> None:
    devices = site("lamp:60/0 lamp:60/5")
    grant = Grant("ems", "lamp-1", 20.0, NOW.wall + 60)

    def shed(threshold: float, until: float = 60.0) -> list[str]:
        timeline = Timeline(threshold_w=threshold, grants=(replace(grant, until=NOW.wall + until),))
        outcome = decide(devices, timeline, Rules(), Memory(), NOW)
        return [action.words for decision in outcome.decisions for action in decision.actions]

    assert shed(100.0) == []  # the limit holds with it
    assert shed(80.0) == ["lamp-2 off"]
    assert shed(20.0) == ["lamp-2 off", "lamp-1 off"]
    # It ends within a pass and a latency: what it carried is shed before.
    assert shed(100.0, until=2.5) == ["lamp-2 off"]


def test_why_names_the_event() -> None:
    event = DrEvent("ems", 17, 1, NOW.wall - 1, NOW.wall + 60, 100.0)
    _, decision, _ = answer_rdr(
        site("lamp:60,held/1 lamp:90/2"), Timeline(events=(event,)), Rules(), RdrRequest("lamp-1", 1, 60.0, 9.0), NOW
    )
    assert decision.event_id == 17
    assert decision.why == "lamp-1 asks 60 W back: 10 W of margin under 100 W (event 17)"
