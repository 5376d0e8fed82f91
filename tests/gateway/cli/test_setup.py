"""``smartema setup`` by piped answers, by defaults, and against a real broker; what it writes, ``run`` takes."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.cli.probes import clock_lines, json_lines, try_broker
from gateway.clock import ManualClock
from gateway.config.load import load
from gateway.config.model import UpstreamConfig
from tests.gateway.cli.fake_daemon import smartema
from tests.support.mosquitto import MOSQUITTO, Mosquitto, free_port


def answers(*lines: object) -> str:
    return "\n".join(map(str, lines)) + "\n"


def test_the_words_of_the_lab(tmp_path: Path) -> None:
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=answers("3", "1", "none"))
    assert done.returncode == 0
    assert re.search(
        r"^===OpenWrt TIME TEST===\nCurrent day:\d{8}, Current time:\d{4}\n"
        r"===OpenWrt JSON TEST===\n\{ \"LAB\": \"MIR\", \"YEAR\": 2017 \}\nLAB : MIR\nYEAR : 2017\n"
        r"EMA/VEN/VTN Protocol Choice\? 1 : MQTT , 2 : CoAP ",
        done.stdout,
    )
    assert "'3': write a whole number from 1 to 2" in done.stdout
    assert "Control for MQTT Broker IP?:" in done.stdout
    assert f"UP EMA: smartema run -c {tmp_path}/g.toml" in done.stdout
    assert load(tmp_path / "g.toml").upstream == ()


def test_a_whole_site_through_a_pipe(tmp_path: Path) -> None:
    port = free_port()
    stdin = answers(
        1,
        f"127.0.0.1:{port}",  # nobody listens there
        "n",  # another broker
        "9",  # no DR mode
        "3",
        "3",  # UP EMA: 1 or 2
        "1",
        "7",  # gw/7
        "much",
        "850",
        tmp_path / "state",
        "4",
        *("", "1", "1", "2"),  # LED over MQTT, priority 2
        *("1", "5", "3", "2", "0", "192.168.1.200"),  # the number is taken; an ESS over CoAP
        *("", "1", "3", "1", "60", "18", "red", "17"),  # LED on pin 18, button on 17
        *("", "4", "3", "", "7000", "18", "22", "12"),  # pin 18 is taken
        *("7 8", "2, gw/3", "1"),  # EMAs below, over MQTT; 7 is our own
        "192.168.1.1",
        "",
    )
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        f"MQTT broker 127.0.0.1:{port}: connection refused; is a broker running there?",
        "'9': write a whole number from 1 to 4",
        "'7 8': write each once, such as 2 3 4, and not our own 7",
        "'much': write watts, such as 1000",
        "1: is already a device; choose another number",
        "'red': write a BCM number such as 18, or chip:line",
        "18: is already used; choose another",
        f"passwords: {tmp_path}/state/device-passwords/dev-<number>",
    ):
        assert said in done.stdout, said
    config = load(tmp_path / "g.toml")
    assert (config.ema.number, config.control.threshold_w, config.ema.state_dir) == (7, 850, f"{tmp_path}/state")
    assert (config.upstream[0].port, config.upstream[0].mode) == (port, 3)
    lamp, ess, wired, car = config.device
    assert (lamp.number, lamp.type, lamp.link, lamp.priority) == (1, "led", "mqtt", 2)
    assert (ess.number, ess.type, ess.link, ess.address) == (5, "ess", "coap", "192.168.1.200")
    assert (wired.number, wired.pin, wired.button_pin, wired.rated_w) == (2, "18", "17", 60)
    assert (car.number, car.pin, car.pwm_pin, car.max_w, car.priority) == (3, "22", "12", 7000, -1)
    assert config.emas_below.mqtt
    assert [ema.number for ema in config.ema_below] == [2, 3]
    assert config.site_broker.bind == "192.168.1.1"
    assert (config.site_coap.bind, config.site_coap.sources) == ("192.168.1.1", ("192.168.1.0/24",))
    assert smartema("check", "-c", tmp_path / "g.toml").returncode == 0


def test_defaults_ask_nothing(tmp_path: Path) -> None:
    done = smartema("setup", "--defaults", "--output", tmp_path / "g.toml")
    assert (done.returncode, done.stderr) == (0, "")
    config = load(tmp_path / "g.toml")
    assert (config.upstream[0].host, config.control.threshold_w, config.device) == ("127.0.0.1", 1000, ())
    assert [path.name for path in tmp_path.iterdir()] == ["g.toml"]


def test_a_small_threshold_can_be_restored_under(tmp_path: Path) -> None:
    stdin = answers("1", "none", "1", "15")
    assert smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin).returncode == 0
    assert load(tmp_path / "g.toml").control.hysteresis_min_w == 1.5


def test_never_overwrites_without_asking(tmp_path: Path) -> None:
    output = tmp_path / "g.toml"
    output.write_text("mine")
    done = smartema("setup", "--output", output, "--defaults")
    assert (done.returncode, done.stderr) == (2, f"{output}: is there already; add --force to overwrite it\n")
    done = smartema("setup", "--output", output, stdin="n\n")
    assert (done.returncode, done.stderr) == (1, f"{output}: left as it was\n")
    assert smartema("setup", "--output", output, stdin="").returncode == 1  # silence is no consent
    assert output.read_text() == "mine"
    assert smartema("setup", "--output", output, stdin="y\n1\nnone\n").returncode == 0
    assert load(output).upstream == ()
    assert smartema("setup", "--output", output, "--defaults", "--force").returncode == 0


def test_answers_that_never_fit_end_it(tmp_path: Path) -> None:
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin="x\n" * 20)
    assert done.returncode == 1
    assert done.stderr == (
        "EMA/VEN/VTN Protocol Choice? 1 : MQTT , 2 : CoAP got no answer that can be used; nothing is written\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_on_a_dumb_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "setup", "--output", str(tmp_path / "g.toml")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)
    seen = ""
    for question, answer in (
        ("Protocol Choice", "1"),
        ("Broker IP", "none"),
        ("EMA number", "2"),
        ("Threshold", ""),
        ("Folder", str(tmp_path)),
        ("How many devices", "0"),
    ):
        while question not in seen:
            seen += _some(ours)
        os.write(ours, f"{answer}\n".encode())
        seen = seen[seen.index(question) + len(question) :]
    while (text := _some(ours)) or process.poll() is None:
        seen += text
    os.close(ours)
    assert process.wait(10) == 0
    assert "UP EMA" in seen
    assert load(tmp_path / "g.toml").ema.number == 2


def _some(terminal: int) -> str:
    """What it shows next; empty when the other end has closed."""
    assert select.select([terminal], [], [], 20)[0], "nothing more is shown"
    try:
        return os.read(terminal, 4096).decode()
    except OSError:
        return ""


def test_the_clock_of_a_router_that_has_none() -> None:
    trusted, lines = clock_lines(ManualClock(wall=86_400.0 * 3))
    assert not trusted
    assert lines[2] == "the clock says 1970: set it by NTP; until then events wait for the right time"
    trusted, lines = clock_lines(ManualClock())
    assert trusted
    assert len(lines) == 2


def test_json_comes_back() -> None:
    assert json_lines() == (
        True,
        ["===OpenWrt JSON TEST===", '{ "LAB": "MIR", "YEAR": 2017 }', "LAB : MIR", "YEAR : 2017"],
    )


async def test_a_broker_that_takes_us(mosquitto: Mosquitto, tmp_path: Path) -> None:
    stdin = answers("1", f"127.0.0.1:{mosquitto.port}", "1")
    done = smartema("setup", "--output", tmp_path / "g.toml", stdin=stdin)
    assert f"MQTT broker 127.0.0.1:{mosquitto.port}: connected" in done.stdout
    assert load(tmp_path / "g.toml").upstream[0].port == mosquitto.port


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
async def test_a_broker_that_wants_an_account(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("ema:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
    broker = Mosquitto(tmp_path / "broker", extra=f"allow_anonymous false\npassword_file {passwords}\n")
    await broker.start()
    try:
        site = tmp_path / "site"
        site.mkdir()
        at = f"127.0.0.1:{broker.port}"
        done = smartema("setup", "--output", site / "none.toml", stdin=answers("1", at, "ema"))
        assert load(site / "none.toml").upstream[0].username == ""  # an account without password is none
        assert [path.name for path in site.iterdir()] == ["none.toml"]
        done = smartema("setup", "--output", site / "g.toml", stdin=answers("1", at, "ema", "wrong", "n"))
        assert done.stdout.count(f"MQTT broker {at}: refused: not authorized") == 2
        assert (site / "ems.password").read_text() == "wrong\n"
        done = smartema(
            "setup", "--force", "--output", site / "g.toml", stdin=answers("1", at, "ema", "n", "secret", "2")
        )
        assert f"MQTT broker {at}: connected" in done.stdout
    finally:
        broker.stop()
    upstream = load(site / "g.toml").upstream[0]
    assert (upstream.username, upstream.mode) == ("ema", 2)
    assert upstream.password_file == str(site / "ems.password")
    assert (site / "ems.password").read_text() == "secret\n"
    assert (site / "ems.password").stat().st_mode & 0o777 == 0o600
    assert "secret" not in (site / "g.toml").read_text()


def test_a_broker_that_is_none() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4)
        port = server.getsockname()[1]
        hangs = threading.Thread(target=lambda: [server.accept() for _ in range(2)], daemon=True)
        hangs.start()
        answer = try_broker(UpstreamConfig(host="127.0.0.1", port=port), timeout_s=0.2)
        hangs.join(5)
    assert not answer.reached
    assert answer.line == (
        f"MQTT broker 127.0.0.1:{port}: TCP connects, but no MQTT answer within 0.2 s; "
        "is it MQTT, and does it want TLS?"
    )


def test_no_such_host() -> None:
    answer = try_broker(UpstreamConfig(host="no-such-host.invalid"))
    assert answer.line == "MQTT broker no-such-host.invalid:1883: no such host; check the name, or give the IP"
