"""Ten thousand random byte strings, and valid messages with bytes changed, at every listener of the EMA.

It still runs, answers, controls; it counted them; and its memory is where it was.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.transport.coap import MOST_REMEMBERED
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.tap import Tap
from tests.support.wait import until

STRINGS = 10_000
SEED = 20_170_901
# A first thousand fills caches, arenas and bounded logs; ten thousand more may not add more than this.
WARM_UP = 1_000
FLAT_KIB = 3_072
# Below what a broker queues for one session (2000 on the site broker).
CHUNK = 500

STATUS = b'{"dev":1,"boot":1,"seq":5,"on":true,"dimming":9,"mw":60000,"done":3}'
CONNECTED = b'{"dev":1,"type":"led","priority":1,"boot":1,"addr":null,"port":null,"caps":["switch","level"]}'
RDR = b'{"dev":1,"boot":1,"seq":6,"mw":60000,"for_s":600}'
EVENT = (
    b'{"Service":"DistributeEvent","StartYMD":"20260101","StartTime":"0000","EndYMD":"20260101","EndTime":"0010",'
    b'"Value":800,"Response":200,"RequestID":1,"EventID":17,"ModificationNumber":0,"TargetVEN":"MIR_VEN1",'
    b'"Responsedescription":"OK","OptType":"optIn"}'
)
ACKNOWLEDGED = b'{"RequestID":1,"VENID":"MIR_VEN1","Response":200,"Responsedescription":"OK"}'


def strings(rng: random.Random, valid: list[bytes], count: int) -> Iterator[bytes]:
    """Half of them random, half valid ones with some bytes changed, cut off or doubled."""
    for number in range(count):
        if number % 2:
            yield rng.randbytes(rng.randrange(0, 200))
            continue
        body = bytearray(rng.choice(valid))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(body) or 1)
            change = rng.randrange(4)
            if change == 0 and body:
                body[at % len(body)] = rng.randrange(256)
            elif change == 1:
                del body[at:]
            elif change == 2:
                body[at:at] = rng.choice([b"[" * 40, b"9" * 40, b'"', b"\\u0000", b"-1e999", b"null", b"{"])
            else:
                body += body[:at]
        yield bytes(body)


class Publisher:
    """Somebody on a broker who says what should not be said, as fast as it is taken."""

    def __init__(self, tap: Tap, topics: list[str], valid: list[bytes]) -> None:
        self.tap, self.topics, self.valid = tap, topics, valid
        self.rng = random.Random(SEED)

    async def say(self, count: int, mark: Callable[[], object]) -> None:
        """``mark`` returns when all that was said before it has been dealt with."""
        for number, body in enumerate(strings(self.rng, self.valid, count), 1):
            await self.tap.link.publish(self.rng.choice(self.topics), body)
            if number % CHUNK == 0:
                await mark()  # type: ignore[misc]


async def flat(ema: Ema, say: Callable[[int], object], remembered: int = 0) -> None:
    await say(WARM_UP)  # type: ignore[misc]
    before = ema.rss_kib()
    await say(STRINGS)  # type: ignore[misc]
    grown = ema.rss_kib() - before
    # A message that a listener may remember, to know its double, is worth a KiB; how many is bounded.
    assert grown < FLAT_KIB + remembered, f"grew by {grown} KiB"


async def test_every_listener_of_the_ema(tmp_path: Path, mosquitto: Mosquitto) -> None:
    site_port, coap_port = free_port(), free_port(socket.SOCK_DGRAM)
    ema = Ema(
        tmp_path / "ema",
        {
            "control": {"threshold_w": 1000, "restore_delay_s": 0, "lease_s": 600},
            "site_broker": {"port": site_port, "anonymous": True},
            "site_coap": {"port": coap_port, "open": True},
            "upstream": [{"name": "ems", "host": "127.0.0.1", "port": mosquitto.port, "timezone": "UTC"}],
            "device": [*lamps(1, 2), *lamps(3, link="coap")],
        },
    )
    ems, agents = EmsBeside(tmp_path / "ems", mosquitto.port), Agents()
    stranger, device, above = Tap(site_port, ()), None, Tap(mosquitto.port, ())
    async with closing(agents, above, ema, ems):
        await ems.start()
        await ema.start()
        agents.mqtt(site_port, agents.lamp(2), period_s=0.5)
        agents.coap(coap_port, agents.lamp(3), period_s=0.5)
        await ema.present(2, 3)
        await ema.registered()
        await above.start()
        password = (ema.state_dir / "device-passwords" / "dev-1").read_text().strip()
        device = Tap(site_port, (), username="dev-1", password=password)
        async with closing(stranger, device):
            await stranger.start()
            await device.start()
            await _site(
                ema, stranger, ["connected", "disconnected", "status/1", "rdr/1", "status/x", "dev/1", "hello", "x"]
            )
            await _site(ema, device, ["connected", "disconnected", "status/1", "rdr/1"])
        await _above(ema, above)
        await _coap(ema, coap_port)
        await _socket(ema)

        # It is an EMA still: devices are there, an event is taken and carried out.
        await ema.present(2, 3)
        await ema.registered()
        assert (await ema.status())["restarts"] == {}
        event = await ems.event(60)
        await ems.answered(event)
        await until(lambda: agents.watts <= 60, 30, "the limit holds")
        assert "Traceback" not in ema.log()
        assert len(ema.log()) < 200_000, "said once, not ten thousand times"


def _part(status: dict, name: str) -> dict:
    return next(part for part in status["field"] if part["name"] == name)


async def _site(ema: Ema, tap: Tap, topics: list[str]) -> None:
    publisher = Publisher(tap, topics, [STATUS, CONNECTED, RDR, b"dev/1", b"ack"])
    marks = iter(range(1, 1_000_000))

    async def mark() -> None:
        # In order with the rest on this session: a known malformed message raises the count.
        before = _part(await ema.status(), "mqtt")
        wanted = 50_000 + next(marks)
        state = {"dev": 1, "boot": 2**30, "seq": wanted, "on": True, "mw": wanted * 1000, "dimming": 9}
        hello = {"dev": 1, "type": "led", "priority": 1, "boot": 2**30, "addr": None, "port": None, "caps": ["switch"]}
        await tap.link.publish("connected", json.dumps(hello).encode())
        await tap.link.publish("status/1", json.dumps(state).encode())

        def through(status: dict) -> bool:
            after = _part(status, "mqtt")
            return any(d["number"] == 1 and d["power_w"] == wanted for d in status["devices"]) or (
                after["messages"] + after["malformed"] >= before["messages"] + before["malformed"] + 2
                and after["old"] + after["doubled"] > before["old"] + before["doubled"]
            )

        await ema.shows(through, f"dealt with, mark {wanted}")

    before = _part(await ema.status(), "mqtt")["malformed"]
    await flat(ema, lambda count: publisher.say(count, mark))
    assert _part(await ema.status(), "mqtt")["malformed"] > before + STRINGS / 4


async def _above(ema: Ema, tap: Tap) -> None:
    topics = [
        f"gw/1/{name}"
        for name in (
            *("oadr/DistributeEvent", "drevent/oadrDistributeEvent", "oadrUpdatedReport", "RDRresponse", "connectACK"),
            *("dev/2/control", "dev/2/dimming", "dev/2/DeviceConnectACK", "dev/x/control", "oadrPoll/Response"),
            *("oadrinit/CreatedPartyRegistration", "drevent/Response", "none/such", "ESSACK"),
        )
    ] + ["gw/pushall/DistributeEvent"]
    publisher = Publisher(tap, topics, [EVENT, ACKNOWLEDGED, b"\x11\x10", b"\x31\x1a\x01", b"gw/1#"])

    async def mark() -> None:
        before = (await ema.status())["upstreams"][0]["refused"]
        await asyncio.gather(*(tap.link.publish("gw/1/none/mark", b"mark") for _ in range(2)))
        await ema.shows(lambda s: s["upstreams"][0]["refused"] > before, "dealt with")

    before = (await ema.status())["upstreams"][0]["refused"]
    await flat(ema, lambda count: publisher.say(count, mark))
    assert (await ema.status())["upstreams"][0]["refused"] > before + STRINGS / 4


async def _coap(ema: Ema, port: int) -> None:
    def put(path: bytes, body: bytes) -> bytes:
        return b"\x42\x03idto" + bytes([0xB0 | len(path)]) + path + b"\x11\x32\xff" + body

    valid = [put(b"status", STATUS), put(b"connected", CONNECTED), put(b"rdr", RDR), b"\x40\x00\x00\x01"]
    rng = random.Random(SEED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.connect(("127.0.0.1", port))
        wire.setblocking(False)
        loop = asyncio.get_running_loop()

        async def mark(number: int) -> None:
            """A ping, answered by a reset: loopback keeps the order, so all before it has been taken."""
            ping = number.to_bytes(2, "big")
            wire.send(b"\x40\x00" + ping)
            while await asyncio.wait_for(loop.sock_recv(wire, 2048), 20) != b"\x70\x00" + ping:
                pass

        async def say(count: int) -> None:
            for number, body in enumerate(strings(rng, valid, count), 1):
                # Another message and token each, or most would be taken for the one before.
                own = number.to_bytes(2, "big")
                wire.send(body[:2] + own + own + body[6:] if len(body) > 6 else body)
                if number % 50 == 0:
                    await mark(50_000 + number // 50)

        before = _part(await ema.status(), "coap")
        await flat(ema, say, MOST_REMEMBERED)
        after = _part(await ema.status(), "coap")
    assert after["malformed"] > before["malformed"] + STRINGS / 20
    assert after["broken"] > before["broken"]


async def _socket(ema: Ema) -> None:
    rng = random.Random(SEED)
    valid = [b'{"do":"status"}', b'{"do":"device","number":2,"on":true}', b'{"do":"why","last":3}']

    async def say(count: int) -> None:
        bodies = strings(rng, valid, count)
        for _ in range(count // 100):
            reader, writer = await asyncio.open_unix_connection(str(ema.socket), limit=16_000_000)
            for _ in range(100):
                # One line each, for a line is what is answered.
                body = next(bodies).replace(b"\n", b" ")
                writer.write(body + b"\n")
                answer = json.loads(await asyncio.wait_for(reader.readline(), 20))
                assert set(answer) in ({"ok", "result"}, {"ok", "error"})
            writer.close()

    await flat(ema, say)
    # Longer than any request, and never ended.
    reader, writer = await asyncio.open_unix_connection(str(ema.socket))
    writer.write(b"x" * 200_000)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
