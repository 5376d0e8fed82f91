"""A decision says why (docs/architecture.md, rule 2): one object for journal, log, menu and page."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from gateway.record import slim
from gateway.site.command import Source
from gateway.site.resource import Setting


class Rule(StrEnum):
    """Which rule spoke."""

    SHED = "shed"
    RESTORE = "restore"
    FUTILITY = "futility"
    RELIEVED = "relieved"  # the futility alarm is down again
    FAILSAFE = "failsafe"
    PREPARE = "prepare"
    RDR = "rdr"
    OPT = "opt"
    LOAN = "loan"  # lent, borrowed, asked back, given back, or why not
    COMMAND = "command"  # an operator's or the EMS's own command
    ALARM = "alarm"  # a command that no device confirmed


@slim(frozen=True, slots=True)
class Term:
    """One summand of the limit: its source, its watts, and when it ends (wall seconds; None: does not)."""

    source: str
    watts: float
    until: float | None = None


@slim(frozen=True, slots=True)
class Limit:
    """What binds now. None: nothing binds that side. ``phase_a``: fuse per phase in A, where given.

    ``terms`` add up to ``import_w`` and ``export_terms`` to ``export_w``, unless the sum is below 0.
    """

    import_w: float | None
    export_w: float | None
    phase_a: tuple[float, ...] = ()
    terms: tuple[Term, ...] = ()
    export_terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        if self.import_w is None:
            return "no limit"
        named = [term for term in self.terms if term.source]
        if len(named) < 2:
            return f"{self.import_w:.0f} W" + (f" ({named[0].source})" if named else "")
        first, *more = named
        added = "".join(f", {term.source} {term.watts:+.0f} W" for term in more)
        return f"{self.import_w:.0f} W ({first.source} {first.watts:.0f} W{added})"


@slim(frozen=True, slots=True)
class Action:
    """One thing chosen: ``effect_w`` is the change of power expected of it (negative sheds)."""

    resource: str
    number: int
    setting: Setting
    effect_w: float
    target_w: float
    source: Source
    words: str  # "lamp-3 off", "ess-1 discharges 150 W"


@slim(frozen=True, slots=True)
class Kept:
    """One thing left alone, and the reason."""

    resource: str
    reason: str


@slim(frozen=True, slots=True)
class Decision:
    """What was seen, which rule, what was chosen, what was left alone. ``at``: wall seconds.

    ``id`` is given by the journal's keeper (0 until then).
    """

    rule: Rule
    at: float
    power_w: float | None
    limit: Limit
    why: str
    actions: tuple[Action, ...] = ()
    kept: tuple[Kept, ...] = ()
    event_id: int | None = None
    id: int = 0
    margin_w: float | None = field(default=None)

    def line(self) -> str:
        """The one line of log, menu and page."""
        done = ", ".join(a.words for a in self.actions)
        left = ", ".join(f"{k.resource} kept ({k.reason})" for k in self.kept)
        tail = "; ".join(part for part in (done, left) if part)
        return f"{self.why}: {tail}" if tail else self.why
