"""Car, battery and panel of the project on both links below a whole EMA: held, their effect, control that hangs, the
EMA gone, the safe state, and taken up again by the next start. One clock for all, ten times as fast."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agents.agent import Agent
from device_agents.run_coap import CoapDevice
from device_agents.run_mqtt import MqttDevice
from device_agents.runner import Runner
from device_agents.simulated import simulated_battery, simulated_car, simulated_lamp, simulated_panel
from gateway.clock import Clock, ScaledClock
from gateway.config.model import Config, ControlConfig, DeviceConfig, EmaConfig, SiteBrokerConfig, SiteCoapConfig
from gateway.daemon import Daemon
from gateway.site.event import RdrResult
from gateway.transport.mqtt import MqttSettings
from hardware.simulated.car import Visit
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.site import FakeUpstream
from tests.support.wait import until

SPEED = 10.0
LEASE_S = 15.0
PATIENCE_S = 30.0


def noon_longitude(wall: float) -> float:
    """Where the sun stands highest now."""
    return (12.0 - wall / 3600.0 % 24.0) * 15.0


class Plot:
    """A house: its configuration, its clock, its devices; the EMA comes and goes."""

    def __init__(self, directory: Path, link: str, broker: int, control: ControlConfig, *devices: DeviceConfig) -> None:
        self.clock = ScaledClock(SPEED)
        self.link = link
        self.agents: dict[int, Agent] = {}
        self._coap, self._mqtt = free_port(socket.SOCK_DGRAM), broker
        self._tasks: list[asyncio.Task[None]] = []
        self.config = Config(
            ema=EmaConfig(state_dir=str(directory / "state")),
            control=control,
            site_broker=SiteBrokerConfig(host="127.0.0.1", port=broker),
            site_coap=SiteCoapConfig(port=self._coap),
            device=devices,
        )

    @asynccontextmanager
    async def ema(self) -> AsyncIterator[Daemon]:
        daemon = Daemon(self.config, self.clock, random.Random(1), serve_socket=False)
        task = asyncio.create_task(daemon.run())
        try:
            await asyncio.wait_for(daemon.ready.wait(), PATIENCE_S)
            yield daemon
        finally:
            daemon.stop()
            await asyncio.wait_for(task, PATIENCE_S)

    def device(self, agent: Agent) -> Runner:
        runner: Runner
        if self.link == "mqtt":
            settings = MqttSettings("127.0.0.1", self._mqtt)
            runner = MqttDevice(agent, settings, self.clock, random.Random(agent.dev), 2.0, 0.5)
        else:
            own = free_port(socket.SOCK_DGRAM)
            runner = CoapDevice(agent, "127.0.0.1", self._coap, "127.0.0.1", own, self.clock, 2.0, 0.5)
        self.agents[agent.dev] = agent
        self._tasks.append(asyncio.create_task(runner.run()))
        return runner

    def watts(self, number: int) -> float:
        return self.agents[number].plant.mw() / 1000

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def control_of(**more: float) -> ControlConfig:
    return ControlConfig(lease_s=LEASE_S, latency_s=4.0, pass_s=1.0, restore_delay_s=0.0, min_on_ev_s=0.0, **more)


@dataclass(frozen=True)
class Case:
    """``make``: the device number 1; ``held``: what its twin draws while control holds it; ``safe``: without us."""

    control: ControlConfig
    make: Callable[[Clock], Agent]
    held: tuple[float, float]
    safe: tuple[float, float]
    load_w: float = 0.0


def car(clock: Clock) -> Agent:
    now = clock.now().wall
    return simulated_car(1, 1, 1, clock, visits=(Visit(now, now + 1e6, 30.0),), lease_s=int(LEASE_S))


def battery(clock: Clock) -> Agent:
    return simulated_battery(1, 1, 1, clock, 2000.0, 10_000.0, 80.0, lease_s=int(LEASE_S))


def panel(clock: Clock) -> Agent:
    return simulated_panel(1, 1, 1, clock, 3000.0, int(LEASE_S), 10.0, noon_longitude(clock.now().wall))


CASES = {
    # 13 A of 32 under 3 kW; without us 6 A
    "ev": Case(control_of(threshold_w=3000.0), car, (2700.0, 3000.0), (1380.0, 1380.0)),
    # gives what a lamp that is never shed draws above the threshold; without us idle
    "ess": Case(control_of(threshold_w=600.0), battery, (-1000.0, -350.0), (0.0, 0.0), load_w=1000.0),
    # feeds in no more than it may; without us whatever the sun gives
    "pv": Case(control_of(export_w=500.0), panel, (-500.0, -400.0), (-3000.0, -1000.0)),
}


def devices(kind: str, link: str) -> tuple[DeviceConfig, ...]:
    lamp = DeviceConfig(number=2, type="led", link=link, rated_w=1000.0, never_shed=True)
    return (
        (DeviceConfig(number=1, type=kind, link=link), lamp)
        if CASES[kind].load_w
        else (DeviceConfig(number=1, type=kind, link=link),)
    )


@pytest.mark.parametrize("link", ["mqtt", "coap"])
@pytest.mark.parametrize("kind", CASES)
async def test_held_lost_safe_and_taken_up(tmp_path: Path, mosquitto: Mosquitto, kind: str, link: str) -> None:
    case = CASES[kind]
    plot = Plot(tmp_path, link, mosquitto.port, case.control, *devices(kind, link))

    def within(bounds: tuple[float, float]) -> bool:
        return bounds[0] - 1.0 <= plot.watts(1) <= bounds[1] + 1.0

    def held(daemon: Daemon) -> bool:
        state = daemon.engine.states.get(1)
        return state is not None and state.held is not None and within(case.held) and not agent.safe

    agent = case.make(plot.clock)
    try:
        async with plot.ema() as daemon:
            plot.device(agent)
            if case.load_w:
                plot.device(simulated_lamp(2, 9, 1, plot.clock, case.load_w, int(LEASE_S)))
            await until(lambda: held(daemon), PATIENCE_S, "its effect")
            assert daemon._running is not None
            supervisor = daemon._running.supervisor

            # Control hangs, all else goes on: link, loop, states.
            await supervisor.stop("control")
            await until(lambda: agent.safe, PATIENCE_S, "without ack its lease ends")
            assert within(case.safe)
            reading = daemon.engine.states[1].reading
            assert reading is not None
            assert plot.clock.monotonic() - reading.taken_at < LEASE_S, "it is still heard"
            supervisor.start("control", daemon.engine.run)
            await until(lambda: held(daemon), PATIENCE_S, "control says again what it wants")
            await daemon.journal.durable()

        await until(lambda: agent.safe, PATIENCE_S, "the EMA is gone and its lease ends")
        assert within(case.safe)

        async with plot.ema() as daemon:
            assert daemon.engine.states[1].held is not None, "the journal knows what it was held to"
            await until(lambda: held(daemon), PATIENCE_S, "taken up")
            assert daemon.journal.boot > 1
    finally:
        await plot.end()


@pytest.mark.parametrize("link", ["mqtt", "coap"])
@pytest.mark.parametrize("granted", [True, False])
async def test_a_lamps_button_is_answered_later(tmp_path: Path, mosquitto: Mosquitto, link: str, granted: bool) -> None:
    """Over CoAP: pending in the answer to PUT /rdr, what became of it by PUT /rdr to the lamp."""
    ems = FakeUpstream(None)
    answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()

    async def ask_rdr(number: int, watts: float, for_s: float) -> tuple[bool, str]:
        ems.asked.append((number, watts))
        return await answer

    ems.ask_rdr = ask_rdr  # type: ignore[method-assign]
    control = ControlConfig(threshold_w=70.0, lease_s=LEASE_S, latency_s=4.0, ems_answer_s=600.0)
    lamps = tuple(DeviceConfig(number=n, type="led", link=link) for n in (1, 2))
    plot = Plot(tmp_path, link, mosquitto.port, control, *lamps)
    lamp, other = (simulated_lamp(n, n, 1, plot.clock, 60.0, int(LEASE_S)) for n in (1, 2))
    try:
        async with plot.ema() as daemon:
            daemon.engine.upstreams.append(ems)
            runner = plot.device(lamp)
            plot.device(other)
            await until(lambda: plot.watts(1) + plot.watts(2) <= 70.0, PATIENCE_S, "shed")
            missing = lamp.missing_mw() / 1000
            assert missing > 0
            await until(lambda: runner.press_button(), PATIENCE_S, "its button")
            await until(lambda: lamp.rdr is not None, PATIENCE_S, "the first answer")
            assert lamp.rdr is not None
            assert lamp.rdr.rdr == RdrResult.PENDING.value
            assert ems.asked == [(1, missing)]
            answer.set_result((granted, "enough" if granted else "nothing to give"))
            expected = RdrResult.GRANTED if granted else RdrResult.DENIED
            await until(lambda: lamp.rdr is not None and lamp.rdr.rdr == expected.value, PATIENCE_S, "its answer")
            assert ("enough" if granted else "nothing to give") in lamp.rdr.why
            if granted:
                await until(lambda: lamp.missing_mw() == 0, PATIENCE_S, "what was granted is given")
            else:
                assert lamp.missing_mw() / 1000 == missing
    finally:
        await plot.end()
