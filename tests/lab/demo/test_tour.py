"""One site through modes of MQTT and CoAP, over links that are good and over links that are not: every event takes
effect once, and nothing hangs."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

pytest.importorskip("amqtt", reason="the demo's extra is not installed")
pytest.importorskip("gpiozero", reason="the demo's extra is not installed")

from gateway.errors import OperatorError
from lab.demo import tour_table as table
from lab.demo.tour import Row
from lab.demo.ways import Way, chosen
from lab.impair import Tally

# (arguments, seed) of each run; they run side by side, for they mostly wait.
CLEAN = ("--tour", "--speed", "40")
IMPAIRED = ("--tour", "--impair", "5%,50ms", "--speed", "6")
RUNS = {
    "every mode": (*CLEAN, "--seed", "1"),
    "seed 11": (*IMPAIRED, "--seed", "11", "--only", "mqtt 1 mir2017"),
    "seed 12": (*IMPAIRED, "--seed", "12", "--only", "coap 0 mir2017"),
    "seed 13": (*IMPAIRED, "--seed", "13", "--only", "coap 2 mir2017"),
    "seed 15": (*IMPAIRED, "--seed", "15", "--only", "mqtt 2 emap1b"),
}
PATIENCE_S = 180.0


async def _run(arguments: tuple[str, ...]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "demo", "--json", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        pytest.fail(f"{' '.join(arguments)} hangs")
    assert err.decode() == ""
    loaded: dict[str, Any] = json.loads(out)
    loaded["exit"] = process.returncode
    return loaded


async def _all() -> dict[str, dict[str, Any]]:
    return dict(zip(RUNS, await asyncio.gather(*(_run(arguments) for arguments in RUNS.values())), strict=True))


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    return asyncio.run(_all())


def test_each_mode_registers_sheds_and_restores(runs: dict[str, dict[str, Any]]) -> None:
    run = runs["every mode"]
    assert [row["problem"] for row in run["rows"]] == [""] * len(run["rows"])
    assert run["exit"] == 0
    for row in run["rows"]:
        assert row["before_w"] > row["limit_w"] >= row["shed_w"]
        assert min(row["registered_s"], row["event_ms"], row["latency_ms"], row["restored_s"], row["bytes"]) > 0


def test_over_bad_links_each_mode_registers_and_sheds(runs: dict[str, dict[str, Any]]) -> None:
    """A lamp whose every command was lost may stay dimmed; that, and nothing else, the tour may then complain of."""
    for run in (run for run in runs.values() if run["impair"]):
        assert run["rows"]
        for row in run["rows"]:
            assert row["problem"] == "" or row["problem"].startswith("not restored: hall ")
            assert run["exit"] == int(bool(row["problem"]))
            assert row["before_w"] > row["limit_w"] >= row["shed_w"]


@pytest.mark.parametrize("name", RUNS)
def test_each_event_and_each_command_takes_effect_once(runs: dict[str, dict[str, Any]], name: str) -> None:
    run = runs[name]
    assert [row["applied"] for row in run["rows"]] == [{"taken in": 1, "called off": 1}] * len(run["rows"])
    assert run["commands"]["carried_out"] > 0
    assert run["commands"]["twice"] == 0
    assert run["reports"]["lost"] == 0


@pytest.mark.parametrize("name", RUNS)
def test_each_rdr_is_settled(runs: dict[str, dict[str, Any]], name: str) -> None:
    for row in runs[name]["rows"]:
        assert row["rdr"]["result"] in ("granted", "denied")
        assert row["rdr"]["why"]


def test_the_tour_goes_through_every_mode(runs: dict[str, dict[str, Any]]) -> None:
    rows = runs["every mode"]["rows"]
    modes = {(row["protocol"], row["profile"], row["number"]) for row in rows}
    mqtt = {("mqtt", profile, mode) for profile in ("mir2017", "emap1b") for mode in (1, 2, 3, 4)}
    coap = {("coap", profile, mode) for profile in ("mir2017", "emap1b") for mode in (0, 1, 2)}
    assert modes >= mqtt | coap
    asked = [row["rdr"] for row in rows if row["protocol"] in ("mqtt", "coap")]
    assert all(rdr["result"] == "granted" and rdr["back"] for rdr in asked), asked


def test_good_links_harm_nothing_and_bad_ones_do(runs: dict[str, dict[str, Any]]) -> None:
    kinds = ("dropped", "delayed", "doubled", "reordered", "resent")
    harm = {bool(run["impair"]): dict.fromkeys(kinds, 0) for run in runs.values()}
    for run in runs.values():
        assert run["links"]["taken"] > 0
        for kind in kinds:
            harm[bool(run["impair"])][kind] += run["links"][kind]
    assert max(harm[False].values()) == 0
    assert min(harm[True].values()) > 0


WAYS = [Way("mqtt", "mir2017", 1), Way("mqtt", "emap1b", 1), Way("coap", "mir2017", 0), Way("coap", "mir2017", 2)]


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        ("mqtt 1", ["mqtt 1 EMS PUSH", "mqtt 1 emap1b"]),
        ("coap, emap1b", ["coap 0 EMS PUSH", "coap 2 OBSERVE", "mqtt 1 emap1b"]),
        ("observe coap,coap 2", ["coap 2 OBSERVE"]),
        ("mqtt 9", None),
        ("mqtt,", None),
    ],
)
def test_a_part_of_the_tour_is_named_by_its_words(only: str, labels: list[str] | None) -> None:
    if labels is None:
        with pytest.raises(OperatorError, match="is none of mqtt 1 EMS PUSH"):
            chosen(WAYS, only)
    else:
        assert [way.label for way in chosen(WAYS, only)] == labels


def test_the_table_fits_eighty_columns_and_says_what_did_not_come() -> None:
    row = Row(WAYS[0], 123.456, 12345.6, 9999.4, 1550, 9999.2, 1533.0, 1.0, {"result": "granted"}, 99.5)
    row.up = Tally(bytes=999_999)
    late = Row(WAYS[3], problem="not registered")
    for text in (table.head(), table.line(row), table.line(late)):
        assert len(text) <= 80, text
    assert table.line(late).split() == ["coap", "2", "OBSERVE", *["–"] * 5, "0", "–"]
