"""The demo's record: what it sums up and how it counts time."""

from __future__ import annotations

import json

import pytest

from gateway.site.decision import Decision, Limit, Rule
from lab.demo.record import Recorder


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0, 100, None), (3600, 100, None)], 0.0),  # no limit, nothing over it
        ([(0, 100, 100), (3600, 100, 100)], 0.0),  # at the limit is not over
        ([(0, 160, 100), (1800, 100, 100), (3600, 100, 100)], 30.0),
        ([(0, 160, 100)], 0.0),  # one sample spans no time
        ([(0, 160, 100), (60, 160, 200), (120, 260, 200), (180, 0, 200)], 2.0),
    ],
)
def test_energy_over_the_limit(samples: list[tuple[float, float, float | None]], expected: float) -> None:
    recorder = Recorder(1000.0, 0.0)
    for t, power, limit in samples:
        recorder.sample(1000.0 + t, power, limit)
    assert recorder.over_limit_wh() == pytest.approx(expected)


def test_everything_counts_from_the_beginning_and_is_json() -> None:
    recorder = Recorder(1000.0, 5000.0)
    recorder.sample(1001.0, 60.0, None)
    recorder.event(1, 5060.0, 5120.0, 500)
    recorder.event(1, 5060.0, 5180.0, 400)  # changed
    recorder.decision(Decision(Rule.SHED, 5061.0, 900.0, Limit(500.0, None), "over by 400 W"))
    document = json.loads(json.dumps(recorder.document({"sent": 1, "acknowledged": 1, "lost": 0, "duplicates": 0})))
    assert document["samples"] == [{"t": 1.0, "power_w": 60.0, "limit_w": None}]
    assert document["events"] == [{"start": 60.0, "end": 180.0, "value_w": 400}]
    assert (document["decisions"][0]["t"], document["decisions"][0]["line"]) == (61.0, "over by 400 W")
    assert set(document) == {"samples", "events", "decisions", "rdr", "reports", "over_limit_wh"}
