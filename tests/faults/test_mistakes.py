"""An operator's mistake at the start: exit code 2, one line that names what and where, no trace."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.mosquitto import free_port
from tests.support.process import Ema, closing, lamps


async def refused(ema: Ema, *words: str, lines: int = 1) -> None:
    """It ends with code 2 and says these words, in one line."""
    before = ema.log()
    ema.spawn()
    code = await ema.ended()
    said = ema.log()[len(before) :]
    told = [line for line in said.splitlines() if line.strip() and not re.search(r" (INFO|DEBUG) ", line)]
    assert code == 2, said
    assert "Traceback" not in said
    assert len(told) == lines, said
    assert all(word in told[0] for word in words), told


@pytest_asyncio.fixture
async def first(tmp_path: Path) -> AsyncIterator[tuple[Ema, dict[str, Any]]]:
    """An EMA that runs, and has what the second one wants."""
    tables: dict[str, Any] = {
        "site_broker": {"port": free_port()},
        "site_coap": {"port": free_port(socket.SOCK_DGRAM)},
        "device": [*lamps(1), *lamps(2, link="coap")],
    }
    ema = Ema(tmp_path / "first", tables)
    async with closing(ema):
        await ema.start()
        await ema.shows(lambda s: any(part.get("starts") for part in s["field"]), "its broker runs")
        yield ema, tables


async def test_what_another_has(tmp_path: Path, first: tuple[Ema, dict[str, Any]]) -> None:
    running, tables = first
    free = {"port": free_port()}
    coap_free = {"port": free_port(socket.SOCK_DGRAM)}
    boot = (await running.status())["boot"]

    same_state = Ema(
        tmp_path / "a",
        {**tables, "ema": {"state_dir": str(running.state_dir)}, "site_broker": free, "site_coap": coap_free},
    )
    await refused(same_state, str(running.state_dir), "another")
    same_state_other_socket = Ema(
        tmp_path / "b",
        {
            **tables,
            "ema": {"state_dir": str(running.state_dir), "socket": str(tmp_path / "other.sock")},
            "site_broker": free,
            "site_coap": coap_free,
        },
    )
    await refused(same_state_other_socket, str(running.state_dir))
    same_coap = Ema(tmp_path / "c", {**tables, "site_broker": free})
    await refused(same_coap, "[site_coap] port", str(tables["site_coap"]["port"]))
    same_broker = Ema(tmp_path / "d", {**tables, "site_coap": coap_free})
    await refused(same_broker, "site_broker", str(tables["site_broker"]["port"]))
    # And the one that runs was not hurt by any of them.
    assert (await running.status())["boot"] == boot
    assert {p["name"]: p.get("running") for p in (await running.status())["field"]}["site broker"] is True


async def test_what_this_machine_has_not(tmp_path: Path) -> None:
    """Shown only when a part opens, after others run already."""
    elsewhere = {"bind": "192.0.2.1", "port": free_port(socket.SOCK_DGRAM), "sources": ["192.0.2.0/24"]}
    broker = {"port": free_port()}
    device = [*lamps(1), *lamps(2, link="coap")]
    await refused(
        Ema(tmp_path / "a", {"site_broker": broker, "site_coap": elsewhere, "device": device}),
        "[site_coap] bind",
        "192.0.2.1",
    )
    pin = lamps(2, link="gpio", pin="/dev/gpiochip99:1")
    await refused(Ema(tmp_path / "b", {"site_broker": broker, "device": [*lamps(1), *pin]}), "gpio")


async def test_a_state_dir_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory\n")
    blocked = str(tmp_path / "file" / "state")
    await refused(Ema(tmp_path / "ema", {"ema": {"state_dir": blocked}}), blocked)


async def test_a_state_dir_without_rights(tmp_path: Path) -> None:
    if os.geteuid() == 0 and not Path("/proc/sys/kernel").is_dir():
        pytest.skip("no directory here that root may not write to")
    directory = tmp_path / "state"
    where = "/proc/sys/kernel/smartema" if os.geteuid() == 0 else str(directory)
    if os.geteuid() != 0:
        directory.mkdir(mode=0o500)
    await refused(Ema(tmp_path / "ema", {"ema": {"state_dir": where}}), where)


async def test_no_mosquitto(tmp_path: Path) -> None:
    from gateway.field import broker

    if any(os.access(f"{folder}/mosquitto", os.X_OK) for folder in broker.SBIN):
        # Outside of PATH as well: shown by the daemon's own words where the search is made to find nothing.
        launcher = tmp_path / "sitecustomize.py"
        launcher.write_text("import gateway.field.broker as broker\nbroker.SBIN = ()\n")
        env = {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    else:
        env = {"PATH": str(tmp_path)}
    tables = {"device": lamps(1), "site_broker": {"port": free_port()}}
    await refused(Ema(tmp_path / "ema", tables, env), "mosquitto", "apt install mosquitto", "site_broker.host")


async def test_secrets_that_others_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o644)
    upstream = [{"name": "ems", "host": "127.0.0.1", "username": "gw-1", "password_file": str(secret)}]
    await refused(Ema(tmp_path / "a", {"upstream": upstream}), "password", "chmod 600")
    device = lamps(1, password_file=str(secret))
    await refused(
        Ema(tmp_path / "b", {"device": device, "site_broker": {"port": free_port()}}), "password", "chmod 600"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[control]\nthreshold_w = -5\n", ("gateway.toml:2 ", "threshold_w", "-5")),
        ("[[device]]\nnumber = 1\n[[device]]\nnumber = 1\n", ("gateway.toml:", "number", "1")),
        ("[control\n", ("gateway.toml",)),
        ('[[upstream]]\nhost = "x"\nmood = 4\n', ("gateway.toml:3 ", "mood")),
    ],
)
async def test_a_file_with_a_mistake(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    ema = Ema(tmp_path / "ema", {})
    ema.config.write_text(text)
    await refused(ema, *words)


async def test_no_file(tmp_path: Path) -> None:
    ema = Ema(tmp_path / "ema", {})
    ema.config.unlink()
    await refused(ema, str(ema.config))
