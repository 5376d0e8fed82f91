"""What one pass does, as tables (docs/control.md, "A pass")."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.clock import Instant
from gateway.control.bookkeeping import after_action
from gateway.control.decide import decide
from gateway.control.rules import Memory, Outcome, Rules
from gateway.site.decision import Rule
from gateway.site.event import DrEvent
from gateway.site.picture import Site, Timeline
from gateway.site.resource import Setting
from tests.gateway.control.site_text import NOW, site

EVERYTHING = Rules()


def said(outcome: Outcome) -> str:
    parts = []
    for decision in outcome.decisions:
        if decision.rule in (Rule.FUTILITY, Rule.RELIEVED):
            parts.append(decision.rule.value)
        parts.extend(action.words for action in decision.actions)
    return ", ".join(parts) or "nothing"


@pytest.mark.parametrize(
    ("devices", "limit", "expected"),
    [
        # load                                limit  what must happen
        ("lamp:60/1 lamp:60/2", 120, "nothing"),  # at the limit is not over it
        ("lamp:60/1 lamp:60/2", 100, "lamp-1 off"),  # the smaller number goes first
        ("lamp:60/2 lamp:60/1", 100, "lamp-2 off"),
        ("lamp:60/1! lamp:60/2", 100, "lamp-2 off"),  # ! never shed
        ("lamp:60/0 lamp:60/1 lamp:60/2", 60, "lamp-1 off, lamp-2 off"),  # 0, nothing said, goes first of all
        ("lamp:100/1 lamp:20/1", 110, "lamp-2 off"),  # within one number the least W are lost
        ("lamp:50/1 lamp:40/1 lamp:30/1", 80, "lamp-2 off"),  # 40 do, 50 would lose more
        ("lamp:50/1 lamp:40/1 lamp:30/1", 55, "lamp-2 off, lamp-3 off"),  # 70 lost rather than 80
        ("lamp:30/1 lamp:30/1 lamp:60/1", 60, "lamp-3 off"),  # the same W by fewer actions
        ("lamp:60,dim/1 lamp:60/1", 100, "lamp-1 dimming 5"),  # dimming before switching, to just under
        ("lamp:60,dim/1 lamp:60,dim/1", 20, "lamp-1 dimming 0, lamp-2 dimming 1"),
        ("lamp:60,dim/1 lamp:60,dim/1", 6, "lamp-1 off, lamp-2 dimming 0"),  # dimming alone does not do
        ("lamp:60,dim/1 lamp:60,dim/2", 70, "lamp-1 dimming 0"),
        ("lamp:60,dim/1 lamp:60,dim/2", 63, "lamp-1 off"),  # all of 1 before any of 2
        ("lamp:30,dim4/1", 20, "lamp-1 dimming 2"),  # 6 W a step, from the step it is at
        ("ess:soc50,max200/5 lamp:60/1", 0, "ess-1 discharges 60 W"),  # no service lost, whatever its number
        ("ess:soc50,max50/5 lamp:60/1 lamp:60/2", 60, "ess-1 discharges 50 W, lamp-1 off"),
        ("ess:soc20,max200/5 lamp:60/1", 0, "lamp-1 off"),  # at its reserve
        ("ess:100,soc20,max200/5 lamp:60/1", 100, "ess-1 charges 40 W"),  # but it may stop charging
        ("ess:100,soc20,max200/5 lamp:60/1", 20, "ess-1 idle, lamp-1 off"),
        ("ess:max200/5 lamp:60/1", 0, "lamp-1 off"),  # says no SoC: it is not taken for charged
        ("ess:soc50,max200,step50/5 lamp:60/1", 0, "ess-1 discharges 100 W"),
        ("ess:soc50,max200/5! lamp:60/1", 0, "lamp-1 off"),
        ("ev:3680/5 lamp:60/1", 3720, "lamp-1 off"),  # a car by its priority
        ("ev:3680,need2000,in7200/5 lamp:60/1", 3700, "ev-1 at most 3640 W"),  # unless it can wait
        ("ev:3680,need2000,in7200/5 lamp:60/1", 1000, "ev-1 paused"),
        ("ev:3680,need20000,in7200/5 lamp:60/1", 3720, "lamp-1 off"),  # it could not make it
        ("ev:3680/1 lamp:60/2", 3000, "ev-1 at most 2940 W"),
        ("ev:3680,step230/1", 3000, "ev-1 at most 2990 W"),
        ("ev:1380,wait60,on10/1 lamp:60/2", 1400, "lamp-1 off"),  # its minimum on time
        ("lamp:60,min10,on3/1 lamp:60/2", 100, "lamp-2 off"),
        ("lamp:60,min10,on11/1 lamp:60/2", 100, "lamp-1 off"),
        ("lamp:60/1!", 0, "futility"),  # say so, switch nothing
        ("lamp:60/1! lamp:10/2", 30, "lamp-2 off"),  # all that can be done
        ("pv:-500/1 lamp:600/1 lamp:50/2", 100, "lamp-1 off"),
        ("pv:-500/1 lamp:600/1", 100, "nothing"),
    ],
)
def test_over_the_limit(devices: str, limit: float, expected: str) -> None:
    outcome = decide(site(devices), Timeline(threshold_w=limit), EVERYTHING, Memory(), NOW)
    assert said(outcome) == expected


@pytest.mark.parametrize(
    ("devices", "limit", "expected"),
    [
        ("pv:-900/1", 1000, "nothing"),
        ("pv:-900/1", 500, "pv-1 limited to 500 W"),
        ("pv:-900/1 pv:-900/2", 800, "pv-1 limited to 0 W, pv-2 limited to 800 W"),
        ("pv:-900,step300/1", 500, "pv-1 limited to 300 W"),
        ("pv:-900/1 ess:soc50,max200/5", 800, "ess-1 charges 100 W"),
        ("pv:-900/1 ess:soc50,max200/5", 500, "ess-1 charges 200 W, pv-1 limited to 700 W"),
        ("pv:-900/1 ess:-100,soc95,max200/5", 900, "ess-1 idle"),
        ("pv:-900/1!", 500, "futility"),
    ],
)
def test_over_the_export_limit(devices: str, limit: float, expected: str) -> None:
    outcome = decide(site(devices), Timeline(export_w=limit), EVERYTHING, Memory(), NOW)
    assert said(outcome) == expected


@pytest.mark.parametrize(
    ("devices", "limit", "expected"),
    [
        ("lamp:60,held/1 lamp:60/2", None, "lamp-1 on"),  # no limit binds
        ("lamp:60,held/1 lamp:60/2", 140, "lamp-1 on"),  # 60 W and 20 W of hysteresis
        ("lamp:60,held/1 lamp:60/2", 139, "nothing"),
        ("lamp:60,held/1 lamp:60,held/2", 200, "lamp-2 on"),  # backwards, one step a pass
        ("lamp:60,held,dim/1 lamp:60/2", 110, "lamp-1 dimming 4"),  # as bright as fits
        ("lamp:30,dim4,as/1", 200, "lamp-1 dimming 9"),
        ("lamp:60,held,min10,off3/1", None, "nothing"),  # its minimum off time
        ("lamp:60,held,min10,off11/1", None, "lamp-1 on"),
        ("ess:-300,soc50,as/1 lamp:60,held/2", 200, "lamp-1 on"),  # stores last
        ("ess:-300,soc50,as/1 lamp:400/2", 200, "ess-1 discharges 220 W"),  # 100 of need, 20 of hysteresis
        ("ess:-300,soc50,as/1 lamp:400/2", 115, "nothing"),  # less than the hysteresis is not worth a command
        ("ess:-300,soc50,as/1 lamp:400/2", None, "ess-1 free"),
        ("ev:1380,as,max7360/1", 2000, "ev-1 at most 1900 W"),
        ("ev:1380,as,max7360/1", 9000, "ev-1 free"),
        ("ev:3680,held/1", 1400, "nothing"),  # less than its least
        ("ess:-300,soc20,as/1 lamp:400/2", 500, "ess-1 idle"),  # its floor: it stops though there is room
        ("ess:-300,soc20,as/1 lamp:400/2", 300, "ess-1 idle, lamp-1 off"),
    ],
)
def test_under_the_limit(devices: str, limit: float | None, expected: str) -> None:
    outcome = decide(site(devices), Timeline(threshold_w=limit), EVERYTHING, Memory(), NOW)
    assert said(outcome) == expected


def test_why_has_all_its_numbers() -> None:
    event = DrEvent("ems", 17, 1, NOW.wall - 5, NOW.wall + 600, 100.0)
    outcome = decide(site("lamp:60/1! lamp:60/2"), Timeline(events=(event,)), EVERYTHING, Memory(), NOW)
    (decision,) = outcome.decisions
    assert decision.line() == "over by 20 W of 100 W (event 17): lamp-2 off; lamp-1 kept (never shed)"
    assert decision.event_id == 17
    assert decision.margin_w == -20.0


@pytest.mark.parametrize(
    ("limit", "line"), [(None, "60 W, no limit: lamp-1 on"), (500.0, "60 W of 500 W (threshold): lamp-1 on")]
)
def test_why_of_a_restore(limit: float | None, line: str) -> None:
    held = site("lamp:60,held/1 lamp:60/2")
    outcome = decide(held, Timeline(threshold_w=limit), EVERYTHING, Memory(), NOW)
    assert [decision.line() for decision in outcome.decisions] == [line]


def test_a_pass_takes_no_more_than_its_cap() -> None:
    rules = Rules(cap_w=100.0)
    outcome = decide(site("lamp:60/1 lamp:60/1 lamp:60/1"), Timeline(threshold_w=0.0), rules, Memory(), NOW)
    assert said(outcome) == "lamp-1 off"
    soon = decide(site("lamp:60/1 lamp:60/1"), Timeline(threshold_w=0.0), rules, outcome.memory, NOW)
    assert said(soon) == "nothing"
    assert said(decide(site("ess:soc50,max500/5 lamp:400/1"), Timeline(threshold_w=0.0), rules, Memory(), NOW)) == (
        "ess-1 discharges 100 W"
    )
    assert said(decide(site("lamp:400/1"), Timeline(threshold_w=0.0), rules, Memory(), NOW)) == "futility"


def test_futility_is_said_once_and_so_is_its_end() -> None:
    over = decide(site("lamp:60/1!"), Timeline(threshold_w=0.0), EVERYTHING, Memory(), NOW)
    again = decide(site("lamp:60/1!"), Timeline(threshold_w=0.0), EVERYTHING, over.memory, NOW)
    after = decide(site("lamp:60/1!"), Timeline(threshold_w=60.0), EVERYTHING, again.memory, NOW)
    assert [said(over), said(again), said(after)] == ["futility", "nothing", "relieved"]


def test_restores_wait_for_the_delay_of_the_event_that_ended() -> None:
    event = DrEvent("ems", 17, 1, NOW.wall - 600, NOW.wall + 1, 100.0, restore_delay_s=12.0)
    held = site("lamp:60,held/1")
    running = decide(held, Timeline(events=(event,)), EVERYTHING, Memory(), NOW)
    over = replace(event, end=NOW.wall)
    for after in (Timeline(events=(over,)), Timeline()):
        ended = decide(held, after, EVERYTHING, running.memory, NOW)
        assert said(ended) == "nothing"
        assert ended.memory.restore_not_before == NOW.mono + 12.0
    assert said(decide(held, Timeline(), EVERYTHING, Memory(), NOW)) == "lamp-1 on"


def test_too_old_readings_bring_the_failsafe_set_once() -> None:
    old = site("lamp:60,safe,age31/1 lamp:60,safe/2! lamp:60/3")
    first = decide(old, Timeline(threshold_w=500.0), EVERYTHING, Memory(), NOW)
    assert [d.rule for d in first.decisions] == [Rule.FAILSAFE]
    assert first.decisions[0].line() == "nothing heard for 30 s from lamp-1: lamp-1 off; lamp-2 kept (never shed)"
    second = decide(old, Timeline(threshold_w=500.0), EVERYTHING, first.memory, NOW)
    assert said(second) == "nothing"
    fresh = decide(site("lamp:60,held/1"), Timeline(threshold_w=500.0), EVERYTHING, second.memory, NOW)
    assert [d.rule for d in fresh.decisions] == [Rule.FAILSAFE, Rule.RESTORE]


def test_the_failsafe_set_switches_nothing_on() -> None:
    (lamp,) = site("lamp:60,age31/1").resources
    assert lamp.reading is not None
    dark = replace(
        lamp,
        resource=replace(lamp.resource, safe=Setting(on=True)),
        reading=replace(lamp.reading, on=False, power_w=0.0),
    )
    outcome = decide(Site((dark,)), Timeline(threshold_w=500.0), EVERYTHING, Memory(), NOW)
    assert [d.rule for d in outcome.decisions] == [Rule.FAILSAFE]
    assert outcome.decisions[0].actions == ()
    assert "lamp-1 kept (its safe state draws more)" in outcome.decisions[0].line()


@pytest.mark.parametrize(
    ("device", "limit", "told"),
    [
        ("lamp:60,age31/1", 5.0, "lamp-1 off"),
        ("lamp:60,dim,age31/1", 30.0, "lamp-1 dimming 4"),
        ("ess:200,soc50,max300,age31/1", 100.0, "ess-1 charges 100 W"),
        ("ev:3680,age31/1", 1400.0, "ev-1 at most 1400 W"),
    ],
)
def test_who_is_not_heard_of_is_not_told_the_same_at_each_pass(device: str, limit: float, told: str) -> None:
    timeline, memory = Timeline(threshold_w=limit), Memory(failsafe=True)
    (silent,) = site(device).resources
    for seq, wait, expected in [(1, 0.0, told), (2, 0.05, "nothing"), (3, 1.9, "nothing"), (4, 2.1, "futility")]:
        now = Instant(NOW.mono + wait, NOW.wall + wait)
        outcome = decide(Site((silent,)), timeline, EVERYTHING, memory, now)
        assert said(outcome) == expected
        memory = outcome.memory
        for action in (action for decision in outcome.decisions for action in decision.actions):
            silent = after_action(silent, action, seq, now, seq)


def test_prepares_for_an_event_that_is_known() -> None:
    event = DrEvent("ems", 17, 1, NOW.wall + 300, NOW.wall + 900, 100.0)
    timeline = Timeline(threshold_w=5000.0, events=(event,))
    devices = site("ess:soc50,max2000/5 ev:3000,need2000,in7200/1")
    assert said(decide(devices, timeline, EVERYTHING, Memory(), NOW)) == "nothing"
    outcome = decide(devices, timeline, Rules(prepare_s=600.0), Memory(), NOW)
    assert said(outcome) == "ess-1 charges 1750 W, ev-1 paused"


@pytest.mark.parametrize(
    ("devices", "timeline", "after"),
    [
        ("lamp:60/1", Timeline(threshold_w=100.0), 10.0),
        ("lamp:60,held/1", Timeline(threshold_w=70.0), 1.0),
        ("lamp:60/1!", Timeline(threshold_w=50.0), 1.0),
        ("lamp:60/1", Timeline(events=(DrEvent("ems", 1, 1, NOW.wall + 4, NOW.wall + 9, 0.0),)), 4.0),
    ],
)
def test_when_to_look_again(devices: str, timeline: Timeline, after: float) -> None:
    assert decide(site(devices), timeline, EVERYTHING, Memory(), NOW).next_wakeup == NOW.mono + after
