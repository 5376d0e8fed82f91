"""What an upper side is to the daemon, and the daemon to it. Two small interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from gateway.site.command import Source
from gateway.site.event import DrEvent
from gateway.site.report import Record, SiteReport
from gateway.site.resource import Setting

if TYPE_CHECKING:
    from gateway.control.negotiation.messages import FromCoordinator, FromMember


class Upstream(Protocol):
    """One upper node: an EMS, a VTN, a cloud."""

    name: str

    async def run(self) -> None:
        """Hold the session until cancelled: connect, set up, poll, report, reconnect by itself."""

    def wake(self) -> None:
        """The outbox has something new. Cheap, may be called often."""

    async def ask_rdr(self, number: int, watts: float, for_s: float) -> tuple[bool, str]:
        """Ask for power for a device; (granted, why). Raise ``TransientError`` when there is no session.

        The caller sets the deadline.
        """

    async def close(self) -> None:
        """Say good-bye (`disconnected`), within one second."""

    def status(self) -> dict[str, object]:
        """State, session, counters (sent, acknowledged, refused) for `smartema status`."""


class UpperInputs(Protocol):
    """What an upper side tells the site."""

    async def take_event(self, event: DrEvent) -> bool:
        """Apply a new, changed or cancelled event; True is optIn. Returns after commands left and the journal
        has it on disk, so that the caller may answer (control.md, "Order of acting"). An event of a modification that
        was taken before (a restart lies between) is not applied again: its opt is repeated."""

    async def take_setting(self, number: int, setting: Setting, source: Source) -> str:
        """An upper side's direct command to a device; one line of what became of it."""

    async def take_dimming(self, number: int, step: int, source: Source) -> str:
        """One step up (+1) or down (−1) from what the device last said."""

    def threshold(self, watts: float, upstream: str) -> None:
        """A new default threshold from above."""

    def report(self) -> SiteReport:
        """The site now, for a margin or a report on request."""

    def opted(self, upstream: str, event_id: int) -> int | None:
        """The modification of that event that was already answered (None: never), so that it is not done twice."""

    def priced(self, upstream: str, signal: str, price: float | None, unit: str) -> None:
        """A budget message (``Initial``, ``Incentive``, ``Negotiation``); None: that price is none any more."""

    def negotiated(self, upstream: str, message: FromCoordinator) -> None:
        """The coordinator of negotiations speaks; doubled, late and lost words do no harm."""


@runtime_checkable
class Coordinator(Protocol):
    """An upper side over which EMAs negotiate: what an ``Upstream`` may be besides."""

    name: str

    @property
    def negotiates(self) -> bool:
        """Does a session stand, in a profile that has words for it."""

    def negotiate(self, message: FromMember) -> None:
        """Say it; what is lost is said again by the member."""


class Notes(Protocol):
    """Small things of an upstream that outlive a restart: the journal's."""

    def value(self, key: str) -> str | None:
        """What was noted last."""

    def save_value(self, key: str, value: str) -> None:
        """Note it; returns at once."""


class OutboxReader(Protocol):
    """An upstream's own view of the outbox: what it has not had acknowledged yet, in order."""

    def unacknowledged(self, after: tuple[int, int] | None, most: int) -> list[Record]:
        """Up to ``most`` records behind the cursor, and behind (boot, seq) ``after`` when given."""

    def acknowledge(self, boot: int, seq: int) -> None:
        """The upper side's application has everything up to and with this record. Moves the cursor."""

    def waiting(self) -> int:
        """How many records are not acknowledged."""

    def lost(self) -> int:
        """How many this upstream will never get (dropped oldest, or RAM lost at a crash)."""
