"""The EMA's side of the device wire, by hand: a plain MQTT client and a plain CoAP server, no gateway."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.transport.coap import GuardedSite, Sources, open_server, peer_host  # isort: skip
import aiocoap
import aiocoap.resource
import aiomqtt

from device_agents.protocol import ACK, Connected, Gone, Hello, Rdr, RdrAnswer, Setpoint, Status


class Heard:
    """All that the devices said, in order."""

    def __init__(self) -> None:
        self.connected: list[Connected] = []
        self.status: list[Status] = []
        self.rdr: list[Rdr] = []
        self.gone: list[Gone] = []
        self.order: list[str] = []

    def take(self, what: str, body: bytes) -> None:
        self.order.append(what)
        {
            "connected": lambda: self.connected.append(Connected.decode(body)),
            "status": lambda: self.status.append(Status.decode(body)),
            "rdr": lambda: self.rdr.append(Rdr.decode(body)),
            "disconnected": lambda: self.gone.append(Gone.decode(body)),
        }[what]()

    def last(self) -> Status:
        return self.status[-1]


class MqttEma(Heard):
    """Subscribed to what an EMA subscribes to."""

    def __init__(self, port: int, ack: bool = True) -> None:
        super().__init__()
        self._port = port
        self._ack = ack
        self._client: aiomqtt.Client | None = None
        self.up = asyncio.Event()

    async def run(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            self._client = client
            for topic in ("connected", "disconnected", "status/+", "rdr/+"):
                await client.subscribe(topic, 1)
            self.up.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                what = str(message.topic).split("/")[0]
                self.take(what, message.payload)
                if what == "connected" and self._ack:
                    await client.publish(f"dev/{self.connected[-1].dev}", ACK, 1)

    async def say(self, topic: str, body: bytes) -> None:
        assert self._client is not None
        await self._client.publish(topic, body, 1)

    async def hello(self, boot: int = 1) -> None:
        await self.say("hello", Hello("gw/1", boot).encode())

    async def command(self, dev: int, setpoint: Setpoint) -> None:
        await self.say(f"dev/{dev}", setpoint.encode())


class _Put(aiocoap.resource.Resource):
    def __init__(self, ema: CoapEma, what: str) -> None:
        super().__init__()
        self._ema = ema
        self._what = what

    async def render_put(self, request: Any) -> aiocoap.Message:
        ema = self._ema
        if self._what == "status" and not ema.knows:
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        ema.take(self._what, request.payload)
        ema.peer = peer_host(request.remote)
        if self._what == "connected":
            ema.knows = True
        if self._what == "rdr":
            return aiocoap.Message(code=aiocoap.CONTENT, payload=ema.answer.encode())
        return aiocoap.Message(code=aiocoap.CHANGED)


class CoapEma(Heard):
    """Serves what an EMA serves. ``answer`` is what an RDR gets."""

    def __init__(self, port: int, ipv6: bool | None = None) -> None:
        super().__init__()
        self.port = port
        self.answer = RdrAnswer("granted")
        self.knows = False
        self.peer = ""
        self._ipv6 = ipv6
        self._context: aiocoap.Context | None = None

    async def open(self) -> None:
        site = GuardedSite(Sources([]))
        for what in ("connected", "status", "rdr", "disconnected"):
            site.add_resource([what], _Put(self, what))
        self._context = await open_server(site, "127.0.0.1", self.port, ipv6=self._ipv6)

    async def close(self) -> None:
        assert self._context is not None
        await self._context.shutdown()

    async def put(self, path: str, body: bytes, port: int | None = None) -> aiocoap.Message:
        assert self._context is not None
        to = port or self.connected[-1].port
        message = aiocoap.Message(code=aiocoap.PUT, uri=f"coap://127.0.0.1:{to}/{path}", payload=body)
        return await asyncio.wait_for(self._context.request(message).response, 10)
