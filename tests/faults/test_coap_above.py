"""Modes 0 to 3 of an EMS over CoAP, all of it real processes: an event, RDRs, commands from above, and kill -9 of
either side. Nothing is lost, nothing comes twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.test_killed import in_outbox
from tests.faults.test_mistakes import refused
from tests.support.ems_process import EmsChild
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, closing, lamps, udp_port
from tests.support.wait import until

DEVICES = (1, 2, 3, 4)
WATTS = 100.0


def ems_above(directory: Path, broker: int | None = None) -> tuple[EmsChild, int]:
    """It and its CoAP port."""
    port = udp_port()
    options = ("--coap", f"127.0.0.1:{port}", "--duration-ms", "300", "--rdr-policy", "grant", "--resend-s", "1")
    return EmsChild(directory, broker, *options), port


def ema_below(directory: Path, port: int, mode: int, link: str, **upstream: Any) -> tuple[Ema, dict[str, int]]:
    """``link``: of the devices; over CoAP they and the EMS share one address. Its ports for the devices."""
    ports = {"mqtt": free_port(), "coap": udp_port()}
    above = {"name": "ems", "protocol": "coap", "host": "127.0.0.1", "port": port, "mode": mode, "timezone": "UTC"}
    ema = Ema(
        directory,
        {
            "control": {"threshold_w": 1000, "restore_delay_s": 0},
            "reports": {"period_s": 0.5, "change_s": 0.1},
            "site_broker": {"port": ports["mqtt"], "anonymous": True},
            "site_coap": {"port": ports["coap"]},
            "upstream": [{**above, **upstream}],
            "device": lamps(*DEVICES, link=link),
        },
    )
    return ema, ports


def all_shine(agents: Agents, link: str, ports: dict[str, int]) -> None:
    """The lamps come."""
    for number in DEVICES:
        put = agents.mqtt if link == "mqtt" else agents.coap
        put(ports[link], agents.lamp(number, WATTS), period_s=0.5)


async def told(ems: EmsChild, watts: float, **more: Any) -> int:
    """An event from now on."""
    body = {"value_w": watts, "start": "now", "for_s": 600, "targets": ["gw/1"], **more}
    return int((await ems.ask("POST", "/events", body))["id"])


async def opts(ema: Ema) -> list[str]:
    """What was decided of events, oldest first."""
    return [d["line"] for d in reversed(await ema.ask("why", last=500)) if d["rule"] == "opt"]


async def nothing_lost(ema: Ema, ems: EmsChild, owed: set[tuple[int, int]]) -> None:
    """What waited on the EMA's disk is at the EMS, and nothing twice."""
    status = await ema.shows(lambda s: s["outbox"]["waiting"] < 3, "what was kept is sent", 60.0)
    await until(lambda: owed <= set(ems.stored()), 30, f"at the EMS, of {sorted(owed)}")
    assert (status["outbox"]["lost"], status["upstreams"][0]["lost"]) == (0, 0)
    stored = ems.stored()
    assert len(stored) == len(set(stored))


STORIES = [
    # mode, devices below, confirmable
    (0, "mqtt", True),
    (1, "coap", True),
    (2, "coap", False),
]


@pytest.mark.parametrize(("mode", "link", "confirmable"), STORIES)
async def test_an_event_and_both_sides_killed(tmp_path: Path, mode: int, link: str, confirmable: bool) -> None:
    ems, port = ems_above(tmp_path / "ems")
    ema, ports = ema_below(tmp_path / "ema", port, mode, link, confirmable=confirmable)
    agents = Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        all_shine(agents, link, ports)
        await ema.present(*DEVICES)
        await ema.registered()
        await ems.shows("/emas", lambda e: e and e[0]["protocol"] == "coap" and e[0]["power_w"] == 400, "400 W")
        await commands_from_above(ems, agents)

        event = await told(ems, 250)
        await ems.answered(event, 0, "gw/1")
        await until(lambda: agents.watts <= 250, 20, "shed")
        await ems.shows("/emas", lambda e: e[0]["power_w"] <= 250 and e[0]["limit_w"] == 250, "the EMS sees it")
        await power_asked_back(ems, agents)

        ems.kill()
        await until(lambda: len(in_outbox(ema)) > 3, 20, "reports wait on the disk")
        owed = in_outbox(ema)
        assert agents.watts <= 350, "the event goes on without its EMS"
        await ems.start()
        await nothing_lost(ema, ems, owed)

        ema.kill()
        owed = in_outbox(ema)
        await ems.ask("PATCH", f"/events/{event}", {"value_w": 150})
        await ema.start()
        await ems.answered(event, 1, "gw/1")
        await until(lambda: agents.watts <= 150, 20, "the change holds")
        await ems.ask("DELETE", f"/events/{event}")
        await until(lambda: agents.watts == 400, 20, "everything returns")
        await nothing_lost(ema, ems, owed)
        status = await ema.status()
        assert status["commands"]["failed"] == 0
        # Each form of the event once, the cancel among them: nothing that was told again took effect again.
        assert len(await opts(ema)) == len(set(await opts(ema)))
        shown = await ems.ask("GET", f"/events/{event}")
        assert [d["answered"] for d in shown["deliveries"]] == [shown["modification"]]
        assert "Traceback" not in ema.log() + ems.log()


