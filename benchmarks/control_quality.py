"""``control_quality``: a day of 20 devices with 6 events in virtual time, against an oracle that knows the day.

The site: five dimmable and four plain lamps, four switched loads, three panels under sun and clouds, two stores,
two cars that must be full by their departure. What loads want changes every half minute. The control under test is
``gateway.control`` with its defaults, behind links that take up to 0.2 s each way; it learns of a change when the
device reports it.

The oracle (``oracle``) knows the load and the events of the whole day. Every second, without delay and without
hysteresis, it starts from what every device wants at that second and finds the least service that must be shed
under the same guards: a store discharges above its floor, a car waits while it still makes its departure, all of a
smaller priority before any of a greater, and inside the last priority the fewest W of all combinations of settings
that there are. It gives back everything the second it fits. Its actions are the settings it changes. Its stores and
cars fill and empty by what it did, not by what control did.

Three figures:
- ``over_limit_wh``: energy above the limit. Floor: 1.05 × the oracle's + one pass, that is the pass period times the
  excess at each of the six moments when an event begins (nobody who learns of a thing by looking once a pass can do
  better).
- ``needless_wh``: Wh of service (lamps, loads, what a car lacked at its departure) shed without need: second by second
  what is shed beyond the W that are over once stores and cars, as control has them then, did what they can. That is a
  bound below every plan of whole steps, the oracle's too, and it minds no priority. Floor: 5 % of that bound's own Wh.
- ``actions``: commands in the day. Floor: the oracle's.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.virtual_site import WALL0, Device, Links, VirtualSite
from gateway.control.rules import Rules
from gateway.site.event import DrEvent
from gateway.site.picture import Timeline
from gateway.site.resource import DIMMING_STEPS, Kind, Resource, Setpoint

DAY_S = 86_400
START = 1000.0
# What loads want changes so often.
CHANGE_S = 30.0


def profile(rng: random.Random, base: float, swing: float, hours: tuple[float, float]) -> Callable[[float], float]:
    """A load's draw over the day: on between two hours, walking around its base."""
    steps, walk = [], 0.0
    for i in range(int(DAY_S / CHANGE_S)):
        hour = i * CHANGE_S / 3600
        walk = max(min(walk + rng.uniform(-0.1, 0.1), 1.0), -1.0)
        steps.append(round(base + swing * walk, 1) if hours[0] <= hour < hours[1] else 0.0)
    return lambda t: steps[min(int((t - START) / CHANGE_S), len(steps) - 1)]


def sunshine(rng: random.Random, peak: float) -> Callable[[float], float]:
    """A panel's generation (negative): a half sine from 6 to 18 h under clouds that come and go."""
    steps, cloud = [], 0.0
    for i in range(int(DAY_S / CHANGE_S)):
        hour = i * CHANGE_S / 3600
        cloud = max(min(cloud + rng.uniform(-0.08, 0.08), 0.8), 0.0)
        sun = max(math.sin(math.pi * (hour - 6) / 12), 0.0) if 6 <= hour < 18 else 0.0
        steps.append(-round(peak * sun * (1 - cloud), 1))
    return lambda t: steps[min(int((t - START) / CHANGE_S), len(steps) - 1)]


def own_charging(watts: float, hours: tuple[float, float]) -> Callable[[float], float]:
    """What a store does of its own: it charges at night."""
    return lambda t: watts if hours[0] <= (t - START) / 3600 < hours[1] else 0.0


def the_devices(seed: int) -> list[Device]:
    rng = random.Random(seed)
    devices: list[Device] = []

    def add(kind: Kind, demand: Callable[[float], float], priority: int, **more: object) -> None:
        number = len(devices) + 1
        device_more = {k: more.pop(k) for k in ("soc", "capacity_wh", "need_wh", "depart_at") if k in more}
        resource = Resource(f"{kind.value}-{number}", number, kind, priority, **more)  # type: ignore[arg-type]
        devices.append(Device(resource, demand, **device_more))  # type: ignore[arg-type]

    for i in range(5):
        add(Kind.LED, profile(rng, 300, 40, (0, 24)), i % 3, levels=True)
    for i in range(4):
        add(Kind.LED, profile(rng, 200, 30, (5 + i, 23)), i % 3)
    for i in range(4):
        least = 10.0
        add(Kind.VIRTUAL, profile(rng, 900, 120, (0, 24)), 3 + i % 2, min_on_s=least, min_off_s=least)
    for _ in range(3):
        add(Kind.PV, sunshine(rng, 1500), 5, setpoint=Setpoint(-1500, 0), gives=True)
    for i in range(2):
        add(
            Kind.ESS,
            own_charging(800, (1 + i, 4)),
            9,
            setpoint=Setpoint(-1200, 1200),
            soc=60.0,
            capacity_wh=2500.0,
            gives=True,
        )
    for i in range(2):
        depart = START + (8 + 9 * i) * 3600
        add(
            Kind.EV,
            lambda t: 3680.0,
            6,
            setpoint=Setpoint(1380, 3680, 230),
            min_on_s=60.0,
            min_off_s=60.0,
            need_wh=9000.0,
            depart_at=depart,
        )
    return devices


