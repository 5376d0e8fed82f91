"""PV, ESS and EV of `smartema device --hardware gpio`, on gpiozero's mock pins."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("gpiozero", reason="pip install 'smartema[gpio]'")

from device_agents import on_pins
from device_agents.on_pins import OnPins, Wiring
from device_agents.protocol import Connected, Setpoint, Status
from gateway.clock import ManualClock
from gateway.errors import OperatorError
from hardware.gpio_zero import ZeroPins
from hardware.simulated.car import Visit
from tests.device_agents.test_run_mqtt import ema
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

WHO = (4, 3, 7)
PV = Wiring(pins=("6", "7", "8", "9"))
ESS = Wiring(pin="10", pins=("11", "12"))
EV = Wiring(pin="13", pwm_pin="19", button_pin="16")
NOON = 1_760_000_000.0  # 2025-10-09 08:53 UTC; the sun stands high at 45 degrees east
LEASE_S = 60.0


class Bench:
    """A device on mock pins, its time and its lease."""

    def __init__(self, kind: str, **wiring: Any) -> None:
        self.clock, self.pins = ManualClock(wall=NOON), ZeroPins.mock()
        self._id = 0
        if kind == "pv":
            self.it: OnPins = on_pins.panel(WHO, self.clock, 3000.0, (10.0, 45.0), self.pins, PV)
        elif kind == "ess":
            self.it = on_pins.battery(WHO, self.clock, 2000.0, 5000.0, 50.0, self.pins, ESS)
        else:
            visit = Visit(NOON, NOON + 1e6, 30.0)
            self.it = on_pins.car(WHO, self.clock, 1, 60_000.0, visit, False, self.pins, EV)
        self.agent = self.it.agent

    def levels(self, *numbers: int) -> list[float]:
        return [round(float(self.pins.factory.pin(f"GPIO{n}").state), 4) for n in numbers]

    async def tell(self, **setpoint: Any) -> Status:
        self._id += 1
        self.agent.received(Setpoint(self._id, int(LEASE_S), **setpoint).encode())
        await self.passes(1.0)
        return Status.decode(self.agent.status())

    async def passes(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        self.agent.tick(round(seconds * 1000))


@asynccontextmanager
async def bench(kind: str) -> AsyncIterator[Bench]:
    b = Bench(kind)
    task = asyncio.create_task(b.it.keep_time(b.clock))
    try:
        yield b
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_panel_closes_the_relay_of_its_step() -> None:
    async with bench("pv") as b:
        assert b.levels(6, 7, 8, 9) == [1, 0, 0, 0]
        free = Status.decode(b.agent.status()).mw
        assert free is not None
        assert free < -2_000_000
        assert (await b.tell(mw=-2_000_000)).mw == -1_800_000  # 60 %: no more than it was told
        assert b.levels(6, 7, 8, 9) == [0, 1, 0, 0]
        assert (await b.tell(mw=0)).mw == 0
        assert b.levels(6, 7, 8, 9) == [0, 0, 0, 1]
        await b.passes(LEASE_S)
        assert b.agent.safe
        assert b.levels(6, 7, 8, 9) == [1, 0, 0, 0]


async def test_a_battery_says_its_step_and_keeps_its_relays_apart() -> None:
    async with bench("ess") as b:
        said = Connected.decode(b.agent.connected())
        assert (said.min_mw, said.max_mw, said.step_mw) == (-2_000_000, 2_000_000, 2_000_000)
        assert (await b.tell(mw=2_000_000)).mw == 2_000_000
        assert b.levels(10, 11, 12) == [1, 1, 0]
        b.agent.received(Setpoint(99, 60, mw=-2_000_000).encode())
        assert b.levels(10, 11, 12) == [0, 0, 0], "first both are open"
        await b.passes(0.4)
        assert b.levels(10, 11, 12) == [0, 0, 0]
        await b.passes(0.2)
        assert b.levels(10, 11, 12) == [1, 0, 1]
        b._id = 99
        assert (await b.tell(mw=-1_999_999)).mw == 0  # relays know no half, and it may not be more
        assert b.levels(10, 11, 12) == [0, 0, 0]
        await b.tell(mw=-2_000_000)
        await b.passes(LEASE_S)
        assert b.levels(10, 11, 12) == [0, 0, 0]
        await b.passes(3600.0)
        soc = Status.decode(b.agent.status()).soc
        assert soc is not None
        assert soc < 500, "what it gave is counted"


async def test_a_charging_point_tells_its_car_before_it_opens() -> None:
    async with bench("ev") as b:
        assert b.levels(13, 19) == [1, 0.5333]  # 32 A
        assert (await b.tell(mw=16 * 230_000)).mw == 16 * 230_000
        assert b.levels(13, 19) == [1, 0.2667]
        b.agent.received(Setpoint(50, 60, on=False).encode())
        assert b.levels(13, 19) == [1, 1]
        await b.passes(2.9)
        assert b.levels(13) == [1]
        await b.passes(0.2)
        assert b.levels(13, 19) == [0, 1]
        b._id = 50
        await b.tell(on=True, mw=16 * 230_000)
        await b.passes(LEASE_S)
        assert b.levels(13, 19) == [1, 0.1]  # safe: 6 A
        pressed = []
        b.it.on_press(lambda: pressed.append(b.agent.press()))
        b.pins.factory.pin("GPIO16").drive_low()
        assert pressed == [True]


@pytest.mark.parametrize(
    ("kind", "pins", "left"), [("pv", (6, 9), [1, 0]), ("ess", (10, 11), [0, 0]), ("ev", (13,), [0])]
)
async def test_how_it_is_left(kind: str, pins: tuple[int, ...], left: list[float]) -> None:
    async with bench(kind) as b:
        await b.tell(mw={"pv": 0, "ess": 2_000_000, "ev": 32 * 230_000}[kind])
        assert b.levels(*pins) != left
        b.it.close()
        assert b.levels(*pins) == left


@pytest.mark.parametrize(
    ("kind", "wiring", "said"),
    [
        ("pv", Wiring(pins=("1", "2")), "--pins: name 4 relays, one for each of --curtail 100,60,30,0"),
        ("ess", Wiring(pins=("1", "2")), "--pin: name the enable output"),
        ("ess", Wiring(pin="1", pins=("2",)), "--pins A,B"),
        ("ev", Wiring(pin="1"), "--pwm-pin the control pilot"),
        (
            "ess",
            Wiring(pin="1", pins=("2", "3"), button_pin="4"),
            "PV and ESS have none to ask",
        ),
        ("ess", Wiring(pin="1", pins=("1", "3")), "pin 1 is named twice"),
    ],
)
def test_what_is_missing_is_said(kind: str, wiring: Wiring, said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        on_pins.check(kind, wiring)


async def test_as_a_program(mosquitto: Mosquitto) -> None:
    environment = {**os.environ, "GPIOZERO_PIN_FACTORY": "mock", "GPIOZERO_MOCK_PIN_CLASS": "mockpwmpin"}
    options = (
        f"device --type ess --link mqtt --number 6 --broker 127.0.0.1:{mosquitto.port} "
        "--hardware gpio --pin 10 --pins 11,12 --rated 500"
    )
    async with ema(mosquitto) as site:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *options.split(), env=environment, stdin=asyncio.subprocess.DEVNULL
        )
        try:
            await until(lambda: site.status, what="its first state")
            assert site.connected[0].step_mw == 500_000
            await site.say("dev/6", Setpoint(1, 60, mw=-500_000).encode())
            await until(lambda: site.last().mw == -500_000, what="it discharges")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
