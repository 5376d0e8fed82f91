"""libcoap's client plays an EMA of the lab: every exchange of the wire reference, section 3, with our EMS."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.libcoap import Observer, exchange
from tests.support.process import EmsBeside, closing, udp_port
from tests.support.wait import until

VEN = "VEN_MIR1"
ANSWER = {"VENID": VEN, "VTNID": "MIR_VTN", "TransportName": "MIR_VTN"}
ENDS = {"RequestID": 1, "RegistrationID": 1, "Version": 2}
# What the EMA says, and the keys of the answer in their order.
SET_UP: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "QueryRegistration",
        {"Service": "QueryRegistration", "VENID": VEN, "RequestID": 1, "GW": "gw/1"},
        {"Service": "CreatedPartyRegistration", **ANSWER, "Duration": 2000, **ENDS},
    ),
    (
        "CreatePartyRegistration",
        {
            "Service": "CreatePartyRegistrationRequest",
            "VENID": VEN,
            "RequestID": 1,
            "Version": 2,
            "oadrVenName": VEN,
        },
        {"Service": "CreatedPartyRegistration2", **ANSWER, "Response": 200, "Duration": 2000, **ENDS},
    ),
    (
        "RegisterReport",
        {"Service": "RegisterReport", "VENID": VEN, "RequestID": 1},
        {"Service": "RegisteredReport", **ANSWER, "Response": 200, **ENDS},
    ),
    (
        "Poll",
        {"Service": "Poll", "VENID": VEN, "RequestID": 1, "Version": 2, "GW": "gw/1"},
        {"Service": "RegisterReport", **ANSWER, "Response": "ACK_SUCCESS", "Duration": 2000, **ENDS},
    ),
    (
        "RegisteredReport",
        {"Service": "RegisteredReport", "VENID": VEN, "RequestID": 1, "Version": 2},
        {"Service": "Response", "VENID": VEN, "Response": 200},
    ),
    (
        "RequestEvent",
        {"Service": "RequestEvent", "VENID": VEN, "RequestID": 1},
        {"Service": "DistributeEvent", "VENID": VEN, "Response": "ACK_SUCCESS"},
    ),
]
POLL = SET_UP[3][1]
PATHS = {
    *(path for path, _, _ in SET_UP),
    *("createdEvent", "UpdateReport", "info", "powermargin", "DeviceConnect", "DeviceDisconnect", "oadrRDR"),
    *("ESS", "ESSinit", "PV", "PVinit", "RECLOSER", "RECLOSERinit", "RESOURCE", "RESOURCEinit", "negotiation"),
}


@pytest_asyncio.fixture
async def ems(tmp_path: Path) -> AsyncIterator[EmsBeside]:
    made = EmsBeside(tmp_path, 1, broker="none", coap=f"127.0.0.1:{udp_port()}", duration_ms=2000)
    async with closing(made):
        await made.start()
        yield made


def port_of(ems: EmsBeside) -> int:
    return int(ems.ems.settings.coap.rsplit(":", 1)[1])


async def put(ems: EmsBeside, path: str, body: str | dict[str, Any], *words: str) -> bytes:
    """The payload of a 2.05 Content, text/plain."""
    text = body if isinstance(body, str) else json.dumps(body)
    came = await exchange(port_of(ems), path, text, *words)
    assert (came.code, came.options) == ("2.05", "Content-Format:text/plain"), came
    # An answer to a non-confirmable question is one too.
    assert came.kind == ("NON" if "-N" in words else "ACK"), came
    return came.body


def words(answer: bytes) -> tuple[str, dict[str, Any]]:
    """The word and the JSON behind its blank; the JSON has no blanks of its own."""
    word, blank, rest = answer.decode().partition(" ")
    assert blank == " "
    assert rest == json.dumps(json.loads(rest), separators=(",", ":"))
    return word, json.loads(rest)


async def set_up(ems: EmsBeside, *options: str) -> None:
    for path, body, answer in SET_UP:
        word, found = words(await put(ems, path, body, *options))
        assert word == "DR"
        assert {key: found[key] for key in answer} == answer, path


@pytest.mark.parametrize("options", [(), ("-N",)], ids=["confirmable", "non-confirmable"])
async def test_every_exchange(ems: EmsBeside, options: tuple[str, ...]) -> None:
    await set_up(ems, *options)
    ema = ems.book.emas["gw/1"]
    assert (ema.ven_id, ema.protocol, ema.connected) == (VEN, "coap", True)

    word, found = words(await put(ems, "Poll", {**POLL, "RequestID": 7}, *options))
    assert (word, found) == ("DR_P", {"Service": "Response", "VENID": VEN, "Response": 200, "RequestID": 7})

    assert await put(ems, "powermargin", "x/1/600/800", *options) == b"gw/1#"
    await until(lambda: (ema.power_w, ema.threshold_w, ema.margin_w) == (600, 800, 200))

    head = {"Service": "UpdateReport", "VENID": VEN, "GW": "gw/1", "RequestID": 4711, "Time": 1_790_000_000_000}
    sums = {"Power": 612, "Threshold": 800, "Margin": 188, "Generate": 0, "Storage": 0}
    report = {**head, **sums, "Devices": [{"dev": 4, "state": 1, "dimming": 9, "watt": 60, "priority": 2}]}
    word, found = words(await put(ems, "UpdateReport", report, *options))
    assert (word, found) == (
        "DR",
        {"RequestID": 4711, "VENID": VEN, "Response": 200, "Responsedescription": "MIR"},
    ), "without Service"
    assert (ema.power_w, ema.threshold_w, ema.reports) == (612, 800, 1)
    assert ems.book.devices["gw/1", "dev/4"].watt == 60

    for path, connected in (("DeviceConnect", True), ("DeviceDisconnect", False), ("DeviceConnect", True)):
        word, found = words(await put(ems, path, "gw/1/dev/5/1/9/60/2", *options))
        assert (word, found) == ("DR", {"gw": "gw/1", "dev": "dev/5", **dict.fromkeys(UNKNOWN, "null")})
        assert ems.book.devices["gw/1", "dev/5"].connected is connected
    assert await put(ems, "info", "gw/1/dev/5/0/9/0/2", *options) == b"info"
    await until(lambda: ems.book.devices["gw/1", "dev/5"].on is False)

    event = await ems.event(800)
    word, found = words(await put(ems, "Poll", POLL, *options))
    assert word == "DR_E"
    assert (found["Service"], found["Response"], found["EventID"]) == ("oadrDistributeEvent", 2, event.id)
    assert (found["Value"], found["ModificationNumber"], found["OptType"]) == (800, 0, "optIn")
    assert re.fullmatch(r"\d{8}", found["StartYMD"])
    assert found["StartTime"] % 100 == 11, "a number, HHMM11"
    opt = {"Service": "createdEvent", "VENID": VEN, "EventID": event.id, "OptType": "optIn"}
    word, answer = words(await put(ems, "createdEvent", {**opt, "RequestID": found["RequestID"]}, *options))
    assert (word, answer["Service"], answer["Response"]) == ("DR", "Response", 200)
    await ems.answered(event)
    assert words(await put(ems, "Poll", POLL, *options))[0] == "DR_P"
    word, answer = words(await put(ems, "createdEvent", {**opt, "EventID": 5, "RequestID": 5}, *options))
    assert answer["Response"] == 400, "no such event"


UNKNOWN = ("onoff", "dimming", "watt", "priority")


async def test_power_asked_back(ems: EmsBeside) -> None:
    await set_up(ems)
    body = {"SrcEMA": "gw/1", "devnumber": "dev/4", "value": 60}
    for policy, answer in (("grant", (200, "OK")), ("deny", (400, "Deny"))):
        await ems.ems.service.rdr.set_policy(policy)
        found = json.loads(await put(ems, "oadrRDR", body))
        assert found.keys() == {"SrcEMA", "devnumber", "responseDescription", "responseCode"}
        assert (found["SrcEMA"], found["devnumber"], found["responseCode"]) == ("gw/1", "dev/4", answer[0])
        assert found["responseDescription"].partition(":")[0] == answer[1]
    kept = [(4, 60, "granted"), (4, 60, "denied")]
    await until(lambda: ems.rows("SELECT number, watts, state FROM rdr ORDER BY rowid") == kept)


KEYS = ("Power", "Mode", "priority")
ESS_KEYS = ("Power", "Mode", "State", "ChangedEnergy", "Capacity", "Soc", "Volt", "Hz", "priority")


@pytest.mark.parametrize("module", ["ESS", "PV", "RECLOSER", "RESOURCE"])
async def test_modules(ems: EmsBeside, module: str) -> None:
    await set_up(ems)
    keys = dict.fromkeys(ESS_KEYS if module == "ESS" else KEYS, 5)
    body = {"GW": "gw/1", f"{module}ID": "m1", **keys}
    for path in (f"{module}init", module):
        assert await put(ems, path, body) == f"{module}ACK".encode(), "by a word"
    await until(lambda: [key for gw, key in ems.book.devices if gw == "gw/1" and "m1" in key])


async def test_observed(ems: EmsBeside) -> None:
    """Mode OBSERVE: the first answer, then each event and each change of it as a notification."""
    await set_up(ems)
    observer = await Observer(port_of(ems), "obs/EMA1").start()
    async with closing(observer):
        await until(lambda: observer.seen, 20, "the first answer")
        assert observer.seen == [b"Initial_Success"]
        event = await ems.event(800)
        await until(lambda: len(observer.seen) > 1, 20, "a notification")
        found = json.loads(observer.seen[1])
        assert (found["Service"], found["Response"], found["EventID"]) == ("DistributeEvent", 100, event.id)
        assert re.fullmatch(r"\d{4}", found["StartTime"]), "text, HHMM"
        opt = {"Service": "createdEvent", "VENID": VEN, "RequestID": found["RequestID"]}
        await put(ems, "createdEvent", {**opt, "EventID": event.id, "OptType": "optIn"})
        await ems.answered(event)
        await ems.ems.cancel_event(event.id)
        await until(lambda: len(observer.seen) > 2, 20, "the cancel")
        last = json.loads(observer.seen[-1])
        assert (last["EventID"], last["ModificationNumber"]) == (event.id, 1)
        assert (last["StartYMD"], last["StartTime"]) == (last["EndYMD"], last["EndTime"])


async def test_what_there_is(ems: EmsBeside) -> None:
    came = await exchange(port_of(ems), ".well-known/core")
    assert came.code == "2.05"
    links = came.body.decode().split(",")
    assert {f"</{path}>" for path in PATHS} <= set(links)
    assert "</obs>;obs" in links


WRONG: list[tuple[str, str, str, bytes]] = [
    ("Poll", "{nonsense", "4.00", b"Poll"),
    ("Poll", json.dumps({**POLL, "VENID": "somebody"}), "4.00", b"does not end in _MIR1 to _MIR"),
    ("Poll", json.dumps({**POLL, "GW": "gw/2"}), "4.00", b"gw/1, which the VENID names"),
    ("powermargin", "1/2", "4.00", b"is not x/<gw>/<power>/<threshold>"),
    ("nothing", "{}", "4.04", b""),
    ("poll", json.dumps(POLL), "4.04", b""),
]


@pytest.mark.parametrize(("path", "body", "code", "said"), WRONG)
async def test_what_is_refused(ems: EmsBeside, path: str, body: str, code: str, said: bytes) -> None:
    came = await exchange(port_of(ems), path, body)
    assert came.code == code
    assert said in came.body
    assert "gw/1" not in ems.book.emas
