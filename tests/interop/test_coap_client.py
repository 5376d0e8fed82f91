"""libcoap's client plays a device on CoAP, byte for byte; aiocoap-free bytes on a socket hear what it is told."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from tests.support.mosquitto import free_port
from tests.support.process import Ema, closing, lamps, tool


async def coap(port: int, path: str, body: str | None = None) -> str:
    """PUT ``body``, or GET; what libcoap prints: the payload, or the code of an error and its payload."""
    words = [tool("coap-client-notls"), "-B", "5", "-m", "get" if body is None else "put"]
    if body is not None:
        words += ["-t", "application/json", "-e", body]
    process = await asyncio.create_subprocess_exec(
        *words,
        f"coap://127.0.0.1:{port}/{path}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode().strip()


class Device:
    """A CoAP server of few lines: acknowledges each confirmable request with 2.04 and keeps it."""

    def __init__(self) -> None:
        self.wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.wire.bind(("127.0.0.1", 0))
        self.wire.setblocking(False)
        self.port = self.wire.getsockname()[1]
        self.heard: list[tuple[int, str, bytes]] = []
        asyncio.get_running_loop().add_reader(self.wire, self._read)

    def _read(self) -> None:
        data, peer = self.wire.recvfrom(2048)
        length = data[0] & 0x0F
        code, message, token = data[1], data[2:4], data[4 : 4 + length]
        if data[0] >> 4 == 4:
            self.wire.sendto(bytes([0x60 | length, 0x44]) + message + token, peer)
        path, at, number = [], 4 + length, 0
        while at < len(data) and data[at] != 0xFF:
            delta, size = data[at] >> 4, data[at] & 0x0F
            assert delta < 13
            assert size < 13
            number += delta
            if number == 11:
                path.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        self.heard.append((code, "/".join(path), data[at + 1 :]))

    def on(self, path: str) -> list[bytes]:
        return [body for code, where, body in self.heard if where == path and code == 3]

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.wire)
        self.wire.close()


async def test_a_device(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    control = {"threshold_w": 100, "restore_delay_s": 0, "lease_s": 3}
    ema = Ema(tmp_path, {"control": control, "site_coap": {"port": port}, "device": lamps(4, link="coap", rated_w=60)})
    device = Device()
    async with closing(ema, device):
        await ema.start()
        core = await coap(port, ".well-known/core")
        assert all(f"</{path}>" in core for path in ("connected", "status", "rdr", "disconnected"))
        status = {"dev": 4, "boot": 7, "seq": 1, "on": True, "dimming": 9, "mw": 60000, "done": 0}
        assert "4.12" in await coap(port, "status", json.dumps(status)), "connected first"
        hello = {"dev": 4, "type": "led", "priority": 3, "boot": 7, "addr": "127.0.0.1", "port": device.port}
        assert await coap(port, "connected", json.dumps({**hello, "caps": ["switch", "level"]})) == ""
        assert await coap(port, "status", json.dumps(status)) == ""
        shown = (await ema.present(4))["devices"][0]
        assert (shown["power_w"], shown["priority"], shown["link"]) == (60, 3, "coap")

        await ema.ask("device", number=4, on=False)
        await ema.until(lambda: device.on("setpoint"), "the command")
        command = json.loads(device.on("setpoint")[0])
        assert {k: v for k, v in command.items() if k != "id"} == {"lease_s": 3, "on": False}
        off = {**status, "seq": 2, "on": False, "mw": 0, "done": command["id"]}
        assert await coap(port, "status", json.dumps(off)) == ""
        await ema.shows(lambda s: s["commands"]["confirmed"] == 1, "confirmed")

        rdr = {"dev": 4, "boot": 7, "seq": 3, "mw": 60000, "for_s": 600}
        assert json.loads(await coap(port, "rdr", json.dumps(rdr)))["rdr"] == "granted"
        await ema.until(lambda: len(device.on("setpoint")) > 1, "the command after the grant")
        assert json.loads(device.on("setpoint")[-1])["on"] is True
        await ema.until(lambda: device.on("ack"), "alive, every third of the lease")
        assert "4.00" in await coap(port, "status", "{nonsense")
        assert "4.04" in await coap(port, "nothing", "{}")
        assert await coap(port, "disconnected", '{"dev":4,"boot":7}') == ""
        await ema.shows(lambda s: s["devices"][0]["present"] is False, "it went")
