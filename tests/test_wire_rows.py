"""Every row of the wire between EMS, EMA and device, and the tests that fail when it is broken.

A vector is a message to the byte, both ways (``test_mir2017_vectors.py``); a test is ``file::name``. Here it is
checked that all of them are there, that each has an owner, and that no topic or resource of the code has no row.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from gateway.links.mir2017 import messages as wire
from gateway.links.mir2017.coap import messages as coap
from gateway.links.mir2017.messages.topics import Down, Up

TESTS = Path(__file__).parent
CLIENT = "gateway/links/test_mir2017_client.py::"
SERVER = "gateway/links/test_mir2017_server.py::"
SESSION = "gateway/upstream/test_ems.py::"
COAP = "gateway/links/mir2017/test_coap.py::"
EMS = "interop/test_coap_ems.py::"
EMA = "interop/test_coap_ema.py::"
WHOLE = "headend/test_with_ema.py::"
ABOVE = "faults/test_coap_above.py::"
MQTT = "gateway/field/test_devices_mqtt.py::"
FIELD = "gateway/field/test_devices_coap.py::"
AGENT = "device_agents/"
SET_UP = (CLIENT + "test_the_set_up_to_the_byte", SERVER + "test_each_row")
MODES = "faults/test_modes.py::test_an_event_from_end_to_end"
SHARK = "interop/test_tshark.py::test_mqtt"

# Where it stands, what names it on the wire, its vectors, its tests.
Row = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def modules(section: str, phase: str, ack: str) -> list[Row]:
    return [
        (section, f"{module}{phase}", (f"{module}{phase}.json",), (SERVER + "test_openfmb_is_echoed",))
        for module in ("ESS", "PV", "RECLOSER", "RESOURCE")
    ] + [
        ("2", f"{module}{ack}", (f"{module}{ack}.json",), (SERVER + "test_openfmb_is_echoed",))
        for module in ("ESS", "PV", "RECLOSER", "RESOURCE")
        if ack
    ]


ROWS: list[Row] = [
    # 1: EMA to EMS over MQTT
    ("1", "EMS/oadrinit/QueryRegistration", ("QueryRegistration.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrinit/CreatePartyRegistration", ("CreatePartyRegistration.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrinit/RegisterReport", ("EmaRegisterReport.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrinit/Poll", ("SetupPoll.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrinit/RegisteredReport", ("EmaRegisteredReport.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrinit/RequestEvent", ("RequestEvent.json",), (*SET_UP, SHARK)),
    ("1", "EMS/oadrPoll/Poll", ("Poll.json",), (CLIENT + "test_polls", SHARK)),
    (
        "1",
        "EMS/oadrPoll/CreatedEvent",
        ("CreatedEvent.json", "CreatedEvent_out.json"),
        (SESSION + "test_a_pushed_event_is_applied_before_it_is_answered", SHARK),
    ),
    (
        "1",
        "EMS/UpdateReport",
        ("UpdateReport_explicit.json", "UpdateReport_implicit.json"),
        (SESSION + "test_reports_carry_the_site_and_leave_the_outbox_on_the_answer",),
    ),
    ("1", "EMS/PowerMargin", ("PowerMargin.json",), (CLIENT + "test_the_rest_of_both_tables",)),
    ("1", "EMS/connected", ("connected.txt",), (SERVER + "test_each_row",)),
    (
        "1",
        "EMS/disconnected",
        ("disconnected.txt",),
        (SESSION + "test_close_says_disconnected_once_and_nothing_after",),
    ),
    *(
        (
            "1",
            f"EMS/{name}",
            (f"{name}.txt",),
            (SESSION + "test_device_notices_go_in_order_among_the_reports", SERVER + "test_each_row"),
        )
        for name in ("DeviceConnect", "DeviceDisconnect", "info")
    ),
    ("1", "EMS/RDRrequest", ("RDRrequest.json",), (SESSION + "test_rdr_is_asked_and_answered", MODES)),
    *modules("1", "Connect", "ConnectACK"),
    *modules("1", "init", ""),
    *modules("1", "", "ACK"),
    *modules("1", "Disconnect", "DisconnectACK"),
    ("1", "EMS/active_energy", ("active_energy.json",), (SERVER + "test_each_row",)),
    ("1", "EMS/load_profile", ("load_profile.json",), (SERVER + "test_each_row",)),
    # 2: EMS to EMA over MQTT
    *(
        ("2", name, (f"{name}.txt",), (CLIENT + "test_the_rest_of_both_tables", SERVER + "test_each_row"))
        for name in ("connectACK", "disconnectACK", "PowerMarginACK")
    ),
    *(
        ("2", name, (f"{name}.json",), (SERVER + "test_a_device_is_acknowledged_when_the_caller_says_so",))
        for name in ("DeviceConnectACK", "DeviceDisconnectACK")
    ),
    (
        "2",
        "oadrinit/CreatedPartyRegistration",
        ("CreatedPartyRegistration_1.json", "CreatedPartyRegistration_2.json"),
        SET_UP,
    ),
    ("2", "oadrinit/RegisteredReport", ("EmsRegisteredReport.json",), SET_UP),
    ("2", "oadrinit/RegisterReport", ("EmsRegisterReport.json",), SET_UP),
    ("2", "oadrinit/Response", ("SetupResponse.json",), SET_UP),
    ("2", "oadrinit/DistributeEvent", ("SetupDistributeEvent.json",), SET_UP),
    ("2", "oadrPoll/Response", ("PollResponse.json",), (CLIENT + "test_polls",)),
    (
        "2",
        "drevent/oadrDistributeEvent",
        ("oadrDistributeEvent.json",),
        (SERVER + "test_events_to_one_to_several_to_all_and_pulled",),
    ),
    (
        "2",
        "drevent/Response",
        ("EventResponse.json",),
        (CLIENT + "test_a_refused_opt_answers_its_event_and_leaves_the_next_its_own",),
    ),
    (
        "2",
        "oadrUpdatedReport",
        ("oadrUpdatedReport.json", "oadrUpdatedReport_lab.json"),
        (
            CLIENT + "test_a_report_is_answered_by_its_own_request_id",
            CLIENT + "test_the_labs_eternal_1_answers_the_oldest_transmission",
            SESSION + "test_only_the_ems_answer_removes_a_report",
        ),
    ),
    (
        "2",
        "oadr/DistributeEvent",
        ("DistributeEvent.json", "DistributeEvent_cancel.json"),
        (CLIENT + "test_events_pushed_to_one_to_all_and_pulled",),
    ),
    (
        "2",
        "gw/pushall/DistributeEvent",
        ("DistributeEvent_all.json",),
        (CLIENT + "test_events_pushed_to_one_to_all_and_pulled",),
    ),
    (
        "2",
        "control",
        ("control_on.bin", "control_off.bin"),
        (SESSION + "test_device_control_and_dimming_by_bytes", SERVER + "test_commands_and_rdr"),
    ),
    (
        "2",
        "dimming",
        ("dimming_up.bin", "dimming_down.bin", "dimming_down_other_links.bin"),
        ("gateway/links/test_mir2017_vectors.py::test_one_down_of_the_labs_other_links_is_taken",),
    ),
    (
        "2",
        "RDRresponse",
        ("RDRresponse_granted.json", "RDRresponse_refused.json"),
        (SESSION + "test_rdr_is_asked_and_answered",),
    ),
    (
        "2",
        "times: a start rounded down, an end up, no seconds",
        (),
        ("gateway/links/test_mir2017_times.py::test_an_event_is_never_shorter_than_it_was_asked_for",),
    ),
    # 3: CoAP
    *(
        (
            "3",
            name,
            (),
            (EMS + "test_every_exchange", EMA + "test_the_frames_of_the_slides", COAP + "test_the_whole_set_up"),
        )
        for name in (
            *("QueryRegistration", "CreatePartyRegistration", "RegisterReport", "Poll", "RegisteredReport"),
            "RequestEvent",
        )
    ),
    *(
        ("3", name, (), (EMS + "test_every_exchange",))
        for name in ("createdEvent", "UpdateReport", "info", "powermargin", "DeviceConnect", "DeviceDisconnect")
    ),
    *(
        ("3", f"{module}{phase}", (), (EMS + "test_modules", COAP + "test_modules_are_answered_by_a_word"))
        for module in ("ESS", "PV", "RECLOSER", "RESOURCE")
        for phase in ("", "init")
    ),
    ("3", "oadrRDR", (), (EMS + "test_power_asked_back", COAP + "test_rdr_is_answered_without_a_word")),
    ("3", "the poll: 86 bytes, no token, a frame of 139", (), (EMA + "test_the_frames_of_the_slides",)),
    ("3", "the answer to it: 123 bytes", (), (COAP + "test_the_answers_have_the_length_of_the_slides_frames",)),
    ("3", "DR , DR_P , DR_E ; 2.05, text/plain", (), (EMS + "test_every_exchange",)),
    ("3", "HHMM11 in a pulled event", (), (EMA + "test_a_pulled_event", EMS + "test_every_exchange")),
    ("3", "Response 100 in a notification", (), (EMS + "test_observed", COAP + "test_pushed_and_notified_events")),
    ("3", "obs/EMA<n>, Initial_Success", (), (EMS + "test_observed", EMA + "test_modes_that_do_not_poll")),
    ("3", "a VENID ends in _MIR<n>", (), (EMS + "test_what_is_refused",)),
    ("3", "oadrDistributeEvent", (), (EMA + "test_what_the_ems_writes",)),
    ("3", "threshold", (), (EMA + "test_what_the_ems_writes", COAP + "test_what_the_ems_writes_to_an_ema")),
    ("3", "gw/<n>/dev/<d>/control, dimming", (), (EMA + "test_what_the_ems_writes",)),
    (
        "3",
        "connected, status by text, 2.04",
        (),
        (EMA + "test_what_the_ems_writes", FIELD + "test_a_device_of_the_lab"),
    ),
    ("3", "light", (), (AGENT + "test_run_coap.py::test_the_labs_bytes_on_light", EMA + "test_what_the_ems_writes")),
    ("3", ".well-known/core", (), (EMS + "test_what_there_is", EMA + "test_what_the_ems_writes")),
    (
        "3",
        "disconnected",
        (),
        ("interop/test_tshark.py::test_coap", "headend/test_ems_coap.py::test_a_clean_end_is_known_at_once"),
    ),
    ("3", "non-confirmable", (), (EMS + "test_every_exchange", ABOVE + "test_an_event_and_both_sides_killed")),
    ("3", "blocks", (), (ABOVE + "test_a_report_of_200_devices", "interop/test_tshark.py::test_coap")),
    # 4: DR modes
    (
        "4",
        "MQTT 1 to 4",
        ("PollResponse_report_wanted.json",),
        (MODES, WHOLE + "test_an_event_reaches_those_it_is_for_in_every_mode"),
    ),
    ("4", "MQTT 2: a report with each poll", (), (SESSION + "test_mode_2_reports_with_each_poll",)),
    ("4", "MQTT 3: a report on request", (), (SESSION + "test_mode_3_reports_on_request_alone",)),
    ("4", "MQTT 1 and 4 do not poll", (), (SESSION + "test_push_modes_do_not_poll",)),
    (
        "4",
        "CoAP 0, 1, 2",
        (),
        (
            ABOVE + "test_an_event_and_both_sides_killed",
            "headend/test_ems_coap.py::test_events_and_reports_in_every_mode",
        ),
    ),
    ("4", "CoAP 3", (), (ABOVE + "test_mode_none_and_both_protocols_at_one_ems", EMA + "test_modes_that_do_not_poll")),
    # 5: devices of the lab
    (
        "5",
        "MQTT text form, ack, bytes",
        (),
        ("interop/test_mosquitto_clients.py::test_the_labs_text", MQTT + "test_a_device_of_the_lab"),
    ),
    ("5", "CoAP text form, its port 5683", (), (FIELD + "test_a_device_of_the_lab",)),
    (
        "5",
        "one that does not announce itself",
        (),
        ("gateway/field/test_called.py::test_it_is_reached_and_commanded_by_the_labs_bytes",),
    ),
    ("5", "lamp console 11, 15, 1", (), (AGENT + "test_agents.py::test_lamp_console",)),
    (
        "5",
        "ESS console 7, 8, 9, 3",
        (),
        (AGENT + "test_agents.py::test_battery_console", AGENT + "test_run_mqtt.py::test_the_console_ends_the_device"),
    ),
    ("5", "the button", (), (AGENT + "test_agents.py::test_the_button",)),
    # 5a: our devices
    ("5a", "to the byte", (), (AGENT + "test_protocol.py::test_vectors",)),
    (
        "5a",
        "hello",
        (),
        (MQTT + "test_hello_announcement_ack", AGENT + "test_run_mqtt.py::test_hello_is_answered_with_connected"),
    ),
    (
        "5a",
        "connected, ack",
        (),
        (
            MQTT + "test_hello_announcement_ack",
            "interop/test_mosquitto_clients.py::test_our_json",
            "interop/test_coap_client.py::test_a_device",
        ),
    ),
    (
        "5a",
        "the last will, not retained",
        (),
        (
            AGENT + "test_run_mqtt.py::test_a_killed_device_leaves_its_last_will",
            MQTT + "test_a_last_will_is_no_good_bye",
        ),
    ),
    (
        "5a",
        "status/<d>",
        (),
        (MQTT + "test_a_state_is_read_in_si_units", "interop/test_mosquitto_clients.py::test_our_json"),
    ),
    (
        "5a",
        "boot and seq",
        (),
        (
            MQTT + "test_doubled_old_and_late_messages_count_once",
            FIELD + "test_doubles_old_starts_and_who_has_to_announce_itself",
        ),
    ),
    (
        "5a",
        "rdr/<d>: granted, pending, denied",
        (),
        (
            MQTT + "test_rdr_and_its_doubles",
            FIELD + "test_an_rdr_asked_twice_is_decided_once",
            AGENT + "test_run_coap.py::test_comes_obeys_asks_back_and_goes",
        ),
    ),
    (
        "5a",
        "command on dev/<d>, PUT setpoint",
        (),
        (MQTT + "test_a_command", FIELD + "test_the_dialogue", AGENT + "test_agents.py::test_commands"),
    ),
    ("5a", "null frees a set point", (), (AGENT + "test_protocol.py::test_null_and_absent_set_points_differ",)),
    (
        "5a",
        "ack each third of the lease",
        (),
        (
            MQTT + "test_leases_acks_and_silence",
            FIELD + "test_leases_acks_and_silence",
            "gateway/field/test_leases.py::test_ack_each_third_of_the_lease_though_idle_control_would_sleep",
        ),
    ),
    (
        "5a",
        "a lease's end is the safe state, and said",
        (),
        (
            AGENT + "test_agents.py::test_a_lease_that_ends",
            AGENT + "test_run_coap.py::test_a_lease_is_kept_by_acks_and_ends_without",
        ),
    ),
    ("5a", "disconnected", (), (MQTT + "test_good_bye_and_heard_again", "interop/test_coap_client.py::test_a_device")),
    (
        "5a",
        "a dimming byte is never sent again before a state",
        (),
        (MQTT + "test_a_device_of_the_lab", FIELD + "test_a_device_of_the_lab"),
    ),
]
# Negotiation and prices (section 7) have tests of their own.
ELSEWHERE = {"EMS/negotiation", "nego_result", "oadr/Budget", "negotiation", "budget"}


@functools.cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def index() -> dict[str, tuple[str, str]]:
    """Vector: (section, topic)."""
    lines = (TESTS / "vectors/mir2017/index.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return {name: (section, topic) for name, section, topic in (line.split("\t")[:3] for line in lines)}


@pytest.mark.parametrize(("section", "name", "vectors", "tests"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_a_row_has_its_tests(section: str, name: str, vectors: tuple[str, ...], tests: tuple[str, ...]) -> None:
    assert tests
    for test in tests:
        file, _, function = test.partition("::")
        assert function in functions(file), test
    for vector in vectors:
        where, topic = index()[vector]
        assert where == section
        if section in ("1", "2"):
            assert name.lower() in topic.lower()


def test_every_vector_has_a_row() -> None:
    assert set(index()) == {vector for _, _, vectors, _ in ROWS for vector in vectors}


def test_every_topic_and_resource_has_a_row() -> None:
    over_mqtt = {name for section, name, _, _ in ROWS if section in ("1", "2")} | ELSEWHERE
    topics = {str(topic) for topic in (*Up, *Down, *wire.DeviceDown)} | {"gw/pushall/DistributeEvent"}
    assert topics <= over_mqtt
    over_coap = {name for section, name, _, _ in ROWS if section == "3"} | ELSEWHERE
    resources = {str(path) for path in (*coap.Up, *coap.Down, *coap.MODULE_PATHS)}
    assert resources <= over_coap
