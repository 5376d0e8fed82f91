"""Whatever arrives, on every topic and at the API: still running, memory bounded, a good EMA still served."""

from __future__ import annotations

import asyncio
import random
import string

import httpx
import pytest

from gateway.clock import SystemClock
from gateway.links.mir2017.messages import DeviceDown, Down, Module, Phase, Up
from gateway.transport.mqtt import MqttLink, MqttSettings
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from tests.headend.support import ScriptedEma
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

MESSAGES = 3000
TOPICS = [
    *(str(topic) for topic in Up),
    "EMS/PowerMargin/gw/1",
    "EMS/PowerMargin/gw/99999999999999",
    *(f"EMS/{module}{phase}" for module in Module for phase in Phase),
    *(f"EMS/{what}" for what in Down),
    f"EMS/{DeviceDown.CONTROL}",
    "EMS/nothing/of/ours",
    "EMS",
]
SEEDS = [
    b'{"GW":"gw/1","VENID":"x","RequestID":1,"Power":1e308,"Devices":[{"dev":1}]}',
    b'{"GW":"gw/1","VENID":"x","RequestID":' + b"9" * 400 + b"}",
    b'{"GW":"gw/1","VENID":"x","RequestID":3,"Time":9007199254740991,"Power":5}',
    b'{"GW":"gw/2","ESSID":"a","Power":1e400}',
    b'{"GW":"gw/2","ESSID":1e308,"Power":' + b"1" * 300 + b"}",
    b'{"GW":"gw/2","PVID":"' + b"a" * 5000 + b'","Power":1}',
    b'{"GW":"gw/2","device_id":"\\ud800","active_energy":NaN,"DCU_Number":1}',
    b'{"GW":"gw/2","device_id":"m","active_energy":' + b"7" * 300 + b',"DCU_Number":1}',
    b'{"GW":"gw/1","VENID":"\\u0000\\ud83d","EventID":1,"RequestID":4096,"OptType":"optIn"}',
    b'{"SrcEMA":"gw/1","devnumber":"dev/4","value":1000000000}',
    b"gw/1/dev/4/1/9/60/1",
    b"gw/1/dev/4/1/9/99999999999999999999/1",
    b"gw/1/x",
    b"[" * 100_000,
    b"{" * 1000,
    b"",
    b"\x00" * 1000,
]


def _bodies(rng: random.Random) -> list[tuple[str, bytes]]:
    made = []
    for number in range(MESSAGES):
        topic = TOPICS[number % len(TOPICS)]
        kind = rng.randrange(3)
        if kind == 0:
            body = rng.randbytes(rng.randrange(200))
        elif kind == 1:
            body = rng.choice(SEEDS)
        else:
            changed = bytearray(rng.choice(SEEDS)[:400])
            for _ in range(3):
                if changed:
                    changed[rng.randrange(len(changed))] = ord(rng.choice(string.printable))
            body = bytes(changed)
        made.append((topic, body))
    return made


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_bytes_on_every_topic(mosquitto: Mosquitto, tmp_path: object, seed: int) -> None:
    settings = EmsSettings(broker=f"127.0.0.1:{mosquitto.port}", state_dir=f"{tmp_path}/ems", http="127.0.0.1:0")
    ems = Ems(settings, SystemClock(), random.Random(1))
    running = asyncio.ensure_future(ems.run())
    stranger = MqttLink(
        MqttSettings("127.0.0.1", mosquitto.port), SystemClock(), random.Random(2), lambda topic, body: None
    )
    good = ScriptedEma(mosquitto.port, 7)
    others = [asyncio.ensure_future(stranger.run())]
    try:
        await until(lambda: ems.connected and stranger.up)
        others.append(asyncio.ensure_future(good.run()))
        await good.session()
        for topic, body in _bodies(random.Random(seed)):
            await stranger.publish(topic, body)
        good.report(1, 500)
        await until(lambda: good.acknowledged == [1], 30, "the good EMA's report")
        assert not running.done()
        assert ems.service.refused > MESSAGES / 4
        # What got in can be shown, and is on disk as it should be.
        token = (settings.state / "token").read_text().strip()
        async with httpx.AsyncClient(base_url=f"{ems.url}/api/v1", headers={"Authorization": f"Bearer {token}"}) as api:
            for path in ("/overview", "/emas", "/devices", "/events", "/rdr", "/reports", "/power"):
                assert (await api.get(path)).status_code == 200, path
            assert [ema["power_w"] for ema in (await api.get("/emas")).json() if ema["name"] == "gw/7"] == [500]
        now = SystemClock().now().wall
        event = await ems.create_event(100, now, now + 600, ["gw/7"])
        await until(lambda: event.deliveries["gw/7"].opt == "in")
    finally:
        for task in (running, *others):
            task.cancel()
        await asyncio.gather(running, *others, return_exceptions=True)


async def test_random_bytes_at_the_port_of_the_api(mosquitto: Mosquitto, tmp_path: object) -> None:
    settings = EmsSettings(broker=f"127.0.0.1:{mosquitto.port}", state_dir=f"{tmp_path}/ems", http="127.0.0.1:0")
    ems = Ems(settings, SystemClock(), random.Random(1))
    running = asyncio.ensure_future(ems.run())
    rng = random.Random(3)
    try:
        await until(lambda: ems.url and running)
        port = int(ems.url.rsplit(":", 1)[1])
        for number in range(200):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = b"GET /api/v1/" if number % 2 else b""
            writer.write(head + rng.randbytes(rng.randrange(1, 2000)) + b"\r\n\r\n")
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
        async with httpx.AsyncClient(base_url=f"{ems.url}/api/v1") as api:
            assert (await api.get("/openapi.json")).status_code == 200
            assert (await api.get("/emas")).status_code == 401
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
