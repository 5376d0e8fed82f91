"""The EMS's end of the link in profile ``emap1b``, for many EMAs, sans-I/O, over MQTT; also an upper EMA's.

It takes the calls and tells the happenings of ``links.mir2017.server``, so that one adapter drives either; over CoAP
it is ``emap1b.coap_server.CoapServer``. Cannot do: recognise a report that came twice (who stores it does, by
``(ema, request_id)``), tell one EMA from another that speaks in its name, switch or dim a device (the profile has no
message for it: ``controls_devices``), keep time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from gateway.errors import PeerError
from gateway.links.emap1b import messages as emap
from gateway.links.emap1b.messages import Channel
from gateway.links.emap1b.server_says import EmaSession, Reply, Says, keep
from gateway.links.mir2017 import messages as neutral
from gateway.links.mir2017.client_happenings import Refused
from gateway.links.mir2017.happenings import (
    DeviceConnected,
    DeviceDisconnected,
    DeviceInfo,
    EmaConnected,
    EmaDisconnected,
    EmaRegistered,
    EmaRegistering,
    EventAnswered,
    Polled,
    RdrAsked,
    Reported,
    ReportRefused,
    ServerOutput,
)
from gateway.links.mir2017.messages.fields import Fields, read_json, shown

__all__ = ["EmaSession", "Reply", "Server"]

MOST_EMAS = 10_000
# A report that will never be taken: what it says is wrong, or its EMA is one too many.
CANNOT, NOT_SERVED = 400, 503
# The same notice of one device, sent again before it was acknowledged.
MOST_SAME = 16


class _NotServed(PeerError):
    """Its EMA is one too many."""


class Server(Says):
    """All EMAs below one EMS, or below one upper EMA, of the name ``ems_name``.

    Subscribe to ``subscriptions`` and hand every message to ``received``; publish each ``Send`` it returns, in order.
    A server that was restarted serves EMAs that registered before. ``duration_ms``: the poll interval asked for.
    ``admit``: may this EMA be served (None: ``most_emas`` of them may). ``opts_at_once``: answer CreatedEvent as it
    comes; else each ``EventAnswered`` waits for ``acknowledge_opt``. ``wall``: seconds since 1970. ``run``: a number
    that no other start ever has. ``zone`` is not used: times have their offset.
    """

    controls_devices = False

    def __init__(
        self,
        zone: tzinfo | None = None,
        duration_ms: int = neutral.DURATION_MS,
        ems_name: str = emap.EMS_NAME,
        most_emas: int = MOST_EMAS,
        admit: Callable[[int], bool] | None = None,
        opts_at_once: bool = True,
        *,
        wall: Callable[[], float],
        run: int,
    ) -> None:
        emap.check_name("ems_name", ems_name)
        super().__init__(ems_name, wall, run)
        self.zone = zone
        self.duration_ms = duration_ms
        self.refused = 0
        # May whoever sent what is handled now speak for this EMA; who knows keys replaces it.
        self.speaks: Callable[[int], bool] = lambda number: True
        self._admit = admit or (lambda number: len(self._emas) < most_emas)
        self._opts_at_once = opts_at_once

    @property
    def emas(self) -> dict[int, EmaSession]:
        """The EMAs heard of since this server started, by number. Read only."""
        return self._emas

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return emap.subscriptions(self.name)

    def admits(self, number: int) -> bool:
        """Is it known, or may it come."""
        return self.speaks(number) and (number in self._emas or self._admit(number))

    def received(self, topic: str, body: bytes) -> list[ServerOutput]:
        """One message of an EMA. Never raises: what the profile does not allow is counted and one ``Refused``."""
        try:
            place = emap.parse_topic(topic)
            if place.dest != self.name:
                raise PeerError(f"topic {shown(topic)}: is for another EMS than {self.name}")
            fields = read_json(body, str(place.channel))
            service = emap.read_service(fields)
            try:
                return self._dispatch(place.channel, service, fields)
            except PeerError as err:
                return self._report_refused(service, fields, err)
        except PeerError as err:
            self.refused += 1
            return [Refused(topic[:128], str(err))]

    def _dispatch(self, channel: Channel, service: str, fields: Fields) -> list[ServerOutput]:
        kind = emap.TO_EMS.get(service)
        if kind is None:
            if service in emap.TO_EMA:
                return []  # an upper EMA has one topic for what it hears from above and from below
            raise PeerError(f"service {shown(service)}: is not in the profile")
        message = kind.read(fields)
        ema, session = self._ema(message)
        match message:
            case emap.ConnectRegistration():
                return self._connect(ema, session, message)
            case emap.CreatePartyRegistration():
                session.pull = message.pull
                back = self._back(ema, message.request_id)
                # Unique, and the same for a double.
                created = emap.CreatedPartyRegistration(
                    *back, registration_id=message.request_id, duration_ms=self.duration_ms
                )
                return [self._reply(ema, created, Channel.SETUP)]
            case emap.RegisterReport():
                return [self._reply(ema, emap.RegisteredReport(*self._back(ema, message.request_id)), Channel.SETUP)]
            case emap.RegisteredReport():
                return [self._reply(ema, emap.Response(*self._back(ema, message.request_id)), Channel.SETUP)]
            case emap.Poll() if channel is Channel.SETUP:
                session.registered = session.connected = True
                answer = emap.Response(*self._back(ema, message.request_id))
                said = self._reply(ema, answer, Channel.SETUP)
                return [said, EmaRegistered(ema, session.ven_id), EmaConnected(ema)]
            case emap.Poll():
                session.connected = True
                session.poll = message.request_id
                return [Polled(ema, session.ven_id)]
            case emap.RequestEvent():
                none = emap.DistributeEvent(*self._back(ema, message.request_id), code=emap.OK, description="OK")
                return [self._reply(ema, none, Channel.SETUP)]
            case emap.CreatedEvent():
                return self._created_event(ema, session, message)
            case emap.UpdateReport():
                session.connected = True
                return self._update_report(ema, session, message)
            case emap.CreateOpt():
                return self._create_opt(ema, session, message)
            case _:
                return self._cancel(ema, session, message)

    def _ema(self, message: emap.Message) -> tuple[int, EmaSession]:
        """Only the first message of a session gives an EMA another name: two that share a number show up."""
        number = emap.number_in(message.source)
        if number is None:
            raise PeerError(f"{message.service} SrcEMA: {shown(message.source)} does not end in a number to 99999")
        if not self.speaks(number):
            raise PeerError(f"{message.service} SrcEMA: {message.source} is not spoken for by its own key")
        session = self._emas.get(number)
        if session is None:
            if not self._admit(number):
                raise _NotServed(f"{message.source}: as many EMAs as may be are served already")
            session = self._emas[number] = EmaSession(message.source)
        elif session.ven_id != message.source:
            if not isinstance(message, emap.ConnectRegistration):
                raise PeerError(f"{message.service} SrcEMA: {message.source} has the number of {session.ven_id}")
            session.ven_id = message.source
        return number, session

    def _connect(self, ema: int, session: EmaSession, message: emap.ConnectRegistration) -> list[ServerOutput]:
        back = self._back(ema, message.request_id)
        if message.version not in (emap.PROFILE, emap.VERSION):
            answer = emap.ConnectedRegistration(*back, emap.DENIED, f"{emap.PROFILE} is spoken here")
            return [self._reply(ema, answer, Channel.SETUP)]
        session.registered = session.connected = False
        session.poll = ""
        session.opts.clear()
        return [
            self._reply(ema, emap.ConnectedRegistration(*back), Channel.SETUP),
            EmaRegistering(ema, session.ven_id),
        ]

    def _created_event(self, ema: int, session: EmaSession, message: emap.CreatedEvent) -> list[ServerOutput]:
        session.connected = True
        event = emap.number_of(message.event_id)
        known = self._events.get((event, message.modification))
        number = emap.number_of(message.request_id) if known is None else known
        session.opts.append(message.request_id)
        answered = EventAnswered(ema, event, number, message.opt_in)
        return [answered, *(self.acknowledge_opt(ema) if self._opts_at_once else ())]

    def _update_report(self, ema: int, session: EmaSession, message: emap.UpdateReport) -> list[ServerOutput]:
        about = message.notice
        if about is None:
            report = message.site(ema)
            if str(report.request_id) != message.request_id:
                keep(session.reports, report.request_id, message.request_id)
            return [Reported(ema, report.request_id, report)]
        device = emap.device_text(message.entries[0], ema)
        if about is emap.Reports.CHANGED:
            return [DeviceInfo(ema, device), self._updated(ema, message.request_id, emap.OK, "OK")]
        came = about is emap.Reports.CONNECTED
        waiting = session.notices.get((device.device, came), [])
        if message.request_id not in waiting:
            keep(session.notices, (device.device, came), [*waiting, message.request_id][-MOST_SAME:])
        return [DeviceConnected(ema, device) if came else DeviceDisconnected(ema, device)]

    def _report_refused(self, service: str, fields: Fields, err: PeerError) -> list[ServerOutput]:
        """Without an answer its EMA would send it for ever, and nothing behind it."""
        if service != emap.UpdateReport.service:
            raise err
        source, _, request, _ = emap.read_head(fields)
        ema = emap.number_in(source)
        if ema is None or not request or not self.speaks(ema):
            raise err
        if ema in self._emas and self._emas[ema].ven_id != source:
            raise err
        self.refused += 1
        code = NOT_SERVED if isinstance(err, _NotServed) else CANNOT
        answer = emap.UpdatedReport(self.name, source, request, self._now_ms(), code, emap.short(str(err)))
        reply = Reply(emap.topic(source, Channel.REPORT), answer.encode())
        return [reply, ReportRefused(ema, emap.number_of(request), str(err))]

    def _create_opt(self, ema: int, session: EmaSession, message: emap.CreateOpt) -> list[ServerOutput]:
        session.connected = True
        device = message.device
        asked = (message.request_id, message.opt_id)
        before = session.answers.get(device)
        if before is not None and before[0] == asked and all(asked):
            return [Reply(emap.topic(session.ven_id, Channel.OPT), before[1])]  # a double
        keep(session.rdrs, device, asked)
        return [RdrAsked(ema, device, max(one.power for one in message.available))]

    def _cancel(self, ema: int, session: EmaSession, message: emap.Message) -> list[ServerOutput]:
        """Good-bye, or the last will, which nobody hears an answer to."""
        session.registered = session.connected = False
        if not message.request_id:
            return [EmaDisconnected(ema)]
        answer = emap.CanceledPartyRegistration(*self._back(ema, message.request_id))
        return [EmaDisconnected(ema), self._reply(ema, answer, Channel.SETUP)]
