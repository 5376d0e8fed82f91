"""What one key alone cannot tell: keys against each other, against files, and against this machine."""

from __future__ import annotations

import os
import re

from gateway.config.devices import check_device, check_pins
from gateway.config.emas import check_emas
from gateway.config.lines import Path
from gateway.config.model import Config, UpstreamConfig
from gateway.config.notes import Notes
from gateway.config.places import file, host_name, is_loopback, key_pair, listed, network, own_address, secret, timezone
from gateway.errors import OperatorError

# sun_path of a Unix socket has 108 bytes, one of them for the end.
LONGEST_SOCKET_PATH = 107


def cross_check(config: Config, notes: Notes) -> None:
    """Note every contradiction. Reads the password and key files' modes; opens no connection."""
    _ema(config, notes)
    _control(config, notes)
    for index, upstream in enumerate(config.upstream):
        _upstream(upstream, ("upstream", index), notes)
        _upstream_emap1b(config, upstream, ("upstream", index), notes)
    _no_two(config, notes)
    _site_broker(config, notes)
    _site_coap(config, notes)
    for index, device in enumerate(config.device):
        check_device(config, device, ("device", index), notes)
    check_pins(config, notes)
    check_emas(config, notes)
    _purpose(config, notes)


def _ema(config: Config, notes: Notes) -> None:
    path = config.ema.socket_path
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        text = f"{path} is longer than the {LONGEST_SOCKET_PATH} bytes a Unix socket may have; name a shorter path"
        notes.wrong(("ema", "socket" if config.ema.socket else "state_dir"), text)
    if re.search(r'[\s"\\]', config.ema.ven_id):
        notes.wrong(("ema", "ven_id"), f'"{config.ema.ven_id}" holds blanks or quotes; leave them out')


def _control(config: Config, notes: Notes) -> None:
    control = config.control
    threshold, hard = control.threshold_w, control.hard_w
    at = ("control", "threshold_w")
    if 0 < hard < threshold:
        text = (
            f"{hard:g} is below threshold_w {threshold:g}, which then never counts; raise hard_w or lower threshold_w"
        )
        notes.wrong(("control", "hard_w"), text, at)
    if threshold and control.hysteresis_min_w >= threshold:
        text = f"{control.hysteresis_min_w:g} is not below threshold_w {threshold:g}: nothing would ever be restored"
        notes.wrong(("control", "hysteresis_min_w"), f"{text}; choose less", at)
    if threshold and control.reserve_w >= threshold:
        text = f"{control.reserve_w:g} is not below threshold_w {threshold:g}: every RDR would be denied; choose less"
        notes.wrong(("control", "reserve_w"), text, at)
    if control.fuse_a and (len(control.fuse_a) != 3 or min(control.fuse_a) <= 0):
        text = f"{listed(control.fuse_a)} is not right; give three numbers above 0, or none"
        notes.wrong(("control", "fuse_a"), text)
    if control.stale_after_s < control.pass_s:
        text = f"{control.stale_after_s:g} is below pass_s {control.pass_s:g}: every reading would be too old"
        notes.wrong(("control", "stale_after_s"), f"{text}; choose more", ("control", "pass_s"))


def _upstream(upstream: UpstreamConfig, at: Path, notes: Notes) -> None:
    host_name(upstream.host, (*at, "host"), notes)
    if not upstream.name:
        notes.wrong((*at, "name"), 'is empty; name it, such as "ems"')
    if upstream.timezone:
        timezone(upstream.timezone, (*at, "timezone"), notes)
    if upstream.password_file and not upstream.username:
        notes.wrong((*at, "username"), "is missing; password_file belongs to an account")
    for name in ("ca_file", "cert_file", "key_file"):
        if getattr(upstream, name) and not upstream.tls:
            notes.wrong((*at, name), "is given, but TLS is off; set tls = true", (*at, "tls"))
    key_pair(upstream.cert_file, upstream.key_file, at, notes)
    file(upstream.ca_file, (*at, "ca_file"), notes)
    file(upstream.cert_file, (*at, "cert_file"), notes)
    secret(upstream.password_file, (*at, "password_file"), notes)
    secret(upstream.key_file, (*at, "key_file"), notes)
    if upstream.host and not upstream.tls and not upstream.oscore_dir and not is_loopback(upstream.host):
        text = f"{upstream.host} is reached without TLS: limits, reports and the password can be read and changed"
        if upstream.protocol != "mqtt":
            way = {"coap": "plain CoAP", "udp": "UDP"}[upstream.protocol]
            text = f"{upstream.host} is reached over {way}: limits and reports can be read and changed on the way"
            notes.doubtful((*at, "host"), f"{text}; use it in a network of your own")
        else:
            notes.doubtful((*at, "tls"), f"{text} on the way; set tls = true", (*at, "host"))
    _upstream_protocol(upstream, at, notes)
    _upstream_oscore(upstream, at, notes)
    if upstream.tls and upstream.port_used == 1883:
        notes.doubtful((*at, "port"), "1883 is usually without TLS; 8883 is usual with tls = true")


