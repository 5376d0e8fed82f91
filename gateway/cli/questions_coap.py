"""The questions of ``smartema setup`` to an EMS over CoAP, in the lab's words."""

from __future__ import annotations

from dataclasses import replace

from gateway.cli.answers import address, host_port
from gateway.cli.asking import Asker, whole
from gateway.cli.probes import EMS_PORT, our_address, try_ems
from gateway.config.model import UpstreamConfig
from gateway.config.places import is_loopback

# Ours where the EMS has 5683 of the same address.
SECOND_COAP_PORT = 5684


def coap_upstream(asker: Asker) -> UpstreamConfig | None:
    """None: a site without EMS."""
    print("address of the EMS; none: a site without EMS")
    while True:
        host, port = asker.ask("CoAP Mode EMS IP : ?", "127.0.0.1", host_port(EMS_PORT))
        if not host:
            print("no EMS: the site is held under its own threshold")
            return None
        upstream = UpstreamConfig(protocol="coap", host=host, port=port)
        # Over loopback the address is clear, as long as the EMS does not want to tell several EMAs apart by it.
        bind = our_address(host)
        if not is_loopback(host):
            bind = asker.ask("This machine's IP in the EMS's network?", bind, address)
        upstream = replace(upstream, bind=bind, local_port=our_port(bind, host, port))
        answer = try_ems(upstream)
        print(answer.line)
        if answer.reached or not asker.yes("Name another EMS?"):
            break
    if upstream.local_port != EMS_PORT:
        print(f"the EMS has port {port} here: ours for the EMS is {upstream.local_port}")
    mode = asker.ask("CoAP Mode EMS PUSH: 0 / PULL :1 / OBS :2 / X :3 ?", str(upstream.mode), whole(0, 3))
    return replace(upstream, mode=mode)


def our_port(bind: str, host: str, port: int) -> int:
    """The usual one, but where the EMS itself has it."""
    same = bind == host or (is_loopback(bind) and is_loopback(host))
    return SECOND_COAP_PORT if same and port == EMS_PORT else EMS_PORT
