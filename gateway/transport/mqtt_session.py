"""One session of aiomqtt that tells whoever waits for the broker as soon as it is broken, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage

T = TypeVar("T")


class Session(aiomqtt.Client):
    """aiomqtt alone lets CONNECT, SUBSCRIBE and PUBLISH wait for 10 s on a socket that is gone, keeps that socket
    where its own reading failed, and leaves the reason as an exception that nobody reads.

    Between the socket and us it puts a queue, two tasks a message and a turn of the loop for each write. Here a
    message is taken in the turn that read it, and what is published is written to the socket in the call.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._over = False
        self._in_thread = False  # aiomqtt's thread is in paho's connect(): the socket is that thread's alone
        self._take: Callable[[MQTTMessage], None] | None = None
        self._arrived: deque[MQTTMessage] = deque()
        self._written_by_us = False
        self._client.manual_ack_set(True)
        self._watched = self._disconnected
        self._watched.add_done_callback(self._broke)

    async def __aenter__(self) -> Self:
        try:
            await super().__aenter__()
            if self._disconnected is not self._watched:
                self._disconnected.add_done_callback(self._broke)
            if self._watched.done():  # before aiomqtt looked, and it forgets it
                raise aiomqtt.MqttError("the broker closed the session at its beginning")
        except BaseException:
            self.close_socket()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc, tb)
        finally:
            self.close_socket()

    async def _wait_for(self, fut: Awaitable[T], timeout: float | None) -> T:  # noqa: ASYNC109
        """As aiomqtt's; but asyncio.wait_for of Python 3.11 loses a cancellation that comes with the result."""
        seconds = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                return await (asyncio.shield(fut) if isinstance(fut, asyncio.Future) else fut)
        except TimeoutError:
            raise aiomqtt.MqttError("the broker did not answer in time") from None

    async def serve(self, take: Callable[[MQTTMessage], None]) -> None:
        """Hand each message to ``take``, in order, until the session is over; raise the reason.

        A message is acknowledged to the broker once ``take`` returned: the answer leaves before the receipt.
        """
        self._take = take
        try:
            self._hand_over()
            await asyncio.wait((self._disconnected,))
        finally:
            self._take = None
        reason = self._disconnected.exception()
        raise aiomqtt.MqttError(str(reason or "the session is over")) from reason

    def put(self, topic: str, payload: bytes, qos: int) -> int:
        """Publish: what the socket takes is written in this call. Returns the message's number."""
        self._written_by_us = True
        try:
            info = self._client.publish(topic, payload, qos)
        finally:
            self._written_by_us = False
        if info.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        self._flush()
        return info.mid

    def puback_of(self, mid: int) -> asyncio.Event:
        """Set when the broker has it, or when the session was released. Ask in the turn of ``put``."""
        confirmation = self._pending_publishes[mid] = asyncio.Event()
        return confirmation

    async def wait_for_puback(self, mid: int, confirmation: asyncio.Event) -> None:
        """Raise ``MqttError`` when it does not come in time."""
        try:
            await self._wait_for(confirmation.wait(), None)
        finally:
            self._pending_publishes.pop(mid, None)

    def release(self) -> None:
        """Who waits for a PUBACK of this session waits no more."""
        for confirmation in list(self._pending_publishes.values()):
            confirmation.set()

    def close_socket(self) -> None:
        """Whatever state it is in. Without a DISCONNECT before, the broker sends our last will.

        A moment later: what the loop was asked to do with this socket's number must not be done to another socket's.
        """
        self._over = True
        self._loop.call_soon(self._close)

    def _close(self) -> None:
        if not self._in_thread:
            with contextlib.suppress(OSError, ValueError):
                self._client._sock_close()

    def _client_connect(self) -> None:
        """In aiomqtt's thread, which goes on when whoever waited for it was cancelled.

        The loop watches the socket from its end on. aiomqtt lets it begin in the middle, by the socket's number: a
        socket that one side has closed by then makes the loop watch, or forget, one that belongs to somebody else.
        """
        self._in_thread = True
        try:
            super()._client_connect()
        finally:
            self._in_thread = False
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take_over)

    def _take_over(self) -> None:
        """On the loop: the socket is the loop's now."""
        if self._over:
            self._close()
            return
        sock: Any = self._client.socket()
        if sock is None or sock.fileno() < 0:
            return
        self._loop.add_reader(sock.fileno(), self._read)
        if self._client.want_write():
            self._loop.add_writer(sock.fileno(), self._write)
        self._misc_task = self._loop.create_task(self._misc_loop())

    def _read(self) -> None:
        client: Any = self._client
        try:
            client.loop_read()
            # What TLS has decoded already wakes no loop.
            while hasattr(client.socket(), "pending") and client.socket().pending() > 0:
                client.loop_read()
        except Exception as err:
            self._failed(err)
        self._hand_over()

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        """Within paho's callback nothing can be published."""
        self._arrived.append(message)

    def _hand_over(self) -> None:
        while self._take is not None and self._arrived:
            message = self._arrived.popleft()
            try:
                self._take(message)
            finally:
                self._written_by_us = True
                self._client.ack(message.mid, message.qos)
                self._written_by_us = False
                self._flush()

    def _flush(self) -> None:
        """Write now what ``_written_by_us`` kept from the loop; the rest once the socket takes it."""
        self._write()
        sock: Any = self._client.socket()
        if sock is not None and self._client.want_write() and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as err:
            self._failed(err)

    def _failed(self, err: Exception) -> None:
        if not self._disconnected.done():
            self._disconnected.set_exception(err)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        """Always in the thread: ``_take_over`` follows."""

    def _on_socket_close(self, client: Any, userdata: Any, sock: Any) -> None:
        if not self._in_thread:
            super()._on_socket_close(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if not (self._in_thread or self._written_by_us) and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if not self._in_thread and sock.fileno() >= 0:
            self._loop.remove_writer(sock.fileno())

    def _on_disconnect(self, *args: Any, **kwargs: Any) -> None:
        if self._connected.cancelled():  # nobody waits; aiomqtt would raise it again, in the loop
            return
        super()._on_disconnect(*args, **kwargs)
        if not self._disconnected.done():  # before CONNACK aiomqtt says nothing
            self._disconnected.set_exception(aiomqtt.MqttError("the broker closed the connection before CONNACK"))

    def _broke(self, future: asyncio.Future[None]) -> None:
        reason = None if future.cancelled() else future.exception()
        error = aiomqtt.MqttError(str(reason or "the session is over"))
        if not self._connected.done():
            self._connected.set_exception(error)
            self._connected.exception()  # looked at: who waited may have been cancelled
        for waiting in list(self._pending_subscribes.values()):
            if not waiting.done():
                waiting.set_exception(error)
