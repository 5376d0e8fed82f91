"""``smartema device``: one device of the lab's four kinds, on MQTT or CoAP, simulated or on a Pi."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from device_agents.dialogue import KINDS, LINKS, ask
from gateway.errors import OperatorError

if TYPE_CHECKING:
    from device_agents.agent import Agent
    from device_agents.on_pins import OnPins
    from device_agents.pi import PiLamp
    from device_agents.runner import Runner
    from gateway.clock import Clock
    from gateway.transport.mqtt import MqttSettings
    from hardware.simulated.car import Visit

MQTT_PORT = 1883
MQTTS_PORT = 8883
COAP_PORT = 5683
# Of a simulated EV: how long the car stays.
STAY_H = 8.0
PERIOD_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options; what is needed and not given is asked for as the lab's program did."""
    add = parser.add_argument
    add("--type", choices=KINDS, help="what it is; without it and --link you are asked")
    add("--link", choices=LINKS, help="how it reaches the EMA")
    add("--number", type=_whole, metavar="N", help="the d of dev/<d>, unique below one EMA (default 1)")
    add("--priority", type=_whole, metavar="N", help="smaller sheds first (default 0)")
    add("--broker", metavar="HOST:PORT", help="mqtt: the EMA's broker (default 127.0.0.1:1883)")
    add("--user", help="mqtt: broker account")
    add("--password-file", type=Path, metavar="FILE", help="mqtt: file with its password")
    add("--ca-file", type=Path, metavar="FILE", help="mqtt: TLS, and the CA that signed the broker's certificate")
    add("--cert-file", type=Path, metavar="FILE", help="mqtt: client certificate")
    add("--key-file", type=Path, metavar="FILE", help="mqtt: its key")
    add("--ema", metavar="HOST:PORT", help="coap: the EMA (default 127.0.0.1:5683)")
    add("--bind", metavar="HOST:PORT", help="coap: address of this device (default 127.0.0.1:5684)")
    add("--period", type=_positive, metavar="S", help="a state at least this often (default 5 s; --virtual: 5 to 14)")
    add("--rated", type=_positive, metavar="W", help="LED 60, PV 3000 (peak), ESS 2000 either way")
    add("--capacity", type=_positive, metavar="WH", help="ESS: 2.5 h of its power; EV: 60000")
    add("--soc", type=_percent, metavar="%", help="ESS 50, EV 40: state of charge at the start")
    add("--phases", type=int, choices=(1, 3), default=1, help="EV: phases (default 1)")
    add("--stay", type=_positive, default=STAY_H, metavar="H", help="EV: the car leaves after so many hours (8)")
    add("--target", type=_percent, default=80.0, metavar="%", help="EV: what it wants by then (80)")
    add("--place", metavar="LAT,LON", help="PV: degrees north and east (default: Seoul)")
    add("--safe", choices=("on", "off"), default="on", help="LED, EV: when the EMA is lost; EV: on is 6 A, off a pause")
    add("--state-file", type=Path, metavar="FILE", help="counts the starts of this device; without it the clock does")
    add("--hardware", choices=("simulated", "gpio"), default="simulated", help="gpio: on the pins of this machine")
    add("--pin", help="gpio: LED (18 unless told), ESS enable, EV contactor; BCM number, or chip:line (not LED)")
    add("--pins", type=_list, default=(), metavar="A,B", help="gpio: PV a relay a step; ESS charge,discharge")
    add("--pwm-pin", metavar="PIN", help="gpio: EV control pilot")
    add("--button-pin", metavar="PIN", help="gpio: LED, EV: button that asks the power back")
    add("--active-low", action="store_true", help="gpio: PV, ESS, EV: relays that close on 0")
    add("--curtail", type=_percents, default=(100.0, 60.0, 30.0, 0.0), metavar="%,%", help="gpio PV (100,60,30,0)")
    add("--virtual", type=_whole, metavar="N", help="be N virtual LEDs at once, numbered from --number on")
    add("--parent", type=_whole, metavar="PID", help="virtual: end when this process, which started us, has ended")
    add("--pinned-file", type=Path, metavar="FILE", help="mqtt: TLS, and trust exactly this broker certificate")
    add("--verbose", action="store_true", help="log every message that was refused, every attempt to connect")
    parser.epilog = (
        "While it runs, a number and Enter: 1 asks the power back (led, ev); led: 0 off;\n"
        "pv, ev: 11 on, 15 off; ess: 7 send watt, 8 charge, 9 no action, 3 quit; an empty\n"
        "line shows what the device is doing. Ctrl-C ends it.\n\n"
        "examples:\n"
        "  smartema device                  asks, as the lab's program did\n"
        "  smartema device --type led --link mqtt --number 4 --broker 192.168.1.1 \\\n"
        "      --user dev-4 --password-file dev-4\n"
        "  smartema device --type ev --link coap --number 2 --ema 192.168.1.1\n"
        "  smartema device --virtual 1000 --link coap --ema 192.168.1.1"
    )


