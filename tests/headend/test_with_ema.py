"""The daemon and the EMS, each as it is installed and started, with real brokers and device agents between them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.support.ems_process import EmsChild
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, closing, lamps
from tests.support.wait import shows, until

# docs/wire.md, "DR modes".
EMS_PUSH, EMS_POLL, EMA_POLL, EMA_PUSH = 1, 2, 3, 4


@pytest_asyncio.fixture
async def ems(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[EmsChild]:
    child = EmsChild(tmp_path / "ems", mosquitto.port, "--duration-ms", "500")
    yield child
    await child.stop()


class Site:
    """One EMA below the EMS with two lamps of 100 W, over its own broker (``mqtt``) or over CoAP."""

    def __init__(
        self,
        directory: Path,
        ems_broker: int,
        number: int,
        mode: int,
        link: str,
        above: dict[str, Any] | None = None,
        **control: Any,
    ) -> None:
        kind = socket.SOCK_STREAM if link == "mqtt" else socket.SOCK_DGRAM
        self.name, self.mode, self.link, self.port = f"gw/{number}", mode, link, free_port(kind)
        below = {"site_broker": {"port": self.port, "anonymous": True}, "site_coap": {"port": self.port}}
        table = "site_broker" if link == "mqtt" else "site_coap"
        upstream = {"name": "ems", "host": "127.0.0.1", "port": ems_broker, "mode": mode, "timezone": "UTC"}
        upstream |= above or {}
        self.ema = Ema(
            directory / f"ema-{number}",
            {
                "ema": {"number": number},
                "control": {"threshold_w": 1000, "restore_delay_s": 0, **control},
                "reports": {"period_s": 0.5, "change_s": 0.1},
                table: below[table],
                "upstream": [upstream],
                "device": lamps(1, 2, link=link),
            },
        )
        self.agents = Agents()

    async def start(self) -> None:
        await self.ema.start()
        add = self.agents.mqtt if self.link == "mqtt" else self.agents.coap
        for number in (1, 2):
            add(self.port, self.agents.lamp(number, 100.0), period_s=0.5)
        await self.ema.present(1, 2)

    async def stop(self) -> None:
        await self.agents.stop()
        await self.ema.close()

    async def draws(self, watts: float) -> None:
        """Return when its lamps truly draw so much."""
        await until(lambda: self.agents.watts == watts, 30, f"{self.name} draws {watts} W, not {self.agents.watts}")

    async def limit_w(self) -> float | None:
        limit: float | None = (await self.ema.status())["limit"]["import_w"]
        return limit


async def below(ems: EmsChild, *sites: Site) -> None:
    """Start all of it, and return when each is registered and its devices are known above."""
    await ems.start()
    await asyncio.gather(*(site.start() for site in sites))
    await ems.registered(*(site.name for site in sites))

    def known(devices: list[dict[str, Any]]) -> bool:
        return {(d["ema"], d["number"]) for d in devices if d["connected"]} >= {
            (s.name, n) for s in sites for n in (1, 2)
        }

    await ems.shows("/devices", known, "the EMS knows all devices")


async def test_an_event_reaches_those_it_is_for_in_every_mode(
    tmp_path: Path, mosquitto: Mosquitto, ems: EmsChild
) -> None:
    """One EMA in each of the four modes. Unicast, multicast, broadcast; changed, cancelled; by API and by script."""
    links = {EMS_PUSH: "mqtt", EMS_POLL: "coap", EMA_POLL: "coap", EMA_PUSH: "mqtt"}
    sites = {mode: Site(tmp_path, mosquitto.port, mode, mode, link) for mode, link in links.items()}
    one, two, three, four = sites.values()
    async with closing(*sites.values()):
        await below(ems, *sites.values())
        for site in sites.values():
            await site.draws(200)

        # To one, by the API. It is whole minutes on the wire, and a cancel needs no waiting for its end.
        event = await ems.ask("POST", "/events", {"value_w": 150, "for_s": 3600, "targets": ["gw/1"]})
        await ems.answered(event["id"], 0, "gw/1")
        await until(lambda: 100 < one.agents.watts <= 150, 30, "shed, and no more than needed")
        assert [await site.limit_w() for site in sites.values()] == [150, 1000, 1000, 1000]
        # Changed: what binds more is shed, what binds less comes back.
        await ems.ask("PATCH", f"/events/{event['id']}", {"value_w": 90})
        await ems.answered(event["id"], 1, "gw/1")
        await until(lambda: one.agents.watts <= 90, 30, "shed further")
        changed = await ems.command("change", str(event["id"]), "--value", "195")
        assert (changed["id"], changed["modification"], changed["value_w"]) == (event["id"], 2, 195)
        await ems.answered(event["id"], 2, "gw/1")
        await until(lambda: 90 < one.agents.watts <= 195, 30, "something comes back")
        await ems.ask("DELETE", f"/events/{event['id']}")
        await ems.answered(event["id"], 3, "gw/1")
        await one.draws(200)
        assert [await site.limit_w() for site in sites.values()] == [1000] * 4

        # To two of the others, by a script.
        words = ("event", "--value", "100", "--from", "now", "--for", "10m", "--to", "gw/2,gw/3")
        event = await ems.command(*words)
        assert event["targets"] == ["gw/2", "gw/3"]
        await ems.answered(event["id"], 0, "gw/2", "gw/3")
        for site in (two, three):
            await until(lambda site=site: site.agents.watts <= 100, 30, f"{site.name} sheds")  # type: ignore[misc]
        assert (one.agents.watts, four.agents.watts) == (200, 200)
        assert [await site.limit_w() for site in sites.values()] == [1000, 100, 100, 1000]
        await ems.command("cancel", str(event["id"]))
        await ems.answered(event["id"], 1, "gw/2", "gw/3")
        for site in (two, three):
            await site.draws(200)

        # To all, by a script.
        event = await ems.command("event", "--value", "50", "--for", "10m", "--to", "all")
        assert event["everyone"]
        await ems.answered(event["id"], 0, *(site.name for site in sites.values()))
        for site in sites.values():
            await until(lambda site=site: site.agents.watts <= 50, 30, f"{site.name} sheds")  # type: ignore[misc]

        # Each mode brings the EMS a report of it; the third when it is asked for.
        await ems.ask("POST", "/emas/gw/3/report")

        def reported(emas: list[dict[str, Any]]) -> bool:
            return all(e["power_w"] is not None and e["power_w"] <= 50 and e["limit_w"] == 50 for e in emas)

        shown = await ems.shows("/emas", reported, "each has reported")
        assert [(e["name"], e["polls"]) for e in shown] == [(f"gw/{n}", n in (2, 3)) for n in (1, 2, 3, 4)]
        assert {e["opt"] for e in shown} == {"in"}
        await ems.command("cancel", str(event["id"]))
        for site in sites.values():
            await site.draws(200)
        for site in sites.values():
            status = await site.ema.status()
            assert (status["restarts"], status["upstreams"][0]["rejected"]) == ({}, 0)
            assert "Traceback" not in site.ema.log()
            stored = ems.stored(site.name)
            assert stored
            assert stored == sorted(set(stored))
    assert "Traceback" not in ems.log()


async def test_the_ems_steers_a_device_and_answers_what_it_asks_back(
    tmp_path: Path, mosquitto: Mosquitto, ems: EmsChild
) -> None:
    site = Site(tmp_path, mosquitto.port, 1, EMS_PUSH, "mqtt", hysteresis_min_w=5)
    agents = site.agents
    async with closing(site):
        await below(ems, site)
        await site.draws(200)

        async def command(device: int, action: str) -> dict[str, Any]:
            """Send it, and return it as soon as it is settled."""
            sent = await ems.ask("POST", f"/emas/gw/1/devices/{device}/command", {"action": action})

            async def read() -> dict[str, Any]:
                found = [c for c in await ems.ask("GET", "/commands") if c["id"] == sent["id"]]
                return dict(found[0]) if found else {"state": "sent"}  # not on its disk yet

            return await shows(read, lambda c: c["state"] != "sent", f"dev/{device} {action} is settled")

        assert (await command(1, "off"))["state"] == "confirmed"
        assert agents.draws(1) == 0
        assert (await command(1, "on"))["state"] == "confirmed"
        assert agents.draws(1) == 100
        for wanted in (90, 80):
            assert (await command(2, "down"))["state"] == "confirmed"
            assert agents.draws(2) == wanted
        assert (await command(2, "up"))["state"] == "confirmed"
        assert agents.draws(2) == 90
        assert (await command(2, "up"))["state"] == "confirmed"

        # Shed to 100 W by an event, the first lamp asks its watts back: what is no margin is asked of the EMS.
        event = await ems.command("event", "--value", "100", "--for", "10m", "--to", "gw/1")
        await ems.answered(event["id"], 0, "gw/1")
        await until(lambda: agents.watts <= 100, 30, "shed")
        await ems.ask("PUT", "/rdr/policy", {"policy": "deny"})
        before, wanted = agents.watts, 100 - agents.draws(1)
        assert agents.runners[1].press_button()
        await until(lambda: (a := agents.runners[1].agent.rdr) is not None and a.rdr == "denied", 20, "denied")
        assert agents.watts == before
        await ems.ask("PUT", "/rdr/policy", {"policy": "grant"})
        assert agents.runners[1].press_button()
        await until(lambda: agents.draws(1) == 100, 30, "granted, and it shines")

        def logged(rdrs: list[dict[str, Any]]) -> bool:
            return [(r["ema"], r["number"], r["watts"], r["state"]) for r in rdrs] == [
                ("gw/1", 1, wanted, "granted"),
                ("gw/1", 1, wanted, "denied"),
            ]

        await ems.shows("/rdr", logged, "both are in the EMS's log")
        rdr = (await site.ema.status())["rdr"]
        assert [entry["result"] for entry in rdr] == ["denied", "granted"]
        why = [d["why"] for d in await site.ema.ask("why", last=50) if d["rule"] == "rdr"]
        assert len(why) >= 2
        assert "Traceback" not in site.ema.log() + ems.log()


async def test_the_ems_is_killed_in_the_middle(tmp_path: Path, mosquitto: Mosquitto, ems: EmsChild) -> None:
    """kill -9 of the EMS in an event and under load: no report is lost or doubled, the event goes on, once."""
    site = Site(tmp_path, mosquitto.port, 1, EMA_PUSH, "mqtt")
    other = Site(tmp_path, mosquitto.port, 2, EMS_POLL, "coap")
    async with closing(site, other):
        await below(ems, site, other)
        event = await ems.command("event", "--value", "100", "--for", "10m", "--to", "gw/1,gw/2")
        await ems.answered(event["id"], 0, "gw/1", "gw/2")
        for running in (site, other):
            await until(lambda running=running: running.agents.watts <= 100, 30, "shed")  # type: ignore[misc]
            await running.ema.shows(
                lambda s: s["power_w"] <= 100 and s["commands"]["confirmed"] == s["commands"]["sent"], "settled"
            )
            await running.ema.shows(lambda s: s["upstreams"][0]["waiting"] == 0, "and told")
        first = {s.name: ems.stored(s.name)[-1] for s in (site, other)}
        await until(lambda: ems.stored()[-1] > first["gw/1"], 30, "reports flow")

        ems.kill()
        await site.ema.shows(lambda s: s["upstreams"][0]["in_flight"] > 0, "a report is under way")
        await site.ema.shows(lambda s: s["upstreams"][0]["waiting"] >= 4, "reports wait")
        assert (site.agents.watts <= 100, other.agents.watts <= 100) == (True, True)
        await ems.start()

        for running in (site, other):
            await running.ema.shows(lambda s: s["upstreams"][0]["waiting"] < 3, "what waited is acknowledged", 60)
            stored = ems.stored(running.name)
            numbers = [seq for boot, seq in stored if (boot, seq) > first[running.name]]
            assert len(numbers) == len(set(numbers)), "doubled"
            # All lamps are there and none is switched: no number is anything but a report's.
            missing = set(range(first[running.name][1] + 1, max(numbers) + 1)) - set(numbers)
            assert not missing
            status = await running.ema.status()
            assert (status["outbox"]["lost"], status["upstreams"][0]["rejected"]) == (0, 0)
            assert running.agents.watts <= 100
            opts = [d for d in await running.ema.ask("why", last=100) if d["rule"] == "opt"]
            assert len(opts) == 1, "an event that was answered is not taken anew"

        # The EMS still knows what it said, and goes on with it.
        await ems.registered("gw/1", "gw/2")
        changed = await ems.command("change", str(event["id"]), "--value", "50")
        assert changed["modification"] == 1
        await ems.answered(event["id"], 1, "gw/1", "gw/2")
        for running in (site, other):
            await until(lambda running=running: running.agents.watts <= 50, 30, "shed further")  # type: ignore[misc]
        await ems.command("cancel", str(event["id"]))
        for running in (site, other):
            await running.draws(200)
        assert "Traceback" not in site.ema.log() + other.ema.log() + ems.log()
