"""The three ends of the lab's UDP links, sans-I/O: the EMS's, a VTN's and an EMA's.

The side that wants an answer sends again (``due``): a datagram may be lost, doubled or late. What cannot be read is
counted and dropped: a datagram has no session to be refused in. Cannot do: tell one peer from another that forges
its address; the list of sources of whoever wraps this is all there is.
"""

from __future__ import annotations

from datetime import tzinfo

from gateway.errors import PeerError
from gateway.links.mir2017.messages.setup import DURATION_MS
from gateway.links.mir2017.udp import messages as udp
from gateway.record import record

FIRST_S = 1.0
MOST_S = 30.0
MOST_VTNS = 64


@record
class VtnRegistered:
    """A VTN came (again)."""

    vtn_id: str
    ven_number: int


@record
class VtnReported:
    """What its VENs draw, in W. May come twice."""

    vtn_id: str
    ven_number: int
    value: float


@record
class VtnGone:
    """It deregistered."""

    vtn_id: str


@record
class Updated:
    """An EMA's report; ``update.ema`` None: the EMA that has the datagram's address."""

    update: udp.EiUpdate


@record
class Dropped:
    """Not of the profile."""

    reason: str


EmsHappening = VtnRegistered | VtnReported | VtnGone | Updated | Dropped


class EmsEnd:
    """What the EMS hears on its port."""

    def __init__(self, zone: tzinfo | None = None, duration_ms: int = DURATION_MS) -> None:
        self.zone = zone
        self.dropped = 0
        self.vtns: dict[str, str] = {}  # VTNID → RegistrationID
        self._duration_ms = duration_ms

    def received(self, body: bytes) -> tuple[bytes | None, EmsHappening]:
        """One datagram: (the answer to send back, what happened). Never raises."""
        try:
            if body[:1] == b"{":
                return self._vtn(udp.read_from_vtn(body))
            return None, Updated(udp.EiUpdate.decode(body, self.zone))
        except PeerError as err:
            self.dropped += 1
            return None, Dropped(str(err))

    def _vtn(self, message: udp.ToEms) -> tuple[bytes | None, EmsHappening]:
        vtn = message.vtn_id
        match message:
            case udp.VtnRegistration(registration_id=registration, ven_number=number):
                if vtn not in self.vtns and len(self.vtns) >= MOST_VTNS:
                    self.dropped += 1
                    answer = udp.VtnRegistrationAck(vtn, registration, self._duration_ms, 403)
                    return answer.encode(), Dropped(f"{vtn}: {MOST_VTNS} VTNs are registered already")
                self.vtns[vtn] = registration
                return (
                    udp.VtnRegistrationAck(vtn, registration, self._duration_ms).encode(),
                    VtnRegistered(vtn, number),
                )
            case udp.VtnReport(ven_number=number, value=value):
                if vtn not in self.vtns:
                    self.dropped += 1
                    return udp.VtnReportAck(vtn, 403).encode(), Dropped(f"{vtn}: reports, but is not registered")
                return udp.VtnReportAck(vtn).encode(), VtnReported(vtn, number, value)
            case _:
                self.vtns.pop(vtn, None)
                return udp.VtnDeregistrationAck(vtn).encode(), VtnGone(vtn)

    def event(self, start: float, end: float, value: int) -> bytes:
        """The pushed line; nothing answers it, so it is sent more than once by who wraps this."""
        return udp.EventLine(start, end, value).encode(self.zone)


class VtnEnd:
    """A VTN below which an EMS stands: registers, reports, deregisters, each until it is answered.

    Send what ``take`` returns; send what ``due(now)`` returns, when ``wake`` says. Times in monotonic seconds.
    """

    def __init__(self, vtn_id: str, registration_id: str) -> None:
        self.vtn_id = vtn_id
        self.registered = False
        self.refused = 0
        self.stale = 0
        self.dropped = 0
        self.duration_ms = DURATION_MS
        self.wake: float | None = None
        self._registration_id = registration_id
        self._waits: udp.ToEms | None = None
        self._wait = FIRST_S

    def register(self, ven_number: int, now: float) -> bytes:
        """Registration of a VTN with so many VENs."""
        return self._say(udp.VtnRegistration(self.vtn_id, self._registration_id, ven_number), now)

    def report(self, ven_number: int, value: float, now: float) -> bytes:
        """A newer report takes the place of one that is not answered yet."""
        return self._say(udp.VtnReport(self.vtn_id, ven_number, value), now)

    def deregister(self, now: float) -> bytes:
        return self._say(udp.VtnDeregistration(self.vtn_id), now)

    def due(self, now: float) -> bytes | None:
        """What has to be sent again now."""
        if self._waits is None or self.wake is None or now < self.wake:
            return None
        self._wait = min(self._wait * 2, MOST_S)
        self.wake = now + self._wait
        return self._waits.encode()

    def received(self, body: bytes) -> bool:
        """One datagram of the EMS; True: what was said last is answered. Never raises."""
        try:
            answer = udp.read_from_ems(body)
        except PeerError:
            self.dropped += 1
            return False
        if self._waits is None or answer.vtn_id != self.vtn_id or answer.kind != f"{self._waits.kind}ACK":
            self.stale += 1
            return False
        if answer.response != 200:
            self.refused += 1
            self.registered = self.registered and not isinstance(answer, udp.VtnReportAck)
        elif isinstance(answer, udp.VtnRegistrationAck):
            self.registered = True
            self.duration_ms = answer.duration_ms
        elif isinstance(answer, udp.VtnDeregistrationAck):
            self.registered = False
        self._waits = self.wake = None
        return True

    def _say(self, message: udp.ToEms, now: float) -> bytes:
        self._waits = message
        self._wait = FIRST_S
        self.wake = now + self._wait
        return message.encode()


class EmaEnd:
    """An EMA that reports over UDP and is pushed events."""

    def __init__(self, ema: int, zone: tzinfo | None = None) -> None:
        self.ema = ema
        self.zone = zone
        self.dropped = 0

    def received(self, body: bytes) -> udp.EventLine | Dropped:
        """One datagram of the EMS. Never raises."""
        try:
            return udp.EventLine.decode(body, self.zone)
        except PeerError as err:
            self.dropped += 1
            return Dropped(str(err))
