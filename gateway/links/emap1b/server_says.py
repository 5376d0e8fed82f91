"""What an EMS, or an upper EMA, says in profile ``emap1b``, sans-I/O: what is to be told, turned into messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.messages import Channel
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.messages import Send

# Of one EMA: what waits for its acknowledgement. And events whose number is known when their answer comes.
MOST_WAITING = 10_000

K = TypeVar("K")
V = TypeVar("V")


class Reply(Send):
    """The answer to one message of an EMA; over CoAP it goes back as the answer to its PUT."""

    __slots__ = ()


def keep(kept: dict[K, V], key: K, value: V) -> None:
    """Under that key as the newest; the oldest goes where there would be too many."""
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > MOST_WAITING:
        del kept[next(iter(kept))]


@dataclass(slots=True)
class EmaSession:
    """What this end knows of one EMA. ``report_wanted``: its next poll without an event asks for a report; ``pull``:
    it said that it polls. The others are the requestIDs of what it waits for."""

    ven_id: str
    registered: bool = False
    connected: bool = False
    report_wanted: bool = False
    pull: bool = False
    poll: str = ""
    opts: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    reports: dict[int, str] = field(default_factory=dict)  # by number, where the text is not that number itself
    notices: dict[tuple[int, bool], list[str]] = field(default_factory=dict)  # by device, came
    rdrs: dict[int, tuple[str, str]] = field(default_factory=dict)  # by device: with its optID
    answers: dict[int, tuple[tuple[str, str], bytes]] = field(default_factory=dict)  # by device: the last, its answer


class Says:
    """Publish each ``Send``, in order. Calls as in ``links.mir2017.server_says``."""

    def __init__(self, ems_name: str, wall: Callable[[], float], run: int) -> None:
        self.name = ems_name
        self._wall = wall
        self._run = run
        self._count = 0
        self._emas: dict[int, EmaSession] = {}
        self._events: dict[tuple[int, int], int] = {}  # event, modification → the number that its sender gave

    def distribute(self, ema: int, event: neutral.DistributeEvent) -> list[Send]:
        """Push an event to one EMA (unicast). The requestID is the event's own number, also when it is said again."""
        head = self._event_head(ema, event)
        return [self._send(ema, emap.DistributeEvent(*head, (emap.Event.of(event),)), Channel.EVENT)]

    def multicast(self, emas: Iterable[int], event: neutral.DistributeEvent) -> list[Send]:
        """Push an event to several EMAs: one message each."""
        return [send for ema in emas for send in self.distribute(ema, event)]

    def broadcast(self, event: neutral.DistributeEvent) -> list[Send]:
        """Push an event to every EMA that was heard of and did not go: the profile has no topic for all."""
        return self.multicast([ema for ema, session in self._emas.items() if session.connected], event)

    def budget(self, ema: int, signal: emap.Signal, event_id: int = 0) -> list[Send]:
        """Tell one EMA a price (``signal.name`` of ``messages.Budget``). Nobody answers it: say it again when the EMA
        registers."""
        self._count += 1
        head = (self.name, self._ven(ema), f"{self._run}-{self._count}", self._now_ms())
        event = emap.Event(str(event_id), 0, "", "", (signal,))
        return [self._send(ema, emap.DistributeEvent(*head, (event,)), Channel.EVENT)]

    def answer_poll(
        self, ema: int, event: neutral.DistributeEvent | None = None, want_report: bool = False
    ) -> list[Send]:
        """Answer the last ``Polled``: with the oldest event that this EMA has not answered, or without one.

        ``want_report``: ask it for a report (mode 3); with an event waiting the next poll without one asks.
        """
        session = self._emas.get(ema) or EmaSession(self._ven(ema))
        session.report_wanted = session.report_wanted or want_report
        asked, session.poll = session.poll, ""
        if event is not None:
            head = self._event_head(ema, event)
            pulled = emap.DistributeEvent(*head, (emap.Event.of(event),), emap.OK, "OK")
            return [self._reply(ema, pulled, Channel.EVENT)]
        back = self._back(ema, asked)
        answer = emap.CreateReport(*back) if session.report_wanted else emap.Response(*back)
        session.report_wanted = False
        return [self._reply(ema, answer, Channel.POLL)]

    def acknowledge_report(self, ema: int, request_id: int) -> list[Send]:
        """Only after the report is stored durably: the EMA deletes it on this answer. A double is acknowledged too."""
        return self.refuse_report(ema, request_id, emap.OK, "OK")

    def refuse_report(self, ema: int, request_id: int, code: int, reason: str) -> list[Send]:
        """``code`` 4xx: it will never be taken, the EMA drops it; 5xx: not now, the EMA sends it again."""
        session, request = self._emas.get(ema), str(request_id)
        if session is not None:
            request = session.reports.get(request_id, request)
        return [self._updated(ema, request, code, reason)]

    def acknowledge_device(
        self, ema: int, device: int, connected: bool, code: int = emap.OK, reason: str = "OK"
    ) -> list[Send]:
        """Only after a ``DeviceConnected`` or ``DeviceDisconnected`` is stored durably; the EMA waits for it."""
        session = self._emas.get(ema)
        requests = session.notices.pop((device, connected), []) if session is not None else []
        return [self._updated(ema, request, code, reason) for request in requests]

    def acknowledge_opt(self, ema: int, code: int = emap.OK) -> list[Send]:
        """Only after an ``EventAnswered`` is stored durably; 4xx: it will never be taken."""
        session = self._emas.get(ema)
        if session is None or not session.opts:
            return []
        answer = emap.Response(*self._back(ema, session.opts.popleft()), code, "OK" if code == emap.OK else "Deny")
        return [self._reply(ema, answer, Channel.EVENT)]

    def answer_rdr(self, ema: int, number: int, granted: bool, description: str = "") -> list[Send]:
        """Grant or refuse the power that a device asked back; ``description`` empty: "OK" or "Deny"."""
        session = self._emas.get(ema)
        asked = session.rdrs.pop(number, None) if session is not None else None
        if session is None or asked is None:
            return []
        code, word = (emap.OK, "OK") if granted else (emap.DENIED, "Deny")
        answer = emap.CreatedOpt(*self._back(ema, asked[0]), code, emap.short(description or word), asked[1], granted)
        reply = self._reply(ema, answer, Channel.OPT)
        keep(session.answers, number, (asked, reply.body))
        return [reply]

    def control(self, ema: int, device: int, on: bool) -> list[Send]:
        """Nothing: the profile has no message for it."""
        return []

    def dim(self, ema: int, device: int, up: bool) -> list[Send]:
        """Nothing: the profile has no message for it."""
        return []

    def _ven(self, ema: int) -> str:
        session = self._emas.get(ema)
        return session.ven_id if session is not None else f"MIR_VEN{ema}"

    def _now_ms(self) -> int:
        return round(self._wall() * 1000)

    def _back(self, ema: int, request: str) -> tuple[str, str, str, int]:
        """The head of an answer."""
        return self.name, self._ven(ema), request, self._now_ms()

    def _event_head(self, ema: int, event: neutral.DistributeEvent) -> tuple[str, str, str, int]:
        keep(self._events, (event.event_id, event.modification), event.request_id)
        return self._back(ema, str(event.request_id))

    def _updated(self, ema: int, request: str, code: int, reason: str) -> Reply:
        answer = emap.UpdatedReport(*self._back(ema, request), code, emap.short(reason))
        return self._reply(ema, answer, Channel.REPORT)

    def _send(self, ema: int, message: emap.Message, channel: Channel) -> Send:
        return Send(emap.topic(self._ven(ema), channel), message.encode())

    def _reply(self, ema: int, answer: emap.Message, channel: Channel) -> Reply:
        return Reply(emap.topic(self._ven(ema), channel), answer.encode())
