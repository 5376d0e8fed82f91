"""Ten thousand random byte strings at the EMS's topics and at its HTTP port, as a real process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest_asyncio

from tests.faults.test_noise import SEED, STRINGS, WARM_UP, strings
from tests.headend.support import ScriptedEma
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.tap import Tap
from tests.support.wait import until

# SQLAlchemy's and the web framework's caches are larger than the daemon's.
FLAT_KIB = 8_192
CONNECTIONS = 25

UP = [
    *("EMS/UpdateReport", "EMS/PowerMargin", "EMS/connected", "EMS/disconnected", "EMS/DeviceConnect", "EMS/info"),
    *("EMS/DeviceDisconnect", "EMS/RDRrequest", "EMS/oadrPoll/Poll", "EMS/oadrPoll/CreatedEvent", "EMS/none"),
    *("EMS/oadrinit/QueryRegistration", "EMS/oadrinit/CreatePartyRegistration", "EMS/PowerMargin/gw/1", "EMS/ESS"),
]
VALID = [
    b'{"GW":"gw/1","VENID":"MIR_VEN1","RequestID":7,"Time":"20260101000000","Power":800,"Threshold":900,"Margin":100}',
    b'{"SrcEMA":"gw/1","devnumber":4,"value":60}',
    b"gw/1/dev/4/led/on/9/60/1",
    b'{"VENID":"MIR_VEN1","Service":"oadrPoll","Response":200}',
    b"gw/1/x",
]
# What a script with the token may ask, with a body that is right but names nobody who is there.
ASKED: list[tuple[str, str, bytes]] = [
    ("POST", "/events", b'{"value_w":800,"start":"now","for_s":600,"targets":["gw/7"]}'),
    ("POST", "/events/preview", b'{"value_w":800,"start":1.5,"end":2.5,"targets":"all"}'),
    ("PATCH", "/events/1", b'{"value_w":700,"end":"14:30"}'),
    ("POST", "/emas/gw/7/devices/4/command", b'{"action":"off"}'),
    ("PATCH", "/emas/gw/7", b'{"mode":"push"}'),
    ("POST", "/rdr/1", b'{"granted":true}'),
    ("PUT", "/rdr/policy", b'{"policy":"limit"}'),
    ("PUT", "/limits", b'{"scope":"gw/7","watts":5000}'),
    ("POST", "/login", b'{"name":"admin","password":"wrong"}'),
    ("GET", "/power?ema=gw/7&start=1&end=2&points=10", b""),
    ("GET", "/reports?limit=10&before=5", b""),
]
LOGIN = b'{"name":"nobody-%d","password":"wrong"}'
REQUEST = (
    b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    b'{"value_w":1}'
)


class EmsProcess:
    def __init__(self, directory: Path, broker: int) -> None:
        directory.mkdir()
        self.http = free_port()
        self._state = directory / "state"
        self._log = directory / "log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gateway", "ems", "--broker", f"127.0.0.1:{broker}", "--no-tty"),
                    *("--http", f"127.0.0.1:{self.http}", "--state-dir", str(self._state), "--zone", "UTC"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def token(self) -> str:
        return (self._state / "token").read_text().strip()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def rss_kib(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1])

    async def get(self, path: str) -> bytes:
        """The first line of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        try:
            return (await asyncio.wait_for(reader.read(), 20)).split(b"\r\n", 1)[0]
        finally:
            writer.close()

    async def serves(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(OSError):
                if b" 200 " in await self.get("/api/v1/openapi.json"):
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(self.log())


@pytest_asyncio.fixture
async def ems(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[EmsProcess]:
    made = EmsProcess(tmp_path / "ems", mosquitto.port)
    try:
        await made.serves()
        yield made
    finally:
        if made.process.poll() is None:
            os.kill(made.process.pid, signal.SIGTERM)
        made.process.wait(20)


async def works(mosquitto: Mosquitto, number: int) -> None:
    """An EMA that comes gets its session, and its report is acknowledged."""
    ema = ScriptedEma(mosquitto.port, number)
    running = asyncio.create_task(ema.run())
    try:
        await ema.session()
        ema.report(1 << 22 | 5, 100)
        await until(lambda: ema.acknowledged, 20, "its report is acknowledged")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_noise_on_its_topics(mosquitto: Mosquitto, ems: EmsProcess) -> None:
    stranger = Tap(mosquitto.port, ())
    await stranger.start()
    rng = random.Random(SEED)

    async def say(count: int) -> None:
        for number, body in enumerate(strings(rng, VALID, count), 1):
            await stranger.link.publish(rng.choice(UP), body)
            if number % 500 == 0:
                await works(mosquitto, 90)

    try:
        await say(WARM_UP)
        before = ems.rss_kib()
        await say(STRINGS)
        grown = ems.rss_kib() - before
    finally:
        await stranger.stop()
    assert grown < FLAT_KIB, f"grew by {grown} KiB"
    await works(mosquitto, 91)
    await ems.serves()
    assert "Traceback" not in ems.log()
    assert "refused" in ems.log()
    assert len(ems.log()) < 300_000


async def test_noise_on_http(mosquitto: Mosquitto, ems: EmsProcess) -> None:
    rng = random.Random(SEED)

    async def one(body: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ems.http)
        try:
            writer.write(body)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def say(count: int) -> None:
        bodies = list(strings(rng, [REQUEST], count))
        for start in range(0, count, CONNECTIONS):
            await asyncio.gather(*(one(body) for body in bodies[start : start + CONNECTIONS]))

    await say(WARM_UP)
    sizes = [ems.rss_kib()]
    for _ in range(2):
        await say(STRINGS // 2)
        sizes.append(ems.rss_kib())
    # What leaks grows in both halves; a thread that only now began to reckon is there once.
    grown = 2 * min(later - sooner for sooner, later in itertools.pairwise(sizes))
    assert grown < FLAT_KIB, f"grew by {grown} KiB"
    await ems.serves()
    assert b" 401 " in await ems.get("/api/v1/emas")
    await works(mosquitto, 91)
    assert "Traceback" not in ems.log()


async def test_noise_behind_the_log_in(mosquitto: Mosquitto, ems: EmsProcess) -> None:
    """With the token of a script: bodies that are not what they should be, and paths and queries with bytes changed."""
    rng = random.Random(SEED)
    token = ems.token().encode()
    answers: Counter[int] = Counter()

    async def some(asked: list[tuple[str, str, bytes]]) -> None:
        """One after another on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", ems.http)
        for method, path, body in asked:
            head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            writer.write(head.encode("ascii") + b"Authorization: Bearer %b\r\n" % token)
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            told = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).lower()
            answers[int(told.split(b" ", 2)[1])] += 1
            length = int(told.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        writer.close()

    def one() -> tuple[str, str, bytes]:
        method, path, valid = rng.choice(ASKED)
        changed = next(strings(rng, [valid or path.encode()], 1)) if rng.random() < 0.5 else rng.randbytes(60)
        if valid:
            return method, path, changed
        return method, path.split("?")[0] + "?" + quote(changed, safe="=&?/"), b""

    async def say(count: int) -> None:
        for _ in range(0, count, CONNECTIONS * 20):
            await asyncio.gather(*(some([one() for _ in range(20)]) for _ in range(CONNECTIONS)))

    # Each thread that reckons a password's hash keeps 16 MB: all of them have to be there before.
    await asyncio.gather(*(some([("POST", "/login", LOGIN % n)]) for n in range(8)))
    await say(WARM_UP)
    sizes = [ems.rss_kib()]
    for _ in range(2):
        await say(STRINGS // 2)
        sizes.append(ems.rss_kib())
    # What leaks grows in both halves; a thread that only now began to reckon is there once.
    grown = 2 * min(later - sooner for sooner, later in itertools.pairwise(sizes))
    assert grown < FLAT_KIB, f"grew by {grown} KiB"
    assert answers.total() == 8 + WARM_UP + STRINGS
    assert not {status for status in answers if status >= 500}, answers
    assert answers[400] + answers[422] > STRINGS / 2, answers
    await works(mosquitto, 91)
    assert "Traceback" not in ems.log()
    assert len(ems.log()) < 300_000
