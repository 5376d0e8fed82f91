"""The site broker, with a real mosquitto: rights, strangers, its life and its end with the daemon."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from gateway.clock import SystemClock
from gateway.config.model import DeviceConfig, SiteBrokerConfig
from gateway.errors import OperatorError
from gateway.field import broker_files as files
from gateway.field.broker import SiteBroker, find_mosquitto, has_digest
from tests.gateway.field.site import listening_logger
from tests.support.mosquitto import MOSQUITTO, free_port
from tests.support.wait import until

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
DEVICES = (DeviceConfig(number=4), DeviceConfig(number=5), DeviceConfig(number=9, link="coap"))


def make(
    state_dir: Path, config: SiteBrokerConfig | None = None, devices: tuple[DeviceConfig, ...] = DEVICES
) -> SiteBroker:
    return SiteBroker(config or SiteBrokerConfig(port=free_port()), devices, state_dir, SystemClock(), random.Random(1))


@asynccontextmanager
async def running(broker: SiteBroker) -> AsyncIterator[SiteBroker]:
    task = asyncio.create_task(broker.run())
    try:
        await until(lambda: broker.ready.is_set() or task.done(), what="the broker serves")
        if task.done():
            task.result()
        yield broker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def client(broker: SiteBroker, username: str, password: str | None) -> aiomqtt.Client:
    return aiomqtt.Client("127.0.0.1", broker.config.port, username=username, password=password, timeout=5)


def device(broker: SiteBroker, state_dir: Path, number: int) -> aiomqtt.Client:
    secret = files.device_password(DeviceConfig(number=number), state_dir)
    return client(broker, files.device_account(number), secret)


def ema(broker: SiteBroker) -> aiomqtt.Client:
    settings = broker.settings()
    return client(broker, settings.username or "", settings.password)


async def heard(
    listener: aiomqtt.Client, act: Callable[[], Awaitable[None]], marker: aiomqtt.Client
) -> list[tuple[str, bytes]]:
    """What ``listener`` gets of ``act``: all that comes before a marker that is known to arrive."""
    await act()
    await marker.publish("dev/4", b"marker", 1)
    got: list[tuple[str, bytes]] = []
    async for message in listener.messages:
        if message.payload == b"marker":
            return got
        got.append((str(message.topic), bytes(message.payload)))
    raise AssertionError("the marker did not arrive")


@needs_mosquitto
async def test_a_device_has_its_own_topics_and_no_others(tmp_path: Path) -> None:
    async with (
        running(make(tmp_path)) as broker,
        ema(broker) as ours,
        device(broker, tmp_path, 4) as four,
        device(broker, tmp_path, 5) as five,
    ):
        await ours.subscribe("#", 1)

        async def write() -> None:
            for topic in ("status/4", "status/5", "rdr/4", "rdr/5", "connected", "disconnected", "dev/5", "hello"):
                await four.publish(topic, b"x", 1)

        got = await heard(ours, write, ours)
        assert [topic for topic, _ in got] == ["status/4", "rdr/4", "connected", "disconnected"]

        for topic in ("#", "dev/+", "dev/5", "status/#", "dev/4", "hello"):
            await four.subscribe(topic, 1)
        await five.subscribe("dev/5", 1)

        async def commands() -> None:
            await ours.publish("dev/5", b"for five", 1)
            await ours.publish("status/5", b"state of five", 1)
            await ours.publish("hello", b"hello", 1)
            await ours.publish("dev/4", b"for four", 1)

        got = await heard(four, commands, ours)
        assert {topic for topic, _ in got} == {"hello", "dev/4"}


@needs_mosquitto
@pytest.mark.parametrize(
    ("username", "password"),
    [(None, None), ("dev-4", "wrong"), ("dev-4", None), ("dev-6", "x"), ("ema", "ema"), ("ema", ""), ("root", "root")],
)
async def test_a_stranger_cannot_connect(tmp_path: Path, username: str | None, password: str | None) -> None:
    async with running(make(tmp_path)) as broker:
        with pytest.raises(aiomqtt.MqttError):
            async with client(broker, username, password):  # type: ignore[arg-type]
                pass


@needs_mosquitto
async def test_its_files_are_private(tmp_path: Path) -> None:
    async with running(make(tmp_path)):
        for directory in (tmp_path / "broker", tmp_path / "device-passwords"):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            for path in directory.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        secret = (tmp_path / "device-passwords" / "dev-4").read_text().strip()
        assert len(secret) >= 24
        assert secret not in (tmp_path / "broker" / "passwords").read_text()
        assert not (tmp_path / "device-passwords" / "dev-9").exists()


@needs_mosquitto
async def test_a_password_is_on_no_command_line(tmp_path: Path) -> None:
    async with running(make(tmp_path)) as broker:
        line = (Path("/proc") / str(broker.pid) / "cmdline").read_bytes()
        assert (broker.settings().password or "").encode() not in line
        assert line.split(b"\0")[1:3] == [b"-c", b"mosquitto.conf"]


@needs_mosquitto
async def test_killed_it_comes_back_and_takes_the_same_accounts(tmp_path: Path) -> None:
    async with running(make(tmp_path)) as broker:
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: broker.pid not in (None, first) and broker.ready.is_set(), what="a new mosquitto serves")
        assert broker.starts == 2
        async with device(broker, tmp_path, 4):
            pass


@needs_mosquitto
async def test_cancelled_it_leaves_nothing_behind(tmp_path: Path) -> None:
    broker = make(tmp_path)
    async with running(broker):
        pid = broker.pid
    assert pid is not None
    assert not alive(pid)
    assert not (tmp_path / "broker" / "pid").exists()


DAEMON = """
import asyncio, random, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.config.model import DeviceConfig, SiteBrokerConfig
from gateway.field.broker import SiteBroker
async def main():
    broker = SiteBroker(SiteBrokerConfig(port=int(sys.argv[1])), (DeviceConfig(number=4),), Path(sys.argv[2]),
                        SystemClock(), random.Random(1))
    task = asyncio.create_task(broker.run())
    await broker.ready.wait()
    print(broker.pid, flush=True)
    await task
