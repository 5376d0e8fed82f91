"""Another configuration that cannot be taken: found before a part of the old one stops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.config.model import (
    Config,
    ControlConfig,
    DeviceConfig,
    EmaBelowConfig,
    EmaConfig,
    EmasBelowConfig,
    SiteBrokerConfig,
    SiteCoapConfig,
    UpstreamConfig,
)
from gateway.daemon import Daemon
from gateway.errors import OperatorError
from gateway.field.emas_below import EmasBelow
from tests.support.mosquitto import MOSQUITTO, free_port
from tests.support.wait import until

pytest.importorskip("gpiozero")
from hardware.gpio_zero import ZeroPins

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
RELAY = DeviceConfig(number=9, name="heater", link="gpio", pin="5", rated_w=2000.0)


@contextlib.asynccontextmanager
async def running(config: Config, pins: ZeroPins | None = None) -> AsyncIterator[Daemon]:
    daemon = Daemon(config, SystemClock(), random.Random(1), pins=pins, serve_socket=False)
    task = asyncio.create_task(daemon.run())
    try:
        await asyncio.wait_for(daemon.ready.wait(), 10)
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, 10)


def config_of(directory: Path) -> Config:
    return Config(
        ema=EmaConfig(state_dir=str(directory / "state")),
        site_broker=SiteBrokerConfig(port=free_port()),
        site_coap=SiteCoapConfig(port=free_port(socket.SOCK_DGRAM)),
        device=(DeviceConfig(number=1), DeviceConfig(number=2, link="coap"), RELAY),
    )


def parts(daemon: Daemon) -> list[object]:
    """Which parts run, and our broker's process."""
    broker = daemon.parts.broker
    return [*map(id, daemon.field), id(broker), broker.starts if broker is not None else 0]


def empty(directory: Path) -> str:
    path = directory / "secret"
    path.write_text("")
    path.chmod(0o600)
    return str(path)


Change = Callable[[Config, str], Config]
CHANGES: dict[str, tuple[Change, str]] = {
    # what changes, and cannot be made                       the mistake names
    "a broker that is there, by a password": (
        lambda c, secret: replace(
            c, site_broker=SiteBrokerConfig(host="127.0.0.1", port=1, username="ema", password_file=secret)
        ),
        "empty",
    ),
    "our broker, by a device's password": (
        lambda c, secret: replace(
            c,
            site_broker=replace(c.site_broker, port=free_port()),
            device=(replace(c.device[0], password_file=secret), *c.device[1:]),
        ),
        "empty",
    ),
    "a device's password alone": (
        lambda c, secret: replace(c, device=(replace(c.device[0], password_file=secret), *c.device[1:])),
        "empty",
    ),
    "an upstream's password": (
        lambda c, secret: replace(
            c,
            site_coap=replace(c.site_coap, port=free_port(socket.SOCK_DGRAM)),
            upstream=(UpstreamConfig(host="127.0.0.1", port=1, password_file=secret),),
        ),
        "empty",
    ),
    "sources of CoAP": (
        lambda c, secret: replace(c, site_coap=replace(c.site_coap, sources=("here",))),
        "sources",
    ),
    "a pin": (
        lambda c, secret: replace(
            c,
            control=ControlConfig(threshold_w=5.0),
            site_coap=replace(c.site_coap, port=free_port(socket.SOCK_DGRAM)),
            device=(*c.device, replace(RELAY, number=8, pin="99")),
        ),
        "pin 99",
    ),
}


@needs_mosquitto
@pytest.mark.parametrize("name", CHANGES)
async def test_what_cannot_be_made_stops_nothing(tmp_path: Path, name: str) -> None:
    change, said = CHANGES[name]
    config, pins = config_of(tmp_path), ZeroPins.mock()
    async with running(config, pins) as daemon:
        before = parts(daemon)
        pin = pins.factory.pin("GPIO5")
        pin.clear_states()
        files = {f.name: f.read_text() for f in (tmp_path / "state" / "broker").iterdir()}
        with pytest.raises(OperatorError, match=said):
            await daemon.apply(change(config, empty(tmp_path)))
        assert daemon.config is config
        assert parts(daemon) == before
        assert len(pin.states) == 1
        assert {f.name: f.read_text() for f in (tmp_path / "state" / "broker").iterdir()} == files
        assert daemon.restarts() == {}
        # And what can be made is taken after that.
        await daemon.apply(replace(config, control=ControlConfig(threshold_w=7.0)))
        assert daemon.engine.limit(daemon.clock.now()).import_w == 7.0


