"""Menu 100 and 101 against a real daemon: virtual LEDs are started, counted, changed in number and stopped."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from device_agents.virtual_numbers import FIRST
from gateway.cli import menu_virtual
from tests.gateway.cli.fake_daemon import smartema
from tests.support.certificates import Authority
from tests.support.mosquitto import MOSQUITTO, free_port
from tests.support.process import Ema, closing, lamps, udp_port
from tests.support.wait import until

needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt install mosquitto")
NUMBERS = {"100": "coap", "101": "mqtt"}


def daemon(directory: Path, broker: dict[str, Any], coap: dict[str, Any], **tables: Any) -> Ema:
    sites = {"site_broker": {"port": free_port(), **broker}, "site_coap": {"port": udp_port(), **coap}}
    return Ema(directory, {**sites, **tables})


async def menu(ema: Ema, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(smartema, "menu", "--socket", ema.socket, *words, stdin=stdin)


async def pid_of(ema: Ema, link: str) -> int:
    return int((await ema.ask("virtual", link=link))["pid"])


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@needs_mosquitto
async def test_both_links_are_started_counted_and_stopped(tmp_path: Path) -> None:
    ema = daemon(tmp_path, {"open": True}, {"open": True})
    async with closing(ema):
        await ema.start()
        for number, link in NUMBERS.items():
            name, first = {"coap": "CoAP", "mqtt": "MQTT"}[link], FIRST[link]
            done = await menu(ema, number)
            assert (done.returncode, done.stdout) == (0, f"no virtual LEDs over {name}\n")
            done = await menu(ema, number, "--count", "12")
            said = f"12 of 12 virtual LEDs are there over {name}, dev/{first} to dev/{first + 11}\n"
            assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
            twelve = await pid_of(ema, link)
            assert (await menu(ema, number)).stdout == said
            # Another number: others in their place, and no trace of those that are too many.
            assert (await menu(ema, number, "7")).stdout.startswith("7 of 7 virtual LEDs")
            assert not lives(twelve)
            seven = await pid_of(ema, link)
            done = await menu(ema, number, "7", "--json")
            assert json.loads(done.stdout)["pid"] == seven  # the same again is nothing new
        devices = (await ema.status())["devices"]
        expected = sorted(FIRST[link] + i for link in FIRST for i in range(7))
        assert [d["number"] for d in devices] == expected
        assert all(d["kind"] == "virtual" and d["present"] for d in devices)
        for number, link in NUMBERS.items():
            pid = await pid_of(ema, link)
            name = {"coap": "CoAP", "mqtt": "MQTT"}[link]
            assert (await menu(ema, number, "0")).stdout == f"no virtual LEDs over {name}; 7 were stopped\n"
            assert not lives(pid)
        status = await ema.status()
        assert (status["devices"], status["power_w"]) == ([], 0.0)
        assert not ema.lines("again in")


async def test_the_interactive_menu_asks_how_many(tmp_path: Path) -> None:
    ema = daemon(tmp_path, {}, {"open": True})
    async with closing(ema):
        await ema.start()
        done = await menu(ema, stdin="100\n3\n100\n\n100\n0\nq\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert "How many (now 0; 0 stops them, nothing leaves them) ?" in done.stdout
        assert done.stdout.count("3 of 3 virtual LEDs are there over CoAP, dev/10001 to dev/10003") == 2
        assert "How many (now 3;" in done.stdout
        assert "no virtual LEDs over CoAP; 3 were stopped" in done.stdout


async def test_they_end_with_the_daemon_and_do_not_come_back(tmp_path: Path) -> None:
    ema = daemon(tmp_path, {}, {"open": True})
    async with closing(ema):
        await ema.start()
        assert (await menu(ema, "100", "5")).returncode == 0
        pid = await pid_of(ema, "coap")
        code, _ = await ema.terminate()
        assert (code, lives(pid)) == (0, False)
        assert "cut short" not in ema.log()
        # The time stands before a line once: ours.
        assert ema.lines("virtual coap: INFO 5 virtual LEDs over coap")
        await ema.start()
        assert (await menu(ema, "100")).stdout == "no virtual LEDs over CoAP\n"
        # Killed it cannot end them; they see it.
        assert (await menu(ema, "100", "5")).returncode == 0
        pid = await pid_of(ema, "coap")
        ema.kill()
        await until(lambda: not lives(pid), 20, "they end by themselves")


async def test_one_that_died_is_started_again(tmp_path: Path) -> None:
    ema = daemon(tmp_path, {}, {"open": True})
    async with closing(ema):
        await ema.start()
        assert (await menu(ema, "100", "5")).returncode == 0
        pid = await pid_of(ema, "coap")
        subprocess.run(["kill", "-9", str(pid)], check=True)
        await ema.until(lambda: ema.lines("virtual coap: ended (-9)"), "it is seen")
        while (await ema.ask("virtual", link="coap"))["pid"] in (None, pid):
            await asyncio.sleep(0.05)
        await ema.present(*range(FIRST["coap"], FIRST["coap"] + 5))


@needs_mosquitto
async def test_over_the_tls_of_our_own_broker(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "ca").sign("server")
    key.chmod(0o600)
    ema = daemon(tmp_path, {"open": True, "cert_file": str(certificate), "key_file": str(key)}, {})
    async with closing(ema):
        await ema.start()
        done = await menu(ema, "101", "4")
        assert (done.returncode, done.stdout) == (
            0,
            "4 of 4 virtual LEDs are there over MQTT, dev/20001 to dev/20004\n",
        )


MISSING = [
    # the tables, menu …, what is said
    (
        ({}, {}),
        "100 50",
        "[site_coap] does not let 50 virtual devices in: set open = true there, then SIGHUP",
    ),
    (
        ({}, {}),
        "101 500",
        "[site_broker] does not let 500 virtual devices in: set open = true and most_guests = 500 there, then SIGHUP",
    ),
    (
        ({"open": True}, {"open": True}),
        "100 1000",
        "[site_coap] does not let 1000 virtual devices in: set most_guests = 1000 there, then SIGHUP",
    ),
    (
        ({}, {"open": True, "sources": ["192.0.2.0/24"]}),
        "100 5",
        '[site_coap] sources does not hold 127.0.0.1, where virtual devices are; add "127.0.0.1" to it',
    ),
    (
        ({}, {"open": True}),
        "100 20",
        "dev/10011 is led-10011 of the configuration; virtual devices over coap are dev/10001 to dev/10020: "
        "give it another number, or start fewer than 11",
    ),
    (({}, {"open": True}), "100 10000", "count: 10000 is not from 0 to 9999"),
]


@pytest.mark.parametrize(("tables", "words", "said"), MISSING)
async def test_one_line_says_what_is_missing(tmp_path: Path, tables: Any, words: str, said: str) -> None:
    broker, coap = tables
    ema = daemon(tmp_path, broker, coap, device=lamps(10011, link="coap"))
    async with closing(ema):
        await ema.start()
        done = await menu(ema, *words.split())
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said + "\n")
        assert (await ema.ask("virtual", link=NUMBERS[words.split()[0]]))["count"] == 0


async def test_what_is_missing_is_taken_with_a_sighup(tmp_path: Path) -> None:
    ema = daemon(tmp_path, {}, {"open": True, "most_guests": 3})
    async with closing(ema):
        await ema.start()
        assert (await menu(ema, "100", "5")).returncode == 1
        tables = dict(ema.tables)
        ema.write({**tables, "site_coap": {**tables["site_coap"], "most_guests": 5}})
        ema.hangup()
        await ema.until(lambda: ema.lines("configuration read again"), "it is read again")
        assert (await menu(ema, "100", "5")).stdout.startswith("5 of 5 virtual LEDs are there")


@pytest.mark.parametrize(
    ("here", "well", "said"),
    [
        ([0, 3, 5], True, "5 of 5 virtual LEDs are there over CoAP, dev/10001 to dev/10005"),
        # No further one comes: it says so, with their own last words, and does not wait for ever.
        ([0, 3], False, "3 of 5 virtual LEDs are there over CoAP, dev/10001 to dev/10005; they said last: 4.03"),
    ],
)
def test_it_counts_until_no_more_of_them_come(
    here: list[int], well: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(menu_virtual, "POLL_S", 0.0)
    asked: list[dict[str, Any]] = []
    coming = iter(here)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        started = any("count" in earlier for earlier in asked)
        there = next(coming, here[-1]) if started else 0
        numbers = {"first": 10001, "last": 10005}
        return {"link": "coap", "count": 5 if started else 0, "here": there, "said": "4.03", **numbers}

    done = menu_virtual.virtual("coap")(answer, ["5"])
    assert (done.lines, done.well) == ([said], well)
    assert [request.get("count") for request in asked[:3]] == [None, 5, None]
