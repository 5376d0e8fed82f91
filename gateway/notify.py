"""systemd's readiness protocol: one datagram a message (sd_notify(3)). Silent where nobody listens."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Tells the service manager how the daemon stands. ``environment`` is handed in (os.environ in the daemon)."""

    def __init__(self, environment: dict[str, str] | os._Environ[str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        pid = environment.get("WATCHDOG_PID", "")
        usec = environment.get("WATCHDOG_USEC", "")
        mine = not pid or pid == str(os.getpid())
        # Half of what systemd allows, as sd_watchdog_enabled(3) advises.
        self.watchdog_s: float | None = int(usec) / 2e6 if usec.isdigit() and int(usec) > 0 and mine else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self, monotonic_s: float) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire:
                wire.connect(self._address)
                wire.sendall(text.encode())
        except OSError:
            pass  # the manager is gone or full; the next message tells it again
