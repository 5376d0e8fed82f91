"""A broker that breaks the session in the middle of it, and messages that it kept from before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest

from gateway.clock import SystemClock
from gateway.transport.mqtt import MqttLink, MqttSettings
from tests.gateway.transport.test_mqtt import running
from tests.support.mosquitto import Mosquitto
from tests.support.wait import until

CONNACK = b"\x20\x02\x00\x00"


class BadBroker:
    """Takes a connection, says ``answer`` after CONNECT, and hangs up after ``packets`` packets of the peer."""

    def __init__(self, answer: bytes, packets: int) -> None:
        self.sessions = 0
        self._answer = answer
        self._packets = packets
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            for number in range(self._packets):
                head = await reader.readexactly(2)
                await reader.readexactly(head[1])
                if number == 0:
                    writer.write(self._answer)
        writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "packets"),
    [
        (CONNACK, 2),  # at SUBSCRIBE
        (CONNACK, 1),  # right after CONNACK
        (b"", 1),  # before CONNACK
        (CONNACK + b"\x90\x01\x00", 2),  # a SUBACK that cannot be read
        (b"\x30\x03\x00\x05x", 1),  # a PUBLISH that cannot be read, before CONNACK
        (CONNACK + b"\x30\x05\x00\x03\xff\xfe\xfdx", 2),  # a topic that is no UTF-8
    ],
)
async def test_a_session_that_breaks_leaves_no_unread_exception(answer: bytes, packets: int) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    broker = BadBroker(answer, packets)
    link = MqttLink(
        MqttSettings("127.0.0.1", await broker.start(), subscriptions=(("in/#", 1),)),
        _Hurried(),
        random.Random(1),
        lambda topic, body: None,
    )
    try:
        async with running(link):
            # The time-out of a SUBACK is 10 s: who comes three times within it did not wait for one.
            await until(lambda: broker.sessions >= 3, 9.0, "the link tries again at once")
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
        await broker.stop()
    assert [(context["message"], context.get("exception")) for context in complaints] == []


async def test_an_end_in_the_middle_of_connecting_touches_no_other_socket(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has made its socket, and not said so yet, when the loop wants it closed."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    made, go_on, through = threading.Event(), threading.Event(), threading.Event()
    said = paho.Client._call_socket_open
    sockets: list[Any] = []

    def late(self: paho.Client, sock: Any) -> None:
        sockets.append(sock)
        made.set()
        go_on.wait(20)
        said(self, sock)
        through.set()

    monkeypatch.setattr(paho.Client, "_call_socket_open", late)
    link = MqttLink(
        MqttSettings("127.0.0.1", mosquitto.port), SystemClock(), random.Random(1), lambda topic, body: None
    )
    try:
        async with running(link):
            await until(made.is_set, what="a socket")
        for _ in range(3):
            await asyncio.sleep(0)
        assert sockets[0].fileno() >= 0, "its number must stay taken while the thread has it"
        go_on.set()
        await until(lambda: through.is_set() and sockets[0].fileno() < 0, what="closed in the end")
    finally:
        go_on.set()
        loop.set_exception_handler(None)
    assert [(context["message"], context.get("exception")) for context in complaints] == []


class _Hurried(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_message_that_the_broker_kept_is_not_taken(mosquitto: Mosquitto) -> None:
    """Nothing of these wires is retained: a command or a state of another time would come with each reconnection."""
    got: list[bytes] = []
    take: Callable[[str, bytes], None] = lambda topic, body: got.append(body)  # noqa: E731
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as other:
        await other.publish("in/dev/4/control", b"\x11\x10", qos=1, retain=True)
        where = MqttSettings("127.0.0.1", mosquitto.port, subscriptions=(("in/#", 1),))
        link = MqttLink(where, SystemClock(), random.Random(1), take)
        async with running(link):
            await until(lambda: link.up)
            await other.publish("in/now", b"now", qos=1)
            await until(lambda: got, what="what is said now comes")
            await until(lambda: link.kept == 1)
    assert got == [b"now"]
