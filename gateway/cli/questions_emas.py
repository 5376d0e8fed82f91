"""The questions of ``smartema setup`` about EMAs below this one (the lab's "UP EMA")."""

from __future__ import annotations

from gateway.cli.answers import address, joined, network_of, networks
from gateway.cli.asking import Asker, choice, whole
from gateway.config.model import EmaBelowConfig, EmasBelowConfig, SiteCoapConfig
from gateway.config.places import is_loopback

# Where EMAs below go when devices have CoAP's own port: both say /disconnected.
SECOND_COAP_PORT = 5684


def up_ema(asker: Asker, protocol: str) -> bool:
    """Is this EMA the upper node of others."""
    return asker.ask(f"{protocol} Mode UP EMA 1. O, 2. X : ?", "2", whole(1, 2)) == 1


def emas_below(asker: Asker, own: int, devices_over_coap: bool) -> tuple[EmasBelowConfig, tuple[EmaBelowConfig, ...]]:
    """Who they are and how they come. ``own``: our own number."""

    def numbers(text: str) -> list[int]:
        found = [whole(1, 9999)(word.removeprefix("gw/")) for word in text.replace(",", " ").split()]
        if not found or own in found or len(set(found)) < len(found):
            raise ValueError(f"{text!r}: write each once, such as 2 3 4, and not our own {own}")
        return found

    named = asker.ask("EMAs below, the n of their gw/<n>?", "", numbers)
    emas = tuple(EmaBelowConfig(number=number) for number in named)
    if asker.ask("How do they come? 1.MQTT 2.CoAP", "1", choice("mqtt", "coap")) == "mqtt":
        return EmasBelowConfig(mqtt=True), emas
    bind = asker.ask("This machine's IP in their network?", SiteCoapConfig().bind, address)
    port = SECOND_COAP_PORT if devices_over_coap else 5683
    if devices_over_coap:
        print(f"devices have CoAP's port 5683: EMAs below find us at {port}")
    sources: tuple[str, ...] = ()
    if not is_loopback(bind):
        given = asker.ask("Which EMAs may speak CoAP to us (networks, with commas)?", network_of(bind), networks)
        sources = joined(given, ())
    return EmasBelowConfig(coap=True, bind=bind, port=port, sources=sources), emas
