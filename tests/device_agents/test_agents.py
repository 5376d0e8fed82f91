"""How each kind of device behaves: told, asked, left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_agents.agent import Agent
from device_agents.battery import Battery
from device_agents.car import Car
from device_agents.protocol import Connected, Rdr, RdrAnswer, Setpoint, Status, WireError
from tests.device_agents.twins import NOON, Time, battery, car, lamp, panel

Make = Callable[[Time], Agent]


def state(agent: Agent) -> Status:
    return Status.decode(agent.status())


def tell(agent: Agent, number: int, lease_s: int = 60, **what: object) -> Status:
    agent.received(Setpoint(number, lease_s, **what).encode())  # type: ignore[arg-type]
    return state(agent)


@pytest.mark.parametrize(
    ("make", "commands", "watts"),
    [
        (lamp, [{"on": False}], 0),
        (lamp, [{"dimming": 0}], 6),
        (lamp, [{"on": False}, {"dimming": 4}], 0),  # dimmed while off, and stays off
        (lamp, [{"on": False}, {"dimming": 4}, {"on": True}], 30),
        (lamp, [{"dimming": 0}, {"free": True}], 60),
        (lamp, [{"mw": -5000}], 60),  # means nothing to a lamp
        (panel, [{"mw": -1_000_000}], -1000),
        (panel, [{"mw": 0}], 0),
        (panel, [{"mw": 5_000_000}], 0),  # a panel cannot take
        (panel, [{"mw": 0}, {"on": False}, {"free": True}], -2522),
        (battery, [{"mw": 1_500_000}], 1500),
        (battery, [{"mw": 9_000_000}], 2000),  # its own limit
        (battery, [{"mw": -9_000_000}], -2500),
        (battery, [{"mw": -1_000_000}, {"on": False}], 0),
        (battery, [{"mw": -1_000_000}, {"on": False}, {"on": True}], -1000),
        (battery, [{"mw": -1_000_000}, {"free": True}], 0),
        (car, [{"mw": 7_360_000}], 7360),
        (car, [{"mw": 1_999_000}], 1840),  # 8 A: never more than told
        (car, [{"mw": 1_380_000}], 1380),
        (car, [{"mw": 1_379_999}], 0),  # below 6 A there is only a pause
        (car, [{"mw": 90_000_000}], 7360),
        (car, [{"on": False}, {"mw": 2_300_000}], 0),  # takes effect when it is on
        (car, [{"on": False}, {"mw": 2_300_000}, {"on": True}], 2300),
        (car, [{"mw": 0}, {"free": True}], 7360),
    ],
)
def test_commands(make: Make, commands: list[dict[str, object]], watts: float) -> None:
    agent = make(Time())
    for number, command in enumerate(commands, 1):
        now = tell(agent, number, **command)
        assert now.done == number
    assert now.mw == pytest.approx(watts * 1000, abs=1000)


@pytest.mark.parametrize("make", [lamp, panel, battery, car])
def test_what_it_announces_is_what_it_can(make: Make) -> None:
    agent = make(Time())
    said = Connected.decode(agent.connected())
    assert (said.type, said.dev, said.boot) == (agent.kind, agent.dev, 7)
    assert said.rated_mw == agent.rated_mw
    if "setpoint" in said.caps:
        assert said.min_mw is not None
        assert said.max_mw is not None
        for mw in (said.min_mw, said.max_mw):
            agent.received(Setpoint(agent.done + 1, 60, mw=mw).encode())
            assert abs(agent.plant.mw()) <= abs(mw)


def test_doubled_and_old_commands_change_nothing_and_are_answered() -> None:
    agent = lamp(Time())
    tell(agent, 5, on=False)
    agent.changed = False
    for number in (5, 4, 1):
        again = tell(agent, number, on=True)
        assert (again.on, again.done) == (False, 5)
    agent.changed = False
    agent.received(Setpoint(5, 60, on=False).encode())
    assert agent.changed, "its sender waits for the state"


def test_a_doubled_command_does_not_undo_what_its_user_did_since() -> None:
    agent = battery(Time())
    tell(agent, 5, mw=1_000_000)
    agent.key(9)
    assert tell(agent, 5, mw=1_000_000).mw == 0


def test_an_ema_whose_memory_was_lost_counts_anew() -> None:
    agent = lamp(Time())
    agent.received_hello(b'{"ema":"gw/1","boot":9}')
    tell(agent, 500, on=False)
    agent.received_hello(b'{"ema":"gw/1","boot":10}')
    assert tell(agent, 1, on=True).on is False, "the same EMA, restarted: its ids go on"
    agent.received_hello(b'{"ema":"gw/1","boot":1}')
    assert Status.decode(agent.status()).done is None, "of that EMA's commands it has carried out none"
    assert tell(agent, 1, on=True).on is True


@pytest.mark.parametrize(
    ("make", "command", "safe_watts"),
    [
        (lamp, {"on": False}, 60),
        (lambda time: lamp(time, safe_on=False), {"on": True, "dimming": 4}, 0),
        (panel, {"mw": 0}, -2522),
        (battery, {"mw": 1_000_000}, 0),
        (car, {"mw": 5_000_000}, 1380),
        (lambda time: car(time, safe_pause=True), {"mw": 5_000_000}, 0),
    ],
)
def test_a_lease_that_ends(make: Make, command: dict[str, object], safe_watts: float) -> None:
    agent = make(Time())
    before = tell(agent, 1, lease_s=20, **command)
    agent.tick(19_999)
    assert not agent.safe
    agent.received(b"ack")
    agent.tick(19_999)
    assert not agent.changed, "an ack keeps it, and changes nothing"
    agent.tick(1)
    assert agent.safe
    assert agent.changed
    now = state(agent)
    assert now.safe is True
    assert now.mw == pytest.approx(safe_watts * 1000, abs=1000)
    agent.received(b"ack")
    assert agent.safe, "what was held is the EMA's to say again"
    again = tell(agent, 2, **command)
    assert again.safe is None
    assert again.mw == pytest.approx(before.mw, abs=1)


def test_a_device_that_nothing_held_is_free_again_when_its_ema_returns() -> None:
    agent = car(Time())
    agent.tick(60_000)
    assert state(agent).mw == 1_380_000
    agent.received(b"ack")
    assert agent.changed
    now = state(agent)
    assert (now.safe, now.mw) == (None, 7_360_000)


def test_an_old_command_after_a_lease_is_obeyed_as_of_a_new_ema() -> None:
    agent = lamp(Time())
    tell(agent, 900, lease_s=10, on=False)
    agent.tick(10_000)
    assert tell(agent, 1, on=False).on is False


@pytest.mark.parametrize("body", [b"", b"{", b'{"id":1,"lease_s":true}', b"\xff", b"9" * 4000])
def test_what_is_malformed_neither_counts_as_heard_nor_changes_anything(body: bytes) -> None:
    agent = lamp(Time())
    agent.status()
    agent.tick(59_000)
    with pytest.raises(WireError):
        agent.received(body)
    assert not agent.changed
    agent.tick(1_000)
    assert agent.safe


def test_the_button() -> None:
    agent = lamp(Time())
    assert not agent.press(), "nothing to ask back"
    tell(agent, 1, dimming=1)
    assert agent.press()
    rdr = Rdr.decode(agent.take_rdr() or b"")
    assert (rdr.mw, rdr.for_s, rdr.boot) == (48_000, 600, 7)
    assert agent.take_rdr() is None
    assert not agent.press(), "an answer is awaited"
    agent.received(RdrAnswer("pending").encode())
    assert not agent.press()
    agent.received(RdrAnswer("denied", "no margin").encode())
    agent.received(RdrAnswer("pending").encode())
    assert agent.rdr == RdrAnswer("denied", "no margin"), "what became of it, before the answer to the question"
    assert agent.press(), "may ask again once it was answered"
    agent.tick(5_000)
    assert agent.press(), "or once nobody answered"


def test_lamp_console() -> None:
    agent = lamp(Time())
    assert agent.key(1) == "on already"
    assert agent.key(0) == "off"
    assert state(agent).on is False
    assert agent.key(1) == "RDR: 60 W asked back"
    agent.tick(60_000)
    agent.key(0)
    assert agent.key(1) == "on; no EMA to ask"
    assert state(agent).on is True


@pytest.mark.parametrize(("key", "watts"), [(7, -2500), (8, 2000), (9, 0)])
def test_battery_console(key: int, watts: int) -> None:
    agent = battery(Time())
    agent.key(8 if key == 9 else 9)
    agent.key(key)
    assert state(agent).mw == watts * 1000
    assert agent.menu()[3:6] == ("SOC : 50.00 per", f"vol : {agent.battery.mv() / 1000:.0f} V", "hertz : 60 Hz")
    agent.key(3)
    assert agent.quit


@pytest.mark.parametrize(("soc", "mw"), [(50.0, -2_500_000), (50.0, 2_000_000)])
def test_a_battery_stops_at_floor_and_ceiling_and_says_so(soc: float, mw: int) -> None:
    time = Time()
    agent = battery(time, soc=soc)
    tell(agent, 1, lease_s=86_400, mw=mw)
    for _ in range(3 * 3600):
        time.now += 1
        agent.tick(1000)
        if agent.changed:
            break
    now = state(agent)
    assert now.mw == 0
    assert now.soc == pytest.approx(agent.floor if mw < 0 else agent.ceiling, abs=1)
    assert isinstance(agent, Battery)


def test_a_car_that_comes_and_goes_is_told_at_once() -> None:
    time = Time()
    agent = car(time, arrive=100, stay=1000)
    assert state(agent).plugged is False
    assert agent.missing_mw() == 0
    seen = []
    for _ in range(1200):
        time.now += 1
        agent.tick(1000)
        if agent.changed and not agent.safe:
            agent.received(b"ack")
        if agent.changed:
            now = state(agent)
            seen.append((now.plugged, now.need_mwh is not None, now.depart_s is not None))
    assert (True, True, True) in seen
    assert seen[-1] == (False, False, False)
    assert isinstance(agent, Car)


@pytest.mark.parametrize("phases", [1, 3])
def test_every_ampere_from_six_to_thirty_two(phases: int) -> None:
    agent = car(Time(), phases=phases)
    for amps in range(33):
        now = tell(agent, amps + 1, mw=amps * 230_000 * phases)
        assert agent.offered_a == (amps if amps >= 6 else 0)
        assert now.mv == 230_000


def test_a_drift_below_the_threshold_waits_for_the_period() -> None:
    time = Time(NOON)
    agent = panel(time)
    agent.status()
    time.now += 60
    agent.tick(1000)
    assert not agent.changed
    time.now += 2 * 3600
    agent.tick(1000)
    assert agent.changed