asyncio.run(main())
"""


@needs_mosquitto
async def test_kill_9_of_the_daemon_frees_the_port(tmp_path: Path) -> None:
    port = free_port()
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(port), str(tmp_path)], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    pid = int(await asyncio.to_thread(daemon.stdout.readline))
    daemon.kill()
    daemon.wait(10)
    daemon.stdout.close()
    await until(lambda: not alive(pid), what="the kernel ended mosquitto")
    async with running(make(tmp_path, SiteBrokerConfig(port=port))):
        pass


@needs_mosquitto
async def test_an_orphan_of_the_last_run_is_ended_by_its_pid_file(tmp_path: Path) -> None:
    broker = make(tmp_path)
    broker.prepare()
    assert MOSQUITTO is not None
    orphan = subprocess.Popen([MOSQUITTO, "-c", "mosquitto.conf"], cwd=tmp_path / "broker", stderr=subprocess.DEVNULL)
    (tmp_path / "broker" / "pid").write_text(f"{orphan.pid}\n")
    ender = asyncio.create_task(asyncio.to_thread(orphan.wait, 10))
    async with running(make(tmp_path, broker.config)):
        assert await ender in (0, -signal.SIGTERM)


@needs_mosquitto
async def test_the_port_of_an_orphan_that_was_killed_is_waited_for(tmp_path: Path) -> None:
    """As after kill -9 of the daemon, whose broker is killed with it: it is going, and for a moment has its port."""
    assert MOSQUITTO is not None
    broker = make(tmp_path)
    broker.prepare()
    for _ in range(10):
        orphan = subprocess.Popen(
            [MOSQUITTO, "-c", "mosquitto.conf"], cwd=tmp_path / "broker", stderr=subprocess.DEVNULL
        )
        await until(lambda: _listens(broker.config.port), what="it serves")
        (tmp_path / "broker" / "pid").write_text(f"{orphan.pid}\n")
        orphan.kill()
        await broker._process.end_orphan()
        broker.check_port()
        orphan.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@needs_mosquitto
async def test_a_foreign_process_with_the_old_number_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (tmp_path / "broker" / "pid").write_text(f"{other.pid}\n")
        async with running(make(tmp_path)):
            assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


@needs_mosquitto
async def test_reload_adds_a_device_and_drops_no_link(tmp_path: Path) -> None:
    async with running(make(tmp_path)) as broker, ema(broker) as ours:
        await ours.subscribe("status/6")
        broker.reload((*DEVICES, DeviceConfig(number=6)))

        async def comes() -> bool:
            try:
                async with device(broker, tmp_path, 6) as six:
                    await six.publish("status/6", b"here", 1)
            except aiomqtt.MqttError:
                return False
            return True

        for _ in range(100):
            if await comes():
                break
            await asyncio.sleep(0.02)
        message = await anext(aiter(ours.messages))
        assert message.payload == b"here"
        assert broker.starts == 1


@needs_mosquitto
async def test_tls_with_its_own_certificate(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=router.lan -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    config = SiteBrokerConfig(port=free_port(), cert_file=str(cert), key_file=str(key))
    async with running(make(tmp_path / "state", config)) as broker:
        settings = broker.settings()
        assert settings.tls is not None
        async with aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            tls_context=settings.tls.context(),
        ) as ours:
            await ours.publish("hello", b"x", 1)
        with pytest.raises((ssl.SSLError, aiomqtt.MqttError)):
            async with aiomqtt.Client(
                settings.host, settings.port, username="ema", tls_context=ssl.create_default_context()
            ):
                pass


@needs_mosquitto
async def test_anonymous_devices_on_loopback(tmp_path: Path) -> None:
    async with (
        running(make(tmp_path, SiteBrokerConfig(port=free_port(), anonymous=True))) as broker,
        aiomqtt.Client("127.0.0.1", broker.config.port) as anybody,
        ema(broker) as ours,
    ):
        await ours.subscribe("status/77")
        await anybody.publish("status/77", b"x", 1)
        assert (await anext(aiter(ours.messages))).payload == b"x"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (SiteBrokerConfig(bind="192.0.2.1", anonymous=True), "site_broker.anonymous: 192.0.2.1 is not loopback"),
        (SiteBrokerConfig(bind="0.0.0.0", anonymous=True), "site_broker.anonymous: 0.0.0.0 is not loopback"),
        (SiteBrokerConfig(cert_file="x.pem"), "needs cert_file and key_file"),
        (SiteBrokerConfig(cert_file="none.pem", key_file="none.key"), "none.pem"),
    ],
)
def test_mistakes_of_the_operator(tmp_path: Path, config: SiteBrokerConfig, said: str) -> None:
    program = MOSQUITTO or sys.executable
    with pytest.raises(OperatorError, match=said):
        SiteBroker(config, DEVICES, tmp_path, SystemClock(), random.Random(1), program=program).prepare()


async def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"127.0.0.1:{port}"):
            await make(tmp_path, SiteBrokerConfig(port=port)).run()


async def test_an_address_that_is_not_ours_is_said(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"192\.0\.2\.1"):
        await make(tmp_path, SiteBrokerConfig(bind="192.0.2.1", port=free_port())).run()


def test_a_missing_mosquitto_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"apt install mosquitto.*opkg install mosquitto-nossl"):
        find_mosquitto(str(tmp_path))


def test_a_build_without_tls_is_known_by_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"\x7fELF....libc.so")
    assert not has_digest(str(tmp_path / "plain"))
    broker = SiteBroker(
        SiteBrokerConfig(), DEVICES, tmp_path, SystemClock(), random.Random(1), program=str(tmp_path / "plain")
    )
    broker.prepare()
    secret = (tmp_path / "device-passwords" / "dev-4").read_text().strip()
    assert f"dev-4:{secret}\n" in (tmp_path / "broker" / "passwords").read_text()


@pytest.mark.parametrize(
    ("mode", "text", "said"), [(0o640, "secret", "chmod 600"), (0o604, "s", "chmod 600"), (0o600, " \n", "empty")]
)
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int, text: str, said: str) -> None:
    path = tmp_path / "lamp.password"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(OperatorError, match=said):
        files.device_password(DeviceConfig(number=4, password_file=str(path)), tmp_path)


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"nothing\.here"):
        files.read_secret(tmp_path / "nothing.here")


@needs_mosquitto
def test_our_digest_is_mosquitto_passwds(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("dev-4:geheim\n")
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True, capture_output=True)
    line = path.read_text().strip()
    import base64

    salt = base64.b64decode(line.split("$")[3])
    assert files.password_line("dev-4", "geheim", salt) == line


@needs_mosquitto
async def test_only_the_ems_writes_gw_on_its_broker(tmp_path: Path) -> None:
    port = free_port()
    paths = files.write_ems_files(tmp_path / "ems", (1, 2), "127.0.0.1", port)
    secrets = {p.stem: files.read_secret(p) for p in paths if p.suffix == ".password"}
    assert files.write_ems_files(tmp_path / "ems", (1, 2, 3), "127.0.0.1", port)
    assert files.read_secret(tmp_path / "ems" / "gw-1.password") == secrets["gw-1"]
    assert paths[0].read_text().count("user root\n") == (os.geteuid() == 0), "as root it has to stay root to read them"
    assert MOSQUITTO is not None
    process = subprocess.Popen([MOSQUITTO, "-c", str(paths[0])], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            await asyncio.sleep(0.02)

        def account(name: str) -> aiomqtt.Client:
            return aiomqtt.Client("127.0.0.1", port, username=name, password=secrets[name])

        async with account("ems") as ems, account("gw-1") as one, account("gw-2") as two:
            await ems.subscribe("EMS/#", 1)
            await two.subscribe("gw/#", 1)
            await two.subscribe("EMS/#", 1)
            await one.publish("gw/2/oadr/DistributeEvent", b"forged", 1)
            await one.publish("EMS/oadrPoll/Poll", b"mine", 1)
            await ems.publish("gw/1/oadr/DistributeEvent", b"for one", 1)
            await ems.publish("gw/pushall/DistributeEvent", b"for all", 1)
            await ems.publish("gw/2/oadr/DistributeEvent", b"for two", 1)
            assert (await anext(aiter(ems.messages))).payload == b"mine"
            messages = aiter(two.messages)
            assert [(await anext(messages)).payload for _ in range(2)] == [b"for all", b"for two"]
            # Profile emap1b: each its own below /EMAP.
            await two.subscribe("/EMAP/#", 1)
            await ems.subscribe("/EMAP/MIR_EMS/1.0b/#", 1)
            await one.publish("/EMAP/MIR_VEN2/1.0b/Event", b"forged", 1)
            await one.publish("/EMAP/MIR_EMS/1.0b/Report", b"mine", 1)
            await ems.publish("/EMAP/MIR_VEN1/1.0b/Event", b"for one", 1)
            await ems.publish("/EMAP/MIR_VEN2/1.0b/Event", b"for two", 1)
            assert (await anext(aiter(ems.messages))).payload == b"mine"
            assert (await anext(messages)).payload == b"for two"
    finally:
        process.terminate()
        process.wait(10)


async def test_what_it_says_of_itself(tmp_path: Path) -> None:
    logger, lines = listening_logger("broker")
    broker = SiteBroker(
        SiteBrokerConfig(port=free_port()), DEVICES, tmp_path, SystemClock(), random.Random(1), logger=logger
    )
    assert broker.status() == {
        "serves": f"127.0.0.1:{broker.config.port}",
        "running": False,
        "starts": 0,
        "tls": False,
        "accounts": 2,
    }
    assert lines.records == []
