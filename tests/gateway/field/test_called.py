"""A CoAP device that does not announce itself: it is called at the address and port that the menu gave."""

from __future__ import annotations

import asyncio
import logging

import aiocoap
import aiocoap.resource

from gateway.transport.coap import open_server  # isort: skip
from gateway.clock import SystemClock
from gateway.config.model import ControlConfig, SiteCoapConfig
from gateway.field.devices_coap import CoapDevices
from gateway.menu_device import device_of
from gateway.site.resource import Setting
from tests.gateway.field.site import RememberingSite, command
from tests.gateway.field.test_devices_coap import udp_port
from tests.support.wait import until


class Light(aiocoap.resource.Resource):
    """The lab's one path."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    async def render_put(self, request: aiocoap.Message) -> aiocoap.Message:
        self.bodies.append(request.payload)
        return aiocoap.Message(code=aiocoap.CHANGED)


async def test_it_is_reached_and_commanded_by_the_labs_bytes() -> None:
    light, port = Light(), udp_port()
    site = aiocoap.resource.Site()
    site.add_resource(["light"], light)
    lamp = await open_server(site, "127.0.0.1", port)
    inputs = RememberingSite()
    config = SiteCoapConfig(port=udp_port(), sources=("127.0.0.0/8",))
    adapter = CoapDevices(config, (), ControlConfig(), inputs, SystemClock(), logging.getLogger("called"))
    task = asyncio.create_task(adapter.run())
    try:
        await until(lambda: adapter.status()["running"], what="it serves")
        asked = {"number": 8, "type": "led", "link": "coap", "priority": 2, "address": "127.0.0.1", "port": port}
        adapter.configure((device_of(asked),), ControlConfig())
        assert [(r.number, r.priority) for r in inputs.came] == [(8, 2)]
        await adapter.send(command(1, 8, Setting(on=False)))
        assert light.bodies == [b"\x11\x10"]
        assert inputs.last(8).on is False
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await lamp.shutdown()
