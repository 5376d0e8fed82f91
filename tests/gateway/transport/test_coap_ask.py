"""Questions without a token: a late answer is nobody else's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import TransientError
from gateway.transport.coap import GuardedSite, Sources, open_server
from gateway.transport.coap_ask import ask, short_tokens
from tests.support.mosquitto import free_port
from tests.support.wait import until

import aiocoap  # isort: skip


class Peer(asyncio.DatagramProtocol):
    """Acknowledges each question at once, and answers it (``answer``, its number) with its own body when told."""

    def __init__(self) -> None:
        self.acknowledges = True
        self.asked: list[aiocoap.Message] = []
        self._mids = iter(range(7000, 8000))

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = aiocoap.Message.decode(data)
        if not message.code.is_request():
            return
        if self.acknowledges:
            self._send(aiocoap.Message(code=aiocoap.EMPTY, _mtype=aiocoap.ACK, _mid=message.mid), addr)
        self.asked.append(message)
        self._where = addr

    def answer(self, number: int) -> None:
        asked = self.asked[number]
        answer = aiocoap.Message(
            code=aiocoap.CHANGED, _mtype=aiocoap.CON, _mid=next(self._mids), _token=asked.token, payload=asked.payload
        )
        self._send(answer, self._where)

    def answer_with_acknowledgement(self, number: int) -> None:
        asked = self.asked[number]
        answer = aiocoap.Message(
            code=aiocoap.CHANGED, _mtype=aiocoap.ACK, _mid=asked.mid, _token=asked.token, payload=asked.payload
        )
        self._send(answer, self._where)

    def again(self) -> None:
        """The network doubles the last datagram."""
        self._transport.sendto(self._last, self._where)

    def _send(self, message: aiocoap.Message, addr: Any) -> None:
        self._last = message.encode()
        self._transport.sendto(self._last, addr)


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[Peer, aiocoap.Context, str]]:
    """The peer, who asks it, and where it is."""
    peer, port = Peer(), free_port(socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: peer, local_addr=("127.0.0.1", port))
    asking = await open_server(GuardedSite(Sources(())), "127.0.0.1", free_port(socket.SOCK_DGRAM))
    short_tokens(asking)
    try:
        yield peer, asking, f"127.0.0.1:{port}"
    finally:
        await asking.shutdown()
        transport.close()


async def test_a_late_answer_is_not_taken_for_that_of_the_next_question() -> None:
    async with two_ends() as (peer, asking, to):
        with pytest.raises(TransientError, match="no answer"):
            await ask(asking, to, "a", b"first", 0.3)
        second = asyncio.create_task(ask(asking, to, "a", b"second", 5.0))
        await until(lambda: len(peer.asked) == 2, what="the second is there")
        peer.answer(0)
        peer.answer(1)
        assert (await second).payload == b"second"


async def test_questions_that_are_answered_have_no_token() -> None:
    async with two_ends() as (peer, asking, to):
        for number in range(3):
            question = asyncio.create_task(ask(asking, to, "a", b"%d" % number, 5.0))
            await until(lambda: len(peer.asked) == number + 1, what="it is there")  # noqa: B023
            peer.answer(number)
            await question
        assert [message.token for message in peer.asked] == [b"", b"", b""]


@pytest.mark.parametrize("apart", [True, False])
async def test_a_doubled_answer_is_not_taken_for_that_of_the_next_question(apart: bool) -> None:
    async with two_ends() as (peer, asking, to):
        peer.acknowledges = apart
        answer = peer.answer if apart else peer.answer_with_acknowledgement
        first = asyncio.create_task(ask(asking, to, "a", b"first", 5.0))
        await until(lambda: len(peer.asked) == 1, what="the first is there")
        answer(0)
        assert (await first).payload == b"first"
        copy = peer._last
        second = asyncio.create_task(ask(asking, to, "a", b"second", 5.0))
        await until(lambda: len(peer.asked) == 2, what="the second is there")
        assert [message.token for message in peer.asked] == [b"", b""]
        peer._last = copy
        peer.again()
        answer(1)
        assert (await second).payload == b"second"
