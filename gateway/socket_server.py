"""The control socket: one JSON object a line over a Unix socket of mode 0660, for menu, status and why.

Whoever may open the socket may command; the directory and the group decide who that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.errors import OperatorError, SmartemaError

log = logging.getLogger("smartema.socket")

# A request is a verb and a few numbers.
LONGEST_REQUEST = 65_536
MOST_CLIENTS = 16


class SocketServer:
    """Answers ``{"do": verb, …}`` with ``{"ok": true, "result": …}`` or ``{"ok": false, "error": "one line"}``."""

    def __init__(self, path: Path, handle: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
        self.path = path
        self._handle = handle
        self._clients: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve until cancelled. Raise ``OperatorError`` when another daemon has the socket."""
        self._claim()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o117)
        try:
            listener.bind(str(self.path))
        except OSError as err:
            listener.close()
            raise OperatorError(f"{self.path}: {err.strerror or err}; name another [ema] socket") from err
        finally:
            os.umask(mask)
        try:
            server = await asyncio.start_unix_server(self._client, sock=listener, limit=LONGEST_REQUEST)
            try:
                await server.serve_forever()
            finally:
                # A menu that stays connected must not hold up the end: from Python 3.12 on the server waits for it.
                server.close()
                for writer in list(self._clients):
                    writer.transport.abort()
        finally:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _claim(self) -> None:
        """Remove the socket of a daemon that is gone; refuse where one lives."""
        if len(os.fsencode(str(self.path))) > 107:
            raise OperatorError(f"{self.path}: longer than the 107 bytes of a socket's path; shorten [ema] socket")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            try:
                probe.connect(str(self.path))
            except OSError:
                self.path.unlink(missing_ok=True)
                return
        raise OperatorError(f"{self.path}: another smartema runs here; stop it or set another [ema] state_dir")

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS:
            writer.write(b'{"ok": false, "error": "too many menus are connected; close one"}\n')
            writer.close()
            return
        self._clients.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):
            pass  # a line beyond the limit, or a client that left
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or not isinstance(request.get("do"), str):
                return {"ok": False, "error": 'a request is an object with "do"'}
            return {"ok": True, "result": await self._handle(request)}
        except SmartemaError as err:
            return {"ok": False, "error": str(err)}
        except (ValueError, RecursionError) as err:
            return {"ok": False, "error": f"not understood: {err}"}
        except Exception as err:
            log.exception("request")
            return {"ok": False, "error": f"{type(err).__name__}: {err}"}
