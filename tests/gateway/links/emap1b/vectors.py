"""The hand-written bytes in tests/vectors/emap1b and the messages they are."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.links.emap1b import messages as emap
from gateway.links.mir2017 import messages as neutral

VECTORS = Path(__file__).parents[3] / "vectors" / "emap1b"
SEOUL = ZoneInfo("Asia/Seoul")
INDEX = dict(
    (line.split("\t")[0], line.split("\t")[2]) for line in (VECTORS / "index.tsv").read_text().splitlines()[1:]
)
START = 1_508_205_420.0  # 2017-10-17 01:57 UTC, 10:57 KST
START_MS = 1_508_205_420_000
REQUEST = 1_073_741_831  # boot 1, sequence 7
EVENT_REQUEST = 17 * 4096
EMA, EMS = "MIR_VEN1", "MIR_EMS"


def body(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def up(request: str) -> tuple[str, str, str, int | None]:
    return EMA, EMS, request, START_MS


def down(request: str) -> tuple[str, str, str, int | None]:
    return EMS, EMA, request, START_MS


def limit(modification: int = 0, lasts: float = 600, request: int = EVENT_REQUEST) -> neutral.DistributeEvent:
    return neutral.DistributeEvent(17, modification, START, START + lasts, 800, request)


SIGNAL = emap.Signal(id="17", threshold=800, intervals=(emap.Interval("PT600S", "0", 800),))
EVENT = emap.Event("17", 0, "2017-10-17T01:57:00Z", "PT600S", (SIGNAL,))
CANCEL = emap.Event(
    "17",
    1,
    "2017-10-17T01:57:00Z",
    "PT0S",
    (emap.Signal(id="17", threshold=800, intervals=(emap.Interval("PT0S", "0", 800),)),),
)
PRICE = emap.Signal("Initial", "Price", current=612, threshold=800, capacity=188, price=1000)
WHOLE = emap.Entry(EMA, "EMA", power=612, generate=0, storage=0)
ENTRIES = (
    emap.Entry(EMA, "EMA", power=612, margin=188, generate=-2100, storage=400, threshold=800),
    emap.Entry("dev/4", "LED", True, 60, 9, 0, 0, 0, 1),
    emap.Entry("dev/5", "DEVICE", False, None, 0, 0, 0, 0, 2),
    emap.Entry("dev/6", "PV", True, -2100, 0, 0, -2100, 0, 3),
    emap.Entry("dev/7", "ESS", True, 400, 0, 0, 0, 400, 4),
)
LAMP = emap.Entry("dev/4", "DEVICE", True, 60, 9, 0, 0, 0, 1, about="connected")
GONE = emap.Entry("dev/4", "DEVICE", False, 0, 0, 0, 0, 0, 1, about="disconnected")
DIMMED = emap.Entry("dev/4", "DEVICE", True, -20, 3, 0, 0, 0, 1, about="changed")
AVAILABLE = emap.Available("2017-10-17T01:57:00Z", "PT10S", 60, 20171017, 105700, 20171017, 105710)
REGISTRATION = ("EMAP1.0b", "CoAP", False, False, True)

MESSAGES: dict[str, emap.Message] = {
    "ConnectRegistration.json": emap.ConnectRegistration(*up("7-1")),
    "ConnectedRegistration.json": emap.ConnectedRegistration(*down("7-1")),
    "CreatePartyRegistration.json": emap.CreatePartyRegistration(*up("7-2")),
    "CreatePartyRegistration_coap.json": emap.CreatePartyRegistration(*up("7-2"), *REGISTRATION),
    "CreatedPartyRegistration.json": emap.CreatedPartyRegistration(*down("7-2"), registration_id="7-2"),
    "RegisterReport.json": emap.RegisterReport(*up("7-3")),
    "RegisteredReport.json": emap.RegisteredReport(*down("7-3")),
    "SetupPoll.json": emap.Poll(*up("7-4")),
    "SetupResponse.json": emap.Response(*down("7-4")),
    "Poll.json": emap.Poll(*up("7-5")),
    "PollResponse.json": emap.Response(*down("7-5")),
    "PollResponse_report_wanted.json": emap.CreateReport(*down("7-5")),
    "DistributeEvent_pulled.json": emap.DistributeEvent(*down("69632"), (EVENT,), 200, "OK"),
    "DistributeEvent.json": emap.DistributeEvent(*down("69632"), (EVENT,)),
    "DistributeEvent_cancel.json": emap.DistributeEvent(*down("69633"), (CANCEL,)),
    "DistributeEvent_price.json": emap.DistributeEvent(*down("8-1"), (emap.Event("0", 0, "", "", (PRICE,)),)),
    "DistributeEvent_none.json": emap.DistributeEvent(*down("7-5"), (), 200, "OK"),
    "CreatedEvent.json": emap.CreatedEvent(*up("69632"), 200, "OK", True, "17", 0),
    "CreatedEvent_out.json": emap.CreatedEvent(*up("69633"), 200, "OK", False, "17", 1),
    "EventResponse.json": emap.Response(*down("69632")),
    "UpdateReport_implicit.json": emap.UpdateReport(*up(str(REQUEST)), False, (WHOLE,)),
    "UpdateReport_explicit.json": emap.UpdateReport(*up(str(REQUEST)), True, ENTRIES),
    "UpdateReport_connected.json": emap.UpdateReport(*up("7-6"), True, (LAMP,)),
    "UpdateReport_disconnected.json": emap.UpdateReport(*up("7-7"), True, (GONE,)),
    "UpdateReport_changed.json": emap.UpdateReport(*up("7-8"), True, (DIMMED,)),
    "UpdatedReport.json": emap.UpdatedReport(*down(str(REQUEST))),
    "UpdatedReport_refused.json": emap.UpdatedReport(*down(str(REQUEST)), 400, "power is no number"),
    "CreateOpt.json": emap.CreateOpt(*up("7-9"), "7-9", "dev/4", (AVAILABLE,), START_MS),
    "CreatedOpt.json": emap.CreatedOpt(*down("7-9"), 200, "OK", "7-9", True),
    "CreatedOpt_denied.json": emap.CreatedOpt(*down("7-9"), 400, "Deny", "7-9", False),
    "CancelPartyRegistration.json": emap.CancelPartyRegistration(*up("7-10"), "7-2"),
    "CancelPartyRegistration_will.json": emap.CancelPartyRegistration(EMA, EMS, "", None),
    "CanceledPartyRegistration.json": emap.CanceledPartyRegistration(*down("7-10")),
    "RequestEvent.json": emap.RequestEvent(*up("7-5")),
    "EmsRegisterReport.json": emap.RegisterReport(*down("7-4")),
    "EmaRegisteredReport.json": emap.RegisteredReport(*up("7-4")),
}
