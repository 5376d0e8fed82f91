"""SIGHUP: what is valid is applied without dropping a link that did not change; what is not, is not."""

from __future__ import annotations

import copy
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until


class Running:
    """An EMA with two MQTT devices and one CoAP device below an EMS."""

    def __init__(self, directory: Path, mosquitto: Mosquitto) -> None:
        self.site_port, self.coap_port = free_port(), free_port(socket.SOCK_DGRAM)
        self.tables: dict[str, Any] = {
            "ema": {"log_level": "debug"},
            "control": {"threshold_w": 1000, "restore_delay_s": 0},
            "site_broker": {"port": self.site_port, "anonymous": True},
            "site_coap": {"port": self.coap_port},
            "upstream": [{"name": "ems", "host": "127.0.0.1", "port": mosquitto.port, "timezone": "UTC"}],
            "device": [*lamps(1, 2), *lamps(3, link="coap")],
        }
        self.ema = Ema(directory / "ema", self.tables)
        self.ems = EmsBeside(directory / "ems", mosquitto.port)
        self.agents = Agents()
        self._broker_log = directory / "broker" / "mosquitto.log"

    def coming(self) -> int:
        """Sessions that were ever opened at the EMS's broker."""
        return self._broker_log.read_text().count("New client connected")

    def coming_below(self) -> int:
        """And at the site broker."""
        return len([line for line in self.ema.lines("mosquitto: ") if "New client connected" in line])

    def counts(self) -> tuple[int, list[int]]:
        return self.coming(), [r.link.reconnects for r in self.agents.runners.values() if hasattr(r, "link")]

    async def read_again(self, tables: dict[str, Any]) -> None:
        before = len(self.ema.lines("configuration read again"))
        self.ema.write(tables)
        self.ema.hangup()
        await self.ema.until(lambda: len(self.ema.lines("configuration read again")) > before, "read again")


@pytest_asyncio.fixture
async def running(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[Running]:
    made = Running(tmp_path, mosquitto)
    async with closing(made.agents, made.ema, made.ems):
        await made.ems.start()
        await made.ema.start()
        for number in (1, 2):
            made.agents.mqtt(made.site_port, made.agents.lamp(number))
        made.agents.coap(made.coap_port, made.agents.lamp(3))
        await made.ema.present(1, 2, 3)
        await made.ema.registered()
        yield made


async def test_a_threshold_and_a_device(running: Running) -> None:
    ema, agents = running.ema, running.agents
    links, below = running.counts(), running.coming_below()
    sessions = (await ema.status())["upstreams"][0]["sessions"]

    tables = copy.deepcopy(running.tables)
    tables["control"]["threshold_w"] = 100
    await running.read_again(tables)
    await until(lambda: agents.watts <= 100, 20, "the new threshold holds")
    status = await ema.shows(lambda s: s["limit"]["import_w"] == 100 and s["power_w"] <= 100, "shown")
    assert running.counts() == links
    assert running.coming_below() == below
    assert status["upstreams"][0]["sessions"] == sessions

    # The first device of CoAP came with its own link; another of the same kind and a new one come by the file alone.
    tables["control"]["threshold_w"] = 1000
    tables["device"] = [*lamps(1, 2, 4), *lamps(3, link="coap")]
    await running.read_again(tables)
    agents.mqtt(running.site_port, agents.lamp(4))
    await ema.present(1, 2, 3, 4)
    await until(lambda: agents.watts == 240, 20, "everything shines")
    coming, device_links = running.counts()
    assert coming == links[0], "the EMS's link was dropped"
    assert device_links == [*links[1], 0], "a device's link was dropped"
    assert (await ema.status())["upstreams"][0]["sessions"] == sessions

    # Taken out again: it is no longer part of the site.
    tables["device"] = tables["device"][1:]
    await running.read_again(tables)
    await ema.shows(lambda s: [d["number"] for d in s["devices"]] == [2, 3, 4], "device 1 is forgotten")
    assert running.coming() == links[0]
    assert (await ema.status())["restarts"] == {}


async def test_mistakes_change_nothing(running: Running) -> None:
    ema = running.ema
    links, before = running.counts(), await ema.status()
    ema.config.write_text(
        ema.config.read_text().replace("threshold_w = 1000", 'threshold_w = "much"').replace('"coap"', '"soap"', 1)
    )
    ema.hangup()
    await ema.until(lambda: len(ema.lines("the old one runs on")) >= 2, "the mistakes are logged")
    text = ema.config.read_text().splitlines()
    for wrong, key in (('"much"', "threshold_w"), ('"soap"', "link")):
        number = next(n for n, line in enumerate(text, 1) if wrong in line)
        assert any(f"gateway.toml:{number} " in line and key in line for line in ema.lines("the old one runs on"))
    after = await ema.status()
    for name in ("limit", "power_w", "boot", "connection", "restarts"):
        assert after[name] == before[name]
    assert running.counts() == links
    assert {d["number"] for d in after["devices"] if d["present"]} == {1, 2, 3}

    # What would need a restart says so, and takes nothing of the rest.
    tables = copy.deepcopy(running.tables)
    tables["ema"]["number"] = 2
    tables["control"]["threshold_w"] = 50
    ema.write(tables)
    ema.hangup()
    await ema.until(lambda: [line for line in ema.lines("the old one runs on") if "[ema]" in line], "said")
    assert (await ema.status())["limit"]["import_w"] == 1000
    assert running.counts() == links
