"""The daemon as a real process, with what stands around it: an EMS on a broker, device agents with their twins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agents.agent import Agent
from device_agents.run_coap import CoapDevice
from device_agents.run_mqtt import MqttDevice
from device_agents.runner import Runner
from device_agents.simulated import simulated_lamp
from gateway.clock import SystemClock
from gateway.links.mir2017.messages import split_request_id
from gateway.transport.mqtt import MqttSettings
from headend.ems.app import Ems
from headend.ems.settings import EmsSettings
from tests.support.mosquitto import free_port
from tests.support.wait import until

# A started process under a loaded machine; every wait ends as soon as its condition holds.
PATIENCE_S = 30.0
POLL_S = 0.02

Table = Mapping[str, Any]


def toml(tables: Mapping[str, Table | Sequence[Table]]) -> str:
    """Tables and arrays of tables as the configuration takes them; JSON's literals are TOML's."""
    lines: list[str] = []
    for name, content in tables.items():
        for table in [content] if isinstance(content, Mapping) else content:
            lines.append(f"[{name}]" if isinstance(content, Mapping) else f"[[{name}]]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
            lines.append("")
    return "\n".join(lines)


def lamps(*numbers: int, link: str = "mqtt", **more: Any) -> list[Table]:
    """``[[device]]`` tables of lamps whose priority is their number."""
    return [{"number": n, "type": "led", "link": link, **more} for n in numbers]


class Ema:
    """One ``smartema run`` as a child. ``tables`` is its configuration; state and socket lie in ``directory``."""

    def __init__(
        self, directory: Path, tables: Mapping[str, Table | Sequence[Table]], env: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.state_dir = directory / "state"
        self.config = directory / "gateway.toml"
        self.log_path = directory / "log"
        self.env = dict(env or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.write(tables)

    def write(self, tables: Mapping[str, Table | Sequence[Table]]) -> None:
        """Another configuration; the daemon reads it at its start or at SIGHUP."""
        ema = tables.get("ema", {})
        assert isinstance(ema, Mapping)
        self.tables = {**tables, "ema": {"state_dir": str(self.state_dir), **ema}}
        self.socket = Path(self.tables["ema"].get("socket", f"{self.tables['ema']['state_dir']}/smartema.sock"))
        self.config.write_text(toml(self.tables))

    # --- life ---

    def spawn(self) -> None:
        """Start the process; nothing is waited for."""
        assert self.process is None
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self.env}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )

    async def start(self) -> Ema:
        """Return when the daemon answers and says that it runs."""
        before = self.log().count(" runs, start ")
        self.spawn()
        await self.until(lambda: self.log().count(" runs, start ") > before, "runs")
        await self.status()
        return self

    async def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
        """Wait for a condition of the test; a daemon that ended fails it at once, with its log."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the daemon ended ({self.process.returncode}) before {what}:\n{self.log()}")
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}; its log:\n{self.log()[-6000:]}")
            await asyncio.sleep(POLL_S)

    async def ended(self, seconds: float = PATIENCE_S) -> int:
        """The exit code of a process that ends by itself."""
        process = self._alive()
        end = time.monotonic() + seconds
        while process.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"still runs after {seconds} s:\n{self.log()}")
            await asyncio.sleep(0.005)
        self.process = None
        return int(process.returncode)

    async def terminate(self, seconds: float = PATIENCE_S) -> tuple[int, float]:
        """SIGTERM; its exit code and how long it took."""
        began = time.monotonic()
        self._alive().send_signal(signal.SIGTERM)
        code = await self.ended(seconds)
        return code, time.monotonic() - began

    def kill(self) -> None:
        """kill -9."""
        process = self._alive()
        process.kill()
        process.wait()
        self.process = None

    def freeze(self) -> None:
        """It stands still: what is sent to it waits."""
        self._alive().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._alive().send_signal(signal.SIGCONT)

    def hangup(self) -> None:
        self._alive().send_signal(signal.SIGHUP)

    async def close(self) -> None:
        """For the end of a test: whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                await self.ended(5.0)
            except AssertionError:
                self.kill()
                raise
        self.process = None

    def _alive(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "not started"
        return self.process

    # --- what it says ---

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def lines(self, part: str) -> list[str]:
        """The log's lines that hold ``part``."""
        return [line for line in self.log().splitlines() if part in line]

    async def ask(self, verb: str, **arguments: Any) -> Any:
        """One request on the control socket."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=16_000_000)
            try:
                writer.write(json.dumps({"do": verb, **arguments}).encode() + b"\n")
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
        assert answer["ok"], answer
        return answer["result"]

    async def status(self) -> dict[str, Any]:
        """``smartema status``; waits for a daemon that is just starting."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return dict(await self.ask("status"))
            except (OSError, ValueError):
                if time.monotonic() > end or self._alive().poll() is not None:
                    raise AssertionError(f"does not answer:\n{self.log()[-6000:]}") from None
                await asyncio.sleep(POLL_S)

    async def shows(
        self, condition: Callable[[dict[str, Any]], object], what: str, seconds: float = PATIENCE_S
    ) -> dict[str, Any]:
        """The first status for which the condition holds."""
        end = time.monotonic() + seconds
        while True:
            status = await self.status()
            if condition(status):
                return status
            if time.monotonic() > end:
                shown = json.dumps(status, indent=1)
                raise AssertionError(f"not within {seconds} s: {what}\n{shown}\n{self.log()[-6000:]}")
            await asyncio.sleep(POLL_S)

    async def registered(self) -> dict[str, Any]:
        """Return when every upstream's session is up."""
        return await self.shows(lambda s: all(u["state"] == "up" for u in s["upstreams"]), "registered")

    async def present(self, *numbers: int) -> dict[str, Any]:
        """Return when these devices are there and have said their state."""
        return await self.shows(
            lambda s: set(numbers) <= {d["number"] for d in s["devices"] if d["present"] and d["age_s"] is not None},
            f"devices {numbers}",
        )

    def rss_kib(self) -> int:
        """Resident memory."""
        text = Path(f"/proc/{self._alive().pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS:")).split()[1])