async def commands_from_above(ems: EmsChild, agents: Agents) -> None:
    """The EMS switches and dims: ``gw/<n>/dev/<d>/control`` and ``…/dimming``."""
    await ems.ask("POST", "/emas/gw/1/devices/4/command", {"action": "off"})
    await until(lambda: agents.draws(4) == 0, 20, "switched off from above")
    await ems.ask("POST", "/emas/gw/1/devices/4/command", {"action": "on"})
    await until(lambda: agents.draws(4) == WATTS, 20, "and on")
    await ems.ask("POST", "/emas/gw/1/devices/4/command", {"action": "down"})
    await until(lambda: 0 < agents.draws(4) < WATTS, 20, "one step down")
    step = agents.draws(4)
    await ems.ask("POST", "/emas/gw/1/devices/4/command", {"action": "up"})
    await until(lambda: agents.draws(4) == WATTS, 20, f"one step up from {step}")


async def power_asked_back(ems: EmsChild, agents: Agents) -> None:
    """Granted and then denied by the EMS, each time for a lamp that was shed."""
    shed = [number for number in DEVICES if agents.draws(number) < WATTS]
    assert agents.runners[shed[0]].press_button()
    await until(lambda: agents.draws(shed[0]) == WATTS, 20, "granted by the EMS")
    await ems.ask("PUT", "/rdr/policy", {"policy": "deny"})
    before = agents.draws(shed[1])
    assert agents.runners[shed[1]].press_button()
    answered = agents.runners[shed[1]].agent
    await until(lambda: (answer := answered.rdr) is not None and answer.rdr == "denied", 20, "denied by the EMS")
    assert agents.draws(shed[1]) == before
    assert answered.rdr is not None
    assert "policy deny" in (answered.rdr.why or "")
    await ems.shows("/rdr", lambda r: sorted(rdr["state"] for rdr in r) == ["denied", "granted"], "it keeps both")


async def test_mode_none_and_both_protocols_at_one_ems(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """gw/1 over CoAP in mode 3, lamps over MQTT; gw/2 over MQTT, lamps over CoAP: an event for both reaches one."""
    ems, port = ems_above(tmp_path / "ems", mosquitto.port)
    first, ports = ema_below(tmp_path / "first", port, 3, "mqtt", confirmable=False)
    second, others = ema_below(tmp_path / "second", mosquitto.port, 1, "coap", protocol="mqtt")
    second.write({**second.tables, "ema": {**second.tables["ema"], "number": 2}})
    above, below = Agents(), Agents()
    async with closing(above, below, first, second, ems):
        await ems.start()
        await first.start()
        await second.start()
        all_shine(above, "mqtt", ports)
        all_shine(below, "coap", others)
        for ema in (first, second):
            await ema.present(*DEVICES)
            await ema.registered()
        shown = await ems.shows("/emas", lambda e: [x["power_w"] for x in e] == [400, 400], "both report")
        assert [x["protocol"] for x in shown] == ["coap", "mqtt"]
        await commands_from_above(ems, above)

        with pytest.raises(AssertionError, match=r"4 is no mode of ems \(coap\); choose one of 0, 1, 2, 3"):
            await first.ask("mode", mode=4)
        event = await told(ems, 250, targets="all")
        await ems.answered(event, 0, "gw/2")
        await until(lambda: below.watts <= 250, 20, "shed")
        assert above.watts == 400
        assert (await first.status())["events"] == []
        shown = await ems.ask("GET", f"/events/{event}")
        assert {d["ema"]: d["answered"] for d in shown["deliveries"]} == {"gw/1": None, "gw/2": 0}

        ems.kill()
        await until(lambda: all(len(in_outbox(ema)) > 2 for ema in (first, second)), 20, "reports wait")
        owed = in_outbox(first)
        await ems.start()
        await nothing_lost(first, ems, owed)
        assert "Traceback" not in first.log() + second.log() + ems.log()


async def test_a_report_of_200_devices(tmp_path: Path) -> None:
    """Far beyond a datagram: in blocks, explicit."""
    ems, port = ems_above(tmp_path / "ems")
    ema, ports = ema_below(tmp_path / "ema", port, 0, "mqtt")
    ema.write({**ema.tables, "site_broker": {"port": ports["mqtt"], "open": True}, "device": []})
    async with closing(ema, ems):
        await ems.start()
        await ema.start()
        await ema.registered()
        await ema.ask("virtual", link="mqtt", count=200)
        await ema.shows(lambda s: sum(d["present"] for d in s["devices"]) == 200, "200 came", 60.0)
        await ems.shows("/devices", lambda found: len([d for d in found if d["connected"]]) == 200, "200 are known")
        power = (await ema.status())["power_w"]
        await ems.shows("/devices", lambda found: sum(d["watt"] or 0 for d in found) == round(power), f"all of {power}")
        await nothing_lost(ema, ems, set())


async def test_two_on_one_port(tmp_path: Path) -> None:
    """The second process ends with one line, as after any other mistake at the start."""
    ems, port = ems_above(tmp_path / "ems")
    ours = udp_port()
    first, _ = ema_below(tmp_path / "first", port, 1, "mqtt", local_port=ours)
    second, _ = ema_below(tmp_path / "second", port, 1, "mqtt", local_port=ours)
    on_the_ems, _ = ema_below(tmp_path / "third", port, 1, "mqtt", local_port=port)
    async with closing(first, second, on_the_ems, ems):
        await ems.start()
        await first.start()
        await first.registered()
        await refused(second, f"upstream ems: CoAP 127.0.0.1:{ours}: Address already in use; choose another")
        await refused(on_the_ems, f"upstream ems: CoAP 127.0.0.1:{port}: Address already in use; choose another")
        assert (await first.status())["upstreams"][0]["state"] == "up"
