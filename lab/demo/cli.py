"""``smartema demo``: broker, EMS, EMA and eight devices, simulated, live on the terminal until Ctrl-C.

With ``--tour`` the same site goes through all ways to its EMS in turn (``tour_run.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.errors import OperatorError

if TYPE_CHECKING:
    from gateway.site.event import DrEvent
    from gateway.site.picture import ResourceState
    from lab.demo.record import Recorder
    from lab.demo.scene import Scene
    from lab.demo.screen import Frame, Screen
    from lab.impair import Impairment

# Real seconds between two pictures, and between two lines of a log.
PICTURE_S, LOG_S = 0.2, 2.0
# Times real time. Less where links are what is looked at: who speaks ten times as often needs ten times the link.
SPEED, SPEED_TOUR, SPEED_IMPAIRED = 60.0, 20.0, 5.0
# Seconds of the site's clock between two samples of the record.
SAMPLE_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speed",
        type=_above_zero,
        metavar="N",
        help=f"times real time (default {SPEED:.0f}, --tour {SPEED_TOUR:.0f}, with --impair {SPEED_IMPAIRED:.0f})",
    )
    parser.add_argument("--for", dest="seconds", type=_above_zero, metavar="S", help="end after S seconds of real time")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end, nothing before")
    parser.add_argument("--no-tty", action="store_true", help="plain lines instead of a live picture")
    parser.add_argument(
        "--tour",
        action="store_true",
        help="one site through all modes of MQTT, CoAP, …; prints a table",
    )
    parser.add_argument("--only", default="", metavar="MODES", help='some of the tour, such as "mqtt 1, coap"')
    parser.add_argument(
        "--impair",
        type=_impairment,
        metavar="SHARE,DELAY",
        help="such as 5%%,100ms: of what passes the links 5%% is dropped, as much doubled and as much overtaken, "
        "and all is late by up to 100 ms",
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn by chance (default 1)")


def _above_zero(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


# What argparse calls the type in its one-line complaint.
_above_zero.__name__ = "number above 0"


def _impairment(text: str) -> Impairment:
    from lab.impair import Impairment

    try:
        return Impairment.parse(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def run(args: argparse.Namespace) -> int:
    """Run the demo; Ctrl-C ends it all."""
    # The picture and the table are all that is to be seen; a configuration that is applied would set levels anew.
    logging.disable(logging.CRITICAL)
    if args.speed is None:
        args.speed = SPEED_IMPAIRED if args.impair else SPEED_TOUR if args.tour else SPEED
    if args.tour and args.seconds:
        raise OperatorError("--for: the tour ends by itself; --only names a part of it")
    if args.only and not args.tour:
        raise OperatorError("--only: names a part of --tour")
    with contextlib.suppress(KeyboardInterrupt):
        if args.tour:
            return asyncio.run(_tour(args))
        asyncio.run(_main(args))
    return 0


async def _tour(args: argparse.Namespace) -> int:
    from lab.demo.tour_run import tour
    from lab.impair import Impairment

    return await tour(args.speed, args.seed, args.impair or Impairment(), args.only, args.json)


async def _main(args: argparse.Namespace) -> None:
    from lab.demo.record import Recorder
    from lab.demo.scene import running
    from lab.demo.screen import Screen, Silence
    from lab.demo.story import Teller, tell
    from lab.demo.wires import Wires

    wires = Wires(args.impair, args.seed) if args.impair else None
    screen = Screen(
        Silence() if args.json else sys.stdout, tty=not args.json and not args.no_tty and sys.stdout.isatty()
    )
    with tempfile.TemporaryDirectory(prefix="smartema-demo-") as directory:
        async with running(Path(directory), args.speed, args.seed, wires) as scene:
            began = scene.clock.now()
            recorder = Recorder(began.mono, began.wall)
            listen(scene, recorder, screen)
            teller = Teller(lambda line: screen.decided(clock_words(scene), f"· {line}"), recorder.event)
            tasks = [
                asyncio.create_task(tell(scene, teller)),
                asyncio.create_task(_sample(scene, recorder)),
                asyncio.create_task(_draw(scene, screen, args.speed)),
            ]
            screen.open()
            try:
                await _until_the_end(args.seconds, [*tasks, *scene.tasks])
            finally:
                screen.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                # What the site does while it is taken apart is no part of the record.
                scene.daemon.engine.listeners.clear()
            document = recorder.document(_reports(scene))
    if args.json:
        json.dump(document, sys.stdout)
        print()
    else:
        counts = document["reports"]
        print(
            f"{len(recorder.events)} events, {len(recorder.decisions)} decisions, "
            f"{document['over_limit_wh']:.2f} Wh over the limit\n"
            f"reports: {counts['acknowledged']} acknowledged, {counts['lost']} lost, {counts['duplicates']} doubled"
        )
        if wires is not None:
            from lab.demo.tour_table import links

            print(links(wires.total(), str(wires.impairment)))


async def _until_the_end(seconds: float | None, tasks: list[asyncio.Task[Any]]) -> None:
    """The time given, Ctrl-C (then too the demo says what came of it), or a part that failed: its error ends it."""
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return
    for task in done:
        task.result()


def listen(scene: Scene, recorder: Recorder, screen: Screen) -> None:
    from gateway.rdr_desk import RdrEntry
    from gateway.site.decision import Decision

    def decided(decision: Decision) -> None:
        recorder.decision(decision)
        screen.decided(clock_words(scene), decision.line())

    def settled(entry: RdrEntry) -> None:
        recorder.rdr.append(
            {
                "t": round(entry.at - recorder.began_wall, 3),
                "device": entry.device,
                "mw": round(entry.watts * 1000),
                "result": entry.result.value,
                "why": entry.why,
            }
        )

    scene.daemon.engine.listeners.append(decided)
    scene.daemon.engine.rdr.listeners.append(settled)


async def _sample(scene: Scene, recorder: Recorder) -> None:
    engine = scene.daemon.engine
    while True:
        now = scene.clock.now()
        recorder.sample(now.mono, scene.power_w(), engine.limit(now).import_w)
        await scene.clock.sleep(SAMPLE_S)


async def _draw(scene: Scene, screen: Screen, speed: float) -> None:
    every = PICTURE_S if screen.tty else LOG_S
    while True:
        screen.draw(frame(scene, speed))
        await asyncio.sleep(every)


def clock_words(scene: Scene) -> str:
    return time.strftime("%H:%M:%S", time.localtime(scene.clock.now().wall))


def frame(scene: Scene, speed: float) -> Frame:
    from lab.demo.screen import Frame, Line

    engine = scene.daemon.engine
    now = scene.clock.now()
    limit = engine.limit(now)
    power = engine.power().watts
    margin = None if limit.import_w is None else limit.import_w - max(power, 0.0)
    words = event_words(list(engine.book.events.values()), now.wall)
    reports = _reports(scene)
    lines = []
    for state in sorted(engine.states.values(), key=lambda s: s.resource.number):
        adapter = engine.adapters.get(state.resource.number)
        lines.append(
            Line(
                name=state.resource.name,
                link=adapter.name if adapter is not None else "–",
                priority=state.resource.priority,
                state=_state_words(state),
                power_w=state.reading.power_w if state.reading is not None else None,
                held=str(state.held) if state.held is not None else "",
                present=state.present,
            )
        )
    return Frame(
        title="smartema  gw/1",
        clock=clock_words(scene),
        power_w=power,
        limit_w=limit.import_w,
        limit_words=str(limit),
        margin_w=margin,
        event=words,
        links=f"reports {reports['acknowledged']} acknowledged, {reports['lost']} lost",
        devices=lines,
        footer=f"clock × {speed:g}   Ctrl-C ends it",
    )


def event_words(events: list[DrEvent], wall: float) -> str:
    """The event that runs, else the one that comes."""
    for event in sorted(events, key=lambda e: e.start):
        named = f"event {event.event_id}: {event.limit_w:.0f} W"
        if event.running(wall):
            return f"{named}, {(event.end - wall) / 60:.1f} min left"
        if wall < event.start and not event.cancelled:
            return f"{named} in {event.start - wall:.0f} s"
    return "no event"


def _state_words(state: ResourceState) -> str:
    from gateway.site.resource import Kind

    reading = state.reading
    if reading is None:
        return "not heard yet"
    kind = state.resource.kind
    if kind is Kind.ESS:
        return f"SoC {reading.soc:.0f} %" if reading.soc is not None else "–"
    if kind is Kind.EV:
        return "plugged" if reading.plugged else "no car"
    if kind is Kind.PV:
        return "on" if reading.on in (None, True) else "off"
    if not reading.on:
        return "off"
    return f"on, dimming {reading.level}" if reading.level is not None else "on"


def _reports(scene: Scene) -> dict[str, int]:
    """Counted at the EMS: what it has on disk, what came twice, and what the EMA had to drop."""
    counts = scene.ems.counts().get("gw/1")
    status = scene.daemon.engine.upstreams[0].status()
    return {
        "sent": int(str(status.get("sent", 0))),
        "acknowledged": int(str(status.get("acknowledged", 0))),
        "lost": scene.daemon.outbox_status()["lost"],
        "duplicates": counts.duplicates if counts is not None else 0,
    }
