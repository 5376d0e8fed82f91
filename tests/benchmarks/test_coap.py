"""The benches of CoAP measure what they say, in a few samples."""

from __future__ import annotations

import pytest

from benchmarks import coap_bytes, coap_observe, coap_poll, coap_reaction
from benchmarks.coap_site import OBSERVE, PUSH, rows_of
from benchmarks.table import Row


async def test_poll_and_bare_round_trip_are_taken_in_turn() -> None:
    rounds = await coap_poll.measure(rounds=2, samples=5)
    assert [(len(ours), len(floor)) for ours, floor in rounds] == [(5, 5), (5, 5)]
    assert all(seconds > 0 for ours, floor in rounds for seconds in (*ours, *floor))


async def test_events_come_as_notifications() -> None:
    ((ours, floor),) = await coap_observe.measure(rounds=1, samples=5)
    assert len(ours) == len(floor) == 5
    assert min(*ours, *floor) > 0


@pytest.mark.parametrize("mode", [PUSH, OBSERVE])
async def test_an_event_becomes_a_command(mode: int) -> None:
    ours, floor, committed = await coap_reaction.measure(mode, samples=3, warm_up=1)
    assert (len(ours), len(floor), len(committed)) == (3, 3, 4)
    assert all(with_commit > sent > 0 for with_commit, sent in zip(committed[1:], ours, strict=True))


def test_a_ratio_is_of_samples_that_were_taken_together() -> None:
    rounds = [([2.0], [1.0]), ([30.0], [10.0]), ([4.0], [4.0])]
    row = Row(**rows_of("coap_poll_p50", rounds, 0.5))
    assert (row.value, row.floor, row.ratio, row.missed) == (4000.0, 4000.0, 2.0, False)
    assert Row("coap_poll_p50", 1.0, "ms", 1.0, 2.1).missed


def test_the_frames_of_a_poll_are_the_labs() -> None:
    cells = coap_bytes.mir2017_coap()
    assert (cells["poll"].frame, cells["its answer"].frame) == (139, 123)


def test_the_table_of_bytes_has_every_message_on_every_link() -> None:
    head, *lines = coap_bytes.table()
    assert head[1:5] == coap_bytes.LINKS
    missing = [
        (line[0], link) for line in lines for link, cell in zip(head[1:5], line[1:5], strict=True) if cell == "–"
    ]
    assert missing == [("event, observed", "mir2017 MQTT"), ("event, observed", "emap1b MQTT")]
    explicit = coap_bytes.emap1b_coap()["report, explicit"]
    assert explicit.payload > coap_bytes.mir2017_coap()["report, explicit"].payload > 1024
    assert explicit.blocks == -(-explicit.payload // 1024)