def the_events(seed: int) -> tuple[DrEvent, ...]:
    """Six in a day, ten minutes to an hour and a half."""
    rng = random.Random(seed + 1)
    events = []
    for number, (hour, minutes, watts) in enumerate(
        ((2.1, 60, 5000), (6.5, 90, 3200), (9.7, 30, 2600), (13.2, 45, 800), (17.4, 80, 3000), (20.6, 60, 2500)), 1
    ):
        start = WALL0 + hour * 3600
        events.append(
            DrEvent("ems", number, 1, start, start + minutes * 60, watts, restore_delay_s=rng.uniform(0.0, 60.0))
        )
    return tuple(events)


def wanted(device: Device, t: float) -> float:
    """What it would draw unconstrained, by its own present store or need."""
    kind = device.resource.kind
    if kind is Kind.EV:
        return device.demand_w(t) if (device.need_wh or 0.0) > 0 else 0.0
    if kind is Kind.ESS:
        own = device.demand_w(t)
        return 0.0 if own > 0 and (device.soc or 0.0) >= device.resource.ceiling_soc else own
    return device.demand_w(t)


@dataclass
class Tally:
    """What a run of the day came to."""

    over_wh: float = 0.0
    actions: int = 0
    shed_w: list[float] = field(default_factory=list)  # service not given, mean of each second
    lacked_wh: float = 0.0
    needless_wh: float = 0.0
    least_wh: float = 0.0  # the bound that ``needless_wh`` is above


def oracle(devices: list[Device], events: tuple[DrEvent, ...]) -> tuple[Tally, float]:
    """The day as well as it can be done; and the W over the limit as each event begins, summed."""
    tally = Tally()
    last: dict[int, float | int | None] = {}
    begins = 0.0
    running_before = False
    lacked: set[int] = set()
    for second in range(DAY_S):
        t = START + second
        limit = min((e.limit_w for e in events if e.running(WALL0 + second)), default=None)
        draws = {d.resource.number: wanted(d, t) for d in devices}
        settings: dict[int, float | int | None] = dict.fromkeys(draws)
        if limit is not None and not running_before:
            begins += max(sum(draws.values()) - limit, 0.0)
        shed = _held(devices, t, limit, draws, settings)
        running_before = limit is not None
        total = sum(draws.values())
        if limit is not None:
            tally.over_wh += max(total - limit, 0.0) / 3600
        tally.shed_w.append(shed)
        tally.actions += sum(1 for number, setting in settings.items() if setting != last.get(number))
        last = settings
        for device in devices:
            wh = draws[device.resource.number] / 3600
            if device.soc is not None:
                device.soc += 100 * wh / device.capacity_wh
            if device.need_wh is not None:
                device.need_wh = max(device.need_wh - wh, 0.0)
                if device.depart_at is not None and t >= device.depart_at and device.resource.number not in lacked:
                    lacked.add(device.resource.number)
                    tally.lacked_wh += device.need_wh
    return tally, begins


def _held(
    devices: list[Device],
    t: float,
    limit: float | None,
    draws: dict[int, float],
    settings: dict[int, float | int | None],
) -> float:
    """Bring ``draws`` under the limit; the W of service that it takes."""
    excess = 0.0 if limit is None else sum(draws.values()) - limit
    if excess <= 0:
        return 0.0
    return _least(devices, draws, settings, _for_free(devices, t, draws, settings, excess))


def least_w(devices: list[Device], t: float, limit: float | None) -> float:
    """The W of service that must be shed at this second, to the watt, with stores and cars as they are."""
    draws = {d.resource.number: wanted(d, t) for d in devices}
    excess = 0.0 if limit is None else sum(draws.values()) - limit
    return max(_for_free(devices, t, draws, {}, excess), 0.0)


def _for_free(
    devices: list[Device],
    t: float,
    draws: dict[int, float],
    settings: dict[int, float | int | None],
    excess: float,
) -> float:
    for device in devices:
        number, point = device.resource.number, device.resource.setpoint
        if excess <= 0 or point is None:
            continue
        if device.resource.kind is Kind.ESS:
            lowest = point.min_w if (device.soc or 0.0) > device.resource.floor_soc else 0.0
            to = max(draws[number] - excess, lowest)
        elif device.resource.kind is Kind.EV and draws[number] > 0 and device.depart_at is not None:
            if (device.depart_at - t) * point.max_w / 3600 < (device.need_wh or 0.0):
                continue
            to = draws[number] - excess
            to = math.floor(to / point.step_w) * point.step_w if to >= point.min_w else 0.0
        else:
            continue
        if to < draws[number]:
            excess -= draws[number] - to
            draws[number] = to
            settings[number] = round(to, 1)
    return excess


