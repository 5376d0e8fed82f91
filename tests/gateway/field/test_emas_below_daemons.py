"""Whole EMAs above and below each other, each a `smartema run` of its own, below a real EMS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps, udp_port
from tests.support.wait import until

PATIENCE_S = 30.0
LAMP_W = 100.0


class Place:
    """One EMA with lamps of 100 W on a broker of its own. ``above`` is its upper node's place; None: the EMS."""

    def __init__(
        self,
        directory: Path,
        number: int,
        count: int,
        ems: int,
        above: Place | None = None,
        link: str = "mqtt",
        mode: int = 1,
        below: tuple[Mapping[str, Any], ...] = (),
        **more: Any,
    ) -> None:
        self.number, self.count = number, count
        self.agents = Agents()
        self.broker, self.coap = free_port(), udp_port()
        self.state = directory / f"gw{number}" / "state"
        upstream: dict[str, Any] = {"name": "up", "host": "127.0.0.1", "mode": mode, "timezone": "UTC"}
        if above is None:
            upstream |= {"port": ems}
        elif link == "mqtt":
            password = above.state / "ema-passwords" / f"gw-{number}"
            upstream |= {"port": above.broker, "username": f"gw-{number}", "password_file": str(password)}
        else:
            upstream |= {"protocol": "coap", "port": above.coap, "bind": f"127.0.0.{number + 1}"}
            upstream |= {"local_port": udp_port()}
        tables: dict[str, Any] = {
            "ema": {"number": number, "state_dir": str(self.state)},
            "control": {"restore_delay_s": 0, "pass_s": 0.2, "stale_after_s": 12, **more},
            "reports": {"period_s": 0.5, "change_s": 0.1},
            "site_broker": {"port": self.broker, "open": True},
            "upstream": [upstream],
            "device": lamps(*range(11, 11 + count)),
        }
        if below:
            tables["emas_below"] = {"mqtt": True, "coap": True, "port": self.coap, "timezone": "UTC", "poll_s": 0.2}
            tables["emas_below"] |= {"sources": ["127.0.0.0/8"]}
            tables["ema_below"] = list(below)
        self.ema = Ema(directory / f"gw{number}", tables)

    async def start(self) -> Place:
        await self.ema.start()
        for number in range(11, 11 + self.count):
            secret = (self.state / "device-passwords" / f"dev-{number}").read_text().strip()
            lamp = self.agents.lamp(number, LAMP_W)
            self.agents.mqtt(self.broker, lamp, 0.5, username=f"dev-{number}", password=secret)
        if self.count:
            await self.ema.present(*range(11, 11 + self.count))
        return self

    @property
    def watts(self) -> float:
        return self.agents.watts

    async def below(self, number: int) -> dict[str, Any]:
        """An EMA below as this one shows it."""
        status = await self.ema.status()
        return _shown(status, number)

    async def has(self, number: int, power_w: float) -> None:
        """Return when an EMA below is there and has reported that power."""
        await self.ema.shows(
            lambda s: _shown(s, number).get("here") and _shown(s, number)["power_w"] == power_w,
            f"gw/{number} with {power_w:g} W",
        )

    async def close(self) -> None:
        await self.agents.stop()
        await self.ema.close()


def _shown(status: dict[str, Any], number: int) -> dict[str, Any]:
    part = next(part for part in status["field"] if part["name"] == "emas")
    found = [dict(ema) for ema in part["emas"] if ema["ema"] == f"gw/{number}"]
    return found[0] if found else {}


def _secrets(above: Place, *numbers: int) -> None:
    """An EMA below needs its password when its file is checked: that of its account, as the operator would hand it."""
    directory = above.state / "ema-passwords"
    directory.mkdir(parents=True, mode=0o700)
    for number in numbers:
        path = directory / f"gw-{number}"
        path.touch(mode=0o600)
        path.write_text(f"secret-of-{number}\n")


