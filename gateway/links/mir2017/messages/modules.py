"""What OpenFMB and the smart meters report through an EMA (wire reference, section 1)."""

from __future__ import annotations

from typing import ClassVar, Self

from gateway.links.mir2017.messages.fields import Scalar, ema_name, read_json, write_json
from gateway.links.mir2017.messages.reports import HIGHEST_PRIORITY
from gateway.links.mir2017.messages.topics import Module, Up
from gateway.record import record

MOST_INTERVALS = 10_000


@record
class ModuleReport:
    """A battery, panel, recloser or load on ``EMS/<module>{Connect,init,,Disconnect}``; the answer echoes it.

    ``GW <module>ID Power Mode priority``; ESS: ``GW ESSID Power Mode State ChangedEnergy Capacity Soc Volt Hz
    priority``. ``id``, ``mode`` and ``state`` are text or number: the lab never said. None: not reported.
    """

    module: Module
    ema: int
    id: Scalar
    power: int | float | None = None
    mode: Scalar | None = None
    state: Scalar | None = None
    changed_energy: int | float | None = None
    capacity: int | float | None = None
    soc: int | float | None = None
    volt: int | float | None = None
    hz: int | float | None = None
    priority: int | None = None

    def encode(self) -> bytes:
        keys: dict[str, object] = {
            "GW": ema_name(self.ema),
            f"{self.module}ID": self.id,
            "Power": self.power,
            "Mode": self.mode,
            "State": self.state,
            "ChangedEnergy": self.changed_energy,
            "Capacity": self.capacity,
            "Soc": self.soc,
            "Volt": self.volt,
            "Hz": self.hz,
            "priority": self.priority,
        }
        return write_json({key: value for key, value in keys.items() if value is not None})

    @classmethod
    def decode(cls, module: Module, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, str(module))
        ess = module is Module.ESS
        return cls(
            module=module,
            ema=f.ema("GW"),
            id=f.scalar(f"{module}ID"),
            power=f.number_or_none("Power"),
            mode=f.scalar_or_none("Mode"),
            state=f.scalar_or_none("State") if ess else None,
            changed_energy=f.number_or_none("ChangedEnergy") if ess else None,
            capacity=f.number_or_none("Capacity") if ess else None,
            soc=f.number_or_none("Soc") if ess else None,
            volt=f.number_or_none("Volt") if ess else None,
            hz=f.number_or_none("Hz") if ess else None,
            priority=f.whole_or("priority", None, 0, HIGHEST_PRIORITY),
        )


@record
class ActiveEnergy:
    """``EMS/active_energy``: a smart meter's register, as the meter gives it."""

    topic: ClassVar[str] = Up.ACTIVE_ENERGY

    ema: int
    device_id: Scalar
    active_energy: int | float
    dcu: Scalar

    def encode(self) -> bytes:
        return write_json(
            {
                "GW": ema_name(self.ema),
                "device_id": self.device_id,
                "active_energy": self.active_energy,
                "DCU_Number": self.dcu,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        return cls(f.ema("GW"), f.scalar("device_id"), f.number("active_energy"), f.scalar("DCU_Number"))


@record
class LoadProfile:
    """``EMS/load_profile``: the same with ``load_profile``, an array of numbers in the meter's own intervals (ours)."""

    topic: ClassVar[str] = Up.LOAD_PROFILE

    ema: int
    device_id: Scalar
    profile: tuple[int | float, ...]
    dcu: Scalar

    def encode(self) -> bytes:
        return write_json(
            {
                "GW": ema_name(self.ema),
                "device_id": self.device_id,
                "load_profile": list(self.profile),
                "DCU_Number": self.dcu,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raise ``PeerError``."""
        f = read_json(body, cls.__name__)
        profile = f.numbers("load_profile", MOST_INTERVALS)
        return cls(f.ema("GW"), f.scalar("device_id"), profile, f.scalar("DCU_Number"))
