"""What can be asked of a running daemon over its control socket; each verb's arguments are checked here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import OperatorError
from gateway.field.describe import describe
from gateway.journal.plain import to_plain
from gateway.site.command import Source
from gateway.site.decision import Decision
from gateway.site.event import DrEvent
from gateway.site.picture import ResourceState
from gateway.site.resource import DIMMING_STEPS, Setting

if TYPE_CHECKING:
    from gateway.daemon import Daemon
    from gateway.loan_desk import LoanDesk
    from gateway.virtual_leds import VirtualLeds


def _missing_w(state: ResourceState) -> float:
    """What a device lacks to what it wants; all of that where it draws it already. 0: not known."""
    whole = state.wish_w or state.resource.rated_w
    drawn = None if state.reading is None else state.reading.power_w
    missing = whole - (drawn or 0.0)
    return missing if missing > 0 else whole


def _integer(request: dict[str, Any], name: str, least: int = 0, most: int = 2**31) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise OperatorError(f"{name}: {value!r} is not a whole number from {least} to {most}")
    return value


def _number(request: dict[str, Any], name: str, default: float | None = None) -> float:
    value = request.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e9:
        raise OperatorError(f"{name}: {value!r} is not a number above 0")
    return float(value)


class Verbs:
    """``handle`` takes one request and returns what ``--json`` prints."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._engine = daemon.engine
        self._virtual: VirtualLeds | None = None

    async def handle(self, request: dict[str, Any]) -> Any:
        verb = getattr(self, "do_" + request["do"], None)
        if verb is None:
            known = ", ".join(sorted(n[3:] for n in dir(self) if n.startswith("do_")))
            raise OperatorError(f"do: {request['do']!r} is not one of {known}")
        return await verb(request)

    async def do_status(self, request: dict[str, Any]) -> dict[str, Any]:
        engine = self._engine
        now = engine.clock.now()
        power, limit = engine.power(), engine.limit(now)
        margin = engine.reporter.build(now.wall, set()).margin_w
        return {
            "ema": engine.config.ema.name,
            "boot": engine.journal.boot,
            "uptime_s": round(now.mono - self._daemon.started, 1),
            "wall": now.wall,
            "clock_trusted": now.trusted,
            "power_w": round(power.watts, 3),
            "stale": list(power.stale),
            "limit": to_plain(limit),
            "margin_w": margin,
            "connection": engine.site().connection.value,
            "futile": engine.memory().futile,
            "failsafe": engine.memory().failsafe,
            "algorithm": "Priority",
            "devices": self._devices(now.mono),
            "upstreams": self._upstreams(),
            "field": self._field(),
            "outbox": self._daemon.outbox_status(),
            "journal": engine.journal.status(),
            "commands": {
                "sent": engine.dispatcher.sent,
                "again": engine.dispatcher.again,
                "confirmed": engine.dispatcher.confirmed_count,
                "failed": engine.dispatcher.failed_count,
            },
            "restarts": dict(self._daemon.restarts()),
            "events": [self._event(e, now.wall) for e in engine.book.events.values()],
            "grants": [to_plain(g) for g in engine.book.grants],
            "rdr": [to_plain(entry) for entry in engine.rdr.log],
            "price": engine.prices.shown() or None,
            "negotiation": None if engine.loans is None else engine.loans.status(),
        }

    def _upstreams(self) -> list[dict[str, Any]]:
        return [
            {"name": u.name, "protocol": self._daemon.protocol_of(u.name), **u.status()} for u in self._engine.upstreams
        ]

    def _devices(self, mono: float) -> list[dict[str, Any]]:
        """Those that came, and those that the configuration names and nobody has heard of yet."""
        states = dict(self._engine.states)
        for device in self._daemon.config.device:
            if device.number not in states:
                states[device.number] = ResourceState(describe(device, self._daemon.config.control, None), False)
        for ema in self._daemon.config.ema_below if self._daemon.config.serves_emas else ():
            if ema.resource not in states:
                from gateway.field.emas_below_roll import describe_ema

                states[ema.resource] = ResourceState(describe_ema(ema, self._daemon.config.control), False)
        links = self._daemon.config.named
        shown = [self._device(states[number], mono) for number in sorted(states)]
        return [{**line, "link": line["link"] or links.get(line["number"])} for line in shown]

    def _field(self) -> list[dict[str, Any]]:
        parts = [part for adapter in self._daemon.field if (part := _part(adapter)) is not None]
        broker = self._daemon.parts.status()
        return parts if broker is None else [*parts, broker]

    def _device(self, state: ResourceState, mono: float) -> dict[str, Any]:
        resource, reading = state.resource, state.reading
        adapter = self._engine.adapters.get(resource.number)
        values = {
            name: getattr(reading, name) if reading is not None else None
            for name in ("on", "level", "power_w", "soc", "voltage", "hertz", "plugged", "energy_wh")
        }
        return {
            "name": resource.name,
            "number": resource.number,
            "kind": resource.kind.value,
            "link": adapter.name if adapter is not None else None,
            "present": state.present,
            "priority": resource.priority,
            "never_shed": resource.never_shed,
            "rated_w": resource.rated_w or None,
            "held": str(state.held) if state.held is not None else None,
            "age_s": round(mono - reading.taken_at, 1) if reading is not None else None,
            **values,
        }

    def _event(self, event: DrEvent, wall: float) -> dict[str, Any]:
        answered = self._engine.book.opted_in.get((event.upstream, event.event_id))
        state = (
            "cancelled"
            if event.cancelled
            else "running"
            if event.running(wall)
            else "coming"
            if wall < event.start
            else "over"
        )
        return {**to_plain(event), "state": state, "opt": None if answered is None else "in" if answered[1] else "out"}

    async def do_why(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        last = _integer(request, "last", 1, 10_000) if "last" in request else 10
        device = request.get("device")
        decisions = self._engine.journal.decisions(last, device if isinstance(device, str) else None)
        return [decision_json(d) for d in decisions]

    async def do_device(self, request: dict[str, Any]) -> str:
        number = _integer(request, "number")
        if "dimming" in request:
            step = _integer(request, "dimming", -1, 1)
            return self._engine.operator.dim(number, step, Source.MENU)
        on = request.get("on")
        level = _integer(request, "level", 0, DIMMING_STEPS - 1) if request.get("level") is not None else None
        watts = request.get("setpoint_w")
        if on is not None and not isinstance(on, bool):
            raise OperatorError(f"on: {on!r} is not true or false")
        if watts is not None and (not isinstance(watts, int | float) or isinstance(watts, bool)):
            raise OperatorError(f"setpoint_w: {watts!r} is not a number of watts")
        free = request.get("free") is True
        if on is None and level is None and watts is None and not free:
            raise OperatorError("device: say on, level, dimming, setpoint_w or free")
        return self._engine.operator.set(number, Setting(on, level, watts, free), Source.MENU)

    async def do_all(self, request: dict[str, Any]) -> list[str]:
        on = request.get("on")
        if not isinstance(on, bool):
            raise OperatorError(f"on: {on!r} is not true or false")
        return self._engine.operator.all(on, Source.MENU)

    async def do_mode(self, request: dict[str, Any]) -> str:
        return await self._daemon.set_mode(request.get("upstream"), _integer(request, "mode", 0, 4))

    async def do_rdr(self, request: dict[str, Any]) -> dict[str, Any]:
        """A device's RDR, as its own button would send it."""
        number = _integer(request, "number")
        watts = request.get("watts")
        state = self._engine.states.get(number)
        if watts is None and state is not None:
            watts = _missing_w(state) or None
        if watts is None:
            raise OperatorError(f"watts: how much does the device want back; write `smartema menu 1 {number} WATTS`")
        answer = self._engine.asked_back(number, _number({"watts": watts}, "watts"), _number(request, "for_s", 600.0))
        return {"result": answer.result.value, "why": answer.why}

    async def do_gateway_rdr(self, request: dict[str, Any]) -> dict[str, Any]:
        """The lab's test 70: the EMA itself asks its upper side for power, for no device of its own."""
        granted, why = await self._engine.rdr.ask_above(
            _number(request, "watts", 100.0), _number(request, "for_s", 600.0)
        )
        return {"result": "granted" if granted else "denied", "why": why}

    async def do_negotiate(self, request: dict[str, Any]) -> dict[str, Any]:
        """The lab's test 90: borrow from other EMAs, for nobody in particular."""
        granted, why = await self._loans().borrow(_number(request, "watts", 100.0), _number(request, "for_s", 600.0))
        return {"result": "granted" if granted else "denied", "why": why}

    async def do_give_back(self, request: dict[str, Any]) -> str:
        """What was borrowed (``loan``: that one) is needed no longer."""
        loan = _integer(request, "loan", 1, 2**53) if request.get("loan") is not None else None
        self._loans().give_back(loan)
        return "given back" if loan is None else f"loan {loan} is given back"

    async def do_recall(self, request: dict[str, Any]) -> str:
        """What was lent is wanted back."""
        loan = _integer(request, "loan", 1, 2**53)
        self._loans().recall(loan)
        return f"loan {loan} is asked back"

    def _loans(self) -> LoanDesk:
        if self._engine.loans is None:
            raise OperatorError("this EMA does not negotiate; set [negotiation] enabled = true")
        return self._engine.loans

    async def do_connect(self, request: dict[str, Any]) -> str:
        return await self._daemon.connect_device(request)

    async def do_virtual(self, request: dict[str, Any]) -> dict[str, Any]:
        """Virtual LEDs over one link: so many (0: none), or how many there are."""
        from gateway.virtual_leds import LINKS, VirtualLeds

        link = request.get("link")
        if link not in LINKS:
            raise OperatorError(f"link: {link!r} is none of {', '.join(LINKS)}")
        self._virtual = self._virtual or VirtualLeds(self._daemon)
        if "count" in request:
            await self._virtual.set(link, _integer(request, "count", 0, 99_999))
        return self._virtual.status(link)

    async def do_disconnect(self, request: dict[str, Any]) -> str:
        number = _integer(request, "number")
        if number not in self._engine.states:
            raise OperatorError(f"number: there is no device {number}")
        self._engine.forget(number, "disconnected by the operator")
        return f"device {number} is disconnected"


def _part(adapter: object) -> dict[str, Any] | None:
    status = getattr(adapter, "status", None)
    return {"name": getattr(adapter, "name", "?"), **status()} if callable(status) else None


def decision_json(decision: Decision) -> dict[str, Any]:
    """The one shape in which menu, why, demo and page show a decision."""
    return {**to_plain(decision), "line": decision.line()}
