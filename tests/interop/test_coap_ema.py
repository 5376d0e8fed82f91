"""Our EMA as the lab's EMS sees it: the slides' bytes on the socket, and libcoap's client writes to it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.lab_ems import LabEms
from tests.interop.libcoap import exchange
from tests.interop.test_coap_client import Device
from tests.support.process import Ema, closing, lamps, udp_port

# The frames of the slides. Each is confirmable, has no token, and a content format of one byte (text/plain is 0).
SET_UP = [
    ("QueryRegistration", b'{ "Service": "QueryRegistration", "VENID": "VEN_MIR1", "RequestID": 1, "GW": "gw/1" }'),
    (
        "CreatePartyRegistration",
        b'{ "Service": "CreatePartyRegistrationRequest", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2, '
        b'"oadrVenName": "VEN_MIR1" }',
    ),
    ("RegisterReport", b'{ "Service": "RegisterReport", "VENID": "VEN_MIR1", "RequestID": 1 }'),
    ("Poll", b'{ "Service": "Poll", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2, "GW": "gw/1" }'),
    ("RegisteredReport", b'{ "Service": "RegisteredReport", "VENID": "VEN_MIR1", "RequestID": 1, "Version": 2 }'),
    ("RequestEvent", b'{ "Service": "RequestEvent", "VENID": "VEN_MIR1", "RequestID": 1 }'),
]


class Site:
    """An EMA between the lab's EMS and one lamp of the lab."""

    def __init__(self, directory: Path) -> None:
        self.ems, self.device, self.port = LabEms(), Device(), udp_port()
        self.above = {"name": "ems", "protocol": "coap", "host": "127.0.0.1", "port": self.ems.port, "timezone": "UTC"}
        device = lamps(4, link="coap", address="127.0.0.1", port=self.device.port, rated_w=60)
        self.tables = {
            "control": {"restore_delay_s": 0},
            "reports": {"period_s": 0.5, "explicit": False},
            "site_coap": {"port": self.port},
            "upstream": [self.above],
            "device": device,
        }
        self.ema = Ema(directory, self.tables)

    async def put(self, path: str, body: bytes | str, *words: str) -> str:
        """The code of the answer."""
        return (await exchange(self.port, path, body, *words)).code


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    async with closing(made.ema, made.ems, made.device):
        await made.ema.start()
        await made.ema.registered()
        yield made


def frame(raw: bytes, path: str, body: bytes) -> bytes:
    """The datagram as the slides' client made it, with the message id of ``raw``."""
    name = path.encode()
    size = bytes([0xB0 | len(name)]) if len(name) < 13 else bytes([0xBD, len(name) - 13])
    return b"\x40\x03" + raw[2:4] + size + name + b"\x10\xff" + body


def event(**more: Any) -> dict[str, Any]:
    """As the lab's EMS pushes it: from now on, 40 W."""
    day, minute = time.strftime("%Y%m%d %H%M", time.gmtime()).split()
    later = time.strftime("%Y%m%d %H%M", time.gmtime(time.time() + 900)).split()
    keys: dict[str, Any] = {"Service": "DistributeEvent", "StartYMD": day, "StartTime": minute}
    keys |= {"EndYMD": later[0], "EndTime": later[1], "Value": 40, "Response": 200, "RequestID": 9, "EventID": 17}
    keys |= {"ModificationNumber": 0, "TargetVEN": "MIR_VEN1", "Responsedescription": "OK", "OptType": "optIn"}
    return keys | more


async def test_the_frames_of_the_slides(site: Site) -> None:
    await site.ema.until(lambda: len(site.ems.on("Poll")) > 2, "polls")
    said = site.ems.heard
    assert [(request.path, request.body) for request in said[:6]] == SET_UP
    assert [request.raw for request in said[:6]] == [frame(r.raw, *sent) for r, sent in zip(said, SET_UP, strict=False)]
    for poll in site.ems.on("Poll"):
        assert (len(poll.body), len(poll.raw)) == (86, 97)
        assert poll.raw == b"\x40\x03" + poll.raw[2:4] + b"\xb4Poll\x10\xff" + SET_UP[3][1]
    numbers = [request.raw[2:4] for request in said]
    assert len(set(numbers)) == len(numbers)


