"""The site broker's mosquitto as a process: started so that it ends with us, ended, and found again by its pid file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from gateway.clock import Clock
from gateway.field.broker_files import write_private

END_S = 1.0

# Runs in the child before mosquitto: no wish of ours survives exec but these. The parent-death signal is forgotten
# by the kernel when a process changes its user, so the user is changed first; a parent that died in between is seen
# by its number. It is SIGKILL: mosquitto forgets a SIGTERM that comes before its loop begins, and has nothing to save.
# Python's own libraries may be out of the new user's reach, so they are loaded first.
LAUNCH = """
import os, sys
try:
    import ctypes
    prctl = ctypes.CDLL(None).prctl
except (ImportError, OSError, AttributeError):
    prctl = None
parent, uid, gid = map(int, sys.argv[1:4])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if prctl is not None:
    prctl(1, 9, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""


class BrokerProcess:
    """At most one mosquitto, standing in ``directory``, which holds its ``mosquitto.conf``."""

    def __init__(self, directory: Path, clock: Clock, logger: logging.Logger) -> None:
        self.pid: int | None = None
        self._directory = directory
        self._pid_file = directory / "pid"
        self._clock = clock
        self._log = logger

    async def start(self, program: str, ids: tuple[int, int]) -> asyncio.subprocess.Process:
        """``ids``: (uid, gid) that it becomes; (-1, -1): ours. Its log comes on its standard error."""
        python = sys.executable or "python3"
        process = await asyncio.create_subprocess_exec(
            python,
            *("-I", "-S", "-c", LAUNCH, str(os.getpid()), *map(str, ids)),
            *(program, "-c", "mosquitto.conf"),
            cwd=self._directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.pid = process.pid
        write_private(self._pid_file, f"{process.pid}\n")
        return process

    def hangup(self) -> None:
        """Let it read accounts and rights again."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGHUP)

    async def end(self, process: asyncio.subprocess.Process) -> None:
        """End it within a second, asked or not."""
        self.pid = None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(END_S):
                    await process.wait()
            except (TimeoutError, asyncio.CancelledError):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._pid_file.unlink(missing_ok=True)

    async def end_orphan(self) -> None:
        """A mosquitto of ours that outlived the last daemon still has the port, and the old passwords."""
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._is_ours(pid):
                self._log.info("site broker: ending the one of the last run (pid %d)", pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            for _ in range(40):
                if not self._is_ours(pid):
                    self._pid_file.unlink(missing_ok=True)
                    return
                await self._clock.sleep(0.05)

    def _is_ours(self, pid: int) -> bool:
        """Only a mosquitto that stands in our directory: the number may have been given to another program."""
        process = Path("/proc") / str(pid)
        try:
            program = (process / "cmdline").read_bytes().split(b"\0")[0]
            if not program:
                # One that was killed has no command line any more, and for a moment it still has its port.
                stat = (process / "stat").read_text(encoding="ascii", errors="replace")
                _, named, state = stat.rpartition("(mosquitto) ")
                return bool(named) and state[:1] not in ("Z", "X")
            return (
                os.path.basename(program) == b"mosquitto" and (process / "cwd").resolve() == self._directory.resolve()
            )
        except OSError:
            return False