@needs_mosquitto
@pytest.mark.parametrize("first", [True, False])
async def test_a_port_of_our_broker_that_is_taken_stops_nothing(tmp_path: Path, first: bool) -> None:
    config = replace(config_of(tmp_path), device=())
    if not first:
        config = replace(config, site_broker=replace(config.site_broker, open=True))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with running(config) as daemon:
            before = parts(daemon)
            wanted = replace(config, site_broker=SiteBrokerConfig(port=port, open=True))
            with pytest.raises(OperatorError, match=f"site_broker: 127.0.0.1:{port}: Address already in use"):
                await daemon.apply(wanted)
            assert daemon.config is config
            assert parts(daemon) == before
            assert daemon.restarts() == {}


@needs_mosquitto
async def test_our_broker_stays_on_its_port_with_other_settings(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with running(config, ZeroPins.mock()) as daemon:
        await until(lambda: daemon.parts.broker is not None and daemon.parts.broker.ready.is_set())
        await daemon.apply(replace(config, site_broker=replace(config.site_broker, open=True)))
        await until(lambda: daemon.parts.broker is not None and daemon.parts.broker.ready.is_set())


@needs_mosquitto
async def test_the_mistake_is_logged_and_the_old_one_runs_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(tmp_path)
    change, _ = CHANGES["our broker, by a device's password"]
    new = change(config, empty(tmp_path))
    async with running(config, ZeroPins.mock()) as daemon:
        daemon._reload = lambda: new
        before = parts(daemon)
        daemon.hangup()
        await until(lambda: "configuration not taken, the old one runs on" in caplog.text, what="it is said")
        assert "it has to hold a password on its first line" in caplog.text
        assert parts(daemon) == before


@needs_mosquitto
async def test_pins_that_did_not_change_keep_their_state(tmp_path: Path) -> None:
    config, pins = config_of(tmp_path), ZeroPins.mock()
    async with running(config, pins) as daemon:
        before = parts(daemon)
        pin = pins.factory.pin("GPIO5")
        pin.clear_states()
        more = (*config.device, replace(RELAY, number=8, name="fan", pin="6"))
        await daemon.apply(replace(config, device=more))
        assert parts(daemon) == before
        assert len(pin.states) == 1
        assert {s.resource.name for s in daemon.engine.states.values() if s.present} == {"heater", "fan"}
        await daemon.apply(config)
        assert len(pin.states) == 1
        assert set(daemon.engine.states) == {9}


@needs_mosquitto
async def test_the_last_device_of_our_broker_takes_it_along(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    async with running(config, ZeroPins.mock()) as daemon:
        await daemon.apply(replace(config, device=config.device[1:]))
        assert daemon.parts.broker is None
        assert [adapter.name for adapter in daemon.field] == ["coap", "gpio"]
        await daemon.apply(config)
        broker = daemon.parts.broker
        assert broker is not None
        await until(broker.ready.is_set, what="it serves again")


async def test_two_configurations_at_once_are_taken_one_after_another(tmp_path: Path) -> None:
    """A mode from the menu, twice, while SIGHUP reads the file again: the last one stands, each part runs once."""
    upstream = UpstreamConfig(host="127.0.0.1", port=free_port())
    config = Config(ema=EmaConfig(state_dir=str(tmp_path / "state")), upstream=(upstream,))
    async with running(config) as daemon:
        await asyncio.gather(*(daemon.set_mode(None, mode) for mode in (2, 3, 4)), daemon.apply(config))
        assert daemon.config is config
        assert [upper.status()["mode"] for upper in daemon.engine.upstreams] == [upstream.mode]
        assert daemon.restarts() == {}


async def test_emas_below_that_are_named_no_more_are_in_no_sum(tmp_path: Path) -> None:
    config = Config(
        ema=EmaConfig(state_dir=str(tmp_path / "state")),
        emas_below=EmasBelowConfig(coap=True, port=free_port(socket.SOCK_DGRAM)),
        ema_below=(EmaBelowConfig(number=2),),
    )
    async with running(config) as daemon:
        (emas,) = (adapter for adapter in daemon.field if isinstance(adapter, EmasBelow))
        below = emas.roll.entry(2)
        below.here, below.report = True, replace(below.report, generate_w=300.0)
        assert daemon.engine.report().generate_w == 300
        await daemon.apply(replace(config, emas_below=EmasBelowConfig(), ema_below=()))
        assert daemon.field == []
        assert daemon.engine.report().generate_w == 0