async def test_what_the_ems_writes(site: Site) -> None:
    core = await exchange(site.port, ".well-known/core")
    names = core.body.decode().split(",")
    assert {"</oadrDistributeEvent>", "</threshold>", "</connected>", "</status>"} <= set(names)

    # The lab's lamp is told by the lab's bytes, on its own ``light``.
    await site.ema.shows(lambda s: s["devices"][0]["present"], "it is there")
    heard = len(site.device.on("light"))
    assert await site.put("gw/1/dev/4/control", b"\x11\x10") == "2.04"
    await site.ema.until(lambda: site.device.on("light")[heard:], "off")
    assert site.device.on("light")[heard:] == [b"\x11\x10"]
    assert await site.put("gw/1/dev/4/control", b"\x11\x1f", "-N") == "2.04"
    await site.ema.until(lambda: b"\x11\x1f" in site.device.on("light")[heard:], "on")
    assert await site.put("gw/1/dev/4/dimming", b"\x31\x1a\x00") == "2.04"
    await site.ema.until(lambda: any(b[:2] == b"\x31\x1a" for b in site.device.on("light")), "dimmed")

    assert await site.put("threshold", "700") == "2.04"
    await site.ema.shows(lambda s: s["limit"]["import_w"] == 700, "the threshold")

    assert await site.put("oadrDistributeEvent", json.dumps(event())) == "2.04"
    await site.ema.until(lambda: site.ems.on("createdEvent"), "the opt")
    assert site.ems.on("createdEvent")[0].body == (
        b'{ "Service": "createdEvent", "VENID": "VEN_MIR1", "RequestID": 9, "EventID": 17, "OptType": "optIn" }'
    )
    await site.ema.shows(lambda s: s["limit"]["import_w"] == 40, "the event")

    # A lamp of the lab comes by text; from then on it is looked for at the lab's port.
    assert await site.put("connected", "127.0.0.1/3/") == "2.04"
    assert await site.put("status", "127.0.0.1/3/") == "2.04"
    await site.ema.shows(lambda s: s["devices"][0]["priority"] == 3, "its priority")


async def test_a_pulled_event(tmp_path: Path) -> None:
    """Its times are numbers, HHMM11."""
    site = Site(tmp_path)
    async with closing(site.ema, site.ems, site.device):
        await site.ema.start()
        await site.ema.registered()
        made = event(Service="oadrDistributeEvent", Response=2)
        site.ems.event = {**made, **{key: int(made[key]) * 100 + 11 for key in ("StartTime", "EndTime")}}
        await site.ema.shows(lambda s: s["limit"]["import_w"] == 40, "the event")
        await site.ema.until(lambda: site.ems.on("createdEvent"), "the opt")
        assert site.ems.on("createdEvent")[0].keys["EventID"] == 17


WRONG = [
    ("oadrDistributeEvent", "{nonsense", "4.00"),
    ("threshold", "much", "4.00"),
    ("gw/1/dev/4/control", b"\x00", "4.00"),
    ("gw/2/dev/4/control", b"\x11\x10", "4.04"),
    ("gw/1/dev/4/colour", b"\x11\x10", "4.00"),
    ("nothing", "x", "4.04"),
]


async def test_what_is_refused(site: Site) -> None:
    for path, body, code in WRONG:
        assert await site.put(path, body) == code, path
    status = await site.ema.status()
    assert status["upstreams"][0]["refused"] == 4
    assert status["upstreams"][0]["state"] == "up"


@pytest.mark.parametrize(("mode", "observes"), [(0, False), (2, True), (2, False), (3, False)])
async def test_modes_that_do_not_poll(tmp_path: Path, mode: int, observes: bool) -> None:
    """The set-up's poll only; and in mode 3 there is no resource for events. An EMS that says nothing when it is
    observed gets its reports all the same."""
    site = Site(tmp_path)
    site.ems.observable = observes
    site.ema.write({**site.tables, "upstream": [{**site.above, "mode": mode}]})
    async with closing(site.ema, site.ems, site.device):
        await site.ema.start()
        await site.ema.registered()
        await site.ema.until(lambda: len(site.ems.on("UpdateReport")) > 2, "reports go on by themselves")
        assert len(site.ems.on("Poll")) == 1
        assert [raw[1] for raw in site.ems.observers][:1] == ([1] if mode == 2 else [])
        assert all(b"obs\x04EMA1" in raw for raw in site.ems.observers)

        code = await site.put("oadrDistributeEvent", json.dumps(event()))
        assert code == ("4.04" if mode == 3 else "2.04")
