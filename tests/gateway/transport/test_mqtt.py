"""The reconnecting MQTT session, against a real mosquitto."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from gateway.clock import ManualClock, SystemClock
from gateway.errors import OperatorError, TransientError
from gateway.transport.mqtt import LARGEST_MESSAGE, LinkState, MqttLink, MqttSettings, Tls, Will
from tests.gateway.field.site import listening_logger
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.wait import until


@asynccontextmanager
async def running(link: MqttLink) -> AsyncIterator[MqttLink]:
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def settings(mosquitto: Mosquitto, **more: object) -> MqttSettings:
    return MqttSettings("127.0.0.1", mosquitto.port, subscriptions=(("in/#", 1),), **more)  # type: ignore[arg-type]


async def test_messages_come_in_order_and_up_is_after_the_subscriptions(mosquitto: Mosquitto) -> None:
    got: list[tuple[str, bytes]] = []

    async def up() -> None:
        for number in range(50):
            await link.publish("in/self", b"%d" % number)

    link = MqttLink(
        settings(mosquitto), SystemClock(), random.Random(1), lambda topic, body: got.append((topic, body)), up
    )
    async with running(link):
        await until(lambda: len(got) == 50)
    assert got == [("in/self", b"%d" % number) for number in range(50)]


async def test_nagle_is_off(mosquitto: Mosquitto) -> None:
    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), lambda topic, body: None)
    async with running(link):
        await until(lambda: link.up)
        assert link._client is not None
        sock = link._client._client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_down_nothing_is_queued(mosquitto: Mosquitto) -> None:
    got: list[bytes] = []
    downs: list[int] = []
    logger, lines = listening_logger("mqtt-link")
    link = MqttLink(
        settings(mosquitto),
        SystemClock(),
        random.Random(1),
        lambda topic, body: got.append(body),
        on_down=lambda: downs.append(1),
        logger=logger,
    )
    with pytest.raises(TransientError, match="is down"):
        await link.publish("in/x", b"before")
    async with running(link):
        await until(lambda: link.up)
        mosquitto.kill()
        await until(lambda: link.state is not LinkState.UP)
        for _ in range(3):
            with pytest.raises(TransientError):
                await link.publish("in/x", b"while it was down")
        link.post("in/x", b"posted while it was down")
        await mosquitto.start()
        await until(lambda: link.up)
        await link.publish("in/x", b"after")
        await until(lambda: got)
        assert (downs, link.reconnects) == ([1], 1)
    assert got == [b"after"]
    assert len(lines.at(logging.WARNING)) == 1
    assert lines.at(logging.INFO) == [f"MQTT 127.0.0.1:{mosquitto.port}: connected again"]


async def test_a_message_is_on_the_socket_when_publish_returns(mosquitto: Mosquitto) -> None:
    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), lambda topic, body: None)
    async with running(link):
        await until(lambda: link.up)
        assert link._client is not None
        paho = link._client._client
        confirmed = link.publish("in/x", b"at once")
        assert not paho.want_write()
        await confirmed
        # What the socket does not take in one piece follows by itself.
        await link.publish("in/x", b"x" * 4_000_000)
        assert not paho.want_write()


async def test_an_answer_leaves_before_the_receipt_of_what_it_answers(mosquitto: Mosquitto) -> None:
    received = asyncio.Event()
    left: list[int] = []

    def take(topic: str, body: bytes) -> None:
        if topic == "in/x":
            link.post("in/answer", body)
        else:
            received.set()

    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), take)
    async with running(link):
        await until(lambda: link.up)
        assert link._client is not None
        paho = link._client._client
        send = paho._sock_send

        def watched(data: bytes) -> int:
            left.append(data[0] & 0xF0)
            return send(data)

        paho._sock_send = watched  # type: ignore[method-assign]
        await link.publish("in/x", b"ask")
        await asyncio.wait_for(received.wait(), 5.0)
    publish, puback = 0x30, 0x40
    assert left[:3] == [publish, publish, puback]


async def test_a_publish_in_flight_when_the_broker_dies_fails(mosquitto: Mosquitto) -> None:
    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), lambda topic, body: None)
    async with running(link):
        await until(lambda: link.up)
        assert mosquitto._process is not None
        mosquitto._process.send_signal(signal.SIGSTOP)  # so that it acknowledges none of them
        sending = [asyncio.create_task(link.publish("in/x", b"lost")) for _ in range(20)]
        await asyncio.sleep(0)
        mosquitto.kill()
        outcomes = await asyncio.wait_for(asyncio.gather(*sending, return_exceptions=True), 5.0)
        assert all(isinstance(outcome, TransientError) for outcome in outcomes)


async def test_a_handler_that_fails_ends_no_session(mosquitto: Mosquitto) -> None:
    logger, lines = listening_logger("mqtt-link")
    got: list[bytes] = []

    def take(topic: str, body: bytes) -> None:
        got.append(body)
        raise RuntimeError("a bug")

    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), take, logger=logger)
    async with running(link):
        await until(lambda: link.up)
        await link.publish("in/x", b"1")
        await link.publish("in/x", b"2")
        await until(lambda: len(got) == 2)
        assert link.reconnects == 0
    said = [line for line in lines.at(logging.WARNING) if "a bug" in line]
    assert said == [f"MQTT {link.settings.address}: message on in/x: RuntimeError: a bug"]
    assert [r.levelno for r in lines.records if r.exc_info] == [logging.DEBUG] * 2


async def test_an_oversized_message_is_counted_and_dropped(mosquitto: Mosquitto) -> None:
    got: list[bytes] = []
    link = MqttLink(settings(mosquitto), SystemClock(), random.Random(1), lambda topic, body: got.append(body))
    async with running(link):
        await until(lambda: link.up)
        await link.publish("in/x", b"x" * (LARGEST_MESSAGE + 1))
        await link.publish("in/x", b"small")
        await until(lambda: got)
        assert (got, link.oversized) == ([b"small"], 1)


async def test_the_last_will(mosquitto: Mosquitto) -> None:
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as other:
        await other.subscribe("gone")
        will = Will("gone", b"gw/1")
        link = MqttLink(settings(mosquitto, will=will), SystemClock(), random.Random(1), lambda topic, body: None)
        async with running(link):
            await until(lambda: link.up)
            assert link._client is not None
            sock = link._client._client.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            message = await anext(aiter(other.messages))
        assert (message.payload, message.retain) == (b"gw/1", False)


async def test_the_back_off_grows_and_is_said_once() -> None:
    clock = ManualClock()
    logger, lines = listening_logger("mqtt-link")
    link = MqttLink(
        MqttSettings("127.0.0.1", free_port()), clock, random.Random(1), lambda topic, body: None, logger=logger
    )
    async with running(link):
        for _ in range(5):
            before = len(lines.records)
            await clock.advance(60.0)
            await until(lambda before=before: len(lines.records) > before)  # type: ignore[misc]
    assert len(lines.at(logging.WARNING)) == 1
    assert ": Connection refused" in lines.at(logging.WARNING)[0]


async def test_wrong_credentials_are_tried_again(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "closed", extra="allow_anonymous false\n")
    await broker.start()
    logger, lines = listening_logger("mqtt-link")
    link = MqttLink(settings(broker), SystemClock(), random.Random(1), lambda topic, body: None, logger=logger)
    async with running(link):
        await until(lambda: len(lines.records) >= 2)
    broker.stop()
    assert "authoriz" in lines.at(logging.WARNING)[0].lower()


def test_a_password_is_in_no_repr() -> None:
    assert "geheim" not in repr(MqttSettings("h", password="geheim"))


@pytest.mark.parametrize("name", ["ca", "certificate", "pinned"])
def test_tls_files_that_do_not_load(tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match=r"nothing\.pem: no such file"):
        Tls(**{name: tmp_path / "nothing.pem"}).context()
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(OperatorError, match=r"rubbish\.pem"):
        Tls(**{name: tmp_path / "rubbish.pem"}).context()