def run(args: argparse.Namespace) -> int:
    """Be that device until Ctrl-C, SIGTERM or the console's 3. Raise ``OperatorError``."""
    # A daemon that started us puts the time before our lines.
    stamp = "" if args.parent else "%(asctime)s "
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format=stamp + "%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    if args.virtual is not None:
        return _virtual(args)
    ask(args)
    args.period = args.period or PERIOD_S
    return asyncio.run(_serve(args))


def _virtual(args: argparse.Namespace) -> int:
    from device_agents import virtual_cli

    virtual_cli.prepare(args)
    ask(args)
    if args.link == "mqtt":
        return virtual_cli.run_mqtt(args, _broker(args))
    ema = endpoint("--ema", args.ema or "127.0.0.1", COAP_PORT)
    # Without a port each gets one that is free.
    bind = endpoint("--bind", args.bind, 0, 0) if args.bind else ("", 0)
    return virtual_cli.run_coap(args, ema, bind)


async def _serve(args: argparse.Namespace) -> int:
    from device_agents.boot import next_boot
    from device_agents.console import Console
    from gateway.clock import SystemClock

    clock = SystemClock()
    boot = next_boot(args.state_file, clock.now().wall)
    agent, pins = _agent(args, boot, clock)
    runner = _runner(args, agent, clock)
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(runner.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    keeping = None
    if pins is not None:
        pins.on_press(lambda: loop.call_soon_threadsafe(runner.press_button))
        keeping = asyncio.create_task(pins.keep_time(clock))
    Console(runner).start(loop)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        if keeping is not None:
            keeping.cancel()
        if pins is not None:
            pins.close()
    return 0


def _agent(args: argparse.Namespace, boot: int, clock: Clock) -> tuple[Agent, PiLamp | OnPins | None]:
    from device_agents import simulated

    who = args.number, args.priority, boot
    if args.hardware == "gpio":
        return _on_pins(args, who, clock)
    if args.type == "led":
        lamp = simulated.simulated_lamp(*who, clock, args.rated or simulated.LAMP_W, safe_on=args.safe == "on")
        return lamp, None
    if args.type == "pv":
        watts = args.rated or simulated.PANEL_W
        place = _place(args.place) if args.place else simulated.PLACE
        return simulated.simulated_panel(*who, clock, watts, latitude=place[0], longitude=place[1]), None
    if args.type == "ess":
        soc = 50.0 if args.soc is None else args.soc
        watts = args.rated or simulated.BATTERY_W
        return simulated.simulated_battery(*who, clock, watts, args.capacity, soc), None
    visit = _visit(args, clock)
    car = simulated.simulated_car(
        *who,
        clock,
        args.phases,
        battery_wh=args.capacity or simulated.CAR_WH,
        visits=(visit,),
        safe_pause=args.safe == "off",
    )
    return car, None


def _visit(args: argparse.Namespace, clock: Clock) -> Visit:
    from hardware.simulated.car import Visit

    now = clock.now().wall
    return Visit(now, now + args.stay * 3600, 40.0 if args.soc is None else args.soc, args.target)


def _on_pins(args: argparse.Namespace, who: tuple[int, int, int], clock: Clock) -> tuple[Agent, PiLamp | OnPins]:
    from device_agents import simulated

    if args.type == "led":
        from device_agents.lamp import Lamp
        from device_agents.pi import PiLamp

        watts = args.rated or simulated.LAMP_W
        pi = PiLamp(clock, watts, args.pin or "18", args.button_pin)
        return Lamp(*who, pi, round(watts * 1000), safe_on=args.safe == "on"), pi
    from device_agents import on_pins
    from hardware.gpio import open_pins

    wiring = on_pins.Wiring(
        args.pin or "", args.pins, args.pwm_pin or "", args.button_pin or "", args.active_low, args.curtail
    )
    on_pins.check(args.type, wiring)
    pins = open_pins(wiring.named())
    if args.type == "pv":
        place = _place(args.place) if args.place else simulated.PLACE
        made = on_pins.panel(who, clock, args.rated or simulated.PANEL_W, place, pins, wiring)
    elif args.type == "ess":
        soc = 50.0 if args.soc is None else args.soc
        made = on_pins.battery(who, clock, args.rated or simulated.BATTERY_W, args.capacity, soc, pins, wiring)
    else:
        capacity_wh, pause = args.capacity or simulated.CAR_WH, args.safe == "off"
        made = on_pins.car(who, clock, args.phases, capacity_wh, _visit(args, clock), pause, pins, wiring)
    return made.agent, made


def _runner(args: argparse.Namespace, agent: Agent, clock: Clock) -> Runner:
    # A device's jitter only has to differ from its neighbours'.
    rng = random.Random()
    if args.link == "coap":
        from device_agents.run_coap import CoapDevice

        ema = endpoint("--ema", args.ema or "127.0.0.1", COAP_PORT)
        bind = endpoint("--bind", args.bind or f"127.0.0.1:{COAP_PORT + 1}", COAP_PORT)
        return CoapDevice(agent, *ema, *bind, clock, args.period, rng=rng)
    from device_agents.run_mqtt import MqttDevice

    return MqttDevice(agent, _broker(args), clock, rng, args.period)


def _broker(args: argparse.Namespace) -> MqttSettings:
    from gateway.transport.mqtt import MqttSettings, Tls

    tls = None
    if args.ca_file or args.cert_file or args.pinned_file:
        tls = Tls(args.ca_file, args.cert_file, args.key_file, args.pinned_file)
    host, port = endpoint("--broker", args.broker or "127.0.0.1", MQTTS_PORT if tls else MQTT_PORT)
    if tls is not None:
        tls.context()  # so that a wrong file is told now
    return MqttSettings(host, port, username=args.user, password=_password(args.password_file), tls=tls)


def endpoint(option: str, text: str, default_port: int, least_port: int = 1) -> tuple[str, int]:
    """ "host", "host:port", "[v6]:port" or a bare IPv6 address. Raise ``OperatorError`` that names the option."""
    host, port = text, str(default_port)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    if not host or not port.isdigit() or not least_port <= int(port) < 65536:
        raise OperatorError(f"{option} {text}: write HOST:PORT such as 192.168.1.1:{default_port}")
    return host, int(port)


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "is not text"
        raise OperatorError(f"--password-file {path}: {reason}") from err


def _place(text: str) -> tuple[float, float]:
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError as err:
        raise OperatorError(f"--place {text}: write LAT,LON in degrees such as 37.56,127.04") from err
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise OperatorError(f"--place {text}: no such place; write LAT,LON in degrees such as 37.56,127.04")
    return latitude, longitude


def _whole(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 99999:
        raise ValueError(text)
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _percents(text: str) -> tuple[float, ...]:
    return tuple(_percent(part) for part in _list(text))


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise ValueError(text)
    return value


# What argparse calls a type in its one-line complaint.
_whole.__name__ = "number from 0 to 99999"
_positive.__name__ = "number above 0"
_percent.__name__ = "number from 0 to 100"
_percents.__name__ = "list of numbers from 0 to 100"
