"""The daemon and the EMS as installed and started, each EMA by another way: EMAP 1.0b over MQTT and CoAP, and UDP."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.headend.test_with_ema import Site, below
from tests.support.ems_process import EmsChild
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import closing
from tests.support.wait import until


async def test_one_event_for_emas_of_every_way(tmp_path: Path, mosquitto: Mosquitto) -> None:
    coap, udp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    words = ("--coap", f"127.0.0.1:{coap}", "--udp", f"127.0.0.1:{udp}", "--duration-ms", "500")
    ems = EmsChild(tmp_path / "ems", mosquitto.port, *words)
    ways = [
        {"profile": "emap1b", "mode": 2},
        {"profile": "emap1b", "protocol": "coap", "port": coap, "mode": 2, "bind": "127.0.0.3", "local_port": coap},
        {"protocol": "udp", "port": udp, "mode": 1},
    ]
    sites = [
        Site(tmp_path, mosquitto.port, number, 1, "coap" if number == 1 else "mqtt", way)
        for number, way in enumerate(ways, 1)
    ]
    try:
        async with closing(*sites):
            await below(ems, *sites[:2])
            await sites[2].start()
            await ems.shows("/devices?ema=gw/3", lambda devices: len(devices) == 2, "reported over UDP")
            for site in sites:
                await site.draws(200)
            event = await ems.command("event", "--value", "150", "--for", "10m", "--to", "all")
            for site in sites:
                await until(lambda site=site: 100 < site.agents.watts <= 150, 30, f"{site.name} sheds")  # type: ignore[misc]
                assert await site.limit_w() == 150
            await ems.answered(event["id"], 0, "gw/1", "gw/2")
            shown = await ems.shows("/emas", lambda emas: all(e["limit_w"] == 150 for e in emas), "each has reported")
            assert {e["name"]: e["protocol"] for e in shown} == {
                "gw/1": "mqtt emap1b",
                "gw/2": "coap emap1b",
                "gw/3": "udp",
            }
            await ems.command("cancel", str(event["id"]))
            for site in sites:
                await site.draws(200)
                status = await site.ema.status()
                assert (status["restarts"], status["upstreams"][0]["rejected"]) == ({}, 0)
                assert "Traceback" not in site.ema.log()
        assert "Traceback" not in ems.log()
    finally:
        await ems.stop()
