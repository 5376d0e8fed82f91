"""From what a device announces and what the configuration says of it: the resource that control sees."""

from __future__ import annotations

from device_agents.protocol import Connected, LabHello
from gateway.config.model import ControlConfig, DeviceConfig
from gateway.site.resource import Kind, Resource, Setpoint, Setting

# 6 A and 32 A at 230 V on one phase, and one ampere: IEC 61851's least, the usual most, a wallbox's step.
EV_LEAST_W = 1380.0
EV_MOST_W = 7360.0
EV_STEP_W = 230.0
# Where neither the device nor the configuration says its range. A device limits itself to what it can, and the
# reading shows it; too narrow a range would leave unused what there is.
ESS_UNSAID_W = 1000.0
PV_UNSAID_W = 5000.0
# A contactor of ours opens 3 s after the pilot told the car to stop.
GPIO_EV_LATENCY_S = 5.0


def describe(config: DeviceConfig | None, control: ControlConfig, announced: Connected | LabHello | None) -> Resource:
    """The resource of one device; at least one of ``config`` and ``announced`` is given.

    The configuration wins; what it leaves out comes from the device, then from its type. The type is the device's
    own word where it says one (a form of the lab over CoAP does not).
    """
    ours = announced if isinstance(announced, Connected) else None
    kind = _kind(config, announced)
    number = config.number if config is not None else announced.dev if announced is not None else None
    if number is None:
        raise ValueError("a device without number and without configuration")
    said = announced.priority if announced is not None else 0
    caps = ours.caps if ours is not None else _usual_caps(kind, config)
    setpoint = _setpoint(kind, config, ours) if "setpoint" in caps else None
    floor, ceiling = _reserve(config, ours)
    rated = config.rated_w if config is not None else 0.0
    return Resource(
        name=(config.name if config is not None else "") or f"{kind.value}-{number}",
        number=number,
        kind=kind,
        priority=config.priority if config is not None and config.priority >= 0 else said,
        switch="switch" in caps,
        levels="level" in caps,
        setpoint=setpoint,
        rated_w=rated or (_watts(ours.rated_mw) if ours is not None else 0.0),
        latency_s=_latency(kind, config, control),
        min_on_s=_minimum(kind, config, control),
        min_off_s=_minimum(kind, config, control),
        never_shed=config.never_shed if config is not None else False,
        gives=kind in (Kind.ESS, Kind.PV),
        safe=safe_setting(kind, config.safe if config is not None else "", setpoint),
        lease_s=control.lease_s,
        floor_soc=floor,
        ceiling_soc=ceiling,
    )


def safe_setting(kind: Kind, said: str, setpoint: Setpoint | None) -> Setting:
    """Where a device goes when its lease ends: as configured, else lamp on, ESS idle, EV 6 A, PV free."""
    said = said or {Kind.ESS: "idle", Kind.EV: "least", Kind.PV: "free"}.get(kind, "on")
    if said == "idle":
        return Setting(setpoint_w=0.0)
    if said == "free":
        return Setting(free=True)
    if said == "least":
        least = setpoint.min_w if setpoint is not None and setpoint.min_w > 0 else EV_LEAST_W
        return Setting(setpoint_w=least if kind is Kind.EV else 0.0)
    return Setting(on=said == "on")


def _kind(config: DeviceConfig | None, announced: Connected | LabHello | None) -> Kind:
    if isinstance(announced, Connected) or config is None:
        assert announced is not None
        return Kind(announced.type)
    return Kind(config.type)


def _usual_caps(kind: Kind, config: DeviceConfig | None) -> tuple[str, ...]:
    """Of a device that does not say: pins tell for our own outputs; the lab's bytes switch and dim, nothing else."""
    if config is not None and config.link == "gpio":
        if kind is Kind.LED:
            return ("switch", "level") if config.pwm_pin else ("switch",)
        return {Kind.PV: ("setpoint",), Kind.ESS: ("setpoint",), Kind.EV: ("switch", "setpoint")}.get(kind, ("switch",))
    return ("switch", "level") if kind is Kind.LED else ("switch",)


def _setpoint(kind: Kind, config: DeviceConfig | None, ours: Connected | None) -> Setpoint:
    least = config.min_w if config is not None else 0.0
    most = config.max_w if config is not None else 0.0
    step = config.step_w if config is not None else 0.0
    rated = config.rated_w if config is not None else 0.0
    if not least and not most and ours is not None and (ours.min_mw or ours.max_mw):
        least, most = _watts(ours.min_mw), _watts(ours.max_mw)
    step = step or (_watts(ours.step_mw) if ours is not None else 0.0)
    if kind is Kind.EV:
        return _ordered(least or EV_LEAST_W, most or rated or EV_MOST_W, step or EV_STEP_W)
    if kind is Kind.PV:
        return _ordered(least or -(rated or PV_UNSAID_W), min(most, 0.0), step)
    if kind is Kind.ESS:
        if not least and not most:
            least, most = -(rated or ESS_UNSAID_W), rated or ESS_UNSAID_W
        if config is not None and config.link == "gpio":
            # Relays know no half: it charges, discharges or idles.
            step = max(-least, most)
    return _ordered(least, most or rated, step)


def _ordered(least: float, most: float, step: float) -> Setpoint:
    return Setpoint(min(least, most), max(least, most), step)


def _reserve(config: DeviceConfig | None, ours: Connected | None) -> tuple[float, float]:
    """The narrower of what the site keeps and what the battery itself allows, in per cent."""
    floor = config.floor_soc if config is not None else 20.0
    ceiling = config.ceiling_soc if config is not None else 95.0
    if ours is not None:
        floor = max(floor, (ours.min_soc or 0) / 10)
        ceiling = min(ceiling, (1000 if ours.max_soc is None else ours.max_soc) / 10)
    return floor, ceiling


def _minimum(kind: Kind, config: DeviceConfig | None, control: ControlConfig) -> float:
    if config is not None and config.min_on_s >= 0:
        return config.min_on_s
    if kind is Kind.EV:
        return control.min_on_ev_s
    if config is not None and config.link == "gpio" and (kind is not Kind.LED or not config.pwm_pin):
        return control.min_on_relay_s
    return control.min_on_led_s if kind is Kind.LED else 0.0


def _latency(kind: Kind, config: DeviceConfig | None, control: ControlConfig) -> float:
    if config is not None and config.latency_s >= 0:
        return config.latency_s
    if config is not None and config.link == "gpio" and kind is Kind.EV:
        return max(control.latency_s, GPIO_EV_LATENCY_S)
    return control.latency_s


def _watts(milliwatts: int | None) -> float:
    return (milliwatts or 0) / 1000
