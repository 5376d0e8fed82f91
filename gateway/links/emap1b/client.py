"""The EMA's end of the link in profile ``emap1b``, sans-I/O, over MQTT: bytes in, bytes and happenings out.

It takes the calls and tells the happenings of ``links.mir2017.client``, so that one adapter drives either; over CoAP
it is ``emap1b.coap.CoapClient``. Cannot do: keep time (who wraps it calls ``connected`` again when a step of the set-up
is not answered, and sends again what was not acknowledged); hear commands to devices, which this profile has not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from gateway.errors import OperatorError, PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.messages import Carrier, Channel
from gateway.links.emap1b.waiting import Waiting
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.client import Step
from gateway.links.mir2017.client_happenings import (
    ClientHappening,
    ClientOutput,
    EmaAcknowledged,
    EventReceived,
    PollAnswered,
    PriceReceived,
    Refused,
    ReportRequested,
    SessionUp,
)
from gateway.links.mir2017.messages import Send
from gateway.links.mir2017.messages.fields import read_json, shown
from gateway.record import changed


class Client:
    """One EMA below one EMS, or below an upper EMA, of the name ``ems_name``.

    ``ven_id`` is its name on the wire, and has to end in its number. ``zone``: of times without an offset, None is this
    machine's. ``pull``: it asks for its events by polls. ``wall``: seconds since 1970. ``run``: a number that no other
    start of this EMA ever has; the requestIDs are made of it. Subscribe to ``subscriptions`` and hand every message to
    ``received``; publish each ``Send`` in order. Raise ``OperatorError`` for a name that cannot be one.
    """

    carrier = Carrier.MQTT
    pairs = False  # the transport tells which question an answer is to

    def __init__(
        self,
        ema: int,
        ven_id: str,
        zone: tzinfo | None = None,
        *,
        wall: Callable[[], float],
        run: int,
        ems_name: str = emap.EMS_NAME,
        pull: bool = False,
    ) -> None:
        if emap.number_in(ven_id) != ema:
            raise OperatorError(
                f"ven_id: {shown(ven_id)} cannot be the name of EMA {ema} in profile emap1b; write up to 64 letters, "
                f"digits, _ - or . that end in its number, such as MIR_VEN{ema}"
            )
        emap.check_name("ems_name", ems_name)
        self.ema = ema
        self.ven_id = ven_id
        self.zone = zone
        self.ems_name = ems_name
        self.pull = pull
        self.step = Step.DOWN
        self.echoes = self.pairs  # this session's EMS answers reports by their own requestID
        self.refused = 0
        self.stale = 0  # answers to nothing that waits: doubles, or late
        self.waiting = Waiting()
        self._wall = wall
        self._run = run
        self._count = 0
        self._duration_ms = neutral.DURATION_MS
        self._registration = ""

    @property
    def up(self) -> bool:
        return self.step is Step.UP

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return emap.subscriptions(self.ven_id)

    @property
    def will(self) -> Send:
        """The last will; without requestID and time, which nobody knows beforehand."""
        return self._send(emap.CancelPartyRegistration(self.ven_id, self.ems_name, "", None))

    # What goes out

    def connected(self) -> list[ClientOutput]:
        """The transport stands, or a step was not answered: begin the set-up (again)."""
        self.disconnected()
        self.step = Step.CONNECT_REGISTRATION
        return [self._send(emap.ConnectRegistration(*self._head()))]

    def disconnected(self) -> None:
        """The transport broke: nothing that was sent can be answered any more."""
        self.step = Step.DOWN
        self.echoes = self.pairs
        self.waiting.clear()

    def farewell(self) -> list[Send]:
        """``CancelPartyRegistration``, before an orderly end."""
        return [self._send(emap.CancelPartyRegistration(*self._head(), self._registration))]

    def poll(self) -> list[Send]:
        return [self._send(emap.Poll(*self._head()))]

    def report(self, report: neutral.UpdateReport) -> list[Send]:
        """A report, first or again; answered by ``ReportAcknowledged``, ``ReportRejected`` or ``ReportPostponed``.

        Explicit when it has devices; one given as ``messages.TypedEntry`` says what it is.
        """
        self.waiting.report(report.request_id)
        head = (self.ven_id, self.ems_name, str(report.request_id), report.time_ms)
        entries = emap.entries_of(self.ven_id, report)
        return [self._send(emap.UpdateReport(*head, report.devices is not None, entries))]

    def margin(self, margin: neutral.PowerMargin) -> list[Send]:
        """Nothing: the reports say it."""
        return []

    def created_event(self, event_id: int, request_id: int, opt_in: bool) -> list[Send]:
        """The opt answer; answered by ``EventAcknowledged`` or ``EventAnswerRejected``."""
        request, event, modification = self.waiting.opt(request_id, event_id)
        head = (self.ven_id, self.ems_name, request, self._now_ms())
        return [self._send(emap.CreatedEvent(*head, emap.OK, "OK", opt_in, event, modification))]

    def rdr(self, number: int, watts: int) -> list[Send]:
        """Ask power back for a device; answered by ``RdrAnswered``. A late answer to an earlier question is none."""
        head = self._head()
        self.waiting.rdr(number, head[2])
        available = emap.Available.at(self._wall(), self.zone, watts)
        return [self._send(emap.CreateOpt(*head, head[2], neutral.device_name(number), (available,), head[3]))]

    def device_connect(self, device: neutral.DeviceText) -> list[Send]:
        """A report of its own; answered by ``DeviceAcknowledged``."""
        return self._notice(device, emap.Reports.CONNECTED, True)

    def device_disconnect(self, device: neutral.DeviceText) -> list[Send]:
        """A report of its own; answered by ``DeviceAcknowledged``."""
        return self._notice(device, emap.Reports.DISCONNECTED, False)

    def device_info(self, device: neutral.DeviceText) -> list[Send]:
        """A report of its own, whose answer tells nothing."""
        return self._notice(device, emap.Reports.CHANGED, None)

    def _notice(self, device: neutral.DeviceText, about: emap.Reports, came: bool | None) -> list[Send]:
        head = self._head()
        self.waiting.notice(head[2], device.device, came)
        return [self._send(emap.UpdateReport(*head, True, (emap.notice_entry(device, about),)))]

    def _now_ms(self) -> int:
        return round(self._wall() * 1000)

    def _head(self) -> tuple[str, str, str, int]:
        """Of a new message: its requestID was never used."""
        self._count += 1
        return self.ven_id, self.ems_name, f"{self._run}-{self._count}", self._now_ms()

    def _send(self, message: emap.Message, channel: Channel | None = None) -> Send:
        return Send(emap.topic(self.ems_name, channel or message.channel), message.encode())

    # What came in

    def received(self, topic: str, body: bytes) -> list[ClientOutput]:
        """One message of the EMS. Never raises: what the profile does not allow is counted and one ``Refused``."""
        try:
            place = emap.parse_topic(topic)
            if place.dest != self.ven_id:
                raise PeerError(f"topic {shown(topic)}: is for another EMA than {self.ven_id}")
            return self._hear(place.channel, body)
        except PeerError as err:
            return self._refuse(topic, str(err))

    def _refuse(self, topic: str, reason: str) -> list[ClientOutput]:
        self.refused += 1
        return [Refused(topic[:128], reason)]

    def _hear(self, channel: Channel, body: bytes, asked: str = "") -> list[ClientOutput]:
        """``asked``: the requestID of what this is the answer to, where the transport knows. Raise ``PeerError``."""
        fields = read_json(body, str(channel))
        service = emap.read_service(fields)
        kind = emap.TO_EMA.get(service)
        if kind is None:
            if service in emap.TO_EMS:
                return []  # an upper EMA has one topic for what it hears from above and from below
            raise PeerError(f"service {shown(service)}: is not in the profile")
        message = kind.read(fields)
        if asked and isinstance(message, emap.Answer):
            message = changed(message, request_id=asked)
        match message:
            case emap.DistributeEvent():
                return self._distributed(channel, message)
            case emap.UpdatedReport():
                return self._told(self.waiting.reported(message))
            case emap.CreatedOpt():
                return self._told(self.waiting.rdr_answered(message))
            case emap.CreateReport():
                return [ReportRequested()]
            case emap.Response() if channel is Channel.EVENT:
                return self._told(self.waiting.opted(message))
            case emap.Response() if channel is Channel.POLL:
                _agreed(message)
                return [PollAnswered()]
            case emap.CanceledPartyRegistration():
                return [EmaAcknowledged(False)]
            case _:
                return self._setup(message)

    def _told(self, happenings: list[ClientHappening] | None) -> list[ClientOutput]:
        """What an answer means; None: nothing waits for it."""
        self.echoes = self.pairs or self.waiting.echoes
        if happenings is None:
            self.stale += 1
            return []
        self.refused += sum(isinstance(happening, Refused) for happening in happenings)
        return [*happenings]

    def _setup(self, message: emap.Message) -> list[ClientOutput]:
        """An answer of the set-up. One that is not waited for is a double, or late."""
        match message:
            case emap.ConnectedRegistration() if self.step is Step.CONNECT_REGISTRATION:
                _agreed(message)
                self.step = Step.CREATE_PARTY_REGISTRATION
                ask = emap.CreatePartyRegistration(*self._head(), carrier=self.carrier, pull=self.pull)
                return [self._send(ask)]
            case emap.CreatedPartyRegistration() if self.step is Step.CREATE_PARTY_REGISTRATION:
                _agreed(message)
                self._duration_ms = message.duration_ms
                self._registration = message.registration_id
                self.step = Step.REGISTER_REPORT
                return [self._send(emap.RegisterReport(*self._head()))]
            case emap.RegisteredReport() if self.step is Step.REGISTER_REPORT:
                _agreed(message)
                self.step = Step.POLL
                return [self._send(emap.Poll(*self._head()), Channel.SETUP)]
            case emap.RegisterReport() if self.step is Step.POLL:
                # The public EMS registers its own reports first; its Response follows.
                head = (self.ven_id, self.ems_name, message.request_id, self._now_ms())
                return [self._send(emap.RegisteredReport(*head))]
            case emap.Response() if self.step is Step.POLL:
                _agreed(message)
                return self._session_up()
        self.stale += 1
        return []

    def _session_up(self) -> list[ClientOutput]:
        self.step = Step.UP
        return [SessionUp(self._duration_ms)]

    def _distributed(self, channel: Channel, message: emap.DistributeEvent) -> list[ClientOutput]:
        """Prices first: the opt of an event may rest on them. An event that cannot be read holds up no other."""
        if message.code not in (None, emap.OK):
            raise PeerError(f"DistributeEvent responseCode: {message.code} is not {emap.OK}")
        outputs = self._session_up() if channel is Channel.SETUP and self.step is Step.POLL else []
        for event in message.events:
            outputs += [_price(event, signal) for signal in event.signals if signal.is_budget or signal.price]
        said = self._wall() if message.time_ms is None else message.time_ms / 1000
        for event in message.events:
            control = next((signal for signal in event.signals if not signal.is_budget), None)
            if control is None:
                continue
            try:
                number = self.waiting.event(message.request_id, event)
                outputs.append(EventReceived(event.limit(control, self.zone, said, number)))
            except PeerError as err:
                outputs += self._refuse(emap.topic(self.ven_id, channel), str(err))
        return outputs


def _agreed(answer: emap.Answer) -> None:
    if not answer.ok:
        raise emap.refused(answer)


def _price(event: emap.Event, signal: emap.Signal) -> PriceReceived:
    watts = (None if value is None else float(value) for value in (signal.current, signal.threshold, signal.capacity))
    budget = signal.budget
    price = float(signal.price) if signal.price else None
    return PriceReceived(emap.number_of(event.event_id), budget, price, signal.unit, *watts)
