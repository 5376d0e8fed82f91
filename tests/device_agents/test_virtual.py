"""Many virtual LEDs below a real daemon, over each link: all come, all are commanded, none is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from device_agents.agent import Agent
from device_agents.virtual import MOST_PERIOD_S, VirtualFleet, period_for, virtual_leds
from device_agents.virtual_coap import VirtualCoap
from device_agents.virtual_mqtt import VirtualMqtt
from device_agents.virtual_numbers import FIRST
from gateway.clock import ScaledClock
from gateway.transport.mqtt import MqttSettings
from tests.support.mosquitto import MOSQUITTO, free_port
from tests.support.process import Ema, closing, udp_port
from tests.support.wait import until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")

LED_W = 60.0
LINKS = ("coap", "mqtt")
# Lamps are dimmed in steps of 6 W, so under this threshold none is lit.
ALL_OFF_W = 5.0
# What a test waits for ends when it is there.
LONG_S = 180.0
# The status of 1,000 devices is 400 kB: asked for as often as that of fifty, it would be the daemon's main work.
POLL_S = 1.0


class Site:
    """A daemon that is open to virtual LEDs on both links."""

    def __init__(self, directory: Path, most_guests: int, **control: Any) -> None:
        self.ports = {"mqtt": free_port(), "coap": udp_port()}
        self.tables: dict[str, Any] = {
            "control": {"restore_delay_s": 0.0, "pass_s": 0.05, "hysteresis_min_w": 1.0, **control},
            "site_broker": {"port": self.ports["mqtt"], "open": True, "most_guests": most_guests},
            "site_coap": {"port": self.ports["coap"], "open": True, "most_guests": most_guests},
        }
        self.ema = Ema(directory, self.tables)

    def threshold(self, watts: float) -> None:
        """A limit that control holds from now on; 0: none."""
        self.ema.write({**self.tables, "control": {**self.tables["control"], "threshold_w": watts}})
        self.ema.hangup()

    def where(self, link: str) -> list[str]:
        at = f"127.0.0.1:{self.ports[link]}"
        if link == "coap":
            return ["--ema", at]
        secret = self.ema.state_dir / "device-passwords" / "guest"
        return ["--broker", at, "--user", "guest", "--password-file", str(secret)]

    async def all_there(self, link: str, count: int, seconds: float = 30.0) -> Mapping[str, Any]:
        return await self.ema.shows(lambda s: len(there(s, link)) == count, f"{count} over {link}", seconds)

    async def all_at(self, link: str, count: int, lit: bool, seconds: float = 30.0) -> Mapping[str, Any]:
        """Each of them says so itself, and every command that was sent is confirmed."""

        def settled(status: Mapping[str, Any]) -> bool:
            devices = there(status, link)
            return len(devices) == count and all(d["on"] is lit and d["power_w"] == lit * LED_W for d in devices)

        return await self.ema.shows(settled, f"all over {link} {'on' if lit else 'off'}", seconds)


def there(status: Mapping[str, Any], link: str) -> list[Mapping[str, Any]]:
    return [d for d in status["devices"] if d["kind"] == "virtual" and d["link"] == link and known(d)]


def known(device: Mapping[str, Any]) -> bool:
    return bool(device["present"]) and device["age_s"] is not None


@asynccontextmanager
async def fleet(site: Site, link: str, count: int, *more: str, **popen: Any) -> AsyncIterator[subprocess.Popen[bytes]]:
    """``smartema device --virtual`` as a process."""
    options = ["--virtual", str(count), "--link", link, *site.where(link), *more]
    with (site.ema.directory / f"{link}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "device", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **popen,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


async def ended(process: subprocess.Popen[bytes]) -> int:
    await until(lambda: process.poll() is not None, 20, "the process ends")
    return int(process.returncode)


def log_of(site: Site, link: str) -> str:
    return (site.ema.directory / f"{link}.log").read_text()


async def come_are_shed_restored_and_go(site: Site, link: str, count: int, seconds: float) -> None:
    async with fleet(site, link, count) as process:
        status = await site.all_there(link, count, seconds)
        assert {d["number"] for d in there(status, link)} == set(range(FIRST[link], FIRST[link] + count))
        before = status["commands"]["confirmed"]
        # Control sheds all of them at once, then gives them back one a pass.
        site.threshold(ALL_OFF_W)
        await site.all_at(link, count, False, seconds)
        site.threshold(0.0)
        await site.all_at(link, count, True, seconds)
        # And an operator does, both ways at once.
        for on in (False, True):
            await site.ema.ask("all", on=on)
            await site.all_at(link, count, on, seconds)
        status = await site.ema.shows(
            lambda s: s["commands"]["confirmed"] - before == 4 * count, "every command confirmed", seconds
        )
        assert status["commands"]["failed"] == 0
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        # Its own word for each of them, not a lease that ran out.
        await site.ema.shows(lambda s: not there(s, link), "all said good-bye", seconds)
        assert len(site.ema.lines("went: it said good-bye")) == count
        assert f"all {count} virtual LEDs are there" in log_of(site, link)


@pytest.mark.parametrize("link", LINKS)
async def test_fifty_come_are_shed_restored_and_go(tmp_path: Path, link: str) -> None:
    site = Site(tmp_path, 50)
    async with closing(site.ema):
        await site.ema.start()
        await come_are_shed_restored_and_go(site, link, 50, 30.0)


@pytest.mark.soak
@pytest.mark.parametrize("link", LINKS)
async def test_a_thousand_come_are_shed_restored_and_go(
    tmp_path: Path, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.process.POLL_S", POLL_S)
    site = Site(tmp_path, 1000)
    async with closing(site.ema):
        await site.ema.start()
        await come_are_shed_restored_and_go(site, link, 1000, LONG_S)


@pytest.mark.parametrize("link", LINKS)
async def test_an_ema_that_was_killed_finds_them_again(tmp_path: Path, link: str) -> None:
    site = Site(tmp_path, 30)
    async with closing(site.ema):
        await site.ema.start()
        async with fleet(site, link, 30) as process:
            await site.all_there(link, 30)
            site.threshold(ALL_OFF_W)
            await site.all_at(link, 30, False)
            site.ema.kill()
            await site.ema.start()
            await site.all_at(link, 30, False)
            site.threshold(0.0)
            await site.all_at(link, 30, True)
            assert process.poll() is None


@pytest.mark.parametrize("link", LINKS)
async def test_it_ends_when_the_process_that_started_it_has_ended(tmp_path: Path, link: str) -> None:
    site = Site(tmp_path, 5)
    async with closing(site.ema):
        await site.ema.start()
        # A shell in between that is killed, as a daemon may be.
        words = ["-m", "gateway", "device", "--virtual", "5", "--link", link, *site.where(link)]
        program = (
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, *{words!r}, '--parent', str(os.getpid())])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert parent.stdout is not None
            child = int(await asyncio.to_thread(parent.stdout.readline))
            await site.all_there(link, 5)
        finally:
            parent.kill()
            parent.wait()
        await until(lambda: not _lives(child), 20, "the child ends by itself")
        await site.ema.shows(lambda s: not there(s, link), "good-bye for each")
        assert len(site.ema.lines("went: it said good-bye")) == 5


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_killed_over_mqtt_the_first_is_lost_at_once_and_the_others_with_their_lease(tmp_path: Path) -> None:
    site = Site(tmp_path, 6, lease_s=3.0)
    async with closing(site.ema):
        await site.ema.start()
        async with fleet(site, "mqtt", 6) as process:
            await site.all_there("mqtt", 6)
            process.kill()
            await site.ema.shows(lambda s: not there(s, "mqtt"), "all are lost")
        first, *others = site.ema.lines(" went: ")
        assert f"virtual-{FIRST['mqtt']} went: its link broke" in first
        assert len(others) == 5
        assert all("went: not heard for its lease of 3 s" in line for line in others)


@pytest.mark.parametrize("link", LINKS)
async def test_who_is_not_welcome_says_what_is_missing(
    tmp_path: Path, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, 8)
    # Five times as fast: it waits for 15 s before it says so.
    clock = ScaledClock(5)
    leds = virtual_leds(FIRST[link], 10, 1, clock, LED_W)
    async with closing(site.ema):
        await site.ema.start()
        crowd = crowd_of(site, link, leds, clock)
        running = asyncio.create_task(crowd.run())
        try:
            with caplog.at_level(logging.WARNING, "device_agents.virtual"):
                await until(lambda: "not answered" in caplog.text, 30, "it says so")
                await until(lambda: crowd.here == 8, 30, "eight are there all the same")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    reason = " (4.03 not configured here)" if link == "coap" else ""
    assert [record.getMessage() for record in caplog.records if record.name == "device_agents.virtual"] == [
        f"2 of 10 virtual LEDs are not answered{reason}; an EMA takes devices that no [[device]] names where its "
        "site_broker or site_coap is open, most_guests of them"
    ]


def crowd_of(site: Site, link: str, leds: Sequence[Agent], clock: ScaledClock) -> VirtualFleet:
    if link == "coap":
        return VirtualCoap(leds, ("127.0.0.1", site.ports["coap"]), clock, random.Random(3))
    secret = (site.ema.state_dir / "device-passwords" / "guest").read_text().strip()
    settings = MqttSettings("127.0.0.1", site.ports["mqtt"], username="guest", password=secret)
    return VirtualMqtt(leds, settings, clock, random.Random(3))


async def test_more_sockets_than_a_process_has_by_itself(tmp_path: Path) -> None:
    """The usual soft limit of 1,024 files is raised; beyond the hard one it is a mistake of one line."""
    site = Site(tmp_path, 60)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def lowered() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 100))

    async with closing(site.ema):
        await site.ema.start()
        async with fleet(site, "coap", 60, preexec_fn=lowered):
            await site.all_there("coap", 60)
        async with fleet(site, "coap", 60, "--number", "30001", preexec_fn=bound) as process:
            assert await ended(process) == 2
        assert "--virtual 60: over CoAP each has a socket and this process may open 100 files" in log_of(site, "coap")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--virtual 0 --link coap", "--virtual 0: 1 to 9999 in one process"),
        ("--virtual 5 --link coap --type ess", "--virtual: they are LEDs; leave --type out"),
        ("--virtual 5 --link coap --hardware gpio", "--virtual: they are simulated; leave --hardware out"),
        ("--virtual 50 --link mqtt --number 99990", "--number 99990: 50 devices from there would go beyond dev/99999"),
        ("--virtual 5 --link coap --bind 192.0.2.1", "--bind 192.0.2.1:0: [Errno 99]"),
        ("--virtual 5 --link coap --bind 127.0.0.1:65533", "--bind 127.0.0.1:65536: "),
        ("--virtual 5 --link mqtt --pinned-file /no/such", "/no/such: no such file"),
        ("--virtual 5", "nobody answered"),
    ],
)
async def test_a_mistake_is_one_line(options: str, line: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", "device", *options.split()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ},
    )
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert line in err.decode().strip().splitlines()[-1]
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    ("count", "period_s"),
    # As one device does; then so many states a second; and none so late that the EMA takes it for stale.
    [(1, 5.0), (500, 5.0), (1000, 10.0), (5000, MOST_PERIOD_S)],
)
def test_the_more_there_are_the_less_often_each_says_its_state(count: int, period_s: float) -> None:
    assert period_for(count) == period_s
