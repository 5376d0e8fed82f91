"""The menu, status and why against a scripted control socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.client import request
from gateway.errors import OperatorError, SmartemaError, TransientError
from tests.gateway.cli.fake_daemon import DECISIONS, STATUS, FakeDaemon, fake_daemon, smartema


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as fake:
        yield fake


ONE_SHOT = [
    # menu …, the request it makes
    ("0 2", {"do": "mode", "mode": 2}),
    ("0 0", {"do": "mode", "mode": 0}),
    ("0 4 ems", {"do": "mode", "mode": 4, "upstream": "ems"}),
    ("6 5 off", {"do": "device", "number": 5, "on": False}),
    ("7 9 led mqtt", {"do": "connect", "number": 9, "type": "led", "link": "mqtt", "priority": 0}),
    (
        "7 9 4 2 3 192.168.1.200",
        {
            "do": "connect",
            "number": 9,
            "type": "ev",
            "link": "coap",
            "priority": 3,
            "address": "192.168.1.200",
            "port": 5683,
        },
    ),
    ("10 4 on", {"do": "device", "number": 4, "on": True}),
    ("10 dev/4 15", {"do": "device", "number": 4, "on": False}),
    ("10 4 up", {"do": "device", "number": 4, "dimming": 1}),
    ("10 4 -", {"do": "device", "number": 4, "dimming": -1}),
    ("10 4 7", {"do": "device", "number": 4, "level": 7}),
    ("11 4", {"do": "device", "number": 4, "on": True}),
    ("15 4", {"do": "device", "number": 4, "on": False}),
    ("40", {"do": "all", "on": True}),
    ("50", {"do": "all", "on": False}),
    ("90 back", {"do": "give_back"}),
]


@pytest.mark.parametrize(("words", "asked"), ONE_SHOT)
def test_one_shot(daemon: FakeDaemon, words: str, asked: dict[str, object]) -> None:
    done = smartema("menu", "--socket", daemon.path, "--", *words.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert daemon.commands() == [asked]


def test_a_loan_is_asked_for_given_back_and_shown(daemon: FakeDaemon) -> None:
    daemon.answers["negotiate"] = {"result": "granted", "why": "100 W for 60 s: 100 W of gw/2 at 200"}
    done = smartema("menu", "--socket", daemon.path, "90", "100", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "loan of 100 W granted: 100 W for 60 s: 100 W of gw/2 at 200\n"
    assert daemon.commands() == [{"do": "negotiate", "watts": 100.0, "for_s": 60}]
    daemon.answers["negotiate"] = {"result": "denied", "why": "nobody lends more"}
    done = smartema("menu", "--socket", daemon.path, "90", "100")
    assert (done.returncode, done.stdout) == (1, "loan of 100 W denied: nobody lends more\n")
    loan = {"loan": 7, "what": "lent to", "peer": "gw/2", "watts": 50.0, "price": 3, "left_s": 61.0, "state": ""}
    status = {"coordinator": "ems", "up": True, "lent_w": 50.0, "borrowed_w": 0.0, "offered_w": 10.0, "offered_at": 3}
    daemon.answers["status"] = {**STATUS, "negotiation": {**status, "asking": False, "loans": [loan]}}
    done = smartema("menu", "--socket", daemon.path, "90", "show")
    lines = done.stdout.splitlines()
    assert lines[0] == "negotiation over ems: lends 50 W, borrows 0 W, offers 10 W from 3 a kWh"
    assert lines[2].split()[:7] == ["7", "lent", "to", "gw/2", "50", "W", "3"]
    daemon.answers["status"] = {
        **STATUS,
        "price": [{"upstream": "ems", "initial": 5, "incentive": None, "negotiation": 9, "unit": "KW"}],
    }
    done = smartema("menu", "--socket", daemon.path, "60")
    assert "  prices of ems: initial 5, negotiation 9 a KW" in done.stdout.splitlines()


WRONG = [
    # menu …, exit code, what is said
    ("10", 2, "menu 10: device number is missing; write smartema menu 10 DEVICE on|off|up|down|0..9"),
    ("10 four on", 2, "device number: 'four' is not a whole number"),
    ("10 4 loud", 2, "'loud' is not known; say on, off, up, down, or a dimming level 0 to 9"),
    ("10 4 on now", 2, "'now' is one value too many"),
    (
        "0 5",
        2,
        "DR mode: 5 is not known; 1. EMS PUSH 2. EMS POLL, 3 EMA POLL, 4. EMA PUSH; "
        "CoAP EMS PUSH: 0 / PULL :1 / OBS :2 / X :3",
    ),
    ("1 4 none", 2, "watts: 'none' is not a number above 0"),
    ("7 9 lamp mqtt", 2, "type: 'lamp' is not known; choose led, pv, ess, ev"),
    (
        "7 9 led coap",
        2,
        "menu 7: address is missing; write smartema menu 7 DEVICE TYPE mqtt|coap [PRIORITY [IP [PORT]]]",
    ),
    ("10 5 on", 1, "ess-5 is a device on coap; use 6"),
    ("6 4 on", 1, "lamp-4 is a device on mqtt; use 10"),
    ("10 77 on", 1, "there is no device 77; there are 4 (lamp-4), 5 (ess-5)"),
    ("2 4", 1, "there is no EMS over CoAP; use 1"),
    ("30", 1, "OpenFMB is not in this release; it comes with a later one"),
    ("90 lots", 2, "watts: 'lots' is not a number above 0"),
    ("10 4 on --count 5", 2, "--count goes with 100 and 101: smartema menu 100 --count 50"),
    ("100 some", 2, "count: 'some' is not a whole number"),
    ("101 5 6", 2, "'6' is one value too many"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG)
def test_one_line_says_what_is_wrong(daemon: FakeDaemon, words: str, code: int, said: str) -> None:
    done = smartema("menu", "--socket", daemon.path, *words.split())
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said + "\n")
    assert daemon.commands() == []


def test_what_the_daemon_refuses_is_exit_code_1(daemon: FakeDaemon) -> None:
    daemon.answers["device"] = "refused: there is no device 4"
    done = smartema("menu", "11", "4", "--socket", daemon.path)
    assert (done.returncode, done.stdout) == (1, "refused: there is no device 4\n")
    daemon.answers["mode"] = OperatorError("upstream: no upstream is configured")
    done = smartema("menu", "0", "1", "--socket", daemon.path)
    assert (done.returncode, done.stderr) == (1, "upstream: no upstream is configured\n")


def test_all_tells_each_device(daemon: FakeDaemon) -> None:
    daemon.answers["all"] = ["lamp-4 on", "refused: ess-5: not there"]
    done = smartema("menu", "40", "--socket", daemon.path)
    assert (done.returncode, done.stdout) == (0, "lamp-4 on\nrefused: ess-5: not there\n")


@pytest.mark.parametrize(
    ("words", "asked", "answer", "code", "said"),
    [
        (
            "1 4",
            {"do": "rdr", "number": 4},
            {"result": "granted", "why": "60 W within the margin of 188 W"},
            0,
            "RDR of device 4 granted: 60 W within the margin of 188 W\n",
        ),
        (
            "1 4 500 30",
            {"do": "rdr", "number": 4, "watts": 500.0, "for_s": 30},
            {"result": "denied", "why": "no answer from above within 2 s"},
            1,
            "RDR of device 4 denied: no answer from above within 2 s\n",
        ),
        (
            "70 250",
            {"do": "gateway_rdr", "watts": 250.0},
            {"result": "granted", "why": ""},
            0,
            "gateway RDR granted\n",
        ),
    ],
)
def test_rdr(
    daemon: FakeDaemon, words: str, asked: dict[str, object], answer: dict[str, str], code: int, said: str
) -> None:
    daemon.answers |= {"rdr": answer, "gateway_rdr": answer}
    done = smartema("menu", "--socket", daemon.path, *words.split())
    assert (done.returncode, done.stdout) == (code, said)
    assert daemon.commands() == [asked]


def test_60_shows_everything_and_unknown_is_a_dash(daemon: FakeDaemon) -> None:
    done = smartema("menu", "60", "--socket", daemon.path)
    assert done.returncode == 0
    for title in ("Power", "Price", "Devices", "Algorithm", "Events", "Upstream"):
        assert f"\n{title}\n" in "\n" + done.stdout
    assert "not told by any upstream" in done.stdout
    assert "power 612 W   limit 800 W   margin 188 W" in done.stdout
    ess = next(line for line in done.stdout.splitlines() if line.lstrip().startswith("ess-5 "))
    assert ess.split() == ["ess-5", "5", "ess", "coap", "5!", "–", "–", "51", "%", "230", "V", "50.0", "Hz", "–"]
    assert json.loads(smartema("menu", "60", "--json", "--socket", daemon.path).stdout) == STATUS


def test_interactive_asks_for_what_is_missing_and_goes_on(daemon: FakeDaemon) -> None:
    done = smartema("menu", "--socket", daemon.path, stdin="10\n4\n15\n5\n2\n11\n\n7\n9\n1\n1\n\nq\n")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("Current Total Sum: 612 W") == 6
    assert "the menu has no number '5'" in done.stdout
    assert "there is no EMS over CoAP; use 1" in done.stdout
    assert "nothing given: back to the menu" in done.stdout
    assert daemon.commands() == [
        {"do": "device", "number": 4, "on": False},
        {"do": "connect", "number": 9, "type": "led", "link": "mqtt", "priority": 0},
    ]


def test_the_end_of_the_input_leaves(daemon: FakeDaemon) -> None:
    assert smartema("menu", "--socket", daemon.path, stdin="").returncode == 0
    assert smartema("menu", "--socket", daemon.path, stdin="10\n4").returncode == 0


def test_the_socket_of_a_configuration(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[ema]\nstate_dir = "."\nnumber = "wrong, but not our business here"\n')
    done = smartema("status", "-c", tmp_path / "gateway.toml", cwd=Path("/"))
    assert (done.returncode, done.stderr) == (0, "")


def test_status(daemon: FakeDaemon) -> None:
    done = smartema("status", "--socket", daemon.path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "gw/1   start 3, up 2 h 05 min   grid   algorithm Priority"
    assert lines[1] == "power 612 W   limit 800 W   margin 188 W"
    assert lines[2].startswith("  800 W event 17 until ")
    assert "too old to count: ess-5" in lines
    assert "reports waiting 4, lost 0" in lines
    assert "ems: mqtt mode 1, registered   sent 12" in lines
    assert json.loads(smartema("status", "--json", "--socket", daemon.path).stdout) == STATUS


def test_an_empty_site_knows_nothing(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = STATUS | {
        "power_w": None, "limit": {"import_w": None, "export_w": None, "terms": []}, "margin_w": None,
        "devices": [], "upstreams": [], "events": [], "stale": [], "futile": True,
        "commands": {"sent": 9, "failed": 2}, "restarts": {"field mqtt": 3, "control": 0},
    }  # fmt: skip
    done = smartema("status", "--socket", daemon.path)
    assert done.returncode == 0
    assert "power –   limit none   margin –" in done.stdout
    assert "ALARM: over the limit, and everything that may be shed is off" in done.stdout
    assert "commands that no device confirmed: 2" in done.stdout
    assert "parts that failed and were started again: field mqtt 3 times" in done.stdout
    assert "no devices yet" in done.stdout


def test_a_terminal_that_knows_ascii_alone(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = smartema("status", "--socket", daemon.path)
    assert (done.returncode, done.stderr) == (0, "")


def test_why(daemon: FakeDaemon) -> None:
    done = smartema("why", "--last", "2", "--device", "lamp-1", "--socket", daemon.path)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.endswith("shed      over by 212 W of 800 W (event 17): lamp-1 off")
    assert second.endswith("lamp-2 off")
    assert daemon.requests == [{"do": "why", "last": 2, "device": "lamp-1"}]
    assert json.loads(smartema("why", "--json", "--socket", daemon.path).stdout) == DECISIONS
    daemon.answers["why"] = []
    assert smartema("why", "--socket", daemon.path).stdout == "no decision yet\n"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"hello\n", "what answers there is no smartema daemon"),
        (b"[]\n", "what answers there is no smartema daemon"),
        (b"", "the daemon closed the connection without an answer"),
    ],
)
def test_something_else_answers(daemon: FakeDaemon, raw: bytes, said: str) -> None:
    daemon.raw = raw
    with pytest.raises(TransientError, match=said):
        request(str(daemon.path), {"do": "status"})


def test_an_error_is_the_daemons_own_line(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = SmartemaError("not now")
    with pytest.raises(SmartemaError, match=r"^not now$"):
        request(str(daemon.path), {"do": "status"})


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen(1)
        with pytest.raises(TransientError, match=r"does not answer within 0\.05 s"):
            request(str(tmp_path / "s"), {"do": "status"}, timeout_s=0.05)


def test_no_permission(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")  # root, who may run the tests, is never refused by the kernel

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(OperatorError, match="permission denied; join the group that owns it, or use sudo"):
        request(str(daemon.path), {"do": "status"})


def test_an_rdr_with_an_ems_over_coap(daemon: FakeDaemon) -> None:
    daemon.answers["status"] = {**STATUS, "upstreams": [{"name": "ems", "protocol": "coap"}]}
    daemon.answers["rdr"] = {"result": "granted", "why": "the EMS grants it"}
    done = smartema("menu", "2", "4", "60", "--socket", daemon.path)
    assert (done.returncode, done.stdout) == (0, "RDR of device 4 granted: the EMS grants it\n")
    assert daemon.commands() == [{"do": "rdr", "number": 4, "watts": 60.0}]
