"""The whole demo as a user runs it: the record shows a site held under its limit, one RDR granted and one denied."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("amqtt", reason="the demo's extra is not installed")
pytest.importorskip("gpiozero", reason="the demo's extra is not installed")

SPEED, SECONDS = 60.0, 16
# k = 2 passes and twice the device's latency (0.08 s of real time at this speed), in seconds of the site's clock.
ALLOWED_S = 2 * 1.0 + 2 * 0.08 * SPEED


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    command = [sys.executable, "-m", "gateway", "demo", "--for", str(SECONDS), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


def _power(record: dict[str, Any], after: float, before: float) -> list[float]:
    return [s["power_w"] for s in record["samples"] if after <= s["t"] < before]


def test_the_site_is_held_from_the_events_start_to_its_end(record: dict[str, Any]) -> None:
    event = record["events"][0]
    held = _power(record, event["start"] + ALLOWED_S, event["end"])
    assert len(held) > 300
    assert max(held) <= event["value_w"]


def test_the_load_was_about_twice_the_limit_before_and_returns_after(record: dict[str, Any]) -> None:
    event = record["events"][0]
    before = max(_power(record, event["start"] - 30, event["start"]))
    assert before > event["value_w"]
    after = max(_power(record, event["end"] + 100, event["end"] + 200))
    assert after == pytest.approx(before, rel=0.05)


def test_one_rdr_is_granted_within_the_margin_and_another_denied_with_its_reason(record: dict[str, Any]) -> None:
    small, large = record["rdr"][:2]
    assert (small["device"], small["result"]) == ("desk", "granted")
    assert "of margin under" in small["why"]
    assert (large["device"], large["result"]) == ("hall", "denied")
    assert "ems says" in large["why"]


def test_every_decision_has_its_numbers(record: dict[str, Any]) -> None:
    rules = [d["rule"] for d in record["decisions"]]
    assert {"shed", "restore", "rdr", "opt"} <= set(rules)
    assert "alarm" not in rules
    for decision in record["decisions"]:
        assert decision["line"]
        assert decision["power_w"] is not None


def test_no_report_is_lost_or_doubled(record: dict[str, Any]) -> None:
    reports = record["reports"]
    assert (reports["lost"], reports["duplicates"]) == (0, 0)
    assert 0 < reports["acknowledged"] <= reports["sent"]


def test_samples_are_regular(record: dict[str, Any]) -> None:
    times = [s["t"] for s in record["samples"]]
    assert times == sorted(times)
    assert times[-1] > SECONDS * SPEED * 0.8
