"""What an EMA said and is not answered yet, and which happening an answer is. By requestIDs alone, no topics."""

from __future__ import annotations

from collections import deque

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.mir2017.client_happenings import (
    ClientHappening,
    DeviceAcknowledged,
    EventAcknowledged,
    EventAnswerRejected,
    RdrAnswered,
    Refused,
    ReportAcknowledged,
    ReportPostponed,
    ReportRejected,
)

# Far more than any window.
MOST_WAITING = 10_000
# Events whose ids and modification are known, to be answered.
MOST_ASKED = 4096


class Waiting:
    """``echoes``: this session's EMS answers reports by their own requestID. An answer to nothing that waits, a double
    or a late one, is None."""

    def __init__(self) -> None:
        self.echoes = False
        self._reports: deque[int] = deque(maxlen=MOST_WAITING)
        self._notices: dict[str, tuple[int, bool | None]] = {}  # requestID → device, came (None: changed)
        self._opts: deque[tuple[str, int]] = deque(maxlen=MOST_WAITING)  # requestID, event
        self._rdrs: dict[int, str] = {}  # device → requestID
        self._asked: dict[int, tuple[str, str, int]] = {}  # our number → requestID, eventID, modification

    def clear(self) -> None:
        """A new session. The events that were heard may still be answered in it."""
        self.echoes = False
        self._reports.clear()
        self._notices.clear()
        self._opts.clear()
        self._rdrs.clear()

    # Reports

    def report(self, number: int) -> None:
        self._reports.append(number)

    def notice(self, request: str, device: int, came: bool | None) -> None:
        """A device came, went or (None) changed."""
        while len(self._notices) >= MOST_WAITING:
            del self._notices[next(iter(self._notices))]
        self._notices[request] = (device, came)

    def reported(self, answer: emap.UpdatedReport) -> list[ClientHappening] | None:
        """Raise ``PeerError`` for an answer that says neither yes nor no."""
        if not (answer.ok or answer.code in emap.FOR_GOOD or answer.code in emap.FOR_NOW):
            raise emap.refused(answer)
        notice = self._notices.get(answer.request_id)
        if notice is not None:
            return self._noticed(answer, *notice)
        number = emap.number_of(answer.request_id)
        if number in self._reports:
            self.echoes = True
            if answer.code not in emap.FOR_NOW:
                self._reports = deque((n for n in self._reports if n != number), MOST_WAITING)
        elif not answer.request_id and not self.echoes and self._reports:
            number = self._reports.popleft()  # an EMS that repeats no requestID: the oldest
        else:
            return None
        if answer.ok:
            return [ReportAcknowledged(number)]
        reason = f"{answer.code} {answer.description}".rstrip()
        return [ReportPostponed(number, reason) if answer.code in emap.FOR_NOW else ReportRejected(number, reason)]

    def _noticed(self, answer: emap.UpdatedReport, device: int, came: bool | None) -> list[ClientHappening]:
        if answer.code in emap.FOR_NOW:
            return []
        del self._notices[answer.request_id]
        told: list[ClientHappening] = [] if came is None else [DeviceAcknowledged(device, came)]
        if answer.ok:
            return told
        # For good: it is said, and what is behind it goes on.
        return [Refused("Report", f"dev/{device}: {emap.refused(answer)}"), *told]

    # Events

    def event(self, request: str, event: emap.Event) -> int:
        """A number by which ``opt`` finds what it answers: the requestID's own unless that is taken."""
        asked = (request, event.event_id, event.modification)
        number = emap.number_of(request)
        if self._asked.get(number, asked) != asked:
            number = emap.number_of("/".join(map(str, asked)))
        self._asked.pop(number, None)
        self._asked[number] = asked
        while len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        return number

    def opt(self, number: int, event_id: int) -> tuple[str, str, int]:
        """(requestID, eventID, modificationNumber) of the opt answer, which waits for its own answer now."""
        asked = self._asked.get(number, (str(number), str(event_id), 0))
        self._opts.append((asked[0], event_id))
        return asked

    def opted(self, answer: emap.Response) -> list[ClientHappening] | None:
        """Raise ``PeerError`` for an answer that says neither yes nor no."""
        waiting = next((opt for opt in self._opts if opt[0] == answer.request_id), None)
        if waiting is None and not answer.request_id and self._opts:
            waiting = self._opts[0]  # an EMS that repeats no requestID: the oldest
        if waiting is None:
            return None
        self._opts.remove(waiting)
        if answer.code in emap.FOR_GOOD:
            return [EventAnswerRejected(waiting[1], f"{answer.code} {answer.description}".rstrip())]
        if not answer.ok:
            raise PeerError(f"CreatedEvent: {emap.refused(answer)}")
        return [EventAcknowledged(waiting[1])]

    # RDR

    def rdr(self, device: int, request: str) -> None:
        """One question is under way a device: an answer to an earlier one is none."""
        self._rdrs[device] = request

    def rdr_answered(self, answer: emap.CreatedOpt) -> list[ClientHappening] | None:
        named = (answer.request_id, answer.opt_id)
        device = next((device for device, request in self._rdrs.items() if request in named), None)
        if device is None and named == ("", "") and len(self._rdrs) == 1:
            device = next(iter(self._rdrs))
        if device is None:
            return None
        del self._rdrs[device]
        return [RdrAnswered(device, answer.accepted, answer.description)]
