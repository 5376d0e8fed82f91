"""mosquitto_pub and mosquitto_sub play a device on MQTT, byte for byte (wire reference, 5a and the lab's forms)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio

from tests.support.mosquitto import free_port
from tests.support.process import Ema, closing, lamps, tool


class Site:
    """An EMA whose only device is played by the two programs; ``heard``: what mosquitto_sub printed."""

    def __init__(self, ema: Ema, port: int) -> None:
        self.ema, self.port, self.heard = ema, port, []

    async def publish(self, topic: str, body: str | bytes) -> None:
        text = body.encode() if isinstance(body, str) else body
        process = await asyncio.create_subprocess_exec(
            *(tool("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, "-s"),
            stdin=asyncio.subprocess.PIPE,
        )
        await process.communicate(text)
        assert process.returncode == 0

    async def hears(self, wanted: Callable[[str, bytes], object]) -> bytes:
        """The first body that fits; it and all before it are taken."""
        found: list[bytes] = []

        def look() -> bool:
            for number, (topic, body) in enumerate(self.heard):
                if wanted(topic, body):
                    found.append(body)
                    del self.heard[: number + 1]
                    return True
            return False

        await self.ema.until(look, f"heard, of {self.heard}")
        return found[0]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    control = {"threshold_w": 100, "restore_delay_s": 0, "lease_s": 3}
    ema = Ema(
        tmp_path, {"control": control, "site_broker": {"port": port, "anonymous": True}, "device": lamps(4, rated_w=60)}
    )
    made = Site(ema, port)
    async with closing(ema):
        await ema.start()
        await ema.shows(lambda s: any(part.get("running") for part in s["field"]), "the broker runs")
        process = await asyncio.create_subprocess_exec(
            *(tool("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-F", "%t %x"),
            *("-t", "dev/4", "-t", "hello", "-t", "probe"),
            stdout=asyncio.subprocess.PIPE,
        )

        async def listen() -> None:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                topic, _, hexed = line.decode().rstrip("\n").partition(" ")
                made.heard.append((topic, bytes.fromhex(hexed)))

        listening = asyncio.create_task(listen())
        try:
            while not any(topic == "probe" for topic, _ in made.heard):
                await made.publish("probe", "x")
            made.heard.clear()
            yield made
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await listening


async def test_our_json(site: Site) -> None:
    hello = {"dev": 4, "type": "led", "priority": 3, "boot": 7, "addr": None, "port": None, "caps": ["switch", "level"]}
    await site.publish("connected", json.dumps({**hello, "rated_mw": 60000}))
    assert await site.hears(lambda t, b: t == "dev/4" and not b.startswith(b"{")) == b"ack"
    await site.publish("status/4", '{"dev":4,"boot":7,"seq":1,"on":true,"dimming":9,"mw":60000,"done":0}')
    status = await site.ema.present(4)
    assert (status["devices"][0]["power_w"], status["devices"][0]["priority"]) == (60, 3)

    # A command, told by the menu: absolute, numbered, with its lease.
    await site.ema.ask("device", number=4, on=False)
    command = json.loads(await site.hears(lambda t, b: b.startswith(b'{"id"')))
    assert {k: v for k, v in command.items() if k != "id"} == {"lease_s": 3, "on": False}
    await site.publish("status/4", f'{{"dev":4,"boot":7,"seq":2,"on":false,"mw":0,"dimming":9,"done":{command["id"]}}}')
    await site.ema.shows(lambda s: s["devices"][0]["on"] is False and s["commands"]["confirmed"] == 1, "confirmed")

    # Its RDR fits into the margin; the answer and the command come on the same topic.
    await site.publish("rdr/4", '{"dev":4,"boot":7,"seq":3,"mw":60000,"for_s":600}')
    answer = json.loads(await site.hears(lambda t, b: b.startswith(b'{"rdr"')))
    assert answer["rdr"] == "granted"
    again = json.loads(await site.hears(lambda t, b: b.startswith(b'{"id"')))
    assert again["on"] is True
    assert again["id"] > command["id"]
    await site.publish(
        "status/4", f'{{"dev":4,"boot":7,"seq":4,"on":true,"mw":60000,"dimming":9,"done":{again["id"]}}}'
    )
    # Alive, every third of the lease.
    assert await site.hears(lambda t, b: b == b"ack") == b"ack"
    await site.publish("disconnected", '{"dev":4,"boot":7}')
    await site.ema.shows(lambda s: s["devices"][0]["present"] is False, "it went")


async def test_the_labs_text(site: Site) -> None:
    await site.publish("connected", "dev/4/led/3/")
    assert await site.hears(lambda t, b: t == "dev/4") == b"ack"
    await site.ema.shows(lambda s: s["devices"][0]["present"], "it is there")
    await site.ema.ask("device", number=4, on=False)
    assert await site.hears(lambda t, b: t == "dev/4" and b != b"ack") == b"\x11\x10"