@pytest.mark.parametrize(
    ("link", "mode"),
    [("mqtt", 1), ("mqtt", 2), ("mqtt", 3), ("mqtt", 4), ("coap", 0), ("coap", 1), ("coap", 2)],
    ids=["push", "ems_poll", "ema_poll", "ema_push", "coap_push", "coap_pull", "coap_observe"],
)
async def test_held_under_what_the_event_above_leaves(
    tmp_path: Path, mosquitto: Mosquitto, link: str, mode: int
) -> None:
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    upper = Place(tmp_path, 1, 1, mosquitto.port, below=({"number": 2, "max_w": 300},))
    _secrets(upper, 2)
    lower = Place(tmp_path, 2, 3, mosquitto.port, above=upper, link=link, mode=mode)
    async with closing(lower, upper, ems):
        await ems.start()
        await upper.start()
        await lower.start()
        await upper.has(2, 300.0)
        await upper.ema.registered()

        event = await ems.event(250)
        await ems.answered(event)
        await until(lambda: upper.watts + lower.watts <= 250, PATIENCE_S, "both under the event")
        assert upper.watts == LAMP_W, "the EMA below has the smaller number"
        await upper.ema.shows(lambda s: _shown(s, 2)["opt"] == "in", "it opted in")
        assert (await upper.below(2))["limit_w"] <= 150
        assert any("gw/2 at most" in line["line"] for line in await upper.ema.ask("why", last=20))
        held = await lower.ema.status()
        assert held["limit"]["import_w"] <= 150
        assert lower.watts <= held["limit"]["import_w"]

        changed = await ems.ems.change_event(event.id, value_w=150.0)
        await ems.answered(changed)
        await until(lambda: upper.watts + lower.watts <= 150, PATIENCE_S, "both under the tighter event")

        await ems.ems.cancel_event(event.id)
        await until(lambda: upper.watts + lower.watts == 4 * LAMP_W, PATIENCE_S, "all is given back")
        await upper.ema.shows(lambda s: _shown(s, 2)["limit_w"] is None, "it is free")
        status = await upper.ema.status()
        assert status["commands"]["failed"] == 0, upper.ema.log()


@pytest.mark.parametrize(("link", "mode"), [("mqtt", 1), ("coap", 0)], ids=["mqtt", "coap"])
async def test_either_killed_in_an_event(tmp_path: Path, mosquitto: Mosquitto, link: str, mode: int) -> None:
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    upper = Place(tmp_path, 1, 1, mosquitto.port, below=({"number": 2, "max_w": 300},))
    _secrets(upper, 2)
    lower = Place(tmp_path, 2, 3, mosquitto.port, above=upper, link=link, mode=mode)
    async with closing(lower, upper, ems):
        await ems.start()
        await upper.start()
        await lower.start()
        await upper.has(2, 300.0)
        await upper.ema.registered()
        event = await ems.event(250)
        await ems.answered(event)
        await until(lambda: upper.watts + lower.watts <= 250, PATIENCE_S, "both under the event")
        before = await upper.ema.shows(lambda s: _shown(s, 2)["opt"] == "in", "it opted in")
        await lower.ema.shows(lambda s: s["commands"]["confirmed"] == s["commands"]["sent"], "settled")
        lower.agents.watch()

        upper.ema.kill()
        await upper.ema.start()
        after = await upper.ema.shows(lambda s: _shown(s, 2).get("here") and s["power_w"] > LAMP_W, "it is heard again")
        assert after["boot"] > before["boot"]
        await upper.ema.registered()
        await upper.ema.present(11)
        await upper.ema.shows(lambda s: _shown(s, 2)["opt"] == "in", "it opted in again")
        assert (await upper.below(2))["limit_w"] <= 150

        lower.ema.kill()
        await lower.ema.start()
        await lower.ema.present(11, 12, 13)
        await lower.ema.registered()
        assert (await lower.ema.status())["limit"]["import_w"] <= 150
        assert max(watts for _, watts in lower.agents.samples) <= 150, "not once over its limit"
        await upper.ema.shows(lambda s: s["power_w"] <= 250 and not s["stale"], "counted again")

        tighter = await ems.ems.change_event(event.id, value_w=120.0)
        await ems.answered(tighter)
        await until(lambda: upper.watts + lower.watts <= 120, PATIENCE_S, "it takes a change after both restarts")
        await ems.ems.cancel_event(event.id)
        await until(lambda: upper.watts + lower.watts == 4 * LAMP_W, PATIENCE_S, "all is given back")


