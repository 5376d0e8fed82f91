"""EMAs that lend each other power: two real daemons, a real EMS as the coordinator, a broker or CoAP between them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.links.mir2017.client_happenings import Negotiated
from gateway.links.mir2017.messages import request_id
from gateway.links.mir2017.messages.negotiation import LabAnswer, LabAsk
from tests.headend.support import ScriptedEma
from tests.support.ems_process import EmsChild
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, closing, lamps
from tests.support.wait import until


class Site:
    """An EMA with lamps of 100 W on its own broker, below an EMS over ``link``."""

    def __init__(
        self,
        directory: Path,
        number: int,
        link: str,
        above: int,
        count: int,
        threshold_w: float,
        **negotiation: Any,
    ) -> None:
        self.name, self.count, self.port = f"gw/{number}", count, free_port()
        upstream: dict[str, Any] = {"name": "ems", "protocol": link, "host": "127.0.0.1", "port": above}
        upstream |= {"timezone": "UTC", "mode": 1 if link == "mqtt" else 0}
        if link == "coap":
            upstream["local_port"] = free_port(socket.SOCK_DGRAM)
        self.ema = Ema(
            directory / f"ema-{number}",
            {
                "ema": {"number": number},
                "control": {"threshold_w": threshold_w, "restore_delay_s": 0, "hysteresis_min_w": 5, "pass_s": 0.2},
                "reports": {"period_s": 0.5, "change_s": 0.1},
                "negotiation": {"enabled": True, "reserve_w": 0, "guard_s": 2, "again_s": 3, **negotiation},
                "site_broker": {"port": self.port, "anonymous": True},
                "upstream": [upstream],
                "device": lamps(*range(1, count + 1)),
            },
        )
        self.agents = Agents()

    async def start(self) -> None:
        await self.ema.start()
        for number in range(1, self.count + 1):
            self.agents.mqtt(self.port, self.agents.lamp(number, 100.0), period_s=0.5)
        await self.ema.present(*range(1, self.count + 1))
        await self.ema.registered()

    async def stop(self) -> None:
        await self.agents.stop()
        await self.ema.close()

    async def shows(self, condition: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """The first status of its loans for which the condition holds."""
        status = await self.ema.shows(lambda s: condition(s["negotiation"]), f"{self.name}: {what}")
        return dict(status["negotiation"])

    async def limit(self, watts: float) -> None:
        """Return when that is its limit."""
        await self.ema.shows(lambda s: s["limit"]["import_w"] == watts, f"{self.name} has a limit of {watts} W")

    async def why(self, rule: str = "loan") -> list[str]:
        return [d["line"] for d in await self.ema.ask("why", last=200) if d["rule"] == rule]


@pytest_asyncio.fixture(params=["mqtt", "coap"])
async def link(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def ems(tmp_path: Path, mosquitto: Mosquitto, link: str) -> AsyncIterator[EmsChild]:
    options = ("--duration-ms", "500", "--rdr-policy", "deny")
    if link == "coap":
        options = (*options, "--coap", f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}")
    child = EmsChild(tmp_path / "ems", mosquitto.port, *options)
    child.above = int(options[-1].rpartition(":")[2]) if link == "coap" else mosquitto.port  # type: ignore[attr-defined]
    yield child
    await child.stop()


async def balances(ems: EmsChild) -> dict[str, float]:
    return dict((await ems.ask("GET", "/negotiation"))["balances_w"])


async def test_one_borrows_what_the_other_has_and_it_returns(tmp_path: Path, ems: EmsChild, link: str) -> None:
    """A device asks its power back; nothing is left, the EMS denies, the neighbour lends; limits move and move back."""
    above = ems.above  # type: ignore[attr-defined]
    one = Site(tmp_path, 1, link, above, 2, 110.0)
    two = Site(tmp_path, 2, link, above, 1, 400.0, ask=200)
    async with closing(one, two):
        await ems.start()
        await one.start()
        await two.start()
        await until(lambda: one.agents.watts == 110, 30, "one of two lamps is dimmed")
        await two.shows(lambda n: n["offered_w"] == 300, "offers what it does not draw")
        await ems.shows(
            "/negotiation", lambda n: {o["ema"]: o["watts"] for o in n["offers"]}.get("gw/2") == 300, "told"
        )

        dim = next(number for number in (1, 2) if one.agents.draws(number) == 10)
        answer = await one.ema.ask("rdr", number=dim, watts=90, for_s=6)
        assert answer["result"] == "pending"
        await until(lambda: one.agents.watts == 200, 30, "both shine bright")
        await one.limit(200)
        await two.limit(310)
        shown = (await one.ema.status())["limit"]["terms"]
        assert [(t["source"], t["watts"]) for t in shown] == [("threshold", 110), ("borrowed from gw/2", 90)]
        assert await balances(ems) == {"gw/1": 90, "gw/2": -90}
        rdr = (await one.ema.status())["rdr"][-1]
        assert rdr["result"] == "granted"
        assert "Deny" in rdr["why"]
        assert "other EMAs: 90 W for 6 s: 90 W of gw/2 at 200" in rdr["why"]
        assert "borrows 90 W for 6 s: 90 W of gw/2 at 200" in await one.why()

        # By each side's own clock: the borrower's limit falls first, the lender's rises after it.
        await one.limit(110)
        await until(lambda: one.agents.watts == 110, 30, "dimmed again")
        await two.limit(400)
        await ems.shows("/negotiation", lambda n: not n["loans"], "the book is empty")
        assert await balances(ems) == {}
    assert "Traceback" not in one.ema.log() + two.ema.log() + ems.log()


async def lending(tmp_path: Path, ems: EmsChild, link: str) -> tuple[Site, Site]:
    """One borrows 90 W of the other for long."""
    above = ems.above  # type: ignore[attr-defined]
    one, two = Site(tmp_path, 1, link, above, 2, 110.0), Site(tmp_path, 2, link, above, 1, 400.0)
    await ems.start()
    await one.start()
    await two.start()
    await ems.shows("/negotiation", lambda n: {o["ema"]: o["watts"] for o in n["offers"]}.get("gw/2") == 300, "told")
    answer = await one.ema.ask("negotiate", watts=90, for_s=600)
    assert answer["result"] == "granted", answer
    await one.limit(200)
    await two.limit(310)
    return one, two


async def test_killed_in_the_middle_the_sum_stays_whole(tmp_path: Path, ems: EmsChild, link: str) -> None:
    """kill -9 of the lender, the borrower and the EMS, one after the other; then the loan is given back."""
    one, two = await lending(tmp_path, ems, link)
    async with closing(one, two):
        # The lender: its row was on disk before it said so. Its limit is low from its first moment on.
        two.ema.kill()
        await two.ema.start()
        assert (await two.ema.status())["limit"]["import_w"] == 310
        await two.ema.present(1)
        # The borrower: it does not count its loan before the coordinator says that it is its own still.
        one.ema.kill()
        await one.ema.start()
        await one.ema.present(1, 2)
        await one.limit(200)
        # The EMS: its ledger is as it was; both members go on by their own clocks.
        ems.kill()
        assert (await one.ema.status())["limit"]["import_w"] == 200
        assert (await two.ema.status())["limit"]["import_w"] == 310
        await ems.start()
        assert await balances(ems) == {"gw/1": 90, "gw/2": -90}
        await one.ema.registered()
        await two.ema.registered()
        assert await one.ema.ask("give_back") == "given back"
        await one.limit(110)
        await two.limit(400)
        await ems.shows("/negotiation", lambda n: not n["loans"], "the book is empty")
        assert one.agents.watts <= 110
    assert "Traceback" not in one.ema.log() + two.ema.log() + ems.log()


async def test_a_lender_asks_its_power_back(tmp_path: Path, ems: EmsChild, link: str) -> None:
    """An event takes from the lender what it lent: it recalls, and nobody is cut below what it draws for the loan."""
    one, two = await lending(tmp_path, ems, link)
    async with closing(one, two):
        await one.shows(lambda n: n["borrowed_w"] == 90, "counts it")
        two.agents.watch()
        event = await ems.ask("POST", "/events", {"value_w": 150, "for_s": 3600, "targets": ["gw/2"]})
        await ems.answered(event["id"], 0, "gw/2")
        await one.limit(110)
        await two.limit(150)
        assert any("asks 90 W back from gw/1" in line for line in await two.why())
        assert any("the lender needs it" in line for line in await one.why())
        assert {watts for _, watts in two.agents.samples} == {100}, "the lender's lamp never went dim"
        await ems.shows("/negotiation", lambda n: not n["loans"], "the book is empty")


async def test_the_ems_is_killed_while_it_asks_a_lender(tmp_path: Path, ems: EmsChild, link: str) -> None:
    """The lender hears of the loan only after the EMS was killed and came again: nobody counts it, and it says so."""
    one, two = await lending(tmp_path, ems, link)
    async with closing(one, two):
        await one.ema.ask("give_back")
        await two.limit(400)
        await ems.shows("/negotiation", lambda n: n["offers"] and not n["loans"], "the book is empty")
        await ems.shows(
            "/negotiation", lambda n: {o["ema"]: o["watts"] for o in n["offers"]}.get("gw/2") == 300, "told"
        )
        two.ema.freeze()
        asking = asyncio.create_task(one.ema.ask("negotiate", watts=50, for_s=600))
        await ems.shows("/negotiation", lambda n: [loan["stage"] for loan in n["loans"]] == ["prepared"], "prepared")
        ems.kill()
        await ems.start()
        assert (await asking)["result"] == "denied"
        two.ema.thaw()
        await ems.shows("/negotiation", lambda n: not n["loans"], "the book is empty")
        await one.limit(110)
        await two.limit(400)


async def test_prices_and_parts_reach_an_ema(tmp_path: Path, ems: EmsChild, link: str) -> None:
    """With its set-up and when they change; what is too dear is not borrowed; an allocation is its limit."""
    one = Site(tmp_path, 1, link, ems.above, 1, 1000.0, cap=500)  # type: ignore[attr-defined]
    async with closing(one):
        await ems.start()
        await ems.ask("PUT", "/prices", {"initial": 200})
        await one.start()

        async def told(**prices: int | None) -> None:
            wanted = {
                "upstream": "ems",
                "initial": None,
                "incentive": None,
                "negotiation": None,
                "unit": "KW",
                **prices,
            }
            await one.ema.shows(lambda s: s["price"] == [wanted], f"shows {wanted}")

        await told(initial=200)
        await ems.ask("PUT", "/prices", {"incentive": 10, "negotiation": 900})
        await told(initial=200, incentive=10, negotiation=900)
        answer = await one.ema.ask("negotiate", watts=50)
        assert answer == {"result": "denied", "why": "the negotiation price of 900 is above its cap, 500"}
        await ems.ask("PUT", "/prices", {"incentive": None, "negotiation": 400})
        await told(initial=200, negotiation=400)
        answer = await one.ema.ask("negotiate", watts=50)
        assert answer == {"result": "denied", "why": "50 W of 50 W are missing: nobody lends more at 400 a kWh or less"}

        await ems.shows("/emas", lambda found: found and found[0]["power_w"] == 100, "its power is known")
        body = {"algorithm": "game", "total_w": 640, "emas": ["gw/1"], "apply": True, "for_s": 600}
        view = await ems.ask("POST", "/allocation", body)
        await ems.answered(view["parts"][0]["event"], 0, "gw/1")
        await one.limit(640)
        assert await ems.ask("DELETE", "/allocation") == {"ended": 1}
        await one.limit(1000)


@pytest.mark.parametrize("link", ["mqtt"], indirect=True)
async def test_an_ema_of_the_lab_borrows_by_its_threshold(
    tmp_path: Path, mosquitto: Mosquitto, ems: EmsChild, link: str
) -> None:
    """A stand-in that knows ``{ID, energy}`` and events only, beside a daemon that lends."""
    two = Site(tmp_path, 2, link, mosquitto.port, 1, 400.0)
    lab = ScriptedEma(mosquitto.port, 1)
    async with closing(two):
        await ems.start()
        await two.start()
        running = asyncio.create_task(lab.run())
        try:
            await lab.session()
            lab.report(request_id(1, 1), 390, threshold=400, time_ms=int(time.time() * 1000))
            await ems.shows("/emas", lambda e: any(x["name"] == "gw/1" and x["power_w"] == 390 for x in e), "known")
            await ems.shows("/negotiation", lambda n: any(o["watts"] == 300 for o in n["offers"]), "offered")

            def answers() -> list[LabAnswer]:
                said = [h.message for h in lab.happened if isinstance(h, Negotiated)]
                return [message for message in said if isinstance(message, LabAnswer)]

            lab.send(lab.client.negotiate(LabAsk(1, 500)))
            await until(lambda: answers() == [LabAnswer(True, 500)], 30, "accepted")
            await until(lambda: lab.events and lab.events[-1].value == 500, 30, "its new threshold, as an event")
            await two.limit(300)
            assert await balances(ems) == {"gw/1": 100, "gw/2": -100}
            lab.send(lab.client.negotiate(LabAsk(1, 5000)))
            await until(lambda: answers()[-1] == LabAnswer(False, 0), 30, "refused")

            # The lender needs it: the old threshold is back first, and then the lender's.
            (loan,) = (await two.ema.status())["negotiation"]["loans"]
            await two.ema.ask("recall", loan=loan["loan"])
            await until(lambda: lab.events[-1].cancelled, 30, "the event is cancelled")
            await two.limit(400)
            await ems.shows("/negotiation", lambda n: not n["loans"], "the book is empty")
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