def _least(
    devices: list[Device], draws: dict[int, float], settings: dict[int, float | int | None], excess: float
) -> float:
    """Shed service by priority, the last priority by the best of all combinations."""
    shed = 0.0
    loads = [d for d in devices if d.resource.kind in (Kind.LED, Kind.VIRTUAL) and draws[d.resource.number] > 0]
    for priority in sorted({d.resource.priority for d in loads}):
        if excess <= 1e-9:
            break
        group = [d for d in loads if d.resource.priority == priority]
        total = sum(draws[d.resource.number] for d in group)
        if total <= excess:
            chosen = [(d, draws[d.resource.number], -1) for d in group]
        else:
            chosen = _best(group, draws, excess)
        for device, cut, setting in chosen:
            draws[device.resource.number] -= cut
            settings[device.resource.number] = setting
            excess -= cut
            shed += cut
    return shed


def _best(group: list[Device], draws: dict[int, float], need: float) -> list[tuple[Device, float, int]]:
    """Every combination of off and dimming steps: the least W lost, then the fewest settings."""
    sums: dict[float, tuple[int, tuple[tuple[Device, float, int], ...]]] = {0.0: (0, ())}
    for device in group:
        power = draws[device.resource.number]
        choices = [(power, -1)]
        if device.resource.levels:
            choices += [(power * (9 - level) / DIMMING_STEPS, level) for level in range(9)]
        more = dict(sums)
        for cut, (count, taken) in sums.items():
            if cut >= need:
                continue
            for watts, setting in choices:
                total = round(cut + watts, 3)
                known = more.get(total)
                if known is None or count + 1 < known[0]:
                    more[total] = (count + 1, (*taken, (device, watts, setting)))
        enough = [total for total in more if total >= need - 1e-6]
        best = min(enough, default=math.inf)
        sums = {total: entry for total, entry in more.items() if total <= best}
    return list(sums[min(total for total in sums if total >= need - 1e-6)][1])


def control(devices: list[Device], events: tuple[DrEvent, ...]) -> tuple[Tally, VirtualSite]:
    """The same day under ``gateway.control``."""
    tally = Tally(shed_w=[0.0] * DAY_S)
    links = Links(delay_s=0.2, report_s=10.0, change_w=2.0)
    site = VirtualSite(devices, Timeline(events=events), Rules(), links)
    loads = [d for d in devices if d.resource.kind in (Kind.LED, Kind.VIRTUAL)]
    lacked: set[int] = set()

    def flow(seconds: float) -> None:
        now = site.now
        limit = site.limit_w()
        if limit is not None:
            tally.over_wh += max(site.power() - limit, 0.0) * seconds / 3600
        missing = sum(d.demand_w(now) - d.power(now) for d in loads if not d.on or d.level < DIMMING_STEPS - 1)
        if missing > 0:
            tally.shed_w[min(int(now - START), DAY_S - 1)] += missing * seconds
            least = least_w(devices, now, limit)
            tally.needless_wh += max(missing - least, 0.0) * seconds / 3600
            tally.least_wh += least * seconds / 3600
        for device in devices:
            number = device.resource.number
            if device.depart_at is not None and now >= device.depart_at and number not in lacked:
                lacked.add(number)
                tally.lacked_wh += device.need_wh or 0.0

    site.run(float(DAY_S), step=1.0, flow=flow)
    tally.actions = len(site.actions)
    return tally, site


def run(seed: int = 7) -> list[dict[str, object]]:
    """The three rows of the table."""
    best, begins = oracle(the_devices(seed), the_events(seed))
    ours, _ = control(the_devices(seed), the_events(seed))
    one_pass = begins * Rules().pass_s / 3600
    needless = ours.needless_wh + ours.lacked_wh

    def row(name: str, value: float, unit: str, floor: float) -> dict[str, object]:
        return {"name": name, "value": value, "unit": unit, "floor": floor, "ratio": value / floor, "on": ""}

    return [
        row("over_limit_wh", ours.over_wh, "Wh a day", 1.05 * best.over_wh + one_pass),
        row("needless_wh", needless, "Wh a day", 0.05 * ours.least_wh),
        row("actions", float(ours.actions), "a day", float(best.actions)),
    ]


if __name__ == "__main__":
    for line in run(int(sys.argv[1]) if len(sys.argv) > 1 else 7):
        print(line)
