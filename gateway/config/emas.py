"""What ``[emas_below]`` and ``[[ema_below]]`` may say, and what not together with the rest."""

from __future__ import annotations

import re

from gateway.config.model import Config
from gateway.config.notes import Notes
from gateway.config.places import is_loopback, network, own_address, secret, timezone

NAME = re.compile(r"[^\s|,]+")


def check_emas(config: Config, notes: Notes) -> None:
    """Both tables, against each other and against whom else we serve."""
    table = config.emas_below
    if config.ema_below and not config.serves_emas:
        text = "nothing serves it; set mqtt = true or coap = true in [emas_below]"
        notes.wrong(("ema_below", 0, "number"), text)
    if table.timezone:
        timezone(table.timezone, ("emas_below", "timezone"), notes)
    if config.serves_emas and not (config.ema_below or table.open):
        text = "nobody may come: add [[ema_below]], or set open = true"
        notes.doubtful(("emas_below", "mqtt" if table.mqtt else "coap"), text)
    if table.open and table.mqtt and not table.coap and not (config.site_broker.host or config.site_broker.anonymous):
        text = "true: our own broker has accounts only for those that [[ema_below]] names; name them"
        notes.doubtful(("emas_below", "open"), text)
    _brokers(config, notes)
    _coap(config, notes)
    _each(config, notes)


def _brokers(config: Config, notes: Notes) -> None:
    """On one broker the EMS would hear the EMAs below too, and they would have two above them."""
    site = config.site_broker
    for index, upstream in enumerate(config.upstream):
        same = (upstream.host, upstream.port_used) == (site.host, site.port) and upstream.protocol == "mqtt"
        if config.emas_below.mqtt and same:
            text = f"true, and [site_broker] is the broker of upstream[{index}]: both would answer; give each its own"
            notes.wrong(("emas_below", "mqtt"), text, ("site_broker", "host"))


def _coap(config: Config, notes: Notes) -> None:
    table = config.emas_below
    for name in ("bind", "port", "sources") if not table.coap else ():
        if getattr(table, name):
            notes.wrong(("emas_below", name), "belongs to coap = true")
    if not table.coap:
        return
    bind, port = table.bind or config.site_coap.bind, table.port or config.site_coap.port
    own_address(bind, ("emas_below", "bind"), notes)
    for source in table.sources:
        if not network(source):
            text = f'"{source}" is neither an address nor a network; write such as "192.168.1.0/24"'
            notes.wrong(("emas_below", "sources"), text)
    if config.reached_over("coap") and (bind, port) == (config.site_coap.bind, config.site_coap.port):
        text = f"{port} is where devices find us ([site_coap]), and both say /disconnected; choose another"
        notes.wrong(("emas_below", "port"), text, ("emas_below", "coap"))
    if not is_loopback(bind):
        if not table.sources:
            text = "is empty, so only this machine may speak to us; name the network of the EMAs below"
            notes.doubtful(("emas_below", "sources"), text)
        text = f"{bind} is plain CoAP: limits and reports can be read and changed on the way"
        notes.doubtful(("emas_below", "bind"), f"{text}; use it in a network of your own", ("emas_below", "coap"))


def _each(config: Config, notes: Notes) -> None:
    numbers: dict[int, int] = {}
    labels = {device.label: f"device[{index}]" for index, device in enumerate(config.device)}
    devices = {device.number: index for index, device in enumerate(config.device)}
    for index, ema in enumerate(config.ema_below):
        at = ("ema_below", index)
        if notes.bad((*at, "number")):
            continue
        if ema.number == config.ema.number:
            notes.wrong((*at, "number"), f"{ema.number} is our own number ([ema] number); choose another")
        if ema.number in numbers:
            text = f"{ema.number} is already ema_below[{numbers[ema.number]}]; choose another number"
            notes.wrong((*at, "number"), text)
            continue
        numbers[ema.number] = index
        if ema.resource in devices:
            text = f"{ema.number} is dev/{ema.resource} of this site, which is device[{devices[ema.resource]}] already"
            notes.wrong((*at, "number"), f"{text}; give that device a number up to 90000")
        if ema.name and not NAME.fullmatch(ema.name):
            notes.wrong((*at, "name"), f'"{ema.name}" holds a blank or one of | ,; use such as "hall-2"')
        if ema.label in labels:
            text = f'"{ema.label}" is already the name of {labels[ema.label]}; choose another'
            notes.wrong((*at, "name"), text, (*at, "number"))
        labels.setdefault(ema.label, f"ema_below[{index}]")
        if ema.max_w and ema.min_w > ema.max_w:
            notes.wrong((*at, "min_w"), f"{ema.min_w:g} is above max_w {ema.max_w:g}; swap them", (*at, "max_w"))
        if ema.password_file and not config.emas_below.mqtt:
            notes.wrong((*at, "password_file"), "is of a broker account; set mqtt = true in [emas_below]")
        secret(ema.password_file, (*at, "password_file"), notes)
