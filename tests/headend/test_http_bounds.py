"""Real sockets that say little and stay (slowloris), at the API's port: others are served, and it ends in time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.links.mir2017.messages import zone_named
from headend.ems.accounts import Accounts
from headend.ems.api.guard import LARGEST_BODY, Context
from headend.ems.api.live import LiveHub
from headend.ems.http import LARGEST_HEAD, HttpPart
from headend.ems.http_guard import Bounds
from tests.headend.support import LOG, Bench
from tests.support.certificates import Authority
from tests.support.wait import until

GET = b"GET /api/v1/me HTTP/1.1\r\nHost: ems\r\n"
POST = b"POST /api/v1/login HTTP/1.1\r\nHost: ems\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n"
# Long enough for a busy machine to be asked a thing, short enough for a test.
SOON = Bounds(connections=20, head_s=1.0, body_s=1.0, read_s=1.0)
LATE = Bounds(connections=20, head_s=600.0, body_s=600.0, read_s=600.0)

Socket = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Port:
    """The API on a port, and clients of it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self.number = int(url.rsplit(":", 1)[1])
        self.tls = tls
        self.open: list[asyncio.StreamWriter] = []

    async def connect(self, said: bytes = b"", tls: bool = True) -> Socket:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number, ssl=self.tls if tls else None)
        self.open.append(writer)
        writer.write(said)
        await writer.drain()
        return reader, writer

    async def asks(self) -> bytes:
        """The first line that an honest client gets."""
        reader, writer = await self.connect(GET + b"\r\n")
        line = await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        return line.strip()


@asynccontextmanager
async def served(directory: Path, bounds: Bounds, **keys: Any) -> AsyncIterator[Port]:
    directory.mkdir(exist_ok=True)
    bench = await Bench(state_dir=str(directory), http="127.0.0.1:0", **keys).start()
    accounts = Accounts(bench.store, bench.clock, directory, 3600.0, cost=16)
    await accounts.start()
    context = Context(bench.settings, bench.service, bench.store, accounts, LiveHub(), zone_named("UTC"))
    part = HttpPart(bench.settings, context, LOG, bounds)
    part.prepare()
    running = asyncio.ensure_future(part.run())
    tls = ssl.create_default_context(cafile=keys["http_cert"].replace("server", "ca")) if keys else None
    port = Port(part.url, tls)
    try:
        yield port
    finally:
        for writer in port.open:
            writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await bench.stop()


HALF_OPEN = [b"", b"G", GET, GET + b"X-More: 1\r\n", POST, POST + b'{"name"']


@pytest.mark.parametrize("said", HALF_OPEN)
async def test_half_open_connections_stop_nobody(tmp_path: Path, said: bytes) -> None:
    async with served(tmp_path, LATE) as port:
        half = [await port.connect(said) for _ in range(60)]
        for _ in range(5):
            assert await port.asks() == b"HTTP/1.1 401 Unauthorized"
        # Those beyond the bound were ended, the oldest first.
        ended = [asyncio.ensure_future(reader.read()) for reader, _ in half]
        await until(lambda: sum(task.done() for task in ended) >= 40, what="the oldest are ended")
        assert all(task.done() for task in ended[:30])
        assert not any(task.done() for task in ended[-10:])
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("said", HALF_OPEN)
async def test_a_request_that_trickles_in_is_ended_in_time(tmp_path: Path, said: bytes) -> None:
    async with served(tmp_path, SOON) as port:
        await _ended(port, lambda: port.connect(said))


async def test_so_is_one_that_follows_an_honest_request(tmp_path: Path) -> None:
    async def second() -> Socket:
        reader, writer = await port.connect(GET + b"\r\n")
        assert b" 401 " in await reader.readline()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(GET)
        return reader, writer

    async with served(tmp_path, SOON) as port:
        await _ended(port, second)


async def _ended(port: Port, connect: Callable[[], Awaitable[Socket]]) -> None:
    reader, writer = await connect()
    trickling = asyncio.ensure_future(_trickle(writer))
    reading = asyncio.ensure_future(reader.read())
    await asyncio.wait((reading,), timeout=20)
    assert reading.done(), "it is still open"
    trickling.cancel()
    await asyncio.gather(trickling, reading, return_exceptions=True)
    assert await port.asks() == b"HTTP/1.1 401 Unauthorized"


async def test_a_reader_that_does_not_read_is_ended(tmp_path: Path) -> None:
    async with served(tmp_path, SOON) as port:
        reader, writer = await port.connect()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: ems\r\n\r\n"

        async def flood() -> None:
            while True:
                writer.write(ask * 10)
                await writer.drain()
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(), 30)
        assert await port.asks() == b"HTTP/1.1 401 Unauthorized"


async def test_a_head_or_a_body_without_end_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, LATE) as port:
        reader, _ = await port.connect(GET + b"X: " + b"a" * (LARGEST_HEAD + 1))
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 20)
        head = POST.replace(b"Content-Length: 40", b"Transfer-Encoding: chunked")
        reader, writer = await port.connect(head)
        for _ in range(LARGEST_BODY // 1000 + 2):
            writer.write(b"3e8\r\n" + b"a" * 1000 + b"\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 20)


async def test_tls_that_is_never_begun_is_ended_in_time(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "ca").sign("server")
    files = {"http_cert": str(certificate), "http_key": str(key)}
    async with served(tmp_path / "ems", SOON, **files) as port:
        silent = [await port.connect(tls=False) for _ in range(40)]
        assert await port.asks() == b"HTTP/1.1 401 Unauthorized"
        for reader, _ in silent:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        assert await port.asks() == b"HTTP/1.1 401 Unauthorized"