async def asked_back(place: Place, number: int, watts: float) -> dict[str, Any]:
    """A lamp's RDR and what became of it."""
    known = len((await place.ema.status())["rdr"])
    await place.ema.ask("rdr", number=number, watts=watts, for_s=300)
    status = await place.ema.shows(lambda s: len(s["rdr"]) > known, "the RDR is settled")
    return dict(status["rdr"][-1])


@pytest.mark.parametrize(("link", "mode"), [("mqtt", 1), ("coap", 0)], ids=["mqtt", "coap"])
async def test_power_asked_back_from_below(tmp_path: Path, mosquitto: Mosquitto, link: str, mode: int) -> None:
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    # So much hysteresis that what is free is not given back by itself.
    upper = Place(tmp_path, 1, 1, mosquitto.port, below=({"number": 2, "max_w": 300},), hysteresis_min_w=150)
    _secrets(upper, 2)
    lower = Place(tmp_path, 2, 3, mosquitto.port, above=upper, link=link, mode=mode)
    async with closing(lower, upper, ems):
        await ems.start()
        await upper.start()
        await lower.start()
        await upper.has(2, 300.0)
        await upper.ema.registered()
        event = await ems.event(300)
        await ems.answered(event)
        await until(lambda: lower.watts == 200, PATIENCE_S, "one lamp is off")
        await upper.has(2, 200.0)

        refused = await asked_back(lower, 11, 100)
        assert refused["result"] == "denied"
        assert "up says Deny" in refused["why"], "the reason of the one above"
        assert f"event {event.id} asks 300 W" in refused["why"], "which is the EMS's"

        wider = await ems.ems.change_event(event.id, value_w=400.0)
        await ems.answered(wider)
        granted = await asked_back(lower, 11, 100)
        assert granted["result"] == "granted"
        await until(lambda: lower.watts == 300, PATIENCE_S, "its lamp is on")
        own = (await upper.ema.status())["rdr"][-1]
        assert (own["device"], own["result"]) == ("gw/2", "granted")
        assert "100 W of margin" in own["why"], "within our margin nobody above is asked"
        assert (await upper.below(2))["granted_w"] == 100
        await upper.has(2, 300.0)

        again = await ems.ems.change_event(event.id, value_w=300.0)
        await ems.answered(again)
        await until(lambda: lower.watts < 200, PATIENCE_S, "a tighter limit ends what was granted")
        await upper.has(2, lower.watts)
        assert (await upper.below(2))["granted_w"] == 0

        await ems.ems.set_limit("gw/1", 1000.0)
        before = lower.watts
        above = await asked_back(lower, 11, 100)
        assert above["result"] == "granted"
        assert (await upper.ema.status())["grants"][-1]["resource"] == "gw/2"
        await until(lambda: lower.watts == before + 100, PATIENCE_S, "the EMS gave it")
        assert upper.watts == LAMP_W


