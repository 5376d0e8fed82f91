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

        A moment later: aiomqtt's thread has asked the loop to watch this socket's number, which must not be another
        socket's by then.
        """
        self._over = True
        self._loop.call_soon(self._close)

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._client._sock_close()

    def _client_connect(self) -> None:
        """In aiomqtt's thread, which goes on when whoever waited for it was cancelled."""
        super()._client_connect()
        if self._over:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._close)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        """As aiomqtt's, but a socket that was closed before the loop comes to it is not watched."""

        def write() -> None:
            try:
                client.loop_write()
            except Exception as err:
                if not self._disconnected.done():
                    self._disconnected.set_exception(err)

        def watch() -> None:
            if client.socket() is sock and sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)

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
