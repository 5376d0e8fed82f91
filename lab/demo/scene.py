"""The demo's site: an embedded broker, an EMS, one EMA and eight devices of four kinds, in one process on one clock.

Everything is the real thing but the physics: the same daemon, EMS and agents as in the field, real MQTT and CoAP on
loopback, GPIO pins of gpiozero's mock factory. Loopback ports are free ones. ``Wires`` between them are proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agents.agent import LEASE_S, Agent
from device_agents.protocol import Setpoint
from device_agents.run_coap import CoapDevice
from device_agents.run_mqtt import MqttDevice
from device_agents.runner import Runner
from device_agents.simulated import simulated_battery, simulated_car, simulated_lamp, simulated_panel
from gateway.clock import ScaledClock
from gateway.config.model import (
    Config,
    ControlConfig,
    DeviceConfig,
    EmaConfig,
    ReportsConfig,
    SiteBrokerConfig,
    SiteCoapConfig,
    UpstreamConfig,
)
from gateway.daemon import Daemon
from gateway.transport.mqtt import MqttSettings
from hardware.simulated.car import Visit
from hardware.simulated.lamp import Lamp as LampTwin
from hardware.simulated.plants import TwinLamp
from hardware.simulated.twin import Twin
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from lab.demo.wires import DEVICES_HOST, Address, Wires

# Whatever the hour on this machine, the site lies where it is late in the morning: the panel has its sun.
SITE_HOUR = 11.0
LATITUDE = 37.56
HALL_W, WORKSHOP_W, DESK_W, EXIT_W = 300.0, 150.0, 18.0, 40.0
PANEL_W, BATTERY_W, CAR_A = 1500.0, 400.0, 10
GPIO_LAMP = 3
BUTTON_PIN = "27"
# Seconds of the machine's clock that the process itself needs from a command to the state that shows it.
OWN_S = 0.08
# Through proxies: silent for so many seconds of the machine's clock is not yet away.
SILENT_S = 8.0


def free_port(kind: socket.SocketKind) -> int:
    """A port of loopback that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Carried:
    """A command as a device carried it out. ``at``: ``time.perf_counter``."""

    at: float
    device: int
    id: int


@dataclass(slots=True)
class Scene:
    """A running site. ``twins`` are its physics; the sum of their powers is the truth. ``above``: by protocol, where
    the EMA finds its EMS. ``carried``: what the devices with an agent did, oldest first."""

    clock: ScaledClock
    ems: Ems
    daemon: Daemon
    runners: dict[int, Runner]
    twins: dict[int, Twin]
    press: Callable[[int], bool]
    above: dict[str, Address]
    carried: list[Carried]
    wires: Wires | None = None
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def power_w(self) -> float:
        """What the site truly draws now."""
        return sum(twin.power_w for twin in self.twins.values())


@dataclass(frozen=True, slots=True)
class Times:
    """What the machine and its links need of the machine's time, in seconds of a clock that runs ``speed`` times as
    fast. ``slack_s``: what proxies add; 0: there are none."""

    speed: float
    slack_s: float

    @property
    def latency_s(self) -> float:
        return max(2.0, (OWN_S + self.slack_s) * self.speed)

    @property
    def ems_answer_s(self) -> float:
        return max(2.0, (OWN_S + 3 * self.slack_s) * self.speed)

    @property
    def restore_delay_s(self) -> float:
        return 10.0 if self.slack_s else 30.0

    @property
    def stale_after_s(self) -> float:
        return max(30.0, SILENT_S * self.speed) if self.slack_s else 30.0

    @property
    def lease_s(self) -> float:
        return max(float(LEASE_S), 2 * SILENT_S * self.speed) if self.slack_s else float(LEASE_S)


