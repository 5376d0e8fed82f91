"""``smartema check``: mistakes or a summary, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.field import broker
from tests.gateway.cli.fake_daemon import smartema

GOOD = """\
[control]
threshold_w = 800
[site_broker]
port = 1884
[[upstream]]
host = "127.0.0.1"
[[device]]
number = 1
link = "gpio"
pin = 18
[[device]]
number = 2
type = "ess"
priority = 5
"""


def test_all_well(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(GOOD)
    done = smartema("check", "-c", "gateway.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (
        "gateway.toml: all well\n"
        "  gw/1 (MIR_VEN1), threshold 800 W\n"
        "  state in /var/lib/smartema, socket /var/lib/smartema/smartema.sock\n"
        "  upstream ems: mqtt 127.0.0.1:1883, no TLS, DR mode 1\n"
        "  site broker: own mosquitto on 127.0.0.1:1884\n"
        "  device  no  type  link  priority\n"
        "  led-1    1  led   gpio  its own\n"
        "  ess-2    2  ess   mqtt  5\n"
    )


def test_every_mistake_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(GOOD + "[ema]\nnumber = 0\nname = 1\n")
    done = smartema("check", "-c", "gateway.toml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0] == "gateway.toml:16 ema.number: 0 is too small; 1 to 99999 is right"
    assert lines[1].startswith("gateway.toml:17 ema.name: unknown key")
    assert len(lines) == 2


def test_warnings_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[control]\nthreshold_w = 800\n")
    done = smartema("check", "-c", "gateway.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        "warning: gateway.toml device: there is none: nothing can be shed; add [[device]]"
    )


def test_a_missing_mosquitto_is_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(GOOD)
    monkeypatch.setattr(broker, "SBIN", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["check", "-c", str(file)]) == 0
    assert capsys.readouterr().out.startswith("warning: site_broker: devices with link mqtt need a broker")
    file.write_text(GOOD.replace("port = 1884", 'host = "10.0.0.9"'))
    assert main(["check", "-c", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: all well")


def test_json(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(GOOD)
    document = json.loads(smartema("check", "-c", "gateway.toml", "--json", cwd=tmp_path).stdout)
    assert document["mistakes"] == []
    assert document["summary"]["threshold_w"] == 800
    assert document["summary"]["hard_w"] is None
    assert [device["name"] for device in document["summary"]["devices"]] == ["led-1", "ess-2"]
    (tmp_path / "gateway.toml").write_text("x = 1")
    done = smartema("check", "-c", "gateway.toml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["summary"] is None
    assert len(document["mistakes"]) == 1


def test_run_takes_no_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[ema]\nnumber = 0\nx = 1\n")
    done = smartema("run", "-c", "gateway.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert done.stderr.startswith("gateway.toml:2 ema.number: 0 is too small")
