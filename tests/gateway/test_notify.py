"""The service manager's protocol, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        yield listener, str(tmp_path / "notify")


def test_what_is_said(manager) -> None:
    listener, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    for say, heard in [
        (lambda: notifier.ready("gw/1 runs"), b"READY=1\nSTATUS=gw/1 runs"),
        (notifier.alive, b"WATCHDOG=1"),
        (lambda: notifier.reloading(12.5), b"RELOADING=1\nMONOTONIC_USEC=12500000"),
        (notifier.stopping, b"STOPPING=1"),
    ]:
        say()
        assert listener.recv(200) == heard


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_half_the_watchdog_time(environment: dict[str, str], expected: float | None) -> None:
    assert Notifier(environment).watchdog_s == expected


def test_nobody_listening_is_no_error() -> None:
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("x")
    Notifier({}).alive()
