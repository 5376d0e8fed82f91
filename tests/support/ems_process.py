"""The EMS as a real process, ``smartema ems``, asked over HTTP and by its own commands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from gateway.links.mir2017.messages import split_request_id
from tests.support.mosquitto import free_port
from tests.support.wait import shows, until

# A web framework's import on a loaded machine; every wait ends as soon as its condition holds.
START_S = 60.0


class EmsChild:
    """One ``smartema ems``. ``options`` are further words of its command line; a restart keeps state and port.

    ``broker`` None: it has none.
    """

    def __init__(self, directory: Path, broker: int | None, *options: str, trust: ssl.SSLContext | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.state = directory / "state"
        self.http = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "log"
        self._trust = trust
        self._words = (
            *(
                "--broker",
                f"127.0.0.1:{broker}" if broker is not None else "none",
                "--http",
                f"127.0.0.1:{self.http}",
                "--no-tty",
            ),
            *("--state-dir", str(self.state), "--zone", "UTC", *options),
        )
        self._client: httpx.AsyncClient | None = None

    # --- life ---

    def spawn(self) -> None:
        """Start the process; nothing is waited for."""
        assert self.process is None
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "ems", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def start(self) -> EmsChild:
        """Return when it answers over HTTP and is at its broker."""
        (self.state / "endpoint.json").unlink(missing_ok=True)
        self.spawn()
        await until(lambda: (self.state / "endpoint.json").exists() or self._ended(), START_S, "the EMS serves")
        assert not self._ended(), self.log()
        await self.shows("/overview", lambda o: all(link["up"] for link in o["links"]), "its links are up")
        return self

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    async def stop(self) -> None:
        """For the end of a test: whatever state it is in."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None
        process, self.process = self.process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait, 20)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def rss_kib(self) -> int:
        """Resident memory."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1])

    # --- asked ---

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request of the API with the script's token; its answer."""
        if self._client is None:
            url = json.loads((self.state / "endpoint.json").read_text())["url"]
            token = (self.state / "token").read_text().strip()
            headers = {"Authorization": f"Bearer {token}"}
            verify = self._trust if self._trust is not None else True
            self._client = httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, verify=verify, timeout=30)
        response = await self._client.request(method, path, json=body)
        assert response.is_success, response.text
        return response.json()

    async def shows(self, path: str, condition: Callable[[Any], object], what: str) -> Any:
        """The first answer of that path for which the condition holds."""
        return await shows(lambda: self.ask("GET", path), condition, what)

    async def registered(self, *emas: str) -> None:
        """Return when all of these are connected."""

        def there(found: list[dict[str, Any]]) -> bool:
            return set(emas) <= {ema["name"] for ema in found if ema["connected"] and ema["registered_at"]}

        await self.shows("/emas", there, f"{emas} registered")

    async def answered(self, event: int, modification: int, *emas: str) -> dict[str, Any]:
        """The event as soon as all of these have opted in to that modification of it."""

        def told(found: dict[str, Any]) -> bool:
            opted = {d["ema"] for d in found["deliveries"] if d["answered"] == modification and d["opt"] == "in"}
            return set(emas) <= opted

        return dict(await self.shows(f"/events/{event}", told, f"{emas} answer event {event}.{modification}"))

    async def command(self, *words: str) -> dict[str, Any]:
        """``smartema ems WORDS --json`` in a process of its own; what it printed."""
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "ems", *words, "--json", "--state-dir", str(self.state)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asking.communicate()
        assert (asking.returncode, err) == (0, b""), err.decode()
        return dict(json.loads(out))

    def stored(self, ema: str = "gw/1") -> list[tuple[int, int]]:
        """(boot, seq) of the reports of an EMA in its outbox's numbers, in the order in which they were stored."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/ems.db?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT request_id FROM reports WHERE ema = ? ORDER BY rowid", (ema,))
            found = [split_request_id(int(row[0])) for row in rows]
        return [pair for pair in found if pair is not None]