async def test_three_levels_over_two_links(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    top = Place(tmp_path, 1, 1, mosquitto.port, below=({"number": 2, "max_w": 400},))
    _secrets(top, 2)
    middle = Place(tmp_path, 2, 1, mosquitto.port, above=top, below=({"number": 3, "max_w": 300},))
    _secrets(middle, 3)
    bottom = Place(tmp_path, 3, 3, mosquitto.port, above=middle, link="coap", mode=2)
    places = (top, middle, bottom)

    def total() -> float:
        return sum(place.watts for place in places)

    async with closing(bottom, middle, top, ems):
        await ems.start()
        for place in places:
            await place.start()
        await middle.has(3, 300.0)
        await top.has(2, 400.0)
        await top.ema.registered()
        event = await ems.event(300)
        await ems.answered(event)
        await until(lambda: total() <= 300, PATIENCE_S, "all three under the event")
        assert (top.watts, middle.watts) == (LAMP_W, LAMP_W), "the smallest number gives, at each level"
        assert (await top.below(2))["limit_w"] <= 200
        assert (await middle.below(3))["limit_w"] <= 100
        report = await top.ema.shows(lambda s: s["power_w"] <= 300 and not s["stale"], "the sum of all three")
        assert report["power_w"] == pytest.approx(total(), abs=1)

        middle.ema.kill()
        await middle.ema.start()
        await middle.ema.present(11)
        await middle.ema.registered()
        await middle.ema.shows(lambda s: _shown(s, 3).get("opt") == "in", "what is below is held on")
        assert bottom.watts <= 100

        await ems.ems.cancel_event(event.id)
        await until(lambda: total() == 5 * LAMP_W, PATIENCE_S, "all is given back")


async def test_another_one_is_named_while_it_runs(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """By SIGHUP: an account more, and no link is dropped; who is named no more is no part of the site."""
    upper = Place(tmp_path, 1, 1, mosquitto.port, below=({"number": 2},))
    _secrets(upper, 2, 3)
    second = Place(tmp_path, 2, 1, mosquitto.port, above=upper)
    third = Place(tmp_path, 3, 2, mosquitto.port, above=upper)
    async with closing(second, third, upper):
        await upper.start()
        await second.start()
        await third.start()
        await upper.has(2, 100.0)
        await third.ema.until(lambda: third.ema.lines("does not take the account 'gw-3'"), "it has no account yet")

        upper.ema.write({**upper.ema.tables, "ema_below": [{"number": 2, "priority": 7}, {"number": 3}]})
        upper.ema.hangup()
        await upper.has(3, 200.0)
        status = await upper.ema.status()
        part = next(part for part in status["field"] if part["name"] == "emas")
        assert part["links"]["mqtt"]["reconnects"] == 0
        assert [d["priority"] for d in status["devices"] if d["number"] == 90_002] == [7]
        assert (await second.ema.status())["upstreams"][0]["reconnects"] == 0

        upper.ema.write({**upper.ema.tables, "ema_below": [{"number": 3}]})
        upper.ema.hangup()
        await upper.ema.shows(
            lambda s: 90_002 not in {d["number"] for d in s["devices"]} and s["power_w"] == 3 * LAMP_W, "without it"
        )
        assert _shown(await upper.ema.status(), 3)["here"]


@pytest.mark.parametrize("link", ["mqtt", "coap"])
async def test_emas_below_lend_each_other_power(tmp_path: Path, mosquitto: Mosquitto, link: str) -> None:
    """The EMA above them keeps the book, also over a kill of it in the middle."""
    negotiation = {"enabled": True, "reserve_w": 0, "guard_s": 2}
    mode = 1 if link == "mqtt" else 0
    top = Place(tmp_path, 9, 0, mosquitto.port, below=({"number": 1}, {"number": 2}))
    one = Place(tmp_path, 1, 2, 0, top, link, mode, threshold_w=110.0, hysteresis_min_w=5)
    two = Place(tmp_path, 2, 1, 0, top, link, mode, threshold_w=400.0, hysteresis_min_w=5)
    for place in (one, two):
        place.ema.write({**place.ema.tables, "negotiation": negotiation})

    async def limits(first: float, second: float) -> None:
        for place, wanted in ((one, first), (two, second)):
            await place.ema.shows(lambda s, wanted=wanted: s["limit"]["import_w"] == wanted, f"a limit of {wanted} W")

    async with closing(one, two, top):
        for place in (top, one, two):
            await place.start()
        await one.ema.registered()
        await two.ema.shows(lambda s: s["negotiation"]["offered_w"] == 300, "offers")
        for _ in range(20):
            answer = await one.ema.ask("negotiate", watts=90, for_s=600)
            if answer["result"] == "granted":
                break
        assert answer["result"] == "granted", answer
        await limits(200, 310)
        top.ema.kill()
        await top.ema.start()
        await one.ema.registered()
        await two.ema.registered()
        await limits(200, 310)
        assert await one.ema.ask("give_back") == "given back"
        await limits(110, 400)
