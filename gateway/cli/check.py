"""``smartema check``: every mistake of a configuration, or what would run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from gateway.cli.text import table, watts
from gateway.config.load import examine, read_text
from gateway.config.model import EMA_NUMBERS, Config, DeviceConfig
from gateway.errors import OperatorError

COAP_MODES = ("EMS PUSH", "PULL", "OBSERVE", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="the configuration, TOML")
    parser.add_argument("--json", action="store_true", help="print mistakes, warnings and summary as JSON")


def run(args: argparse.Namespace) -> int:
    found = examine(read_text(args.config), str(args.config))
    if found.config is not None:
        found.warnings.extend(_missing_programs(found.config))
    if args.json:
        summary = _summary(found.config) if found.config is not None else None
        document = {"file": args.config, "mistakes": found.mistakes, "warnings": found.warnings, "summary": summary}
        print(json.dumps(document, indent=2))
        return 0 if found.config is not None else 2
    for line in found.mistakes:
        print(line)
    for line in found.warnings:
        print(f"warning: {line}")
    if found.config is None:
        return 2
    print(f"{args.config}: all well")
    print("\n".join(_summary_lines(found.config)))
    return 0


def _missing_programs(config: Config) -> list[str]:
    """What has to be installed here before this configuration can run here."""
    if config.site_broker.host or not config.needs_broker:
        return []
    from gateway.field.broker import find_mosquitto

    try:
        find_mosquitto()
    except OperatorError as err:
        return [str(err)]
    return []


def _summary(config: Config) -> dict[str, Any]:
    """What would run, for a script."""
    control = config.control
    return {
        "ema": config.ema.name,
        "ven": config.ema.ven,
        "state_dir": config.ema.state_dir,
        "socket": config.ema.socket_path,
        "threshold_w": control.threshold_w or None,
        "hard_w": control.hard_w or None,
        "export_w": control.export_w if control.export_w >= 0 else None,
        "upstreams": [
            {"name": u.name, "protocol": u.protocol, "host": u.host, "port": u.port_used, "mode": u.mode, "tls": u.tls}
            for u in config.upstream
        ],
        "site_broker": _broker(config),
        "site_coap": _coap(config),
        "devices": [
            {"number": d.number, "name": d.label, "type": d.type, "link": d.link, "never_shed": d.never_shed}
            for d in config.device
        ],
        "emas_below": {"over": _emas_below(config), "emas": _emas(config)},
    }


def _broker(config: Config) -> str | None:
    broker = config.site_broker
    if not config.needs_broker:
        return f"{broker.host}:{broker.port}" if broker.host else None
    return f"{broker.host}:{broker.port}" if broker.host else f"own mosquitto on {broker.bind}:{broker.port}"


def _coap(config: Config) -> str | None:
    if not config.reached_over("coap"):
        return None
    return f"{config.site_coap.bind}:{config.site_coap.port}"


def _emas_below(config: Config) -> str | None:
    """How EMAs below reach us."""
    table = config.emas_below
    ways = [f"MQTT {_broker(config)}"] if table.mqtt else []
    if table.coap:
        ways.append(f"CoAP {table.bind or config.site_coap.bind}:{table.port or config.site_coap.port}")
    return ", ".join(ways) or None


def _emas(config: Config) -> list[dict[str, Any]]:
    return [
        {
            "number": ema.number,
            "name": ema.label,
            "priority": ema.priority,
            "min_w": ema.min_w,
            "max_w": ema.max_w or None,
            "never_shed": ema.never_shed,
        }
        for ema in config.ema_below
    ]


def _summary_lines(config: Config) -> list[str]:
    control = config.control
    limits = [f"threshold {watts(control.threshold_w)}" if control.threshold_w else "no threshold"]
    if control.hard_w:
        limits.append(f"hard {watts(control.hard_w)}")
    if control.export_w >= 0:
        limits.append(f"feed-in at most {watts(control.export_w)}")
    lines = [
        f"  {config.ema.name} ({config.ema.ven}), {', '.join(limits)}",
        f"  state in {config.ema.state_dir}, socket {config.ema.socket_path}",
    ]
    for upstream in config.upstream:
        secured = "TLS" if upstream.tls else "no TLS"
        mode = f"DR mode {upstream.mode}"
        if upstream.protocol == "coap":
            ours = f"{upstream.bind or config.site_coap.bind}:{upstream.local_port or config.site_coap.port}"
            mode += f" {COAP_MODES[upstream.mode]}, ours {ours}"
        reached = f"{upstream.protocol} {upstream.host}:{upstream.port_used}"
        lines.append(f"  upstream {upstream.name}: {reached}, {secured}, {mode}")
    for what, where in (
        ("site broker", _broker(config)),
        ("site CoAP", _coap(config)),
        ("EMAs below", _emas_below(config)),
    ):
        if where:
            lines.append(f"  {what}: {where}")
    rows = [_row(device) for device in config.device]
    if rows:
        lines += ["  " + line for line in table(("device", "no", "type", "link", "priority"), rows, right=("no",))]
    emas = [
        (
            ema["name"],
            str(EMA_NUMBERS + ema["number"]),
            "never limited" if ema["never_shed"] else str(ema["priority"]),
            watts(ema["min_w"]),
            "as reported" if ema["max_w"] is None else watts(ema["max_w"]),
        )
        for ema in _emas(config)
    ]
    if emas:
        head = ("EMA below", "no", "priority", "at least", "at most")
        lines += ["  " + line for line in table(head, emas, right=("no", "at least", "at most"))]
    return lines


def _row(device: DeviceConfig) -> tuple[str, ...]:
    said = "its own" if device.priority < 0 else str(device.priority)
    priority = "never shed" if device.never_shed else said
    return (device.label, str(device.number), device.type, device.link, priority)
