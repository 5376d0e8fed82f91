"""libcoap's client: one exchange a call, with the code and the options that came, not only the payload."""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.process import tool

# As `-v 7` prints what came: v:1 t:ACK c:2.05 i:d0e0 {01} [ Content-Format:text/plain ] :: 'DR …'
_CAME = re.compile(r"v:1 t:(\w+) c:(\d\.\d\d) i:\w+ \{\w*\} \[ ?(.*?) ?\](?: :: '(.*)')?")
PATIENCE_S = "5"


@dataclass(frozen=True)
class Came:
    """One answer: ACK, CON or NON; its code; its options as libcoap names them; its payload."""

    kind: str
    code: str
    options: str
    body: bytes


async def exchange(port: int, path: str, put: bytes | str | None = None, *words: str) -> Came:
    """PUT the bytes, or GET, and the answer. ``words``: further options, such as ``-N`` for non-confirmable."""
    with tempfile.TemporaryDirectory() as folder:
        payload = Path(folder) / "out"
        method = ["-m", "get"] if put is None else ["-m", "put", "-f", "-"]
        if put is not None and "-t" not in words:
            method += ["-t", "text/plain"]
        client = (tool("coap-client-notls"), "-v", "7", "-B", PATIENCE_S, *method, "-o", str(payload), *words)
        process = await asyncio.create_subprocess_exec(
            *client,
            f"coap://127.0.0.1:{port}/{path}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate(put.encode() if isinstance(put, str) else put)
        came = [match for match in _CAME.finditer(said.decode(errors="replace")) if match[2] != "0.00"]
        assert came, f"no answer from /{path}: {said.decode(errors='replace')}"
        # The payload of an error is only printed.
        body = payload.read_bytes() if payload.exists() else (came[-1][4] or "").encode()
        return Came(came[-1][1], came[-1][2], came[-1][3], body)


class Observer:
    """libcoap observes a resource; ``seen``: first answer and notifications, oldest first."""

    def __init__(self, port: int, path: str) -> None:
        self.seen: list[bytes] = []
        self._url = f"coap://127.0.0.1:{port}/{path}"
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> Observer:
        self._process = await asyncio.create_subprocess_exec(
            *(tool("coap-client-notls"), "-B", PATIENCE_S, "-s", "60", "-w", "-m", "get", "-o", "-", self._url),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.seen.append(line.rstrip(b"\n"))

    async def stop(self) -> None:
        if self._reading is not None:
            if self._process.returncode is None:
                self._process.terminate()
            await self._process.wait()
            await self._reading
