"""A broker killed under load: nothing lost, nothing doubled at the EMS; the site goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until

DEVICES = range(1, 13)


def tables(ems_port: int, site_port: int, **control: object) -> dict:
    return {
        "control": {"threshold_w": 2000, "restore_delay_s": 0, **control},
        "reports": {"period_s": 1.0, "change_w": 0},
        "site_broker": {"port": site_port, "anonymous": True},
        "upstream": [{"name": "ems", "host": "127.0.0.1", "port": ems_port, "mode": 4, "timezone": "UTC"}],
        "device": lamps(*DEVICES),
    }


async def quiet(ema: Ema, ems: EmsBeside) -> dict:
    """The devices go; return when a report after their going, and all before it, is at the EMS."""
    await ema.shows(lambda s: not any(d["present"] for d in s["devices"]), "all went")
    await ema.shows(lambda s: s["outbox"]["waiting"] == 0, "what was kept is sent", 60.0)
    known = len(ems.stored())
    await until(lambda: len(ems.stored()) > known, 60, "a report after that")
    return await ema.shows(lambda s: s["outbox"]["waiting"] == 0, "all is acknowledged", 60.0)


@pytest.mark.parametrize("outage_s", [3.0, pytest.param(60.0, marks=pytest.mark.soak)])
async def test_broker_of_the_ems_killed(tmp_path: Path, mosquitto: Mosquitto, outage_s: float) -> None:
    site_port = free_port()
    ema = Ema(tmp_path / "ema", tables(mosquitto.port, site_port))
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    agents = Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        for number in DEVICES:
            agents.mqtt(site_port, agents.lamp(number), period_s=0.2)
        await ema.present(*DEVICES)
        await ema.registered()
        await until(lambda: len(ems.book.devices) == len(DEVICES), 30, "the EMS knows all devices")
        came = ems.stored()[-1][1]
        await until(lambda: ems.stored()[-1][1] > came + 60, 30, "reports flow, and what told of the coming is through")
        first = ems.stored()[-1][1]

        mosquitto.kill()
        await ema.shows(lambda s: s["upstreams"][0]["state"] != "up", "it saw the broker go")
        agents.runners[1].key(15)  # somebody switches a lamp off while nobody above can hear it
        await asyncio.sleep(outage_s)  # the length of the outage is the test's input
        kept = (await ema.status())["outbox"]["waiting"]
        assert kept > 12 * outage_s
        await mosquitto.start()
        await ema.registered()
        await until(lambda: ems.ems.connected, 60, "the EMS is back at its broker")
        await agents.stop()
        status = await quiet(ema, ems)
        assert status["outbox"]["lost"] == 0
        assert status["upstreams"][0]["lost"] == 0
        await ema.terminate()

        stored = ems.stored()
        assert stored == sorted(set(stored))
        assert ems.ems.counts()["gw/1"].stored == len(stored)
        # The outbox numbers all it holds, and what is no report is a notice: here one lamp that was switched, then
        # twelve that went. So that many numbers are missing, and not one more.
        numbers = [seq for _, seq in stored if seq > first]
        missing = set(range(first + 1, numbers[-1] + 1)) - set(numbers)
        assert len(missing) == 1 + len(DEVICES), sorted(missing)
        assert ems.book.devices["gw/1", "dev/1"].on is False
        assert not any(d.connected for d in ems.book.devices.values())


async def test_ems_restarted(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Its broker stays, so nobody notices but by what is not answered; and new reports never stop coming."""
    site_port = free_port()
    ema = Ema(tmp_path / "ema", tables(mosquitto.port, site_port))
    ems, again = EmsBeside(tmp_path / "ems", mosquitto.port), EmsBeside(tmp_path / "ems", mosquitto.port)
    agents = Agents()
    async with closing(agents, ema, ems, again):
        await ems.start()
        await ema.start()
        for number in DEVICES:
            agents.mqtt(site_port, agents.lamp(number), period_s=0.2)
        await ema.present(*DEVICES)
        await ema.registered()
        await until(lambda: len(ems.book.devices) == len(DEVICES), 30, "the EMS knows all devices")
        came = ems.stored()[-1][1]
        await until(lambda: ems.stored()[-1][1] > came + 60, 30, "reports flow, and what told of the coming is through")
        await ems.stop()
        first = ems.stored()[-1][1]
        # Some reports are lost on their way, and the window is not full yet: the next ones are answered at once.
        await ema.shows(lambda s: s["upstreams"][0]["in_flight"] > 3, "reports are under way")
        await again.start()
        await until(lambda: again.stored()[-1][1] > first + 600, 60, "reports flow again")
        await agents.stop()
        status = await quiet(ema, again)
        assert status["outbox"]["lost"] == 0
        await ema.terminate()
        numbers = sorted(seq for _, seq in again.stored() if seq > first)
        missing = set(range(first + 1, numbers[-1] + 1)) - set(numbers)
        # Numbers that are no report: the twelve that went.
        assert len(missing) == len(DEVICES), sorted(missing)
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("outage_s", [0.0, pytest.param(60.0, marks=pytest.mark.soak)])
async def test_site_broker_killed(tmp_path: Path, mosquitto: Mosquitto, outage_s: float) -> None:
    """Our own, which the daemon starts again at once; and, for long, one that is not ours and stays away."""
    own = not outage_s
    there = Mosquitto(tmp_path / "site-broker")
    site_port = free_port() if own else there.port
    site = {"port": site_port, "anonymous": True} if own else {"host": "127.0.0.1", "port": site_port}
    ema = Ema(tmp_path / "ema", {**tables(mosquitto.port, site_port), "site_broker": site})
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    agents = Agents()
    try:
        if not own:
            await there.start()
        async with closing(agents, ema, ems):
            await ems.start()
            await ema.start()
            for number in DEVICES:
                agents.mqtt(site_port, agents.lamp(number), period_s=0.5)
            await ema.present(*DEVICES)
            await ema.registered()
            await until(lambda: agents.watts == 720, 30, "all lamps shine")
            connected = {n: agents.runners[n].link.reconnects for n in DEVICES}

            if own:
                os.kill(int((ema.state_dir / "broker" / "pid").read_text()), signal.SIGKILL)
            else:
                there.kill()
            # An event comes while no device can be reached: it is taken, and carried out when they are back.
            event = await ems.event(400)
            await ems.answered(event)
            if not own:
                await asyncio.sleep(outage_s)  # the length of the outage is the test's input
                status = await ema.status()
                assert status["upstreams"][0]["state"] == "up", "the EMS's side does not notice"
                assert status["restarts"] == {}
                await there.start()
            await until(lambda: agents.watts <= 400, 60, "the limit holds once the devices are back")
            status = await ema.shows(
                lambda s: s["power_w"] <= 400 and sum(d["present"] for d in s["devices"]) == 12, "back"
            )
            if own:
                broker = next(part for part in status["field"] if part["name"] == "site broker")
                assert broker["running"]
                assert broker["starts"] == 2
            assert all(agents.runners[n].link.reconnects > connected[n] for n in DEVICES)
            assert status["restarts"] == {}, "no part failed with the broker"
            await ems.ems.cancel_event(event.id)
            await until(lambda: agents.watts == 720, 60, "everything returns")
            await ema.shows(lambda s: s["outbox"]["waiting"] == 0 and s["outbox"]["lost"] == 0, "all is acknowledged")
            stored = ems.stored()
            assert stored == sorted(set(stored))
            await agents.stop()
            await quiet(ema, ems)
            assert not any(d.connected for d in ems.book.devices.values())
    finally:
        there.stop()
