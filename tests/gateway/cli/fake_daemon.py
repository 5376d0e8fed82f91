"""A daemon's control socket that answers from a script, and a command line run as its own process."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STATUS: dict[str, Any] = {
    "ema": "gw/1",
    "boot": 3,
    "uptime_s": 7500.0,
    "power_w": 612.4,
    "stale": ["ess-5"],
    "limit": {
        "import_w": 800.0,
        "export_w": None,
        "terms": [{"source": "event 17", "watts": 800.0, "until": 1_760_000_000.0}],
    },
    "margin_w": 187.6,
    "connection": "grid",
    "futile": False,
    "failsafe": False,
    "algorithm": "Priority",
    "devices": [
        {
            "name": "lamp-4", "number": 4, "kind": "led", "link": "mqtt", "present": True, "on": True, "level": 7,
            "power_w": 60.0, "priority": 1, "soc": None, "voltage": None, "hertz": None, "plugged": None,
            "held": "off", "never_shed": False, "age_s": 0.4,
        },
        {
            "name": "ess-5", "number": 5, "kind": "ess", "link": "coap", "present": True, "on": None, "level": None,
            "power_w": None, "priority": 5, "soc": 51.2, "voltage": 230.0, "hertz": 50.02, "plugged": None,
            "held": None, "never_shed": True, "age_s": None,
        },
    ],
    "upstreams": [{"name": "ems", "protocol": "mqtt", "mode": 1, "state": "registered", "sent": 12, "refused": 0}],
    "outbox": {"waiting": 4, "lost": 0},
    "events": [
        {
            "upstream": "ems", "event_id": 17, "modification": 0, "start": 1_759_999_000.0, "end": 1_760_000_000.0,
            "limit_w": 800.0, "state": "running",
        }
    ],
    "price": None,
}  # fmt: skip

DECISIONS: list[dict[str, Any]] = [
    {
        "id": number, "at": 1_760_000_000.0 + number, "rule": "shed", "power_w": 1012.0,
        "limit": {"import_w": 800.0, "export_w": None, "terms": []}, "why": "over by 212 W of 800 W (event 17)",
        "line": f"over by 212 W of 800 W (event 17): lamp-{number} off", "actions": [], "kept": [], "event_id": 17,
    }
    for number in (2, 1)
]  # fmt: skip


class FakeDaemon:
    """Remembers every request; ``answers`` is by verb a result, or a function of the request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {"status": STATUS, "why": DECISIONS}
        self.raw: bytes | None = None
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self._server.accept()
            except OSError:
                return
            with wire, wire.makefile("rb") as lines, contextlib.suppress(OSError):
                for line in lines:
                    if self.raw is not None:
                        wire.sendall(self.raw)
                        break
                    wire.sendall(json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        answer = self.answers.get(request["do"], "done")
        if isinstance(answer, Exception):
            return {"ok": False, "error": str(answer)}
        result = answer(request) if isinstance(answer, Callable) else answer  # type: ignore[arg-type]
        return {"ok": True, "result": result}

    def commands(self) -> list[dict[str, Any]]:
        """What was asked beyond the status."""
        return [request for request in self.requests if request["do"] != "status"]

    def close(self) -> None:
        """Listen no more; returns when the thread has ended."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


@contextlib.contextmanager
def fake_daemon(folder: Path) -> Iterator[FakeDaemon]:
    """One in that folder, closed at the end."""
    daemon = FakeDaemon(folder / "smartema.sock")
    try:
        yield daemon
    finally:
        daemon.close()


def smartema(*words: object, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line as a user's shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )
