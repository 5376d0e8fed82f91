"""A real mosquitto for the tests: on a free port of loopback, started, killed and brought back by the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

MOSQUITTO = shutil.which("mosquitto") or next(
    (path for path in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if os.access(path, os.X_OK)), None
)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker. ``extra`` are further lines of its configuration."""

    def __init__(self, directory: Path, extra: str = "allow_anonymous true\n", port: int | None = None) -> None:
        self.port = port or free_port()
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        self._conf = directory / "mosquitto.conf"
        self._conf.write_text(
            f"listener {self.port} 127.0.0.1\nset_tcp_nodelay true\nmax_queued_messages 100000\n"
            f"max_inflight_messages 1000\nuser root\nlog_dest file {directory / 'mosquitto.log'}\n{extra}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return when it listens."""
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError(f"mosquitto ended: see {self._directory}/mosquitto.log") from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        raise RuntimeError("mosquitto does not listen")

    def kill(self) -> None:
        """kill -9, as a power cut of the broker alone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """An orderly end."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(10)
        self._process = None
