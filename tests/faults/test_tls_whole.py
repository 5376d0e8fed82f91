"""TLS on every wire at once: both brokers with CA, client certificates and accounts, and the API over HTTPS. And what
an operator reads when one of them is wrong."""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.transport.mqtt import Tls
from tests.support.certificates import Authority, listener
from tests.support.ems_process import EmsChild
from tests.support.mosquitto import MOSQUITTO, Mosquitto
from tests.support.process import Agents, Ema, closing, lamps, tool
from tests.support.wait import until

SECRETS = {"ems": "the ems's word", "gw-1": "the gateway's word", "dev-1": "a lamp's word", "dev-2": "another's word"}


@dataclass
class Wires:
    """Two brokers that let nobody in without certificate and password, and who may come."""

    root: Path
    authority: Authority
    above: Mosquitto
    site: Mosquitto

    def secret(self, name: str, word: str | None = None) -> str:
        path = self.root / f"{name}.password"
        path.write_text((word or SECRETS[name]) + "\n")
        path.chmod(0o600)
        return str(path)

    def keys(self, name: str, account: str, **changed: str) -> dict[str, str]:
        """The keys of a configuration for a session as that account with that certificate."""
        where = self.authority.directory
        files = {"ca_file": self.authority.ca, "cert_file": where / f"{name}.pem", "key_file": where / f"{name}.key"}
        account_keys = {"username": account, "password_file": self.secret(account)}
        return {**{key: str(path) for key, path in files.items()}, **account_keys, **changed}

    def late_certificate(self) -> dict[str, str]:
        """One of ours that is over."""
        certificate, key = self.authority.sign("late", days=0)
        return {"cert_file": str(certificate), "key_file": str(key)}

    def tables(self, above: dict[str, str], site: dict[str, str]) -> dict[str, Any]:
        here = {"host": "127.0.0.1"}
        return {
            "control": {"threshold_w": 1000, "restore_delay_s": 0},
            "reports": {"period_s": 0.5},
            "site_broker": {**here, "port": self.site.port, **site},
            "upstream": [{"name": "ems", **here, "port": self.above.port, "timezone": "UTC", "tls": True, **above}],
            "device": lamps(1, 2),
        }


def broker(directory: Path, authority: Authority, server: str = "server") -> Mosquitto:
    directory.mkdir()
    passwords = directory / "passwords"
    passwords.touch(0o600)
    for name, word in SECRETS.items():
        subprocess.run([tool("mosquitto_passwd"), "-b", str(passwords), name, word], check=True, capture_output=True)
    rights = f"password_file {passwords}\nallow_anonymous false\n"
    return Mosquitto(directory, f"{listener(authority, server)}{rights}")


@pytest_asyncio.fixture
async def wires(tmp_path: Path) -> AsyncIterator[Wires]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    authority = Authority(tmp_path / "authority")
    for name in ("server", "client"):
        authority.sign(name)
    above, site = (broker(tmp_path / name, authority) for name in ("above", "site"))
    await above.start()
    await site.start()
    yield Wires(tmp_path, authority, above, site)
    above.stop()
    site.stop()


async def test_everything_over_tls(tmp_path: Path, wires: Wires) -> None:
    where = wires.authority.directory
    trust = ssl.create_default_context(cafile=str(wires.authority.ca))
    trust.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    options = {
        "--user": "ems",
        "--password-file": wires.secret("ems"),
        "--ca-file": str(wires.authority.ca),
        "--cert-file": f"{where}/client.pem",
        "--key-file": f"{where}/client.key",
        "--http-cert": f"{where}/server.pem",
        "--http-key": f"{where}/server.key",
    }
    words = [word for option in options.items() for word in option]
    ems = EmsChild(tmp_path / "ems", wires.above.port, *words, trust=trust)
    ema = Ema(tmp_path / "ema", wires.tables(wires.keys("client", "gw-1"), wires.keys("client", "gw-1")))
    agents = Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        tls = Tls(wires.authority.ca, where / "client.pem", where / "client.key")
        for number in (1, 2):
            account = f"dev-{number}"
            lamp = agents.lamp(number, 100.0)
            agents.mqtt(wires.site.port, lamp, tls=tls, username=account, password=SECRETS[account])
        await ema.present(1, 2)
        await ems.registered("gw/1")
        event = await ems.command("event", "--value", "100", "--for", "10m", "--to", "gw/1")
        await ems.answered(event["id"], 0, "gw/1")
        await until(lambda: agents.watts <= 100, 30, "shed")
        await ems.shows("/emas", lambda emas: (emas[0]["power_w"] or 999) <= 100, "its report is there")
        await ems.ask("DELETE", f"/events/{event['id']}")
        await until(lambda: agents.watts == 200, 30, "everything returns")
        said = ema.log() + ems.log()
        assert "Traceback" not in said
        assert not [word for word in SECRETS.values() if word in said]


WRONG = [
    ("another_ca", r"certificate is not signed by \S+/other/ca\.pem \(.+\); see ca_file"),
    ("expired", "certificate has expired"),
    ("no_certificate", "client certificate.*; see cert_file and key_file"),
    ("expired_certificate", r"it may not take our certificate \S+/late\.pem; see cert_file"),
    ("password", r"does not take the account 'gw-1' with its password \(.+\); see username and password_file"),
]


@pytest.mark.parametrize(("what", "words"), WRONG, ids=[what for what, _ in WRONG])
async def test_what_is_wrong_is_one_clear_line(tmp_path: Path, wires: Wires, what: str, words: str) -> None:
    """On both sides of the daemon at once. It runs, tries again, and is told once of each."""
    good = wires.keys("client", "gw-1")
    wrong = {
        "another_ca": lambda: {"ca_file": str(Authority(tmp_path / "other").ca)},
        "expired": dict,
        "no_certificate": lambda: {"cert_file": "", "key_file": ""},
        "expired_certificate": lambda: wires.late_certificate(),
        "password": lambda: {"password_file": wires.secret("gw-1", "not the word")},
    }[what]()
    above, site = wires.above, wires.site
    if what == "expired":
        wires.authority.sign("old", days=0)
        above, site = (broker(tmp_path / f"{name}-old", wires.authority, "old") for name in ("above", "site"))
    if what.startswith("expired"):
        made = time.time()
        await until(lambda: time.time() > made + 1.1, 5, "its second is over")
    old = Wires(tmp_path, wires.authority, above, site)
    ema = Ema(tmp_path / "ema", old.tables({**good, **wrong}, {**good, **wrong}))
    try:
        if what == "expired":
            await above.start()
            await site.start()
        async with closing(ema):
            await ema.start()
            for port in (above.port, site.port):
                await ema.until(lambda port=port: told(ema, port), f"a line of the broker at {port}")  # type: ignore[misc]
            for port in (above.port, site.port):
                lines = told(ema, port)
                assert len(lines) == 1, lines
                assert re.search(words, lines[0]), lines[0]
            status = await ema.status()
            assert status["upstreams"][0]["state"] != "up"
            assert status["restarts"] == {}
            assert "Traceback" not in ema.log()
            assert not [word for word in (*SECRETS.values(), "not the word") if word in ema.log()]
    finally:
        above.stop()
        site.stop()


def told(ema: Ema, port: int) -> list[str]:
    return [line for line in ema.lines("WARNING") if f"127.0.0.1:{port}" in line]
