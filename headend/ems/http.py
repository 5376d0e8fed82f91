"""The API on a socket, in the EMS's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvicorn

from gateway.errors import OperatorError
from headend.ems.api import build
from headend.ems.api.guard import Context
from headend.ems.http_guard import Bounds, GuardedProtocol, bounded
from headend.ems.settings import EmsSettings, parse_address
from headend.ems.state_files import ENDPOINT_FILE

STOP_S = 2.0
# Head of a request, in bytes; a browser's with its cookies is near 2000.
LARGEST_HEAD = 16_384


class _Server(uvicorn.Server):
    """Leaves the signals to the program that it is part of, and bounds TLS handshakes in time."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config = self.config
        loop = asyncio.get_running_loop()
        protocol = cast(type[GuardedProtocol], config.http_protocol_class)

        def connection() -> asyncio.Protocol:
            return protocol(config, self.server_state, {}, loop)

        # As uvicorn does, but for ``ssl_handshake_timeout``: it leaves asyncio's minute.
        self.servers = [
            await loop.create_server(
                connection,
                sock=listener,
                ssl=config.ssl,
                ssl_handshake_timeout=protocol.bounds.head_s if config.ssl else None,
            )
            for listener in sockets or ()
        ]
        self.started = True


class HttpPart:
    """``prepare`` takes the port (an operator's mistake shows before anything runs), ``run`` serves."""

    def __init__(
        self, settings: EmsSettings, context: Context, log: logging.Logger, bounds: Bounds | None = None
    ) -> None:
        self._settings = settings
        self._bounds = bounds or Bounds()
        self._context = context
        self._log = log
        self._socket: socket.socket | None = None
        self.url = ""

    def prepare(self) -> None:
        """Raise ``OperatorError``."""
        settings = self._settings
        host, port = parse_address("http", settings.http)
        for key, path in (("http_cert", settings.http_cert), ("http_key", settings.http_key)):
            if path and not Path(path).is_file():
                raise OperatorError(f"{key}: {path}: no such file")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, proto, _, address = found[0]
            listener = socket.socket(family, kind, proto)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            # From here on whoever connects waits for us, so the endpoint may be told.
            listener.listen(128)
        except OSError as err:
            raise OperatorError(f"http: {settings.http}: {err.strerror}; choose another HOST:PORT") from err
        self._socket = listener
        port = listener.getsockname()[1]
        scheme = "https" if settings.http_cert else "http"
        near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.url = f"{scheme}://{f'[{near}]' if ':' in near else near}:{port}"
        if not str(address[0]).startswith(("127.", "::1")) and scheme == "http":
            self._log.warning("http: %s lets the network in without TLS; give http_cert and http_key", settings.http)
        ca = str(Path(settings.http_cert).absolute()) if settings.http_cert else ""
        (settings.state / ENDPOINT_FILE).write_text(json.dumps({"url": self.url, "ca": ca}) + "\n")

    async def run(self) -> None:
        """Serve until cancelled; open streams are ended."""
        if self._socket is None:
            self.prepare()
        assert self._socket is not None
        config = uvicorn.Config(
            build(self._context),
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            ssl_certfile=self._settings.http_cert or None,
            ssl_keyfile=self._settings.http_key or None,
            timeout_graceful_shutdown=1,
            http=bounded(self._bounds),
            ws="none",
            h11_max_incomplete_event_size=LARGEST_HEAD,
            # Beyond its own guard's bound: uvicorn would refuse those that ask for the sake of those that do not.
            limit_concurrency=self._bounds.connections * 2,
        )
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
        self._log.info("API: %s/api/v1/docs", self.url)
        try:
            await asyncio.shield(serving)
        finally:
            self._context.live.close()
            server.should_exit = True
            await asyncio.wait((serving,), timeout=STOP_S)
            serving.cancel()
            self._socket.close()
            self._socket = None
            (self._settings.state / ENDPOINT_FILE).unlink(missing_ok=True)
