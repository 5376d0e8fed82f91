"""Session set-up, its end, and the poll (wire reference, section 8)."""

from __future__ import annotations

from typing import ClassVar, Self

from gateway.links.emap1b.messages.head import Answer, Message, read_head, read_response, text_of
from gateway.links.emap1b.messages.names import PROFILE, Carrier, Channel
from gateway.links.emap1b.messages.times import duration_text, read_duration
from gateway.links.mir2017.messages.fields import Fields
from gateway.links.mir2017.messages.setup import DURATION_MS, LEAST_DURATION_MS, MOST_DURATION_MS
from gateway.record import record


@record
class ConnectRegistration(Message):
    """The first message of a session: the EMA says which version it speaks."""

    service: ClassVar[str] = "ConnectRegistration"

    version: str = PROFILE

    def rest(self) -> dict[str, object]:
        return {"version": self.version}

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(*read_head(f), f.text("version"))


class ConnectedRegistration(Answer):
    """Answers ConnectRegistration; 400 for a version that is not spoken."""

    __slots__ = ()
    service: ClassVar[str] = "ConnectedRegistration"


@record
class CreatePartyRegistration(Message):
    """``pull``: the EMA asks for its events by polls."""

    service: ClassVar[str] = "CreatePartyRegistration"

    profile: str = PROFILE
    carrier: str = Carrier.MQTT
    report_only: bool = False
    signed: bool = False
    pull: bool = False

    def rest(self) -> dict[str, object]:
        return {
            "profileName": self.profile,
            "transportName": str(self.carrier),
            "reportOnly": self.report_only,
            "xmlSignature": self.signed,
            "httpPullModel": self.pull,
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(
            *read_head(f),
            f.text("profileName"),
            f.text("transportName"),
            f.flag("reportOnly"),
            f.flag("xmlSignature"),
            f.flag("httpPullModel"),
        )


@record
class CreatedPartyRegistration(Answer):
    """``duration_ms``: the poll interval asked for. What profiles and transports the EMS has is not read."""

    service: ClassVar[str] = "CreatedPartyRegistration"

    registration_id: str = ""
    duration_ms: int = DURATION_MS

    def rest(self) -> dict[str, object]:
        transports = [{"transportName": str(carrier)} for carrier in Carrier]
        return {
            "registrationID": self.registration_id,
            "duration": duration_text(self.duration_ms),
            "profile": [{"profileName": PROFILE, "transports": transports}],
        }

    @classmethod
    def read(cls, f: Fields) -> Self:
        duration_ms = DURATION_MS
        if f.given("duration"):
            duration_ms = read_duration(f.text("duration"), f"{cls.service} duration")
            if not LEAST_DURATION_MS <= duration_ms <= MOST_DURATION_MS:
                raise f.wrong("duration", "from 0.1 s to a day")
        return cls(*read_head(f), *read_response(f), text_of(f, "registrationID", ""), duration_ms)


class RegisterReport(Message):
    """The EMA will report. What it reports stands in the reports themselves; from the public EMS it is a step of the
    set-up in the other direction."""

    __slots__ = ()
    service: ClassVar[str] = "RegisterReport"

    def rest(self) -> dict[str, object]:
        return {"report": []}


class RegisteredReport(Answer):
    """Answers RegisterReport, in either direction."""

    __slots__ = ()
    service: ClassVar[str] = "RegisteredReport"


class Poll(Message):
    """On ``…/SessionSetup`` the last step of the set-up, on ``…/Poll`` every poll interval."""

    __slots__ = ()
    service: ClassVar[str] = "Poll"
    channel: ClassVar[Channel] = Channel.POLL


class Response(Answer):
    """Answers Poll when there is no event, CreatedEvent, and the set-up's RegisteredReport."""

    __slots__ = ()
    service: ClassVar[str] = "Response"


class CreateReport(Answer):
    """Ours: answers Poll when there is no event and the EMS wants a report (mode 3)."""

    __slots__ = ()
    service: ClassVar[str] = "CreateReport"
    channel: ClassVar[Channel] = Channel.POLL


class RequestEvent(Message):
    """The public EMA ends its set-up with it; the answer is a DistributeEvent."""

    __slots__ = ()
    service: ClassVar[str] = "RequestEvent"


@record
class CancelPartyRegistration(Message):
    """The EMA goes; also its last will, then with an empty requestID and time."""

    service: ClassVar[str] = "CancelPartyRegistration"

    registration_id: str = ""

    def rest(self) -> dict[str, object]:
        return {"registrationID": self.registration_id}

    @classmethod
    def read(cls, f: Fields) -> Self:
        return cls(*read_head(f), text_of(f, "registrationID", ""))


class CanceledPartyRegistration(Message):
    """Answers CancelPartyRegistration; the public EMS writes no ``responseCode`` here."""

    __slots__ = ()
    service: ClassVar[str] = "CanceledPartyRegistration"
