"""One session of aiomqtt that tells whoever waits for the broker as soon as it is broken, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt

T = TypeVar("T")


class Session(aiomqtt.Client):
    """aiomqtt alone lets CONNECT, SUBSCRIBE and PUBLISH wait for 10 s on a socket that is gone, keeps that socket
    where its own reading failed, and leaves the reason as an exception that nobody reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._over = False
        self._in_thread = False  # aiomqtt's thread is in paho's connect(): the socket is that thread's alone
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
        if not self._in_thread and sock.fileno() >= 0:
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