def configuration(directory: Path, times: Times, ems: Address, broker: int, coap: int) -> Config:
    """The EMA of the demo. ``ems``: its broker, as the EMA finds it."""
    return Config(
        ema=EmaConfig(number=1, state_dir=str(directory / "ema"), log_level="warning"),
        control=ControlConfig(
            latency_s=times.latency_s,
            ems_answer_s=times.ems_answer_s,
            stale_after_s=times.stale_after_s,
            lease_s=times.lease_s,
            restore_delay_s=times.restore_delay_s,
            min_on_relay_s=0.0,
        ),
        reports=ReportsConfig(period_s=10.0),
        site_broker=SiteBrokerConfig(host="127.0.0.1", port=broker),
        site_coap=SiteCoapConfig(port=coap),
        upstream=(UpstreamConfig(name="ems", host=ems[0], port=ems[1], mode=1, timezone="UTC"),),
        device=(
            DeviceConfig(number=1, name="hall", link="mqtt", priority=2),
            DeviceConfig(number=2, name="workshop", link="coap", priority=1),
            DeviceConfig(
                number=GPIO_LAMP,
                name="desk",
                link="gpio",
                priority=0,
                rated_w=DESK_W,
                pwm_pin="17",
                button_pin=BUTTON_PIN,
            ),
            DeviceConfig(number=4, name="exit", link="mqtt", priority=9, never_shed=True),
            DeviceConfig(number=5, name="roof", type="pv", link="mqtt", priority=9),
            DeviceConfig(number=6, name="battery", type="ess", link="coap", priority=9, floor_soc=30.0),
            DeviceConfig(number=7, name="car", type="ev", link="coap", priority=5, min_on_s=0.0),
            DeviceConfig(number=8, name="stairs", link="mqtt", priority=3),
        ),
    )


def agents(clock: ScaledClock, lease_s: int = LEASE_S) -> dict[int, Agent]:
    """The seven devices with an agent of their own; the eighth hangs on the EMA's pins."""
    now = clock.now().wall
    hour = (now % 86_400) / 3600
    longitude = ((SITE_HOUR - hour) * 15 + 180) % 360 - 180
    visit = Visit(arrive=now - 60, depart=now + 12 * 3600, soc=30.0, target=95.0)
    made: list[Agent] = [
        simulated_lamp(1, 2, 1, clock, HALL_W, lease_s=lease_s),
        simulated_lamp(2, 1, 1, clock, WORKSHOP_W, lease_s=lease_s),
        simulated_lamp(4, 9, 1, clock, EXIT_W, lease_s=lease_s),
        simulated_panel(5, 9, 1, clock, PANEL_W, latitude=LATITUDE, longitude=longitude, lease_s=lease_s),
        simulated_battery(6, 9, 1, clock, BATTERY_W, capacity_wh=2000.0, soc=70.0, lease_s=lease_s),
        simulated_car(7, 5, 1, clock, most_a=CAR_A, battery_wh=40_000.0, visits=[visit], lease_s=lease_s),
        simulated_lamp(8, 3, 1, clock, HALL_W, lease_s=lease_s),
    ]
    return {agent.dev: agent for agent in made}


@contextlib.asynccontextmanager
async def embedded_broker(port: int) -> AsyncIterator[None]:
    """amqtt on loopback, for the demo alone (no offline queues, no access list)."""
    from amqtt.broker import Broker

    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 100}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()


@contextlib.asynccontextmanager
async def running(
    directory: Path, speed: float, seed: int, wires: Wires | None = None, every_way: bool = False
) -> AsyncIterator[Scene]:
    """The whole site, until the block ends. ``every_way``: the EMS serves all that it can, not MQTT alone."""
    broker = free_port(socket.SOCK_STREAM)
    async with embedded_broker(broker), _closing(wires):
        ports = {key: free_port(socket.SOCK_DGRAM) for key in _beside_mqtt()} if every_way else {}
        above = await _above(broker, ports, wires)
        scene = await _made(directory, ScaledClock(speed), random.Random(seed), broker, ports, above, wires)
        try:
            _start(scene, scene.ems.run())
            await scene.ems.ready()
            _start(scene, scene.daemon.run())
            await scene.daemon.ready.wait()
            for runner in scene.runners.values():
                _start(scene, runner.run())
            yield scene
        finally:
            await _end(scene)


def _beside_mqtt() -> list[str]:
    """The ways to EMAs that this EMS has a HOST:PORT for."""
    return [field.name for field in dataclasses.fields(EmsSettings) if field.name in ("coap", "udp")]