def _upstream_protocol(upstream: UpstreamConfig, at: Path, notes: Notes) -> None:
    """What only some of the protocols know."""
    protocol = upstream.protocol
    modes = upstream.modes
    if upstream.mode not in modes and not notes.bad((*at, "mode")):
        text = f"{upstream.mode} is no mode over {protocol}; choose one of {', '.join(map(str, modes))}"
        notes.wrong((*at, "mode"), text, (*at, "protocol"))
    mqtt = protocol == "mqtt"
    words = {"coap": "CoAP", "udp": "UDP"}.get(protocol, "")
    for name in ("username", "password_file", "tls", "ca_file", "cert_file", "key_file") if not mqtt else ():
        if getattr(upstream, name):
            notes.wrong((*at, name), f"belongs to MQTT; over {words} sources = [...] keeps strangers out")
    for name in ("bind", "local_port", "sources") if mqtt else ():
        if getattr(upstream, name):
            notes.wrong((*at, name), 'belongs to protocol = "coap" and "udp"')
    if protocol == "udp" and upstream.profile != "mir2017":
        text = f'"{upstream.profile}" is not spoken over UDP; choose "mir2017"'
        notes.wrong((*at, "profile"), text, (*at, "protocol"))
    for source in upstream.sources:
        if not network(source):
            text = f'"{source}" is neither an address nor a network; write such as "192.168.1.0/24"'
            notes.wrong((*at, "sources"), text)
    if upstream.bind:
        host_name(upstream.bind, (*at, "bind"), notes)


def _upstream_oscore(upstream: UpstreamConfig, at: Path, notes: Notes) -> None:
    """Its context is there, ours and closed to others."""
    if not upstream.oscore_dir:
        return
    if upstream.protocol != "coap":
        notes.wrong((*at, "oscore_dir"), 'belongs to protocol = "coap"', (*at, "protocol"))
        return
    from pathlib import Path as Folder

    from gateway.transport.oscore_files import ema_of

    try:
        ema_of(Folder(upstream.oscore_dir))
    except OperatorError as err:
        notes.wrong((*at, "oscore_dir"), str(err))


def _upstream_emap1b(config: Config, upstream: UpstreamConfig, at: Path, notes: Notes) -> None:
    """Names of the profile are parts of topics, and an EMA's says its number."""
    if upstream.profile != "emap1b":
        if upstream.ems_name != UpstreamConfig(host="").ems_name:
            notes.wrong((*at, "ems_name"), 'belongs to profile = "emap1b"', (*at, "profile"))
        return
    from gateway.links.emap1b.messages import is_name, number_in

    rule = "up to 64 letters, digits, _ - or ."
    if not is_name(upstream.ems_name):
        notes.wrong((*at, "ems_name"), f'"{upstream.ems_name}" is no name of profile emap1b; write {rule}')
    ema = config.ema
    if number_in(ema.ven) != ema.number:
        text = f'"{ema.ven}" cannot be the SrcEMA of EMA {ema.number} in profile emap1b; write {rule} that end in '
        notes.wrong(("ema", "ven_id"), f"{text}its number, such as MIR_VEN{ema.number}", (*at, "profile"))


