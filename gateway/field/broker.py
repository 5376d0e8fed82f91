"""The site broker: a mosquitto that the daemon configures, starts, watches and ends.

Its files live in ``<state_dir>/broker``, mode 0700. It keeps nothing on disk: every message on the device wire is
absolute and said again by its own protocol, and a router's flash wears. It ends with the daemon: by SIGTERM, by
the kernel's parent-death signal after a kill -9, and where that is missing by the pid file at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.clock import Clock
from gateway.config.model import DeviceConfig, EmaBelowConfig, SiteBrokerConfig
from gateway.errors import OperatorError
from gateway.field import broker_files as files
from gateway.field.broker_process import BrokerProcess
from gateway.transport.backoff import Backoff
from gateway.transport.mqtt import MqttSettings, Tls

# Debian keeps daemons outside of an ordinary user's PATH.
SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")
INSTALL = "install it (apt install mosquitto, or opkg install mosquitto-nossl), or name a broker in site_broker.host"
# Below these ports only root may listen, so mosquitto has to stay root there.
FIRST_OPEN_PORT = 1024


def find_mosquitto(path: str | None = None) -> str:
    """The mosquitto program. Raise ``OperatorError`` that says what to install."""
    search = os.pathsep.join([os.environ.get("PATH", "") if path is None else path, *(SBIN if path is None else ())])
    found = shutil.which("mosquitto", path=search)
    if found is None:
        raise OperatorError(f"site_broker: devices with link mqtt need a broker and mosquitto is not here; {INSTALL}")
    return found


def has_digest(program: str) -> bool:
    """Was this mosquitto built with TLS; without, it knows neither password digests nor certificates."""
    try:
        return b"libcrypto" in Path(program).read_bytes()
    except OSError:
        return True


def is_loopback(host: str) -> bool:
    """Does an address stay on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connect_host(bind: str) -> str:
    """Where we reach what listens on ``bind``."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(bind, bind)


class SiteBroker:
    """Our own mosquitto for the devices, and for ``emas`` below us. Cannot do: websockets, bridges, a port shared with
    another broker.

    ``check`` finds mistakes of the operator before anything runs; ``settings`` is how the EMA logs in;
    ``run`` serves until cancelled.
    """

    def __init__(
        self,
        config: SiteBrokerConfig,
        devices: Sequence[DeviceConfig],
        state_dir: Path,
        clock: Clock,
        rng: random.Random,
        token: Callable[[], str] = files.new_password,
        logger: logging.Logger | None = None,
        program: str | None = None,
        emas: Sequence[EmaBelowConfig] = (),
    ) -> None:
        self.config = config
        self.starts = 0
        self.ready = asyncio.Event()
        self._devices = tuple(d for d in devices if d.link == "mqtt")
        self._emas = tuple(emas)
        self._state_dir = state_dir
        self._directory = state_dir / "broker"
        self._clock = clock
        self._backoff = Backoff(rng, first_s=0.2, most_s=10.0)
        self._token = token
        self._password = token()
        self._log = logger or logging.getLogger(__name__)
        self._process = BrokerProcess(self._directory, clock, self._log)
        self._program = program or ""
        self._last_words = ""
        self._ids = (-1, -1)
        self._made: dict[str, str] = {}

    @property
    def pid(self) -> int | None:
        """Of the one that runs."""
        return self._process.pid

    def settings(self) -> MqttSettings:
        """The EMA's own account on it: everything allowed, a new password at each start."""
        pinned = Path(self.config.cert_file) if self.config.cert_file else None
        return MqttSettings(
            host=connect_host(self.config.bind),
            port=self.config.port,
            username=files.EMA_ACCOUNT,
            password=self._password,
            tls=Tls(pinned=pinned) if pinned else None,
        )

    def check(self) -> None:
        """Read all that it is made of. Raise ``OperatorError`` in one line; nothing that runs is touched."""
        config = self.config
        self._program = self._program or find_mosquitto()
        digest = has_digest(self._program)
        if config.anonymous and not is_loopback(config.bind):
            raise OperatorError(
                f"site_broker.anonymous: {config.bind} is not loopback, so anybody could switch the site; "
                "set anonymous = false and give the devices accounts"
            )
        if bool(config.cert_file) != bool(config.key_file):
            raise OperatorError("site_broker.cert_file: TLS needs cert_file and key_file, both or none")
        if config.cert_file and not digest:
            raise OperatorError(f"site_broker.cert_file: {self._program} was built without TLS; install mosquitto-ssl")
        made = {}
        for source, target in ((config.cert_file, "cert.pem"), (config.key_file, "key.pem")):
            if source:
                try:
                    made[target] = Path(source).read_text(encoding="ascii")
                except (OSError, UnicodeDecodeError) as err:
                    raise OperatorError(f"site_broker: {source}: {err}; TLS needs this PEM file") from err
        accounts = [(files.EMA_ACCOUNT, self._password)]
        for device in self._devices:
            secret = files.device_password(device, self._state_dir, self._token)
            accounts.append((files.device_account(device.number), secret))
        for ema in self._emas:
            accounts.append((files.ema_account(ema.number), files.ema_password(ema, self._state_dir, self._token)))
        if config.open and not config.anonymous:
            accounts.append((files.GUEST_ACCOUNT, files.guest_password(self._state_dir, self._token)))
        made["passwords"] = files.password_file(accounts, digest)
        made["acl"] = files.generate_site_acl(
            [d.number for d in self._devices], config.anonymous, config.open, [e.number for e in self._emas]
        )
        self._made = made

    def prepare(self) -> None:
        """Check, and write all its files. Raise ``OperatorError`` in one line."""
        self.check()
        files.private_directory(self._directory)
        self._ids = self._user()
        for name, text in self._made.items():
            self._write(name, text)
        self._write("mosquitto.conf", self._conf())

    def _user(self) -> tuple[int, int]:
        """(uid, gid) that mosquitto runs as when we are root; (-1, -1): as we do."""
        if os.geteuid() != 0 or self.config.port < FIRST_OPEN_PORT:
            return (-1, -1)
        import pwd

        for name in ("mosquitto", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                os.chown(self._directory, entry.pw_uid, entry.pw_gid)
                return (entry.pw_uid, entry.pw_gid)
        return (-1, -1)

    def _write(self, name: str, text: str) -> None:
        path = self._directory / name
        try:
            files.write_private(path, text)
            if self._ids[0] >= 0:
                os.chown(path, *self._ids)
        except OSError as err:
            raise OperatorError(f"{path}: {err.strerror}; choose another ema.state_dir") from err

    def _conf(self) -> str:
        # Names are relative: mosquitto stands in its own directory and may not be able to walk there.
        config = self.config
        lines = [
            f"listener {config.port} {config.bind}",
            f"allow_anonymous {'true' if config.anonymous else 'false'}",
            "password_file passwords",
            "acl_file acl",
            "set_tcp_nodelay true",
            "persistence false",
            # A device's message is below 1 kB; bounds for what a stranger or a stalled client may make us hold.
            "max_packet_size 65536",
            "max_queued_messages 2000",
            "max_inflight_messages 200",
            "max_connections 4096",
            "sys_interval 0",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "log_type information",
        ]
        if config.cert_file:
            lines += ["certfile cert.pem", "keyfile key.pem"]
        if self._ids[0] < 0 and os.geteuid() == 0:
            lines.append("user root")
        return "\n".join(lines) + "\n"

    def reload(self, devices: Sequence[DeviceConfig], emas: Sequence[EmaBelowConfig] = ()) -> None:
        """Take other devices and EMAs, dropping no link that did not change. Raise ``OperatorError``: the old stay."""
        before = self._devices, self._emas
        self._devices, self._emas = tuple(d for d in devices if d.link == "mqtt"), tuple(emas)
        try:
            self.prepare()
        except OperatorError:
            self._devices, self._emas = before
            raise
        self._process.hangup()

    async def run(self) -> None:
        """Start it, and again when it dies, until cancelled. Raise ``OperatorError`` when the port is not ours."""
        self.prepare()
        await self._process.end_orphan()
        while True:
            self.check_port()
            process = await self._process.start(self._program, self._ids)
            self.starts += 1
            try:
                reader = asyncio.create_task(self._listen(process))
                code = await process.wait()
                await reader
            finally:
                self.ready.clear()
                await self._process.end(process)
            self._log.warning("site broker ended (%s) %s; starting it again", code, self._last_words)
            await self._clock.sleep(self._backoff.next())

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Its log, line by line; it says itself when it serves."""
        assert process.stderr is not None
        while line := await process.stderr.readline():
            text = line.decode("utf-8", "replace").strip()
            self._log.debug("mosquitto: %s", text)
            if text.endswith(" running"):
                self.ready.set()
                self._backoff.reset()
                self._log.info("site broker serves %s:%d", self.config.bind or "*", self.config.port)
            elif "Error" in text:
                self._last_words = text

    def check_port(self) -> None:
        """Raise ``OperatorError`` where another has the port."""
        host, port = self.config.bind or "0.0.0.0", self.config.port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as err:
            raise OperatorError(
                f"site_broker: {host}:{port}: {err.strerror}; choose another bind or port, "
                "or name the broker that is there in site_broker.host"
            ) from err

    async def close(self) -> None:
        """Nothing to say: it ends when ``run`` is cancelled."""

    def status(self) -> dict[str, object]:
        """For `smartema status`."""
        return {
            "serves": f"{self.config.bind}:{self.config.port}",
            "running": self.ready.is_set(),
            "starts": self.starts,
            "tls": bool(self.config.cert_file),
            "accounts": len(self._devices) + len(self._emas),
        }
