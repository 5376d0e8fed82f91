"""``smartema device`` as a program: options, the lab's questions, its console, its exit codes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from device_agents.cli import add_arguments, endpoint
from device_agents.dialogue import ask
from gateway.errors import OperatorError
from tests.device_agents.ema import CoapEma
from tests.device_agents.test_run_mqtt import ema
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.wait import until

PROGRAM = (sys.executable, "-m", "gateway", "device")
PIPE = asyncio.subprocess.PIPE


@contextlib.asynccontextmanager
async def program(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*PROGRAM, *options, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def typed(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text.encode())
    await process.stdin.drain()


async def test_options_command_and_sigterm(mosquitto: Mosquitto) -> None:
    async with ema(mosquitto) as site:
        options = f"--type led --link mqtt --number 4 --priority 3 --broker 127.0.0.1:{mosquitto.port} --rated 100"
        async with program(*options.split()) as process:
            await until(lambda: site.status)
            assert (site.connected[0].priority, site.last().mw) == (3, 100_000)
            assert process.stdin is not None
            process.stdin.close()  # as under a service manager: the device stays
            await site.say("dev/4", b"\x11\x10")
            await until(lambda: site.last().on is False)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 5) == 0
            await until(lambda: site.gone)


async def test_the_labs_questions_and_console_over_mqtt(mosquitto: Mosquitto) -> None:
    async with ema(mosquitto) as site, program() as process:
        await typed(process, f"1\n127.0.0.1:{mosquitto.port}\n3\n6\n5\n")
        await until(lambda: site.status)
        assert (site.connected[0].type, site.connected[0].dev, site.connected[0].priority) == ("ess", 6, 5)
        await typed(process, "7\n")
        await until(lambda: site.last().mw == -2_000_000)
        await typed(process, "what\n9\n")
        await until(lambda: site.last().mw == 0)
        await typed(process, "3\n")
        out, _ = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 0
        await until(lambda: site.gone)
        text = out.decode()
        for words in (
            "Broker IP?",
            "1.LED 2.PV 3.ESS 4.Car : ",
            "priority : ",
            "=====SEND WATT=7=====",
            "SOC : 50.00 per",
        ):
            assert words in text


async def test_the_labs_questions_and_the_button_over_coap() -> None:
    site = CoapEma(free_port(socket.SOCK_DGRAM))
    await site.open()
    own = free_port(socket.SOCK_DGRAM)
    async with program() as process:
        await typed(process, f"2\n127.0.0.1:{site.port}\n1\n\n1\n127.0.0.1\n{own}\n")
        await until(lambda: site.status)
        assert (site.connected[0].addr, site.connected[0].port) == ("127.0.0.1", own)
        await site.put("light", b"\x11\x10")
        await until(lambda: site.last().on is False)
        await typed(process, "1\n")
        await until(lambda: site.rdr)
        assert site.rdr[0].mw == 60_000
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        await until(lambda: site.gone)
    await site.close()


@pytest.mark.parametrize(
    ("options", "typed_in", "line"),
    [
        ("", "", "nobody answered; give --type, --link"),
        ("--type led --link mqtt --broker x:y", "", "--broker x:y: write HOST:PORT"),
        ("--type led --link mqtt --password-file /no/such", "", "/no/such: No such file"),
        ("--type led --link mqtt --ca-file /no/such", "", "/no/such: no such file"),
        ("--type led --link mqtt --state-file /no/such/boot", "", "/no/such/boot: No such file"),
        ("--type led --link coap --bind 192.0.2.1:5683", "", "192.0.2.1:5683"),
        ("--type pv --link mqtt --place 91,0", "", "--place 91,0"),
        ("--type ess --link mqtt --hardware gpio", "", "--pin: name the enable output"),
        ("--type tv", "", "--type"),
        ("--rated -5", "", "--rated"),
    ],
)
async def test_a_mistake_is_one_line_and_exit_code_2(options: str, typed_in: str, line: str) -> None:
    async with program(*options.split()) as process:
        _, err = await asyncio.wait_for(process.communicate(typed_in.encode()), 20)
    assert process.returncode == 2
    assert line in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", ("10.0.0.1", 1883)),
        ("10.0.0.1:8883", ("10.0.0.1", 8883)),
        ("broker.lan:1", ("broker.lan", 1)),
        ("::1", ("::1", 1883)),
        ("[fe80::1]:99", ("fe80::1", 99)),
    ],
)
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert endpoint("--broker", text, 1883) == expected


@pytest.mark.parametrize("text", ["", ":1", "a:0", "a:65536", "a:b", "[::1]:x"])
def test_no_endpoints(text: str) -> None:
    with pytest.raises(OperatorError, match="--broker"):
        endpoint("--broker", text, 1883)


def test_with_type_and_link_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["--type", "ev", "--link", "coap"])
    monkeypatch.setattr("builtins.input", lambda prompt: pytest.fail(f"asked {prompt}"))
    ask(args)
    assert (args.number, args.priority) == (1, 0)
