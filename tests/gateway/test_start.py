"""Ready means that every part serves; a part that takes too long, or a peer that is away, does not keep it back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import running as running_module
from gateway.clock import SystemClock
from gateway.config.load import load
from gateway.daemon import Daemon
from gateway.field.devices_coap import CoapDevices
from tests.support.mosquitto import free_port
from tests.support.process import lamps, toml


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Daemon]:
    """Devices over both links, and an upper side that is away."""
    config = directory / "gateway.toml"
    tables = {
        "ema": {"state_dir": str(directory / "state")},
        "site_broker": {"port": free_port()},
        "site_coap": {"port": free_port(socket.SOCK_DGRAM)},
        "upstream": [{"name": "ems", "host": "127.0.0.1", "port": free_port()}],
        "device": [*lamps(1), *lamps(2, link="coap")],
    }
    config.write_text(toml(tables))
    daemon = Daemon(load(config), SystemClock(), random.Random(1), serve_socket=False)
    task = asyncio.create_task(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, 10)


async def test_ready_is_said_when_all_serve(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await asyncio.wait_for(daemon.ready.wait(), 10)
        assert daemon.parts.broker is not None
        assert daemon.parts.broker.ready.is_set()
        coap = next(a for a in daemon.field if isinstance(a, CoapDevices))
        assert coap.status()["running"] is True


async def test_what_does_not_open_is_named_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hangs(self: CoapDevices) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(CoapDevices, "run", hangs)
    monkeypatch.setattr(running_module, "OPEN_S", 1.0)
    async with running(tmp_path) as daemon:
        await asyncio.wait_for(daemon.ready.wait(), 10)
        assert "field coap: not open after 1 s; going on" in caplog.text


async def test_a_stop_does_not_wait_for_what_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(self: CoapDevices) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(CoapDevices, "run", hangs)
    monkeypatch.setattr(running_module, "OPEN_S", 60.0)
    async with running(tmp_path) as daemon:
        await asyncio.sleep(0)
        assert not daemon.ready.is_set()