@contextlib.asynccontextmanager
async def _closing(wires: Wires | None) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if wires is not None:
            await wires.close()


async def _above(broker: int, ports: dict[str, int], wires: Wires | None) -> dict[str, Address]:
    """Where the EMA finds its EMS."""
    direct: dict[str, Address] = {"mqtt": ("127.0.0.1", broker), **{key: ("127.0.0.1", p) for key, p in ports.items()}}
    if wires is None:
        return direct
    return {
        key: await (wires.tcp if key == "mqtt" else wires.udp)(f"ems {key}", address) for key, address in direct.items()
    }


async def _made(
    directory: Path,
    clock: ScaledClock,
    rng: random.Random,
    broker: int,
    ports: dict[str, int],
    above: dict[str, Address],
    wires: Wires | None,
) -> Scene:
    """All parts, none started."""
    from hardware.gpio_zero import ZeroPins

    times = Times(clock.speed, wires.slack_s if wires is not None else 0.0)
    settings = EmsSettings(
        broker=f"127.0.0.1:{broker}",
        state_dir=str(directory / "ems"),
        zone="UTC",
        resend_s=3.0 * max(clock.speed, 1.0),
        stale_s=max(60.0, times.stale_after_s),
        **{key: f"127.0.0.1:{port}" for key, port in ports.items()},  # type: ignore[arg-type]
    )
    ems = Ems(settings, clock, rng, http=False, logger=logging.getLogger("smartema.ems"))
    coap = free_port(socket.SOCK_DGRAM)
    config = configuration(directory, times, above["mqtt"], broker, coap)
    pins = ZeroPins.mock()
    desk = LampTwin(clock, DESK_W, on=True)
    daemon = Daemon(config, clock, rng, plants={GPIO_LAMP: TwinLamp(desk)}, pins=pins, serve_socket=False)
    found = agents(clock, round(times.lease_s))
    carried: list[Carried] = []
    for agent in found.values():
        _watch(agent, carried)
    links = {device.number: device.link for device in config.device}
    site_broker, site_coap = ("127.0.0.1", broker), ("127.0.0.1", coap)
    if wires is not None:
        site_broker = await wires.tcp("site mqtt", site_broker)
        site_coap = await wires.udp("site coap", site_coap, same_port=True)
    runners: dict[int, Runner] = {}
    for number, agent in found.items():
        if links[number] == "mqtt":
            runners[number] = MqttDevice(agent, MqttSettings(*site_broker), clock, rng)
        else:
            here = "127.0.0.1" if wires is None else DEVICES_HOST
            runners[number] = CoapDevice(agent, *site_coap, here, free_port(socket.SOCK_DGRAM), clock, rng=rng)
    twins: dict[int, Twin] = {n: agent.plant.twin for n, agent in found.items()}  # type: ignore[attr-defined]
    twins[GPIO_LAMP] = desk

    def press(number: int) -> bool:
        if number == GPIO_LAMP:
            pin = pins.factory.pin(f"GPIO{BUTTON_PIN}")
            pin.drive_low()
            pin.drive_high()
            return True
        return runners[number].press_button()

    return Scene(clock, ems, daemon, runners, twins, press, above, carried, wires)


def _watch(agent: Agent, carried: list[Carried]) -> None:
    """Note each command that it carries out."""
    apply = agent.apply

    def noted(setpoint: Setpoint) -> None:
        if setpoint.id:
            carried.append(Carried(time.perf_counter(), agent.dev, setpoint.id))
        apply(setpoint)

    agent.apply = noted  # type: ignore[method-assign]


def _start(scene: Scene, part: Coroutine[Any, Any, None]) -> None:
    scene.tasks.append(asyncio.get_running_loop().create_task(part))


async def _end(scene: Scene) -> None:
    """Devices first, then the EMA, then the EMS; each says its good-bye."""
    if len(scene.tasks) < 2:
        await _cancelled(scene.tasks)
        return
    ems, daemon, *devices = scene.tasks
    await _cancelled(devices)
    scene.daemon.stop()
    await asyncio.gather(daemon, return_exceptions=True)
    await _cancelled([ems])


async def _cancelled(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