class EmsBeside:
    """The real EMS without HTTP, in the test's process, on somebody's broker."""

    def __init__(self, directory: Path, port: int, **settings: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        keys = {"broker": f"127.0.0.1:{port}", "state_dir": str(directory), "zone": "UTC", "duration_ms": 200}
        self.directory = directory
        self.ems = Ems(EmsSettings(**{**keys, **settings}), SystemClock(), random.Random(5), http=False)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> EmsBeside:
        self._task = asyncio.create_task(self.ems.run())
        await self.ems.ready()
        await until(lambda: self.ems.connected, PATIENCE_S, "the EMS is at its broker")
        return self

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def book(self) -> Any:
        return self.ems.service.book

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What is on its disk."""
        with contextlib.closing(sqlite3.connect(f"file:{self.directory}/ems.db?mode=ro", uri=True)) as connection:
            return list(connection.execute(sql, values))

    def stored(self, ema: str = "gw/1") -> list[tuple[int, int]]:
        """(boot, seq) of the reports of an EMA in its outbox's numbers, in the order in which they were stored."""
        rows = self.rows("SELECT request_id FROM reports WHERE ema = ? ORDER BY rowid", ema)
        found = [split_request_id(int(row[0])) for row in rows]
        return [pair for pair in found if pair is not None]

    async def event(self, watts: float, seconds: float = 600.0, to: Sequence[str] | str = ("gw/1",)) -> Any:
        """An event from now on."""
        now = time.time()
        return await self.ems.create_event(watts, now, now + seconds, to)

    async def answered(self, event: Any, opt: str = "optIn", ema: str = "gw/1") -> None:
        """Return when CreatedEvent for the event as it stands is on the EMS's disk."""
        sql = "SELECT opt FROM deliveries WHERE event_id = ? AND ema = ? AND answered = ?"
        wanted = {opt, {"optIn": "in", "optOut": "out"}.get(opt, opt)}
        await until(
            lambda: {row[0] for row in self.rows(sql, event.id, ema, event.modification)} & wanted,
            PATIENCE_S,
            f"CreatedEvent {opt} for event {event.id}",
        )


class Agents:
    """Device agents in the test's process. ``watts`` is what their twins really draw."""

    def __init__(self) -> None:
        self.runners: dict[int, Runner] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.clock = SystemClock()
        self.samples: list[tuple[float, float]] = []
        self._sampler: asyncio.Task[None] | None = None

    def lamp(self, number: int, watts: float = 60.0, boot: int = 1, **more: Any) -> Agent:
        return simulated_lamp(number, number, boot, self.clock, watts, **more)

    def mqtt(self, port: int, agent: Agent, period_s: float = 1.0, **settings: Any) -> Agent:
        """Put a device on the site broker."""
        where = MqttSettings("127.0.0.1", port, **settings)
        runner = MqttDevice(agent, where, self.clock, random.Random(agent.dev), period_s, min(period_s, 1.0))
        return self._run(agent, runner)

    def coap(self, port: int, agent: Agent, period_s: float = 1.0) -> Agent:
        """Put a device on CoAP, on a port of its own."""
        runner = CoapDevice(agent, "127.0.0.1", port, "127.0.0.1", udp_port(), self.clock, period_s, min(period_s, 1.0))
        return self._run(agent, runner)

    def _run(self, agent: Agent, runner: Runner) -> Agent:
        self.runners[agent.dev] = runner
        self._tasks[agent.dev] = asyncio.create_task(runner.run())
        return agent

    @property
    def watts(self) -> float:
        return sum(r.agent.plant.mw() for r in self.runners.values()) / 1000

    def draws(self, number: int) -> float:
        return self.runners[number].agent.plant.mw() / 1000

    def watch(self) -> None:
        """Sample the true power from now on into ``samples``: (monotonic, W)."""

        async def sample() -> None:
            while True:
                self.samples.append((time.monotonic(), self.watts))
                await asyncio.sleep(0.01)

        self._sampler = asyncio.create_task(sample())

    async def leave(self, number: int) -> None:
        """One says good-bye."""
        task = self._tasks.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del self.runners[number]

    async def stop(self) -> None:
        tasks = [*self._tasks.values(), *([self._sampler] if self._sampler else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()


def udp_port() -> int:
    """A port of 127.0.0.1 on which nobody takes datagrams now."""
    import socket

    return free_port(socket.SOCK_DGRAM)


@contextlib.asynccontextmanager
async def closing(*parts: Any) -> AsyncIterator[None]:
    """End the parts of a test in order, whatever happened in it; the first failure of an end is the test's."""
    try:
        yield
    finally:
        failure: BaseException | None = None
        for part in parts:
            end: Callable[[], Awaitable[None] | None] = getattr(part, "close", None) or part.stop
            try:
                outcome = end()
                if outcome is not None:
                    await outcome
            except Exception as err:
                failure = failure or err
        if failure is not None:
            raise failure


def tool(name: str) -> str:
    """Path of a program of another project, or a skip that says what to install."""
    import pytest

    found = shutil.which(name)
    if found is None:
        package = {"coap-client-notls": "libcoap3-bin", "tshark": "tshark", "dumpcap": "tshark"}.get(
            name, "mosquitto-clients"
        )
        pytest.skip(f"{name} is not installed: apt install {package}")
    return found
