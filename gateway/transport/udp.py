"""One UDP socket with a list of sources. Cannot do: tell a peer from who forges its address; tell what arrived."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from gateway.errors import OperatorError
from gateway.transport.hosts import for_resolver
from gateway.transport.sources import Sources

Address = tuple[str, int]

# What may wait for the kernel to take it; beyond that a datagram is lost here rather than in memory.
MOST_BUFFERED = 65_536


class UdpPort:
    """``take(body, address)`` is called for each datagram of an allowed source that is not longer than ``most`` bytes;
    what it raises is logged and ends nothing. ``oversized``, ``failed`` and ``sources.refused`` count the others."""

    def __init__(
        self,
        where: Address,
        sources: Sources,
        take: Callable[[bytes, Address], None],
        logger: logging.Logger,
        most: int,
    ) -> None:
        self.sources = sources
        self.oversized = 0
        self.failed = 0
        self._where = where
        self._take = take
        self._log = logger
        self._most = most
        self._transport: Any = None  # typeshed does not know the buffer of a datagram transport
        self._error: OSError | None = None

    @property
    def up(self) -> bool:
        return self._transport is not None

    async def open(self) -> None:
        """Raise ``OperatorError`` when the port is taken or the address is not ours."""
        host, port = self._where
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.bind((for_resolver(host), port))
        except OSError as err:
            sock.close()
            raise OperatorError(f"UDP {host}:{port}: {err.strerror or err}; choose another address or port") from err
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Protocol(self), sock=sock)

    def send(self, body: bytes, to: Address) -> bool:
        """Did it leave. Never blocks."""
        if self._transport is None or self._transport.get_write_buffer_size() > MOST_BUFFERED:
            return False
        self._error = None
        self._transport.sendto(body, (for_resolver(to[0]), to[1]))
        if self._error is not None:
            self._log.debug("UDP %s:%d: %s", *to, self._error)
        return self._error is None

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def received(self, body: bytes, address: Address) -> None:
        """One datagram, of anybody."""
        if not self.sources.allows(address[0]):
            return
        if len(body) > self._most:
            self.oversized += 1
            return
        try:
            self._take(body, address)
        except Exception as err:
            self.failed += 1
            level = logging.ERROR if self.failed == 1 else logging.DEBUG
            self._log.log(level, "UDP %s:%d: a datagram could not be taken: %r", *address, err)

    def went_wrong(self, err: OSError) -> None:
        """Of the last ``send``; or an earlier one could not be delivered, which nobody waits for."""
        self._error = err


class _Protocol(asyncio.DatagramProtocol):
    """What asyncio calls."""

    def __init__(self, port: UdpPort) -> None:
        self._port = port

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[object, ...]) -> None:
        self._port.received(data, (str(addr[0]), int(str(addr[1]))))

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._port.went_wrong(exc)
