"""An operator's commands to devices: sent, confirmed by what the device says of itself, or why not."""

from __future__ import annotations

from headend.ems.book import Book
from headend.ems.errors import Conflict, Refused
from headend.ems.state import Device, DeviceCommand

ACTIONS = ("on", "off", "up", "down")
# On and off are absolute: they may be said again, so often at most.
MOST_ATTEMPTS = 3
HIGHEST_DIMMING = 9


class CommandDesk:
    """Commands that are on their way, one a device: a newer one replaces."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._last = 0
        self._open: dict[tuple[str, int], DeviceCommand] = {}
        self._sent_at: dict[int, float] = {}

    def load(self, last_command: int) -> None:
        self._last = last_command

    def preview(self, ema: str, number: int, action: str) -> tuple[str, float | None]:
        """What it will do, in words and in W (None: not known), or raise as ``send`` does."""
        device = self._check(ema, number, action)
        name = f"dev/{number} of {ema}"
        if action == "off":
            watts = -device.watt if device.watt is not None and device.on is not False else None
            watts = 0.0 if device.on is False else watts
        elif action == "on":
            watts = 0.0 if device.on else None
        else:
            watts = None
        about = f", about {watts:+.0f} W" if watts else ", no change" if watts == 0 else ""
        words = f"{name} {action}" if action in ("on", "off") else f"{name} one step {action}"
        return words + about, watts

    def _check(self, ema: str, number: int, action: str) -> Device:
        if action not in ACTIONS:
            raise Refused("action", f"{action!r} is none of {', '.join(ACTIONS)}")
        device = self._book.device(ema, number)
        head = self._book.head(self._book.emas[ema])
        if head is None:
            raise Conflict("ema", f"{ema} is not connected")
        if not head.controls_devices:
            raise Conflict("ema", f"{ema} is reached over {head.name}, which has no message for it")
        if not device.connected:
            raise Conflict("number", f"dev/{number} of {ema} is not connected")
        return device

    def send(self, ema: str, number: int, action: str, by: str) -> DeviceCommand:
        """Send and follow it. Raise ``Refused``, ``Unknown`` or ``Conflict``."""
        book = self._book
        device = self._check(ema, number, action)
        self._last += 1
        command = DeviceCommand(self._last, ema, number, action, by, book.wall, state_at=book.wall)
        command.before_level = device.dimming
        older = self._open.get((ema, number))
        if older is not None:
            self._settle(older, "failed", f"replaced by command {command.id}")
        self._open[ema, number] = command
        self._put(command)
        book.dirty(command)
        book.changed("command", ema, command)
        book.wake()
        return command

    def _put(self, command: DeviceCommand) -> None:
        head = self._book.head(self._book.emas[command.ema])
        self._sent_at[command.id] = self._book.clock.monotonic()
        if head is None:
            return
        if command.action in ("on", "off"):
            head.control(command.ema, command.number, command.action == "on")
        else:
            head.dim(command.ema, command.number, command.action == "up")

    def reported(self, device: Device) -> None:
        """The device said how it is."""
        command = self._open.get((device.ema, device.number)) if device.number is not None else None
        if command is None:
            return
        before, now = command.before_level, device.dimming
        match command.action:
            case "on" | "off":
                done = device.on is (command.action == "on")
            case "up":
                done = now is not None and (now == HIGHEST_DIMMING or (before is not None and now > before))
            case _:
                done = now is not None and (now == 0 or (before is not None and now < before))
        if done:
            self._settle(command, "confirmed", "the device's state shows it")

    def _settle(self, command: DeviceCommand, state: str, why: str) -> None:
        self._open.pop((command.ema, command.number), None)
        self._sent_at.pop(command.id, None)
        command.state, command.why, command.state_at = state, why, self._book.wall
        self._book.dirty(command)
        self._book.changed("command", command.ema, command)

    def tick(self) -> float | None:
        """Say again or give up what is due; monotonic seconds of the next."""
        now = self._book.clock.monotonic()
        share = self._book.settings.command_s / MOST_ATTEMPTS
        next_due: float | None = None
        for command in list(self._open.values()):
            due = self._sent_at[command.id] + share
            if due <= now:
                absolute = command.action in ("on", "off")
                if command.attempts >= MOST_ATTEMPTS:
                    self._settle(command, "failed", "no state of the device showed it in time")
                    continue
                command.attempts += 1
                if absolute:
                    self._put(command)
                else:
                    self._sent_at[command.id] = now
                due = now + share
            next_due = due if next_due is None else min(next_due, due)
        return next_due
