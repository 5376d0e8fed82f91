"""``smartema device --virtual N``: the options of many virtual LEDs, and their process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from device_agents.boot import next_boot
from device_agents.virtual import VirtualFleet, VirtualLed, log, virtual_leds
from device_agents.virtual_numbers import FIRST, MOST
from device_agents.wire_fields import MAX_DEV
from gateway.clock import Clock, SystemClock
from gateway.errors import OperatorError

if TYPE_CHECKING:
    from gateway.transport.mqtt import MqttSettings

LED_W = 60.0
OF_ITS_LINK = -1
PARENT_EVERY_S = 0.5


def prepare(args: argparse.Namespace) -> None:
    """What ``--virtual`` decides of the other options, before anything is asked. Raise ``OperatorError``."""
    if args.type not in (None, "led"):
        raise OperatorError("--virtual: they are LEDs; leave --type out")
    if args.hardware != "simulated":
        raise OperatorError("--virtual: they are simulated; leave --hardware out")
    if not 0 < args.virtual <= MOST:
        raise OperatorError(f"--virtual {args.virtual}: 1 to {MOST} in one process")
    args.type = "led"
    # What is not given is not asked: the first number goes by the link, the address by the EMA's.
    args.bind = args.bind or ""
    args.number = OF_ITS_LINK if args.number is None else args.number


def first_number(args: argparse.Namespace) -> int:
    """Of the devices, once the link is known. Raise ``OperatorError`` where so many have no room."""
    first: int = FIRST[args.link] if args.number == OF_ITS_LINK else args.number
    if first + args.virtual - 1 > MAX_DEV:
        raise OperatorError(f"--number {first}: {args.virtual} devices from there would go beyond dev/{MAX_DEV}")
    return first


def run_mqtt(args: argparse.Namespace, settings: MqttSettings) -> int:
    """Be all of them over MQTT until Ctrl-C, SIGTERM, or the end of ``--parent``. Raise ``OperatorError``."""
    from device_agents.virtual_mqtt import VirtualMqtt

    return asyncio.run(_serve(args, lambda leds, clock, rng: VirtualMqtt(leds, settings, clock, rng, args.period)))


def run_coap(args: argparse.Namespace, ema: tuple[str, int], bind: tuple[str, int]) -> int:
    """The same over CoAP."""
    from device_agents.virtual_coap import VirtualCoap

    return asyncio.run(
        _serve(args, lambda leds, clock, rng: VirtualCoap(leds, ema, clock, rng, args.period, bind=bind))
    )


async def _serve(
    args: argparse.Namespace, fleet_of: Callable[[list[VirtualLed], Clock, random.Random], VirtualFleet]
) -> int:
    clock = SystemClock()
    first = first_number(args)
    boot = next_boot(args.state_file, clock.now().wall)
    leds = virtual_leds(first, args.virtual, boot, clock, args.rated or LED_W, args.priority, args.safe == "on")
    fleet = fleet_of(leds, clock, random.Random())
    loop = asyncio.get_running_loop()
    serving = asyncio.create_task(fleet.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    watching = asyncio.create_task(_outlive(args.parent, serving)) if args.parent else None
    log.info("%d virtual LEDs over %s, dev/%d to dev/%d", len(leds), args.link, first, first + len(leds) - 1)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    if watching is not None:
        watching.cancel()
    return 0


async def _outlive(parent: int, serving: asyncio.Task[None]) -> None:
    """Whoever started us is gone, by whatever end: nobody could stop us any more."""
    while not (await asyncio.wait((serving,), timeout=PARENT_EVERY_S))[0]:
        if os.getppid() != parent:
            serving.cancel()
