"""What happens in the demo, over and over: an event at half the load, one lamp gets its power back, one does not."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from device_agents.protocol import Light
from lab.demo.scene import GPIO_LAMP, Scene

# Seconds of the site's clock.
SETTLE_S = 45.0
EVENT_MINUTES = 8
# An event is known so long before; the lab's wire knows whole minutes only.
NOTICE_S = 15.0
ASK_AFTER_S = 120.0
SECOND_ASK_AFTER_S = 60.0
REST_S = 150.0
# The desk's button is on a pin; the hall's lamp asks over MQTT for more than the margin can hold.
SMALL, LARGE, STAIRS = GPIO_LAMP, 1, 8
# Until a hand's doing is reported and a pass has looked at it.
LOOK_S = 10.0


@dataclass(slots=True)
class Teller:
    """What the story says as it goes: a line, an event as made, an RDR as asked."""

    say: Callable[[str], None]
    event: Callable[[int, float, float, float], None]


async def wait_until(scene: Scene, condition: Callable[[], bool], seconds: float) -> bool:
    """Poll the site's clock once a second until it holds; False when it did not in that time."""
    end = scene.clock.monotonic() + seconds
    while not condition():
        if scene.clock.monotonic() >= end:
            return False
        await scene.clock.sleep(1.0)
    return True


def everybody_is_there(scene: Scene) -> bool:
    """All eight read, and the EMS knows the EMA."""
    states = scene.daemon.engine.states
    here = sum(s.present and s.reading is not None for s in states.values())
    return here == len(scene.twins) and "gw/1" in scene.ems.counts()


async def tell(scene: Scene, teller: Teller) -> None:
    """One round after the other, until cancelled."""
    await wait_until(scene, lambda: everybody_is_there(scene), 600.0)
    while True:
        await scene.clock.sleep(SETTLE_S)
        await _round(scene, teller)
        await scene.clock.sleep(REST_S)


async def _round(scene: Scene, teller: Teller) -> None:
    load = sum(max(twin.power_w, 0.0) for twin in scene.twins.values())
    value = max(round(load / 2 / 10) * 10, 10)
    start = math.ceil((scene.clock.now().wall + NOTICE_S) / 60) * 60.0
    end = start + EVENT_MINUTES * 60.0
    event = await scene.ems.create_event(value, start, end, ["gw/1"])
    teller.event(event.id, start, end, value)
    at = time.strftime("%H:%M", time.localtime(start))
    teller.say(f"the EMS asks for at most {value} W, half the load of {load:.0f} W, for {EVENT_MINUTES} min from {at}")
    await scene.clock.sleep(start - scene.clock.now().wall)
    await scene.clock.sleep(ASK_AFTER_S)
    teller.say("somebody dims the stairs by one step: a little margin")
    dim_by_hand(scene, STAIRS)
    await scene.clock.sleep(LOOK_S)
    await _ask(scene, teller, SMALL)
    await scene.clock.sleep(SECOND_ASK_AFTER_S)
    await _ask(scene, teller, LARGE)
    left = end - scene.clock.now().wall
    await scene.clock.sleep(max(left, 0.0))
    light_by_hand(scene, STAIRS)
    teller.say("the event is over; everything returns, one step a pass")


def dim_by_hand(scene: Scene, number: int) -> None:
    """One step down at the lamp itself, as its user would."""
    agent = scene.runners[number].agent
    agent.light(Light(step=-1))
    agent.changed = True


def light_by_hand(scene: Scene, number: int) -> None:
    """One step up again."""
    agent = scene.runners[number].agent
    agent.light(Light(step=1))
    agent.changed = True


async def _ask(scene: Scene, teller: Teller, number: int) -> None:
    name = scene.daemon.engine.states[number].resource.name
    asked: Callable[[], bool] = lambda: scene.press(number)  # noqa: E731
    if asked():
        teller.say(f"somebody presses the button of {name}: it asks its power back")


Story = Callable[[Scene, Teller], Awaitable[None]]
