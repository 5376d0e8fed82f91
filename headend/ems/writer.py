"""Group commit: one thread owns the writing connection, and what arrives while one commit is on its way to the
disk shares the next one. So nothing waits for a timer, and a thousand reports cost a few syncs.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741
# Many items of one sort in one go: one result each, in their order.
Bulk = Callable[[Connection, list[I]], list[T]]

# One transaction's share: more would hold the readers' acknowledgements back for longer than a sync takes.
MOST_PER_COMMIT = 500


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[Connection], T]
    done: Callable[[T | None, Exception | None], None]
    bulk: Bulk[Any, T] | None = None
    item: Any = None


class Writer:
    """Runs jobs in order, many to one transaction; a job's ``done`` is called on the loop after its commit.

    A job that fails is tried alone, so that it takes no other along; then its ``done`` gets the error.
    """

    def __init__(self, engine: Engine, logger: logging.Logger) -> None:
        self._engine = engine
        self._log = logger
        self._jobs: deque[_Job[Any]] = deque()
        self._some = threading.Condition()
        self._stop = False
        self.failing = ""  # what the database says while writes fail
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commits = 0

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="ems-writer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, work: Callable[[Connection], T], done: Callable[[T | None, Exception | None], None]) -> None:
        """Queue a job. ``done(result, error)`` runs on the loop."""
        with self._some:
            if self._stop:
                raise RuntimeError("the store is closed")
            self._jobs.append(_Job(work, done))
            self._some.notify()

    def submit_item(self, bulk: Bulk[I, T], item: I, done: Callable[[T | None, Exception | None], None]) -> None:
        """Queue an item that shares ``bulk`` with the others of its commit."""
        with self._some:
            if self._stop:
                raise RuntimeError("the store is closed")
            self._jobs.append(_Job(lambda connection: bulk(connection, [item])[0], done, bulk, item))
            self._some.notify()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Queue a job and return its result after the commit."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self.submit(work, done)
        return await future

    async def close(self) -> None:
        """Commit what is queued, and end."""
        thread = self._thread
        with self._some:
            self._stop = True
            self._some.notify()
        if thread is not None:
            # In a thread: joining waits for the last sync.
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)

    def _run(self) -> None:
        while True:
            with self._some:
                while not self._jobs and not self._stop:
                    self._some.wait()
                if not self._jobs:
                    return
                batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), MOST_PER_COMMIT))]
            self._report(self._commit(batch))

    def _commit(self, batch: list[_Job[Any]]) -> list[tuple[_Job[Any], Any, Exception | None]]:
        try:
            with self._engine.begin() as connection:
                results = self._work(connection, batch)
        except Exception as err:
            if len(batch) > 1:
                return [outcome for job in batch for outcome in self._commit([job])]
            self._log.log(logging.DEBUG if self.failing else logging.ERROR, "database: %s", _first_line(err))
            self.failing = _first_line(err)
            return [(batch[0], None, err)]
        self.commits += 1
        if self.failing:
            self.failing = ""
            self._log.info("database: writes work again")
        return results

    def _work(self, connection: Connection, batch: list[_Job[Any]]) -> list[tuple[_Job[Any], Any, Exception | None]]:
        bulks: dict[Bulk[Any, Any], list[_Job[Any]]] = {}
        for job in batch:
            if job.bulk is not None:
                bulks.setdefault(job.bulk, []).append(job)
        results: list[tuple[_Job[Any], Any, Exception | None]] = []
        for bulk, jobs in bulks.items():
            together = bulk(connection, [job.item for job in jobs])
            results += [(job, result, None) for job, result in zip(jobs, together, strict=True)]
        results += [(job, job.work(connection), None) for job in batch if job.bulk is None]
        return results

    def _report(self, outcomes: list[tuple[_Job[Any], Any, Exception | None]]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_tell, outcomes, self._log)
        except RuntimeError:
            self._log.debug("the loop ended before %d results were told", len(outcomes))


def _tell(outcomes: list[tuple[_Job[Any], Any, Exception | None]], log: logging.Logger) -> None:
    for job, result, error in outcomes:
        try:
            job.done(result, error)
        except Exception:
            log.exception("after a commit")


def _first_line(err: Exception) -> str:
    return str(err).split("\n", 1)[0]
