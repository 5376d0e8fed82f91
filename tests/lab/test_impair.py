"""The proxies that impair a link: what they may do to what passes, and what never."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from lab.impair import Impairment, Tally
from lab.impair_tcp import TcpLink
from lab.impair_udp import UdpLink

SEEDS = range(5)
SENT = 400


@pytest.mark.parametrize(
    ("text", "share", "delay_s"),
    [
        ("5%,100ms", 0.05, 0.1),
        (" 5 %,100ms", None, None),
        ("100ms, 2.5%", 0.025, 0.1),
        ("1.5s", 0.0, 1.5),
        ("10%", 0.1, 0.0),
        ("5,100", None, None),
        ("5%,6%", None, None),
        ("", None, None),
        ("40%,1ms", None, None),
        ("1%,60s", None, None),
        ("-5%", None, None),
    ],
)
def test_an_impairment_is_read_or_refused(text: str, share: float | None, delay_s: float | None) -> None:
    if share is None:
        with pytest.raises(ValueError, match=r"5%,100ms|nothing gets through|nobody waits"):
            Impairment.parse(text)
    else:
        assert Impairment.parse(text) == Impairment(share, delay_s or 0.0)


def test_tallies_add_up() -> None:
    assert Tally(1, 10, resets=1) + Tally(2, 20) - Tally(1, 5) == Tally(2, 25, resets=1)


class Peer(asyncio.DatagramProtocol):
    """Hears, and answers where it is told to."""

    def __init__(self, echo: bool) -> None:
        self.heard: list[bytes] = []
        self.from_: set[tuple[str, int]] = set()
        self.transport: asyncio.DatagramTransport | None = None
        self._echo = echo

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(data)
        self.from_.add(addr)
        if self._echo:
            self.say(data, addr)

    def say(self, data: bytes, to: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.sendto(data, to)

    @property
    def address(self) -> tuple[str, int]:
        assert self.transport is not None
        address: tuple[str, int] = self.transport.get_extra_info("sockname")
        return address


@contextlib.asynccontextmanager
async def peer(echo: bool = False, host: str = "127.0.0.1") -> AsyncIterator[Peer]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Peer(echo), local_addr=(host, 0))
    try:
        yield protocol
    finally:
        transport.close()


async def _arrived(tally: Tally, sent: int, at: Peer) -> None:
    while tally.taken < sent or len(at.heard) < sent + tally.doubled - tally.dropped:
        await asyncio.sleep(0.005)


async def _through(impairment: Impairment, seed: int) -> tuple[UdpLink, list[bytes], list[bytes]]:
    """(link, what the server heard, what came back)."""
    async with peer(echo=True) as server, peer() as client:
        link = UdpLink(server.address, impairment, random.Random(seed))
        front = await link.open()
        try:
            for number in range(SENT):
                client.say(b"%d" % number, front)
                if number % 10 == 9:
                    await asyncio.sleep(0.001)
            while (
                len(server.heard) < SENT + link.up.tally.doubled - link.up.tally.dropped or link.up.tally.taken < SENT
            ):
                await asyncio.sleep(0.005)
            down = link.down.tally
            while len(client.heard) < len(server.heard) + down.doubled - down.dropped or down.taken < len(server.heard):
                await asyncio.sleep(0.005)
        finally:
            await link.close()
        return link, server.heard, client.heard


async def test_without_an_impairment_everything_passes_once_and_in_order() -> None:
    link, heard, back = await _through(Impairment(), 1)
    assert heard == back == [b"%d" % number for number in range(SENT)]
    size = sum(len(data) for data in heard)
    assert link.up.tally == link.down.tally == Tally(SENT, size)


@pytest.mark.parametrize("seed", SEEDS)
async def test_datagrams_are_dropped_delayed_doubled_and_reordered_but_never_made_up(seed: int) -> None:
    link, heard, back = await _through(Impairment(0.05, 0.02), seed)
    tally = link.up.tally
    assert min(tally.dropped, tally.delayed, tally.doubled, tally.reordered) > 0
    sent = {b"%d" % number for number in range(SENT)}
    assert set(heard) < sent
    assert len(sent - set(heard)) == tally.dropped
    assert len(heard) - len(set(heard)) == tally.doubled
    assert heard != sorted(heard, key=int)
    assert set(back) <= set(heard)


async def test_the_same_seed_draws_the_same_fate() -> None:
    tallies = []
    for _ in range(2):
        link, _, _ = await _through(Impairment(0.1, 0.0), 7)
        tallies.append((link.up.tally.dropped, link.up.tally.doubled))
    assert tallies[0] == tallies[1]


async def test_each_client_has_its_own_socket_and_the_target_may_write_first_to_a_known_port() -> None:
    async with peer() as server, peer(host="127.0.0.7") as one, peer(host="127.0.0.7") as other:
        link = UdpLink(server.address, Impairment(), random.Random(1), same_port=True)
        front = await link.open()
        try:
            one.say(b"1", front)
            other.say(b"2", front)
            async with asyncio.timeout(10):
                while len(server.from_) < 2:
                    await asyncio.sleep(0.005)
            assert server.from_ == {("127.0.0.1", one.address[1]), ("127.0.0.1", other.address[1])}
            server.say(b"to other", ("127.0.0.1", other.address[1]))
            one.say(b"stranger", ("127.0.0.1", other.address[1]))  # not the target: nobody hears it
            async with asyncio.timeout(10):
                while not other.heard:
                    await asyncio.sleep(0.005)
            assert other.heard == [b"to other"]
            assert other.from_ == {front}
            assert one.heard == []
        finally:
            await link.close()


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[tuple[str, int]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


async def _exchange(address: tuple[str, int], pieces: list[bytes]) -> bytes | None:
    """What comes back of what was said, piece by piece; None when the connection broke."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        back = b""
        for piece in pieces:
            writer.write(piece)
            back += await reader.readexactly(len(piece))
        writer.write_eof()
        return back + await reader.read()
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        writer.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stream_that_is_not_broken_has_every_byte_in_its_place(seed: int) -> None:
    rng = random.Random(seed)
    async with echo_server() as target:
        link = TcpLink(target, Impairment(0.02, 0.002), rng)
        address = await link.open()
        try:
            pieces = [rng.randbytes(rng.randrange(1, 3000)) for _ in range(8)]
            async with asyncio.timeout(60):
                backs = await asyncio.gather(*(_exchange(address, pieces) for _ in range(30)))
        finally:
            await link.close()
    tally = link.up + link.down
    assert {back for back in backs if back is not None} == {b"".join(pieces)}
    assert tally.delayed > 0
    assert tally.resent > 0
    assert sum(back is None for back in backs) == tally.resets
    assert tally.dropped == 0


async def test_much_at_once_passes_whole() -> None:
    data = random.Random(1).randbytes(4_000_000)
    async with echo_server() as target:
        link = TcpLink(target, Impairment(0.0, 0.003), random.Random(1))
        address = await link.open()
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(60):
                assert await reader.read() == data
            writer.close()
        finally:
            await link.close()
    assert link.up.bytes == link.down.bytes == len(data)


async def test_a_target_that_is_not_there_breaks_the_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = free.getsockname()
    link = TcpLink(target, Impairment(), random.Random(1))
    address = await link.open()
    try:
        async with asyncio.timeout(10):
            assert await _exchange(address, [b"hello"]) is None
    finally:
        await link.close()
