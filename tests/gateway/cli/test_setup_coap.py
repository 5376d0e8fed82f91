"""``smartema setup`` with an EMS over CoAP: the lab's words, the probe, and a configuration that ``run`` takes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli.probes import our_address, try_ems
from gateway.cli.questions_coap import our_port
from gateway.config.load import load
from gateway.config.model import UpstreamConfig
from tests.gateway.cli.fake_daemon import smartema
from tests.gateway.cli.test_setup import answers
from tests.support.process import Ema, EmsBeside, closing, udp_port

NO_EMS = "UP EMA: smartema run -c"


@contextmanager
def peer(answer: Callable[[bytes], bytes | None]) -> Iterator[tuple[int, list[bytes]]]:
    """A UDP port of 127.0.0.1 and what came there; ``answer`` makes an answer, or none."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, where = wire.recvfrom(2048)
                if not data:
                    return
                heard.append(data)
                said = answer(data)
                if said is not None:
                    wire.sendto(said, where)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield wire.getsockname()[1], heard
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", wire.getsockname())
            thread.join(10)


def said(code: int, payload: bytes = b"") -> Callable[[bytes], bytes]:
    return lambda data: b"\x62" + bytes([code]) + data[2:6] + (b"\xff" + payload if payload else b"")


def at(port: int) -> UpstreamConfig:
    return UpstreamConfig(protocol="coap", host="127.0.0.1", port=port, bind="127.0.0.1")


PEERS = [
    (said(0x45, b"</Poll>,</info>"), True, "answers"),
    (said(0x45, b"</EMAP/MIR_EMS/1.0b/Poll>"), True, "answers"),
    (said(0x45, b"</light>"), False, "a CoAP server, but no EMS: it lists no resource that EMAs speak to"),
    (said(0x83), False, "refused: 127.0.0.1 is not in its list of sources (--coap-sources)"),
    (said(0x84), False, "answers 4.04 to GET /.well-known/core; is it an EMS?"),
    (lambda _: None, False, "no answer within 0.3 s; check IP, port and firewall"),
    (lambda data: b"\x62\x45" + data[2:4] + b"??" + b"\xff</Poll>", False, "no answer within 0.3 s"),
    (lambda _: b"x", False, "no answer within 0.3 s"),
]


@pytest.mark.parametrize(("answer", "reached", "words"), PEERS)
def test_what_the_probe_says(answer: Callable[[bytes], bytes | None], reached: bool, words: str) -> None:
    with peer(answer) as (port, heard):
        found = try_ems(at(port), timeout_s=0.3)
    assert (found.reached, found.line.startswith(f"EMS coap://127.0.0.1:{port}: {words}")) == (reached, True), found
    # GET /.well-known/core, confirmable, two bytes of token, said again until it is answered.
    assert all(data[:2] == b"\x42\x01" and data[6:] == b"\xbb.well-known\x04core" for data in heard)
    assert len(set(heard)) == 1
    assert reached or "within" not in words or len(heard) > 1


def test_nobody_there() -> None:
    port = udp_port()
    found = try_ems(at(port))
    assert found.line == f"EMS coap://127.0.0.1:{port}: connection refused; does an EMS with --coap run there?"
    assert try_ems(UpstreamConfig(protocol="coap", host="no-such-host.invalid")).line == (
        "EMS coap://no-such-host.invalid:5683: no such host; check the name, or give the IP"
    )


def test_where_we_speak_from() -> None:
    assert our_address("127.0.0.9") == "127.0.0.1"
    assert our_address("no-such-host.invalid") == "127.0.0.1"
    assert [our_port(*place) for place in (("127.0.0.1", "127.0.0.1", 5683), ("10.0.0.2", "10.0.0.1", 5683))] == [
        5684,
        5683,
    ]
    assert our_port("127.0.0.1", "localhost", 7000) == 5683


def test_without_an_ems(tmp_path: Path) -> None:
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=answers("2", "none"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "CoAP Mode EMS IP : ?" in done.stdout
    assert NO_EMS in done.stdout
    assert load(tmp_path / "g.toml").upstream == ()


def test_another_ems_is_named(tmp_path: Path) -> None:
    first, second = udp_port(), udp_port()
    stdin = answers(2, f"127.0.0.1:{first}", "y", f"127.0.0.1:{second}", "n", "4", "3", "2")
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("connection refused; does an EMS with --coap run there?") == 2
    assert "CoAP Mode EMS PUSH: 0 / PULL :1 / OBS :2 / X :3 ?" in done.stdout
    assert "'4': write a whole number from 0 to 3" in done.stdout
    assert "CoAP Mode UP EMA 1. O, 2. X : ?" in done.stdout
    (upstream,) = load(tmp_path / "g.toml").upstream
    assert (upstream.protocol, upstream.port, upstream.mode) == ("coap", second, 3)


def test_the_ems_has_the_usual_port_of_this_address(tmp_path: Path) -> None:
    stdin = answers(2, "127.0.0.1", "n", "2", "2", "1", "900", tmp_path / "s", "1", "4", "1", "2", "1", "", "127.0.0.1")
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the EMS has port 5683 here: ours for the EMS is 5684" in done.stdout
    config = load(tmp_path / "g.toml")
    assert (config.upstream[0].bind, config.upstream[0].local_port) == ("127.0.0.1", 5684)
    # Devices and EMS find one server.
    assert (config.site_coap.bind, config.site_coap.port) == ("127.0.0.1", 5684)
    done = smartema("check", "-c", tmp_path / "g.toml")
    assert done.returncode == 0
    assert "upstream ems: coap 127.0.0.1:5683, no TLS, DR mode 2 OBSERVE, ours 127.0.0.1:5684" in done.stdout


async def test_what_it_writes_runs(tmp_path: Path) -> None:
    port = udp_port()
    ems = EmsBeside(tmp_path / "ems", 1, broker="none", coap=f"127.0.0.1:{port}")
    site = tmp_path / "site"
    ema = Ema(site, {})
    async with closing(ema, ems):
        await ems.start()
        stdin = answers(2, f"127.0.0.1:{port}", "2", "2", "7", "900", site / "state")
        done = await asyncio.to_thread(smartema, "setup", "--force", "--output", ema.config, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"EMS coap://127.0.0.1:{port}: answers" in done.stdout
        # The one thing a test cannot take as it is: port 5683 of this machine may be somebody's.
        text = ema.config.read_text().replace("local_port = 5683", f"local_port = {udp_port()}")
        ema.config.write_text(text)
        await ema.start()
        status = await ema.registered()
        assert [(u["protocol"], u["mode"]) for u in status["upstreams"]] == [("coap", 2)]
        assert ems.book.emas["gw/7"].protocol == "coap"


def test_emas_below_over_coap_beside_devices(tmp_path: Path) -> None:
    """Devices have CoAP's own port; EMAs below get the next one."""
    below = ("1", "2 3", "2", "192.168.1.1", "")  # UP EMA at its place, the others behind the devices
    stdin = answers(1, "127.0.0.1:1", "n", "1", below[0], "", "", tmp_path / "state", "1", "", "1", "2", "-1", "")
    stdin += answers(*below[1:]) + answers("192.168.1.1", "")
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert "EMAs below find us at 5684" in done.stdout
    config = load(tmp_path / "g.toml")
    table = config.emas_below
    assert (table.coap, table.bind, table.port, table.sources) == (True, "192.168.1.1", 5684, ("192.168.1.0/24",))
    assert [ema.number for ema in config.ema_below] == [2, 3]
    assert smartema("check", "-c", tmp_path / "g.toml").returncode == 0
