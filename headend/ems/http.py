"""The API on a socket, in the EMS's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from gateway.errors import OperatorError
from headend.ems.api import build
from headend.ems.api.guard import Context
from headend.ems.settings import EmsSettings, parse_address
from headend.ems.state_files import ENDPOINT_FILE

STOP_S = 2.0


class _Server(uvicorn.Server):
    """Leaves the signals to the program that it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpPart:
    """``prepare`` takes the port (an operator's mistake shows before anything runs), ``run`` serves."""

    def __init__(self, settings: EmsSettings, context: Context, log: logging.Logger) -> None:
        self._settings = settings
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
            limit_concurrency=1000,
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
