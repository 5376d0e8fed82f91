"""The journal's one thread, and its group commit.

SQLite blocks: a synced commit takes milliseconds, on flash many, and the loop must not stand still for it (rule 5). One
thread does all writing; what is handed in while it commits makes up its next commit. Everything costly in Python
(JSON) is done before, by the caller, so that the thread runs SQLite's C code, which lets go of the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gateway.journal.store import JournalError

log = logging.getLogger(__name__)

# Records nobody waits for are gathered this long: at most 50 commits a second, and kill -9 takes no more than this.
LINGER_S = 0.02
# A disk that was full is tried again this often, and at once when somebody waits.
RETRY_S = 1.0
# Without a thread, this many turns of unwritten work make a commit.
INLINE_EVERY = 32


class Job(Protocol):
    """One file: what is to be written next, and how. ``take``, ``written`` and ``failed`` run under the lock."""

    name: str

    def take(self) -> Any | None:
        """All that is new, to be written in one transaction; None: nothing."""

    def write(self, batch: Any) -> None:
        """All of it or nothing; raise why not. Runs without the lock."""

    def written(self, batch: Any) -> None:
        """It is in the file."""

    def failed(self, batch: Any, error: Exception) -> None:
        """It is not; it stays to be written, before everything newer."""


class Waiters:
    """Who waits until what was handed in is written. ``serial`` counts what was handed in, ``done`` what is written.
    All under the journal's lock."""

    def __init__(self) -> None:
        self.serial = 0
        self.done = 0
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def pending(self) -> bool:
        return self.done < self.serial

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None] | None:
        """Ends when all handed in so far is written, or raises why it could not be; None: it is already."""
        if not self.pending():
            return None
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append((self.serial, loop, future))
        return future

    def written(self, serial: int) -> None:
        self.done = max(self.done, serial)
        self._answer(serial, None)

    def failed(self, serial: int, error: JournalError) -> None:
        self._answer(serial, error)

    def _answer(self, upto: int, error: JournalError | None) -> None:
        due = [waiter for waiter in self._waiting if waiter[0] <= upto]
        if due:
            self._waiting = [waiter for waiter in self._waiting if waiter[0] > upto]
            for _, loop, future in due:
                tell(loop, functools.partial(_settle, future, error))


def _settle(future: asyncio.Future[None], error: JournalError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class Writer:
    """Runs the jobs: in a thread of its own, or (``threaded=False``, for many EMAs in one process and for virtual
    time) within the calls that hand work in."""

    def __init__(self, lock: threading.Lock, jobs: Sequence[Job], threaded: bool) -> None:
        self._lock = lock
        self._jobs = jobs
        self._wake = threading.Condition(lock)
        self._wanted = False
        self._urgent = False
        self._stopping = False
        self._turns = 0
        self._failing: dict[str, str] = {}
        self._ended: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True) if threaded else None

    def start(self) -> None:
        if self._thread is not None:
            self._thread.start()

    def failing(self) -> dict[str, str]:
        """Job → why it cannot write now."""
        return dict(self._failing)

    def want(self) -> None:
        """There is something new. Call with the lock held; ``flush_if_inline`` after it is released."""
        if not self._wanted:
            self._wanted = True
            self._wake.notify()

    def hurry(self) -> None:
        """There is something that must be on disk soon. Call with the lock held."""
        self._wanted = True
        if not self._urgent:
            self._urgent = True
            self._wake.notify()

    def turn(self, urgent: bool = False) -> None:
        """Without a thread: do what is due. Call without the lock."""
        if self._thread is None:
            self._turns += 1
            if urgent or self._turns >= INLINE_EVERY:
                self._turns = 0
                self._urgent = True
                while self._urgent:  # a job hurries while it has more than one transaction takes
                    self._urgent = False
                    self._round()

    async def stop(self, within_s: float) -> bool:
        """Write what is left (once), and end. False: the disk did not answer in that time (of the machine's clock);
        the thread still has the files then, and ends with the process."""
        if self._thread is None:
            self._round()
        elif self._thread.is_alive():
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            self._ended = lambda: tell(loop, ended.set)
            with self._lock:
                self._stopping = True
                self._wake.notify()
            try:
                await asyncio.wait_for(ended.wait(), within_s)
            except TimeoutError:
                return False
            self._thread.join()
        return True

    def _work(self) -> None:
        while True:
            with self._lock:
                while not (self._wanted or self._stopping):
                    self._wake.wait(RETRY_S if self._failing else None)
                    if self._failing:
                        break
                if not (self._urgent or self._stopping):
                    self._wake.wait(LINGER_S)
                last = self._stopping
                self._wanted = self._urgent = False
            self._round()
            if last:
                self._ended()
                return

    def _round(self) -> None:
        for job in self._jobs:
            with self._lock:
                batch = job.take()
            if batch is None:
                continue
            try:
                job.write(batch)
            except Exception as error:  # whatever it is: the thread must live, or nobody is told
                with self._lock:
                    job.failed(batch, error)
                self._say(job.name, str(error))
            else:
                with self._lock:
                    job.written(batch)
                self._say(job.name, None)

    def _say(self, name: str, problem: str | None) -> None:
        before = self._failing.get(name)
        if problem is not None:
            self._failing[name] = problem
            level = logging.DEBUG if before is not None else logging.WARNING
            log.log(level, "%s cannot be written: %s; what is new is kept in memory and tried again", name, problem)
        elif before is not None:
            del self._failing[name]
            log.info("%s is written again", name)


def tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """From the thread into the loop; a loop that is closed has nobody who waits."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
