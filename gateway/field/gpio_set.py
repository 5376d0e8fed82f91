"""Which devices are on our pins: taken, kept over another configuration, let go.

A device whose wiring stays keeps its outputs as they are. Cannot do: give a line back, for it would turn into an input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.config.model import ControlConfig, DeviceConfig
from gateway.errors import OperatorError
from gateway.field.describe import describe
from gateway.field.gpio_local import Local, open_local
from gateway.site.resource import Resource
from hardware.gpio import Pins, open_pins, simulated_pins


@dataclass(frozen=True, slots=True)
class Changes:
    """What another configuration did, by device number. ``told``: described anew, its outputs stand as they stood."""

    gone: tuple[int, ...] = ()
    rewired: tuple[int, ...] = ()
    added: tuple[int, ...] = ()
    told: tuple[int, ...] = ()


class GpioSet:
    """The devices on the pins of this machine. Not safe for two threads: the adapter holds a lock.

    ``pins``: a backend, else this machine's; mock ones where each device has a twin in ``plants``.
    """

    def __init__(
        self, plants: Mapping[int, object], pins: Pins | None, now: Callable[[], float], logger: logging.Logger
    ) -> None:
        self.pins = pins
        self.locals: dict[int, Local] = {}
        self._given = pins
        self._plants = plants
        self._now = now
        self._log = logger

    def open(self, configs: Sequence[DeviceConfig], control: ControlConfig) -> Pins:
        """Take all pins. Raise ``OperatorError`` for one that is not to be had."""
        self.pins = pins = self._backend(configs)
        self.locals = {}
        for config in configs:
            self.locals[config.number] = self._take(config, describe(config, control, None), pins)
        return pins

    def renew(self, configs: Sequence[DeviceConfig], control: ControlConfig) -> Changes:
        """Let go what is named no more, take what is new; the rest stays. Raise ``OperatorError``: all is as before."""
        pins = self._backend(configs)
        wanted = {config.number: (config, describe(config, control, None)) for config in configs}
        stay = {n for n, local in self.locals.items() if n in wanted and self._stays(local, wanted[n][0], pins)}
        old = {n: local for n, local in self.locals.items() if n not in stay}
        fresh = self._exchange(old, {n: pair for n, pair in wanted.items() if n not in stay}, pins)
        told = []
        for number in stay:
            local, (config, resource) = self.locals[number], wanted[number]
            if local.resource != resource:
                told.append(number)
            local.config, local.resource = config, resource
        self.locals = {number: fresh.get(number) or self.locals[number] for number in wanted}
        self.pins = pins
        return Changes(
            tuple(n for n in old if n not in wanted),
            tuple(n for n in old if n in wanted),
            tuple(n for n in fresh if n not in old),
            tuple(told),
        )

    def leave(self) -> None:
        """Every output to its exit state."""
        for local in self.locals.values():
            self._leave(local)

    def _exchange(
        self, old: Mapping[int, Local], new: Mapping[int, tuple[DeviceConfig, Resource]], pins: Pins
    ) -> dict[int, Local]:
        """What needs no pin of the old ones is taken first, so that one which is not to be had costs them nothing."""
        held = {pin for local in old.values() for pin in outputs_of(local.config)}
        fresh: dict[int, Local] = {}
        left: list[Local] = []
        try:
            for number, (config, resource) in new.items():
                if held.isdisjoint(outputs_of(config)):
                    fresh[number] = self._take(config, resource, pins)
            for local in old.values():
                self._leave(local)
                left.append(local)
            for number, (config, resource) in new.items():
                if number not in fresh:
                    fresh[number] = self._take(config, resource, pins)
        except OperatorError:
            for local in fresh.values():
                self._leave(local)
            for local in left:
                local.apply(local.resource.safe)
            raise
        return fresh

    def _stays(self, local: Local, config: DeviceConfig, pins: Pins) -> bool:
        return pins is self.pins and wiring(local.config) == wiring(config)

    def _backend(self, configs: Sequence[DeviceConfig]) -> Pins:
        if self._given is not None:
            return self._given
        if configs and all(d.number in self._plants for d in configs):
            return self.pins if self.pins is not None else simulated_pins()
        return open_pins([pin for config in configs for pin in (*outputs_of(config), config.button_pin) if pin])

    def _take(self, config: DeviceConfig, resource: Resource, pins: Pins) -> Local:
        return open_local(config, resource, pins, self._now, self._plants.get(config.number))

    def _leave(self, local: Local) -> None:
        try:
            local.leave()
        except (OSError, OperatorError) as err:
            self._log.warning("%s: its exit state could not be set: %s", local.resource.name, err)


def outputs_of(config: DeviceConfig) -> tuple[str, ...]:
    """The pins that a device drives."""
    return tuple(pin for pin in (config.pin, *config.pins, config.pwm_pin) if pin)


def wiring(config: DeviceConfig) -> tuple[object, ...]:
    """What of a ``[[device]]`` is soldered, and what its outputs are reckoned by."""
    return (
        config.type,
        *(config.pin, config.pins, config.pwm_pin, config.button_pin, config.active_low, config.curtail_percent),
        *(config.rated_w, config.min_w, config.max_w),
    )