def _no_two(config: Config, notes: Notes) -> None:
    """Names and numbers that must be there once only."""
    names: dict[str, int] = {}
    for index, upstream in enumerate(config.upstream):
        if upstream.name in names:
            text = f'"{upstream.name}" is already the name of upstream[{names[upstream.name]}]; choose another'
            notes.wrong(("upstream", index, "name"), text)
        names.setdefault(upstream.name, index)
    numbers: dict[int, int] = {}
    labels: dict[str, int] = {}
    for index, device in enumerate(config.device):
        at = ("device", index, "number")
        if notes.bad(at):
            continue
        if device.number in numbers:
            other = numbers[device.number]
            text = f"{device.number} is already device[{other}] ({config.device[other].label}); choose another number"
            notes.wrong(at, text)
            continue
        numbers[device.number] = index
        if device.label in labels:
            text = f'"{device.label}" is already the name of device[{labels[device.label]}]; choose another'
            notes.wrong(("device", index, "name"), text, ("device", index, "type"))
        labels.setdefault(device.label, index)


def _site_broker(config: Config, notes: Notes) -> None:
    broker = config.site_broker
    own = not broker.host
    if broker.host:
        host_name(broker.host, ("site_broker", "host"), notes)
        if broker.anonymous:
            notes.wrong(("site_broker", "anonymous"), "is for our own broker; leave it out where host names one")
    else:
        own_address(broker.bind, ("site_broker", "bind"), notes)
        for name in ("username", "password_file", "ca_file"):
            if getattr(broker, name):
                text = "is for a broker that is there already; name it in host, or leave this out"
                notes.wrong(("site_broker", name), text)
    if broker.password_file and not broker.username and not own:
        notes.wrong(("site_broker", "username"), "is missing; password_file belongs to an account")
    key_pair(broker.cert_file, broker.key_file, ("site_broker",), notes)
    file(broker.ca_file, ("site_broker", "ca_file"), notes)
    file(broker.cert_file, ("site_broker", "cert_file"), notes)
    secret(broker.password_file, ("site_broker", "password_file"), notes)
    secret(broker.key_file, ("site_broker", "key_file"), notes)
    if broker.open and not is_loopback(broker.host or broker.bind):
        who = "whoever knows the password of guest" if own else f"whoever has an account at {broker.host}"
        notes.doubtful(("site_broker", "open"), f"true: {who} can become a device of this site")
    if not own or not config.needs_broker:
        return
    at = ("site_broker", "bind")
    if not is_loopback(broker.bind):
        if broker.anonymous:
            text = f"true would let anybody at {broker.bind} switch the devices; set false, or bind to 127.0.0.1"
            notes.wrong(("site_broker", "anonymous"), text, at)
        if not broker.cert_file:
            text = (
                f"{broker.bind} without TLS: passwords of devices can be read on the way; give cert_file and key_file"
            )
            notes.doubtful(at, text)
    for index, upstream in enumerate(config.upstream):
        if upstream.port_used == broker.port and is_loopback(upstream.host):
            text = f"{broker.port} is also the port of the EMS's broker on this machine (upstream[{index}])"
            notes.wrong(("site_broker", "port"), f"{text}; choose another", ("upstream", index, "port"))


def _site_coap(config: Config, notes: Notes) -> None:
    coap = config.site_coap
    own_address(coap.bind, ("site_coap", "bind"), notes)
    for source in coap.sources:
        if not network(source):
            text = f'"{source}" is neither an address nor a network; write such as "192.168.1.0/24"'
            notes.wrong(("site_coap", "sources"), text)
    if any(device.link == "coap" for device in config.device) and not is_loopback(coap.bind) and not coap.sources:
        text = "is empty, so only this machine may speak to us; name the devices' network"
        notes.doubtful(("site_coap", "sources"), text)
    if coap.open and not is_loopback(coap.bind):
        notes.doubtful(("site_coap", "open"), "true: whoever is in sources can become a device of this site")


def _purpose(config: Config, notes: Notes) -> None:
    """A file may be right and still do nothing."""
    control = config.control
    if not config.upstream and not (control.threshold_w or control.hard_w or control.fuse_a or control.export_w >= 0):
        text = "there is no EMS above and no limit: nothing would be held; set threshold_w, or add [[upstream]]"
        notes.doubtful(("control", "threshold_w"), text)
    if not any(config.reached_over(link) for link in ("mqtt", "coap", "gpio", "emas")):
        notes.doubtful(("device",), "there is none: nothing can be shed; add [[device]]")
