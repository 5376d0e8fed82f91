"""What a ``[[device]]`` may say, and what not together."""

from __future__ import annotations

import re

from gateway.config.lines import Path
from gateway.config.model import Config, DeviceConfig
from gateway.config.notes import Notes
from gateway.config.places import is_address, is_loopback, listed, network, secret

PIN = re.compile(r"[0-9]{1,3}|[A-Za-z0-9_./-]+:[0-9]{1,3}")
NAME = re.compile(r"[^\s/+#,]+")
# Where a device of each type can go without us.
SAFE_STATES = {
    "led": ("on", "off"),
    "pv": ("free", "least", "off"),
    "ess": ("idle", "off"),
    "ev": ("least", "off", "on", "free"),
    "virtual": ("on", "off", "idle", "free", "least"),
}


def check_device(config: Config, device: DeviceConfig, at: Path, notes: Notes) -> None:
    """One device against itself and against the part that serves its link."""
    if device.name and not NAME.fullmatch(device.name):
        text = f'"{device.name}" holds a blank or one of / + # ,; use such as "lamp-1"'
        notes.wrong((*at, "name"), text)
    for name in ("pin", "pins", "pwm_pin", "button_pin"):
        if getattr(device, name) and device.link != "gpio":
            notes.wrong((*at, name), f'is for link = "gpio", and this is "{device.link}"; leave it out', (*at, "link"))
    if device.min_w > device.max_w:
        text = f"{device.min_w:g} is above max_w {device.max_w:g}; swap them"
        notes.wrong((*at, "min_w"), text, (*at, "max_w"))
    if device.floor_soc >= device.ceiling_soc:
        text = f"{device.floor_soc:g} is not below ceiling_soc {device.ceiling_soc:g}; leave room between them"
        notes.wrong((*at, "floor_soc"), text, (*at, "ceiling_soc"))
    allowed = SAFE_STATES[device.type]
    if device.safe and device.safe not in allowed:
        text = f'"{device.safe}" is nothing for a {device.type}; choose {" or ".join(allowed)}'
        notes.wrong((*at, "safe"), text, (*at, "type"))
    secret(device.password_file, (*at, "password_file"), notes)
    if device.password_file and device.link != "mqtt":
        notes.wrong((*at, "password_file"), f'is for link = "mqtt", and this is "{device.link}"', (*at, "link"))
    if device.link == "gpio":
        _gpio_device(device, at, notes)
    for name in ("address", "port"):
        if getattr(device, name) and device.link != "coap":
            notes.wrong((*at, name), f'is for link = "coap", and this is "{device.link}"', (*at, "link"))
    if device.link == "coap" and device.port and not device.address:
        notes.wrong((*at, "port"), f"{device.port} is given without an address; name the device's address as well")
    if device.link == "coap" and device.address:
        _coap_address(config, device.address, (*at, "address"), notes)


def _gpio_device(device: DeviceConfig, at: Path, notes: Notes) -> None:
    kind, where = device.type, (*at, "pin")
    link = (*at, "link")
    if kind == "virtual":
        notes.wrong(link, '"gpio" has no virtual devices; choose "mqtt" or "coap"', (*at, "type"))
    elif kind == "led" and not (device.pin or device.pwm_pin):
        notes.wrong(where, "is missing; name the output that switches the lamp, or its pwm_pin", link)
    elif kind in ("ess", "ev") and not device.pin:
        what = "the output that enables the battery" if kind == "ess" else "the output that closes the contactor"
        notes.wrong(where, f"is missing; name {what}", link)
    if kind == "ess" and len(device.pins) != 2:
        notes.wrong((*at, "pins"), f"names {len(device.pins)} outputs; an ESS has two: charge, discharge", link)
    if kind == "pv" and len(device.pins) != len(device.curtail_percent):
        text = f"names {len(device.pins)} outputs for {len(device.curtail_percent)} steps of curtail_percent"
        notes.wrong((*at, "pins"), f"{text}; name one relay a step", link, (*at, "curtail_percent"))
    if kind == "ev" and not device.pwm_pin:
        notes.wrong((*at, "pwm_pin"), "is missing; name the output of the control pilot", link)
    steps = device.curtail_percent
    if any(not 0 <= step <= 100 for step in steps) or list(steps) != sorted(set(steps), reverse=True):
        text = f"{listed(steps)} does not fall from 100 to 0; write such as [100, 60, 30, 0]"
        notes.wrong((*at, "curtail_percent"), text)


def check_pins(config: Config, notes: Notes) -> None:
    """No pin has two users."""
    users: dict[str, tuple[int, str]] = {}
    for index, device in enumerate(config.device):
        if device.link != "gpio":
            continue
        named = [("pin", device.pin), *[("pins", pin) for pin in device.pins]]
        named += [("pwm_pin", device.pwm_pin), ("button_pin", device.button_pin)]
        for name, pin in named:
            at: Path = ("device", index, name)
            if not pin:
                continue
            if not PIN.fullmatch(pin):
                notes.wrong(at, f'"{pin}" is no pin; write a BCM number such as 18, or chip:line')
                continue
            line = pin.removeprefix("/dev/")
            if line in users:
                user, label = users[line]
                whose = "this device" if user == index else f"device[{user}]" if label == device.label else label
                notes.wrong(at, f"{pin} is already used by {whose}; choose another pin")
            users.setdefault(line, (index, device.label))


def _coap_address(config: Config, address: str, at: Path, notes: Notes) -> None:
    import ipaddress

    if not is_address(address):
        notes.wrong(at, f'"{address}" is no IP address; write the device\'s, such as "192.168.1.200"')
        return
    networks = [found for source in config.site_coap.sources if (found := network(source)) is not None]
    inside = any(ipaddress.ip_address(address) in network for network in networks)
    if not inside and not (is_loopback(address) and not config.site_coap.sources):
        text = f"{address} is not in [site_coap] sources, so it may not speak to us; add it there"
        notes.wrong(at, text, ("site_coap", "sources"))
