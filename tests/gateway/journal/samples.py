"""Small site values for the journal's tests."""

from __future__ import annotations

from gateway.site.command import Command, CommandState, Source
from gateway.site.decision import Action, Decision, Kept, Limit, Rule, Term
from gateway.site.event import DrEvent
from gateway.site.report import DeviceLine, DeviceNotice, NoticeKind, SiteReport
from gateway.site.resource import Kind, Resource, Setpoint, Setting


def report(power: float, devices: int = 1, at: float = 1_760_000_000.0) -> SiteReport:
    lines = tuple(DeviceLine(n, "led", True, 9, 60.0 + n, 1) for n in range(devices))
    return SiteReport(at, power, 800.0, None, 0.0, 0.0, lines)


def notice(number: int) -> DeviceNotice:
    return DeviceNotice(1_760_000_000.0, NoticeKind.CONNECTED, DeviceLine(number, "ess", False, 0, None, 5))


def lamp(number: int, priority: int = 1) -> Resource:
    return Resource(f"lamp-{number}", number, Kind.LED, priority, levels=True, rated_w=60.0)


def battery(number: int) -> Resource:
    return Resource(f"ess-{number}", number, Kind.ESS, 5, setpoint=Setpoint(-500.0, 500.0, 10.0), gives=True)


def event(event_id: int, start: float, end: float, modification: int = 0, upstream: str = "ems") -> DrEvent:
    return DrEvent(upstream, event_id, modification, start, end, 800.0, restore_delay_s=12.5)


def command(command_id: int, number: int = 1, state: CommandState = CommandState.SENT, **more: float) -> Command:
    return Command(command_id, f"lamp-{number}", number, Setting(on=False), Source.SHED, 60.0, 0.0, state=state, **more)


def decision(number: int, *off: str, kept: tuple[str, ...] = ()) -> Decision:
    actions = tuple(Action(n, 1, Setting(on=False), -60.0, 0.0, Source.SHED, f"{n} off") for n in off)
    limit = Limit(800.0, None, terms=(Term("event 17", 800.0, 1_760_000_600.0),))
    left = tuple(Kept(name, "never shed") for name in kept)
    return Decision(Rule.SHED, 1_760_000_000.0, 1012.0, limit, "over by 212 W", actions, left, 17, number)
