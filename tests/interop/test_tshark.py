"""Whole sessions as tshark's CoAP and MQTT dissectors see them: no frame is malformed, none is of another kind, and by
tshark's own fields it is what docs/wire.md says."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Ema, EmsBeside, closing, tool, udp_port
from tests.support.wait import until

SET_UP = ("QueryRegistration", "CreatePartyRegistration", "RegisterReport", "RegisteredReport", "RequestEvent")
PUT, CONTENT, CONTINUE, LATER = "3", "69", "95", "0"
# discard; nobody has to listen.
MARK_PORT, MARK = 9, b"the last frame of this session"
DEVICES = 30  # so many do not fit into one datagram's report


@asynccontextmanager
async def captured(file: Path, what: str) -> AsyncIterator[None]:
    """All that goes over loopback meanwhile and fits ``what``, a capture filter; and a mark behind the last of it."""
    capture = await asyncio.create_subprocess_exec(
        *(tool("dumpcap"), "-q", "-i", "lo", "-f", f"({what}) or udp port {MARK_PORT}", "-w", str(file), "-B", "8"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert capture.stderr is not None
    said = b""
    while b"File: " not in said:
        line = await capture.stderr.readline()
        if not line:
            pytest.skip(f"this user may not capture on loopback: {said.decode(errors='replace').strip()}")
        said += line
    try:
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.sendto(MARK, ("127.0.0.1", MARK_PORT))
        await until(lambda: MARK in file.read_bytes(), 20, "all is in the file")
    finally:
        capture.terminate()
        _, last = await capture.communicate()
    assert b"received/dropped on interface 'Loopback: lo': " in last
    assert b"/0 (pcap:0" in last, f"frames were lost: {last.decode()}"


def dissected(file: Path, decode: Sequence[str], fields: Sequence[str]) -> list[dict[str, str]]:
    """A row a frame. None is malformed."""
    words = [
        tool("tshark"),
        "-n",
        "-r",
        str(file),
        "-Y",
        f"!(udp.port == {MARK_PORT})",
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
    ]
    for rule in decode:
        words += ["-d", rule]
    for field in ("_ws.malformed", "frame.protocols", *fields):
        words += ["-e", field]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    rows = [dict(zip(("malformed", "protocols", *fields), line.split("|"), strict=True)) for line in lines(done.stdout)]
    assert rows
    assert [row for row in rows if row["malformed"]] == []
    return rows


def lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def tables(directory: Path, upstream: dict[str, object], ports: dict[str, int]) -> Ema:
    return Ema(
        directory,
        {
            "control": {"restore_delay_s": 0},
            "reports": {"period_s": 0.5},
            "site_broker": {"port": ports["mqtt"], "open": True},
            "site_coap": {"port": ports["coap"], "open": True},
            "upstream": [{"name": "ems", "host": "127.0.0.1", "timezone": "UTC", **upstream}],
        },
    )


async def session(ema: Ema, ems: EmsBeside, link: str) -> int:
    """Comes, reports, takes an event and its cancel, goes. How many reports the EMS has."""
    await ema.start()
    await ema.registered()
    await ema.ask("virtual", link=link, count=DEVICES)
    await until(lambda: len([d for d in ems.book.devices.values() if d.connected]) == DEVICES, 30, "all are known")
    event = await ems.event(100)
    await ems.answered(event)
    await ema.shows(lambda s: s["power_w"] <= 100, "shed")
    await ems.ems.cancel_event(event.id)
    await ems.answered(event)
    reports = ems.ems.counts()["gw/1"].stored
    await until(lambda: ems.ems.counts()["gw/1"].stored > reports + 2, 30, "reports go on")
    await ema.terminate()
    await until(lambda: not ems.book.emas["gw/1"].connected, 20, "it said good-bye")
    return ems.ems.counts()["gw/1"].stored


async def test_coap(tmp_path: Path) -> None:
    port, ours, file = udp_port(), udp_port(), tmp_path / "coap.pcapng"
    ems = EmsBeside(tmp_path / "ems", 1, broker="none", coap=f"127.0.0.1:{port}", duration_ms=200)
    ema = tables(tmp_path / "ema", {"protocol": "coap", "port": port, "mode": 1}, {"mqtt": free_port(), "coap": ours})
    async with closing(ema, ems):
        await ems.start()
        async with captured(file, f"udp port {port} or udp port {ours}"):
            stored = await session(ema, ems, "coap")
    path = "coap.opt.uri_path_recon"
    fields = ("udp.srcport", "udp.dstport", "udp.length", "coap.code", "coap.mid", "coap.token_len", path)
    block = "coap.opt.block_number"
    rows = dissected(file, [f"udp.port=={port},coap", f"udp.port=={ours},coap"], (*fields, block))
    assert {row["protocols"].split(":")[4] for row in rows} == {"coap"}

    above = [row for row in rows if port in (int(row["udp.srcport"]), int(row["udp.dstport"]))]
    asked = [row for row in above if row["coap.code"] == PUT and int(row["udp.dstport"]) == port]
    questions = {row["coap.mid"]: row for row in asked}  # one that is sent again has its number again
    count = Counter(row[path].lstrip("/") for row in questions.values())
    assert {name: count[name] for name in SET_UP} == dict.fromkeys(SET_UP, 1)
    polls = [row for row in asked if row[path].lstrip("/") == "Poll"]
    assert count["Poll"] > 5
    # One that finds another under way has a token; without, it is the frame of the slides.
    frames = Counter(row["udp.length"] for row in polls if row["coap.token_len"] == "0")
    assert list(frames) == ["105"], "97 bytes of CoAP"
    assert frames["105"] > len(polls) / 2
    assert (count["DeviceConnect"], count["createdEvent"], count["disconnected"]) == (DEVICES, 2, 1)
    # Every question is answered: content, the next block, please, or (slow disk) an acknowledgement and then content.
    answers = {row["coap.mid"]: row["coap.code"] for row in above if int(row["udp.srcport"]) == port}
    assert set(answers) >= set(questions)
    assert {answers[mid] for mid in questions} - {LATER} == {CONTENT, CONTINUE}
    reports = [row for row in questions.values() if row[path].lstrip("/") == "UpdateReport"]
    whole = [row for row in reports if answers[row["coap.mid"]] != CONTINUE]
    assert len(whole) >= stored
    assert {row[block] for row in reports} >= {"0", "1"}, "in blocks"

    below = [row for row in rows if row not in above]
    came = Counter(row[path].lstrip("/") for row in below if row["coap.code"] == PUT)
    assert came["connected"] >= DEVICES
    assert came["status"] >= DEVICES
    assert came["setpoint"] > 0


async def test_mqtt(tmp_path: Path, mosquitto: Mosquitto) -> None:
    site, file = free_port(), tmp_path / "mqtt.pcapng"
    ems = EmsBeside(tmp_path / "ems", mosquitto.port)
    ema = tables(tmp_path / "ema", {"port": mosquitto.port, "mode": 2}, {"mqtt": site, "coap": udp_port()})
    async with closing(ema, ems):
        await ems.start()
        async with captured(file, f"tcp port {mosquitto.port} or tcp port {site}"):
            await session(ema, ems, "mqtt")
    fields = ("tcp.len", "tcp.srcport", "tcp.dstport", "mqtt.msgtype", "mqtt.topic", "mqtt.qos", "mqtt.retain")
    rules = [f"tcp.port=={mosquitto.port},mqtt", f"tcp.port=={site},mqtt"]
    again = "tcp.analysis.retransmission"  # what a slow machine's TCP sends twice is dissected once
    rows = [row for row in dissected(file, rules, (*fields, again)) if row["tcp.len"] != "0" and not row[again]]
    assert {row["protocols"].split(":")[4] for row in rows} == {"mqtt"}
    said = [row for row in rows if int(row["tcp.dstport"]) == mosquitto.port]
    topics = Counter(topic for row in said for topic in row["mqtt.topic"].split(",") if topic.startswith("EMS/"))
    assert {name: topics[f"EMS/oadrinit/{name}"] for name in (*SET_UP, "Poll")} == dict.fromkeys((*SET_UP, "Poll"), 1)
    assert topics["EMS/oadrPoll/Poll"] > 5
    assert (topics["EMS/DeviceConnect"], topics["EMS/oadrPoll/CreatedEvent"]) == (DEVICES, 2)
    assert topics["EMS/UpdateReport"] > 3
    assert not any("1" in row["mqtt.retain"].split(",") for row in said), "nothing is retained"
    assert {qos for row in said for qos in row["mqtt.qos"].split(",") if qos} == {"1"}
