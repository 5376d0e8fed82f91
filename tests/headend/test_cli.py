"""``smartema ems`` as it is typed: a server in its own process, and the commands that speak to it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gateway.cli import main
from gateway.clock import SystemClock
from gateway.transport.mqtt import MqttLink, MqttSettings
from tests.headend.support import ScriptedEma
from tests.support.mosquitto import MOSQUITTO, Mosquitto, free_port
from tests.support.wait import until

WRONG = "UpdateReport Power: 'much' is not a whole number from -1000000000 to 1000000000"


@dataclass
class Server:
    """A running ``smartema ems``."""

    process: asyncio.subprocess.Process
    state: Path
    broker: Mosquitto

    async def ask(self, *words: str) -> tuple[int, str, str]:
        """A command in its own process: exit code, standard output and error."""
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "ems", *words, "--state-dir", str(self.state),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asking.communicate()
        return asking.returncode or 0, out.decode(), err.decode()

    def api(self) -> httpx.AsyncClient:
        url = json.loads((self.state / "endpoint.json").read_text())["url"]
        token = (self.state / "token").read_text().strip()
        return httpx.AsyncClient(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"})

    async def connected(self) -> None:
        """Return when it has its broker."""
        async with self.api() as api, asyncio.timeout(30):
            while not (await api.get("/overview")).json()["links"][0]["up"]:
                await asyncio.sleep(0.05)

    async def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 20)


async def _start(broker: Mosquitto, state: Path, *options: str) -> Server:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "ems", "--broker", f"127.0.0.1:{broker.port}", "--http", "127.0.0.1:0",
        "--state-dir", str(state), "--no-tty", *options, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await until(lambda: (state / "endpoint.json").exists() or process.returncode is not None, 30, "the EMS serves")
    assert process.returncode is None
    return Server(process, state, broker)


@pytest_asyncio.fixture
async def server(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Server]:
    started = await _start(mosquitto, tmp_path / "ems")
    yield started
    if started.process.returncode is None:
        started.process.kill()
        await started.process.wait()


async def test_from_the_command_line_to_the_ema_and_back(server: Server) -> None:
    ema = ScriptedEma(server.broker.port, 1)
    running = asyncio.ensure_future(ema.run())
    try:
        await server.connected()
        async with server.api() as api:
            ema.send(ema.client.connected())
            await ema.session()

            code, out, err = await server.ask(
                "event", "--value", "800", "--from", "now", "--for", "10m", "--to", "gw/1"
            )
            assert (code, err) == (0, "")
            made = re.fullmatch(r"event (\d+) running: 800 W, \S+ \S+ to \S+ \S+, gw/1\n", out)
            assert made is not None
            number = made[1]
            await until(lambda: [event.value for event in ema.events] == [800])

            code, out, _ = await server.ask("change", number, "--value", "600", "--json")
            assert (code, json.loads(out)["modification"]) == (0, 1)
            code, out, _ = await server.ask("cancel", number)
            assert out.startswith(f"event {number} (modification 2) cancelled")
            await until(lambda: [(e.value, e.cancelled) for e in ema.events][-2:] == [(600, False), (600, True)])

            code, out, err = await server.ask("cancel", number)
            assert (code, out, err) == (1, "", f"id: event {number} is cancelled already\n")
            code, _, err = await server.ask("event", "--value", "800", "--for", "10m", "--to", "gw/7")
            assert (code, err) == (2, "targets: gw/7 is not known; EMAs: gw/1\n")
            _, out, _ = await server.ask("list", "emas")
            assert out.splitlines()[1].split()[:3] == ["gw/1", "mqtt", "normal"]

            stranger = MqttLink(MqttSettings("127.0.0.1", server.broker.port), SystemClock(), random.Random(1), print)
            strange = asyncio.ensure_future(stranger.run())
            await until(lambda: stranger.up)
            await stranger.publish("EMS/UpdateReport", b'{"GW":"gw/1","VENID":"x","RequestID":7,"Power":"much"}')
            await until(lambda: 7 in ema.acknowledged, what="an answer")
            strange.cancel()
            code, out, _ = await server.ask("status")
            assert code == 0
            assert f"mqtt 127.0.0.1:{server.broker.port} up: 0 reconnects, 1 refused" in out
            assert "0 stored, 0 came again, 1 rejected" in out
            assert f"gw/1      1  report 7: {WRONG}" in out

            async with api.stream("GET", "/live") as live:
                lines = live.aiter_lines()
                assert await anext(lines) == "event: hello"
                assert json.loads((await anext(lines)).removeprefix("data: "))["emas"][0]["name"] == "gw/1"
                await server.ask("limit", "total", "5000")
                told = [await anext(lines) for _ in range(3)]
                assert told[1:] == ["event: limit", 'data: {"ema": null, "scope": "total", "watts": 5000.0}']
        assert await server.end() == 0
        code, _, err = await server.ask("list", "emas")
        assert (code, "no EMS is running" in err) == (1, True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_collection_does_not_walk_what_it_serves_with(tmp_path: Path) -> None:
    """It would stop all answers for as long."""
    said = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))\n"
    coap = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    serve = [
        "ems",
        "--broker",
        "none",
        "--coap",
        coap,
        "--http",
        "127.0.0.1:0",
        "--state-dir",
        str(tmp_path / "ems"),
        "--no-tty",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"{said}import sys; from gateway.cli import main; sys.exit(main({serve!r}))",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        served = tmp_path / "ems" / "endpoint.json"
        await until(lambda: served.exists() or process.returncode is not None, 30, "the EMS serves")
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert int(out) > 10_000


async def test_what_it_leaves_on_disk_is_for_its_owner(server: Server) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.state.iterdir()}
    assert modes["token"] == modes["admin-password"] == 0o600
    assert stat.S_IMODE(server.state.stat().st_mode) == 0o700


async def test_two_on_one_state_folder_are_one_too_many(server: Server) -> None:
    code, _, err = await server.ask("--http", "127.0.0.1:0")
    assert (code, err) == (2, f"state_dir: {server.state}: another EMS runs here; choose another\n")


@pytest.mark.parametrize(
    ("toml", "words", "text"),
    [
        ('broker = "nowhere"', [], "broker: 'nowhere' is not HOST:PORT"),
        ('colour = "red"', [], "colour: unknown key"),
        ("resend_s = true", [], "resend_s: True is not a number"),
        ("resend-s = 0", [], "resend_s: 0 is not above 0"),
        ("= 5", [], "ems.toml: "),
        ('zone = "Mars/Base"', [], "'Mars/Base'"),
        ('rdr_policy = "maybe"', [], "rdr_policy: 'maybe' is none of"),
        ('password_file = "/nowhere/secret"', [], "/nowhere/secret"),
        ('ca_file = "/nowhere/ca"', [], "/nowhere/ca: no such file"),
        ('http_cert = "a"', [], "http_cert and http_key"),
        ("", ["--db", "postgresql://ems:secret@host/ems"], "--db: a command line is seen by everybody"),
        ("", ["event", "--value", "5", "--to", "gw/1"], "token"),
        ("", ["broker-config", "x", "--emas", "zero"], "--emas: 'zero' is not a list"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    toml: str, words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ems.toml"
    config.write_text(toml)
    options = ["-c", str(config)] if toml else []
    state = [] if words[:1] == ["broker-config"] else ["--state-dir", str(tmp_path / "ems")]
    assert main(["ems", *options, *words, *state]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.count("\n") == 1
    assert "secret@" not in err


def test_a_password_that_others_can_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "password"
    path.write_text("hush\n")
    path.chmod(0o644)
    assert main(["ems", "--password-file", str(path), "--state-dir", str(tmp_path / "ems")]) == 2
    err = capsys.readouterr().err
    assert f"chmod 600 {path}" in err
    assert "hush" not in err


def test_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["event"], ["list"], ["control"], ["broker-config"]):
        assert main(["ems", *words, "--help"]) == 0
        assert re.search(r"examples?:\n  smartema ems", capsys.readouterr().out)


async def test_a_broker_with_accounts_keeps_emas_apart(tmp_path: Path) -> None:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    directory = tmp_path / "broker"
    port = free_port()
    assert main(["ems", "broker-config", str(directory), "--emas", "1-2", "--port", str(port)]) == 0
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in directory.iterdir())
    broker = _AsWritten(directory, port)
    await broker.start()
    server: Server | None = None
    tasks = []
    try:
        password = directory / "ems.password"
        server = await _start(broker, tmp_path / "ems", "--user", "ems", "--password-file", str(password))
        words = [(directory / f"gw-{n}.password").read_text().strip() for n in (1, 2)]
        one = ScriptedEma(port, 1, "gw-1", words[0])
        # An EMA's account that listens where another's events go hears nothing.
        spy = ScriptedEma(port, 1, "gw-2", words[1])
        spy.opt_in = None
        tasks = [asyncio.ensure_future(ema.run()) for ema in (one, spy)]
        await until(lambda: one.link.up and spy.link.up)
        await server.connected()
        one.send(one.client.connected())
        await one.session()
        code, _, err = await server.ask("event", "--value", "800", "--for", "10m", "--to", "gw/1")
        assert (code, err) == (0, "")
        await until(lambda: [event.value for event in one.events] == [800])
        assert spy.happened == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            server.process.kill()
            await server.process.wait()
        broker.stop()


class _AsWritten(Mosquitto):
    """A broker on the files that ``broker-config`` wrote."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory / "unused", port=port)
        self._conf = directory / "mosquitto.conf"
