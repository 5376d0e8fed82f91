"""TLS towards the EMS's broker: its CA, our client certificate, our account."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.config.model import UpstreamConfig
from gateway.errors import OperatorError
from tests.gateway.upstream.peers import Ems, Rig, site_report
from tests.support.mosquitto import MOSQUITTO, Mosquitto, free_port
from tests.support.wait import until

PASSWORD = "word with blanks"


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def signed(directory: Path, name: str, extra: str = "") -> None:
    """A key and a certificate of that name, signed by ``ca`` (itself: by itself)."""
    key, cert, ask, ext = (directory / f"{name}.{suffix}" for suffix in ("key", "pem", "csr", "ext"))
    if name in ("ca", "other"):
        openssl(*["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"], "-subj", f"/CN={name}",
                "-keyout", str(key), "-out", str(cert))  # fmt: skip
        return
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(ask))
    ext.write_text(extra)
    by = ("-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"), "-CAcreateserial")
    openssl("x509", "-req", "-in", str(ask), "-days", "2", *by, "-extfile", str(ext), "-out", str(cert))


@pytest_asyncio.fixture
async def ports(tmp_path: Path) -> AsyncIterator[tuple[int, int]]:
    """A broker that lets only gw1 in over TLS, with certificate and password; and its plain port for the EMS."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    signed(tmp_path, "ca")
    signed(tmp_path, "other")
    signed(tmp_path, "server", "subjectAltName=IP:127.0.0.1\n")
    signed(tmp_path, "gw1")
    passwords = tmp_path / "passwords"
    for flags, name in ((("-b", "-c"), "gw1"), (("-b",), "ems")):
        subprocess.run(["mosquitto_passwd", *flags, str(passwords), name, PASSWORD], check=True)
    plain = free_port()
    broker = Mosquitto(
        tmp_path / "broker",
        f"cafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\n"
        f"require_certificate true\npassword_file {passwords}\nallow_anonymous false\n"
        f"listener {plain} 127.0.0.1\n",
    )
    await broker.start()
    yield broker.port, plain
    broker.stop()


def config(directory: Path, port: int, ca: str = "ca") -> UpstreamConfig:
    return UpstreamConfig(
        host="127.0.0.1",
        port=port,
        timezone="UTC",
        username="gw1",
        tls=True,
        ca_file=str(directory / f"{ca}.pem"),
        cert_file=str(directory / "gw1.pem"),
        key_file=str(directory / "gw1.key"),
    )


def ems_at(port: int) -> Ems:
    return Ems(port, "ems", PASSWORD)


async def test_the_session_over_tls(tmp_path: Path, ports: tuple[int, int]) -> None:
    tls, plain = ports
    async with Rig(plain, config=config(tmp_path, tls), password=PASSWORD, ems=ems_at(plain)) as rig:
        rig.report(site_report(1.0))
        await until(lambda: rig.ems.stored and rig.outbox.waiting() == 0, what="a report over TLS")


@pytest.mark.parametrize(("ca", "password"), [("other", PASSWORD), ("ca", "wrong")])
async def test_a_wrong_ca_or_password_is_said_and_nothing_comes_through(
    tmp_path: Path, ports: tuple[int, int], ca: str, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    tls, plain = ports
    async with Rig(plain, config=config(tmp_path, tls, ca), password=password, ems=ems_at(plain)) as rig:
        await until(lambda: any("trying again" in r.message for r in caplog.records), what="one line that says so")
        assert rig.ems.topics == []
        assert password not in caplog.text


def test_a_key_that_does_not_belong_to_the_certificate_is_named(tmp_path: Path) -> None:
    signed(tmp_path, "ca")
    signed(tmp_path, "gw1")
    (tmp_path / "gw1.key").write_bytes((tmp_path / "ca.key").read_bytes())
    with pytest.raises(OperatorError, match="TLS files"):
        Rig(1, config=config(tmp_path, 1))
