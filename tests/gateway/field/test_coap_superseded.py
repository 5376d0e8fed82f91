"""A command over CoAP that was superseded: given up at once, never sent after the newer one, and not waited for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import TransientError
from gateway.site.resource import Setting
from tests.gateway.field.site import command
from tests.gateway.field.test_devices_coap import Bench, Device, bench, both, hello
from tests.support.wait import until


class Deaf:
    """A device that hears and never answers."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.port: int = sock.getsockname()[1]
        self.heard: list[bytes] = []

    def ids(self) -> list[int]:
        """Of the commands, in the order in which they came, each sending of them."""
        found = [frame.partition(b"\xff")[2] for frame in self.heard]
        return [json.loads(body)["id"] for body in found if body.startswith(b"{")]

    async def listen(self) -> None:
        while True:
            self.heard.append(await asyncio.get_running_loop().sock_recv(self.socket, 2000))


@asynccontextmanager
async def deaf(b: Bench, lamp: Device) -> AsyncIterator[Deaf]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        it = Deaf(sock)
        task = asyncio.create_task(it.listen())
        await lamp.put(b.port, "connected", hello(1, port=it.port))
        try:
            yield it
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@both
async def test_the_newer_one_goes_at_once_and_the_older_one_not_again(ipv6: bool) -> None:
    async with bench(ipv6) as b, Device("127.0.0.1") as lamp, deaf(b, lamp) as it:
        older = asyncio.ensure_future(b.adapter.send(command(1, 1, Setting(on=False))))
        await until(lambda: it.ids() == [1], what="the first is on the wire")
        newer = asyncio.ensure_future(b.adapter.send(command(2, 1, Setting(on=True))))
        with pytest.raises(TransientError, match="desk lamp: command 1 is superseded"):
            await older
        assert not newer.done()
        await until(lambda: 2 in it.ids(), what="the second is on the wire")
        with pytest.raises(TransientError, match="no answer"):
            await newer
        sent = it.ids()
        assert 1 not in sent[sent.index(2) :]
        assert sent.count(2) == 3
        assert b.count("unanswered") == 1
        manager = b.adapter._context.request_interfaces[0].token_interface
        assert not manager._active_exchanges
        assert not manager._backlogs


@both
async def test_one_that_never_left_does_not_leave_any_more(ipv6: bool) -> None:
    """Both in one turn of the loop: while the address of the first is looked up, the second supersedes it."""
    async with bench(ipv6) as b, Device("127.0.0.1") as lamp, deaf(b, lamp) as it:
        sendings = [asyncio.ensure_future(b.adapter.send(command(n, 1, Setting(on=n % 2 == 0)))) for n in range(1, 6)]
        outcomes = await asyncio.gather(*sendings, return_exceptions=True)
        assert ["superseded" in str(outcome) for outcome in outcomes] == [True] * 4 + [False]
        assert set(it.ids()) == {5}


async def test_a_command_does_not_wait_for_the_answer_to_an_ack() -> None:
    async with bench() as b, Device("127.0.0.1") as lamp, deaf(b, lamp) as it:
        b.adapter._acknowledge(b.adapter._presence.entries[1])
        await until(lambda: it.heard, what="ack")
        newer = asyncio.ensure_future(b.adapter.send(command(7, 1, Setting(on=False))))
        await until(lambda: len(it.heard) > 1)
        assert it.ids()[0] == 7
        assert not b.adapter.status()["unanswered"]
        newer.cancel()
        await asyncio.gather(newer, return_exceptions=True)


async def test_an_older_command_is_refused_while_a_newer_one_is_on_its_way() -> None:
    async with bench() as b, Device("127.0.0.1") as lamp, deaf(b, lamp) as it:
        newer = asyncio.ensure_future(b.adapter.send(command(9, 1, Setting(on=False))))
        with pytest.raises(TransientError, match="command 8 is older than 9"):
            await b.adapter.send(command(8, 1, Setting(on=True)))
        await asyncio.gather(newer, return_exceptions=True)
        assert set(it.ids()) == {9}


async def test_what_gave_up_leaves_nothing_to_be_sent() -> None:
    """The dispatcher ends: so do its commands."""
    async with bench() as b, Device("127.0.0.1") as lamp, deaf(b, lamp) as it:
        sending = asyncio.ensure_future(b.adapter.send(command(1, 1, Setting(on=False))))
        await until(lambda: it.ids() == [1])
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await until(lambda: not b.adapter._commands, what="it is over")
        manager = b.adapter._context.request_interfaces[0].token_interface
        assert not manager._active_exchanges
        assert not manager._backlogs
