"""The demo's site: an embedded broker, an EMS, one EMA and eight devices of four kinds, in one process on one clock.

Everything is the real thing but the physics: the same daemon, EMS and agents as in the field, real MQTT and CoAP on
loopback, GPIO pins of gpiozero's mock factory. Loopback ports are free ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agents.agent import Agent
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

# Whatever the hour on this machine, the site lies where it is late in the morning: the panel has its sun.
SITE_HOUR = 11.0
LATITUDE = 37.56
HALL_W, WORKSHOP_W, DESK_W, EXIT_W = 300.0, 150.0, 18.0, 40.0
PANEL_W, BATTERY_W, CAR_A = 1500.0, 400.0, 10
GPIO_LAMP = 3
BUTTON_PIN = "27"


def free_port(kind: socket.SocketKind) -> int:
    """A port of loopback that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Scene:
    """A running site. ``twins`` are its physics; the sum of their powers is the truth."""

    clock: ScaledClock
    ems: Ems
    daemon: Daemon
    runners: dict[int, Runner]
    twins: dict[int, Twin]
    press: Callable[[int], bool]
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def power_w(self) -> float:
        """What the site truly draws now."""
        return sum(twin.power_w for twin in self.twins.values())


def configuration(directory: Path, speed: float, broker: int, coap: int) -> Config:
    """The EMA of the demo. Times that the process itself needs are real ones, so they grow with the speed."""
    own_s = 0.08 * speed
    return Config(
        ema=EmaConfig(number=1, state_dir=str(directory / "ema"), log_level="warning"),
        control=ControlConfig(
            latency_s=max(2.0, own_s), ems_answer_s=max(2.0, own_s), restore_delay_s=30.0, min_on_relay_s=0.0
        ),
        reports=ReportsConfig(period_s=10.0),
        site_broker=SiteBrokerConfig(host="127.0.0.1", port=broker),
        site_coap=SiteCoapConfig(port=coap),
        upstream=(UpstreamConfig(name="ems", host="127.0.0.1", port=broker, mode=1, timezone="UTC"),),
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


def agents(clock: ScaledClock) -> dict[int, Agent]:
    """The seven devices with an agent of their own; the eighth hangs on the EMA's pins."""
    now = clock.now().wall
    hour = (now % 86_400) / 3600
    longitude = ((SITE_HOUR - hour) * 15 + 180) % 360 - 180
    visit = Visit(arrive=now - 60, depart=now + 12 * 3600, soc=30.0, target=95.0)
    made: list[Agent] = [
        simulated_lamp(1, 2, 1, clock, HALL_W),
        simulated_lamp(2, 1, 1, clock, WORKSHOP_W),
        simulated_lamp(4, 9, 1, clock, EXIT_W),
        simulated_panel(5, 9, 1, clock, PANEL_W, latitude=LATITUDE, longitude=longitude),
        simulated_battery(6, 9, 1, clock, BATTERY_W, capacity_wh=2000.0, soc=70.0),
        simulated_car(7, 5, 1, clock, most_a=CAR_A, battery_wh=40_000.0, visits=[visit]),
        simulated_lamp(8, 3, 1, clock, HALL_W),
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
async def running(directory: Path, speed: float, seed: int) -> AsyncIterator[Scene]:
    """The whole site, until the block ends."""
    from hardware.gpio_zero import ZeroPins

    rng = random.Random(seed)
    clock = ScaledClock(speed)
    broker, coap = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    pins = ZeroPins.mock()
    desk = LampTwin(clock, DESK_W, on=True)
    async with embedded_broker(broker):
        ems = Ems(
            EmsSettings(
                broker=f"127.0.0.1:{broker}",
                state_dir=str(directory / "ems"),
                zone="UTC",
                resend_s=3.0 * max(speed, 1.0),
            ),
            clock,
            rng,
            http=False,
            logger=logging.getLogger("smartema.ems"),
        )
        config = configuration(directory, speed, broker, coap)
        daemon = Daemon(config, clock, rng, plants={GPIO_LAMP: TwinLamp(desk)}, pins=pins, serve_socket=False)
        found = agents(clock)
        runners: dict[int, Runner] = {}
        for number, agent in found.items():
            link = next(d.link for d in config.device if d.number == number)
            if link == "mqtt":
                runners[number] = MqttDevice(agent, MqttSettings("127.0.0.1", broker), clock, rng)
            else:
                port = free_port(socket.SOCK_DGRAM)
                runners[number] = CoapDevice(agent, "127.0.0.1", coap, "127.0.0.1", port, clock, rng=rng)
        twins: dict[int, Twin] = {n: agent.plant.twin for n, agent in found.items()}  # type: ignore[attr-defined]
        twins[GPIO_LAMP] = desk

        def press(number: int) -> bool:
            if number == GPIO_LAMP:
                pin = pins.factory.pin(f"GPIO{BUTTON_PIN}")
                pin.drive_low()
                pin.drive_high()
                return True
            return runners[number].press_button()

        scene = Scene(clock, ems, daemon, runners, twins, press)
        try:
            _start(scene, ems.run())
            await ems.ready()
            _start(scene, daemon.run())
            await daemon.ready.wait()
            for runner in runners.values():
                _start(scene, runner.run())
            yield scene
        finally:
            await _end(scene)


def _start(scene: Scene, part: Coroutine[Any, Any, None]) -> None:
    scene.tasks.append(asyncio.get_running_loop().create_task(part))


async def _end(scene: Scene) -> None:
    """Devices first, then the EMA, then the EMS; each says its good-bye."""
    ems, daemon, *devices = scene.tasks
    for task in devices:
        task.cancel()
    await asyncio.gather(*devices, return_exceptions=True)
    scene.daemon.stop()
    await asyncio.gather(daemon, return_exceptions=True)
    ems.cancel()
    await asyncio.gather(ems, return_exceptions=True)
