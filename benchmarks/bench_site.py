"""What the figures are measured on: a mosquitto, an EMA in its own process, devices and an EMS played by the bench."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from gateway.clock import SystemClock
from gateway.links.mir2017.happenings import DeviceConnected, DeviceDisconnected, Reported
from gateway.links.mir2017.messages import Send
from gateway.links.mir2017.server import Server
from gateway.transport.mqtt import MqttLink, MqttSettings
from tests.support.mosquitto import Mosquitto, free_port

ROUNDS = 5
LAMP_MW = 60_000


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes away with the bench."""
    with tempfile.TemporaryDirectory(prefix="smartema-bench-") as name:
        yield Path(name)


@contextlib.asynccontextmanager
async def broker(directory: Path) -> AsyncIterator[Mosquitto]:
    """A mosquitto without accounts."""
    mosquitto = Mosquitto(directory / "mosquitto")
    await mosquitto.start()
    try:
        yield mosquitto
    finally:
        mosquitto.stop()


def configuration(directory: Path, port: int, devices: int, threshold_w: float, extra: str = "") -> Path:
    """An EMA with so many lamps over MQTT, one over CoAP, and an EMS above it."""
    state = directory / "state"
    lines = [
        f'[ema]\nnumber = 1\nstate_dir = "{state}"\nlog_level = "warning"',
        f"[control]\nthreshold_w = {threshold_w:.1f}\nrestore_delay_s = 0.0\nlatency_s = 5.0\n{extra}",
        f'[site_broker]\nhost = "127.0.0.1"\nport = {port}',
        f"[site_coap]\nport = {free_port()}",
        f'[[upstream]]\nname = "ems"\nhost = "127.0.0.1"\nport = {port}\nmode = 1\ntimezone = "UTC"',
        *(f'[[device]]\nnumber = {n}\ntype = "led"\nlink = "mqtt"\nrated_w = 60.0' for n in range(1, devices + 1)),
        f'[[device]]\nnumber = {devices + 1}\ntype = "led"\nlink = "coap"\nrated_w = 60.0',
    ]
    path = directory / "ema.toml"
    path.write_text("\n\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def smartema(config: Path) -> tuple[str, ...]:
    """The command line of the daemon under test."""
    return (sys.executable, "-m", "gateway", "run", "-c", str(config))


def bare(program: str, *args: str) -> tuple[str, ...]:
    """The command line of a floor."""
    return (sys.executable, "-c", program, *args)


ECHO = """
import asyncio, socket, sys, aiomqtt
async def main():
    nodelay = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
    tasks = set()
    async with aiomqtt.Client("127.0.0.1", int(sys.argv[1]), socket_options=nodelay) as client:
        client.pending_calls_threshold = 10_000
        await client.subscribe(sys.argv[2], 1)
        await client.publish("floor/up", b"", 1)
        async for message in client.messages:
            task = asyncio.create_task(client.publish("dev/1", b'{"id":1,"lease_s":60,"on":false}', 1))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
asyncio.run(main())
"""

SUBSCRIBER = """
import asyncio, json, socket, sys, aiomqtt
async def main():
    nodelay = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
    async with aiomqtt.Client("127.0.0.1", int(sys.argv[1]), socket_options=nodelay) as client:
        await client.subscribe("status/+", 1)
        await client.publish("floor/up", b"", 1)
        async for message in client.messages:
            json.loads(message.payload)
asyncio.run(main())
"""

IMPORTS = "import asyncio, aiomqtt, aiocoap"


class Bench:
    """The bench's own client: plays the EMS and all devices; hands every message of interest to ``on_message``."""

    def __init__(self, port: int, devices: int) -> None:
        self.devices = devices
        self.registered = asyncio.Event()
        self.connected: set[int] = set()
        self.floor_up = asyncio.Event()
        self.seq = 0
        self.last_command: dict[int, dict[str, object]] = {}
        self.waiting: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._server = Server()
        self._up = asyncio.Event()
        topics = ("EMS/#", "dev/+", "floor/up", "hello")
        settings = MqttSettings("127.0.0.1", port, subscriptions=tuple((t, 1) for t in topics))
        self.link = MqttLink(settings, SystemClock(), random.Random(1), self._message, self._on_up)

    async def _on_up(self) -> None:
        self._up.set()

    def _message(self, topic: str, body: bytes) -> None:
        if topic.startswith("EMS/"):
            if topic == "EMS/connected":
                self.registered.set()
            self._serve(topic, body)
        elif topic.startswith("dev/"):
            self._device(int(topic[4:]), body)
        elif topic == "hello":
            self.announce()
        elif topic == "floor/up":
            self.floor_up.set()

    def _serve(self, topic: str, body: bytes) -> None:
        for out in self._server.received(topic, body):
            if isinstance(out, Send):
                self.link.post(out.topic, out.body)
            elif isinstance(out, Reported):
                self._send(self._server.acknowledge_report(out.ema, out.request_id))
            elif isinstance(out, DeviceConnected | DeviceDisconnected):
                came = isinstance(out, DeviceConnected)
                self._send(self._server.acknowledge_device(out.ema, out.device.device, came))

    def _send(self, sends: list[Send]) -> None:
        for send in sends:
            self.link.post(send.topic, send.body)

    def _device(self, number: int, body: bytes) -> None:
        if body == b"ack":
            self.connected.add(number)
            return
        command = json.loads(body)
        if "id" not in command:
            return
        self.last_command[number] = command
        future = self.waiting.get(number) or self.waiting.get(0)
        if future is not None and not future.done():
            future.set_result({"number": number, **command})

    def announce(self) -> None:
        """Every lamp says that it is there."""
        for number in range(1, self.devices + 1):
            body = {"dev": number, "type": "led", "priority": number, "boot": 1, "addr": None, "port": None}
            self.link.post("connected", json.dumps({**body, "caps": ["switch", "level"]}).encode())

    def status(self, number: int, on: bool, done: int = 0) -> None:
        """One state report of a lamp."""
        self.seq += 1
        state = {"dev": number, "boot": 1, "seq": self.seq, "on": on, "dimming": 9, "mw": LAMP_MW if on else 0}
        self.link.post(f"status/{number}", json.dumps({**state, "mwh": 0, "done": done}).encode())

    async def command_for(
        self, number: int, act: Callable[[], None], seconds: float = 10.0
    ) -> tuple[float, dict[str, object]]:
        """Do ``act`` and wait for the next command at the device (0: at any); seconds taken and the command."""
        future: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        began = time.perf_counter()
        act()
        command = await asyncio.wait_for(future, seconds)
        took = time.perf_counter() - began
        del self.waiting[number]
        return took, command

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Bench]:
        """The client connected."""
        task = asyncio.create_task(self.link.run())
        await asyncio.wait_for(self._up.wait(), 10)
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def quantile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def median(values: list[float]) -> float:
    return statistics.median(values)


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def cpu_s(pid: int) -> float:
    """Processor time that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
