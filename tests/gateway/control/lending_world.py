"""Many EMAs that lend each other power, on virtual time: links that lose, double, delay and reorder; sides that crash
in the middle of a step; clocks that drift and start anew. It checks what must hold at every change.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.clock import Instant
from gateway.control.limit import limit_at
from gateway.control.negotiation import coordinator, member
from gateway.control.negotiation.book import CoordinatorRules
from gateway.control.negotiation.messages import Ask
from gateway.control.negotiation.state import Member, MemberRules, Situation
from gateway.control.negotiation.step import Envelope, Hold, Row, Step
from gateway.site.picture import Timeline

COORDINATOR = "ems"
WALL0 = 1_790_000_000.0
LONGEST_S = 3600
# Longer than the longest loan.
LATEST_S = 7200.0
# A site must be under its limit within k passes; what it sends counts at once, a moment later.
PASSES_S = 2.0
REACTS_S = 0.3
# Two crystals of routers.
DRIFT = 1e-4


@dataclass(frozen=True)
class Faults:
    """Shares of messages, and mean seconds between two crashes of one side (0: none). ``torn``: of the steps."""

    loss: float = 0.03
    double: float = 0.03
    late: float = 0.01
    member_crash_s: float = 12 * 3600.0
    coordinator_crash_s: float = 8 * 3600.0
    down_s: float = 900.0
    torn: float = 0.0005


@dataclass
class Node:
    """One EMA: its site, its disk, and what it holds in memory."""

    name: str
    own_mw: int
    demand_mw: int
    price: int
    rate: float
    state: Member
    booted_t: float = 0.0
    mono0: float = 0.0
    boot: int = 1
    up: bool = True
    draw_mw: int = 0
    lowest_mw: int | None = None
    tightened: bool = False  # an event took from it while it lent, and what it lacks is not back yet
    asks: int = 0
    asked_t: float = -1e9
    disk: dict[tuple[str, int], Row] = field(default_factory=dict)

    def mono(self, t: float) -> float:
        return self.mono0 + (t - self.booted_t) * self.rate

    def limit_mw(self, t: float) -> int:
        """What it keeps to; while it is down, its last state, as its own clock would have had it."""
        return self.state.limit_mw(self.own_mw, self.mono(t))

    def situation(self) -> Situation:
        return Situation(self.own_mw, self.draw_mw, self.lowest_mw, self.price)


class World:
    """``run`` it; ``broken`` names what did not hold, ``seen`` counts what happened."""

    def __init__(
        self,
        seed: int,
        members: int,
        faults: Faults,
        demand_s: float = 3600.0,
        event_s: float = 6 * 3600.0,
        rules: CoordinatorRules | None = None,
        going: int | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.faults, self.demand_s, self.event_s, self.going = faults, demand_s, event_s, going
        self.rules = rules or CoordinatorRules(longest_s=LONGEST_S)
        self.member_rules = MemberRules()
        self.t = 0.0
        self.seen: Counter[str] = Counter()
        self.broken: list[str] = []
        self.calm = False
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.nodes = {name: self._node(name) for name in (f"gw/{n}" for n in range(1, members + 1))}
        self.disk: dict[tuple[str, int], Row] = {}
        self.next_id = 1
        self.coordinator_up = True
        self._look_at = float("inf")
        self.balance = dict.fromkeys(self.nodes, 0)  # what its loans add to its limit, as last seen
        self.excess = 0  # their sum: never above 0
        self._borrowers: dict[str, set[str]] = {}
        self._start_coordinator()
        for node in self.nodes.values():
            self._start_member(node)
            self._after(self.rng.expovariate(1 / demand_s), lambda n=node: self._demand(n))
            self._after(self.rng.expovariate(1 / event_s), lambda n=node: self._event(n))
            if faults.member_crash_s:
                self._after(self.rng.expovariate(1 / faults.member_crash_s), lambda n=node: self._member_dies(n))
        if faults.coordinator_crash_s:
            self._after(self.rng.expovariate(1 / faults.coordinator_crash_s), self._coordinator_dies)
        self._after(3600.0, self._audit)

    def _node(self, name: str) -> Node:
        rng = self.rng
        own = rng.randint(500, 3000) * 1000 + rng.randint(0, 999)
        blank = Member(name, COORDINATOR, 0, 0.0)
        node = Node(name, own, 0, rng.randint(50, 400), 1 + rng.uniform(-DRIFT, DRIFT), blank)
        node.demand_mw = node.draw_mw = int(own * rng.uniform(0.2, 0.9))
        return node

    # --- time ---

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.t + seconds, next(self._order), act))

    def run(self, seconds: float) -> None:
        end = self.t + seconds
        while self._queue and self._queue[0][0] <= end and not self.broken:
            self.t, _, act = heapq.heappop(self._queue)
            act()
        self.t = end

    def drain(self) -> None:
        """No more asks, events and crashes; everybody runs. Loans that are out end now or by their time.

        An ask, a prepare made of it and a double of that may each be as late as can be.
        """
        self.calm = True
        self.run(self.faults.down_s + 3 * LATEST_S + 3 * LONGEST_S)

    # --- links and disks ---

    def _post(self, sender: str, envelopes: tuple[Envelope, ...]) -> None:
        faults, rng = self.faults, self.rng
        for envelope in envelopes:
            self.seen["messages"] += 1
            for _ in range(2 if rng.random() < faults.double else 1):
                if rng.random() < faults.loss:
                    continue
                delay = rng.uniform(0.005, 0.2)
                if rng.random() < faults.late:
                    delay = rng.choice([5.0, 60.0, 600.0, LATEST_S]) * rng.random()
                self._after(delay, lambda e=envelope: self._deliver(sender, e))

    def _deliver(self, sender: str, envelope: Envelope) -> None:
        if envelope.to == COORDINATOR:
            if self.coordinator_up:
                step = coordinator.receive(self.state, sender, envelope.message, self._mono())  # type: ignore[arg-type]
                self._coordinator_step(step)
        else:
            node = self.nodes[envelope.to]
            if node.up:
                now = node.mono(self.t)
                self._member_step(node, member.receive(node.state, envelope.message, node.situation(), now))  # type: ignore[arg-type]

    @staticmethod
    def _write(disk: dict[tuple[str, int], Row], rows: tuple[Row, ...]) -> None:
        for row in rows:
            if row.body is None:
                disk.pop((row.table, row.number), None)
            else:
                disk[row.table, row.number] = row

    # --- the coordinator ---

    def _mono(self) -> float:
        return self._mono0 + (self.t - self._booted_t)

    def _start_coordinator(self) -> None:
        self._booted_t, self._mono0 = self.t, self.rng.uniform(0, 1e6)
        self.coordinator_up = True
        self._look_at = float("inf")
        rows = list(self.disk.values())
        step = coordinator.start(self.nodes, self.next_id, self._mono(), rows, self.rules)
        self.state = coordinator.at_price(step.state, self.going)
        self._coordinator_step(Step(self.state, step.rows, step.messages, step.news))

    def _coordinator_step(self, step: Step[coordinator.Coordinator]) -> None:
        torn = self._torn()
        if torn == "before":
            self._coordinator_down()
            return
        self._write(self.disk, step.rows)
        self.next_id = max(self.next_id, step.state.next_id)  # reserved on disk before a number is used
        self.state = step.state
        for news in step.news:
            self.seen[f"coordinator {news.kind}"] += 1
        self._post(COORDINATOR, step.messages if torn is None else step.messages[: len(step.messages) // 2])
        if torn:
            self._coordinator_down()
            return
        self._look_within(self.rules.repeats.first_s)

    def _look_within(self, seconds: float) -> None:
        due = self.t + seconds
        if due < self._look_at:
            self._look_at = due
            self._after(seconds, lambda: self._coordinator_looks(due))

    def _coordinator_looks(self, due: float) -> None:
        if not self.coordinator_up or due != self._look_at:
            return
        self._look_at = float("inf")
        step = coordinator.look(self.state, self._mono())
        wake = coordinator.next_wakeup(step.state)
        if wake is not None:
            self._look_within(max(wake - self._mono(), 0.001))
        if step.rows or step.messages or step.news:
            self._coordinator_step(step)
        else:
            self.state = step.state

    def _coordinator_dies(self) -> None:
        if not self.calm:
            if self.coordinator_up:
                self._coordinator_down()
            self._after(self.rng.expovariate(1 / self.faults.coordinator_crash_s), self._coordinator_dies)

    def _coordinator_down(self) -> None:
        self.seen["coordinator crashes"] += 1
        self.coordinator_up = False
        self._look_at = float("inf")
        self._after(self.rng.uniform(1.0, self.faults.down_s), self._start_coordinator)

    # --- members ---

    def _start_member(self, node: Node) -> None:
        if self._torn():  # it dies again before it did anything
            self._member_down(node)
            return
        if node.boot > 1:
            node.mono0 = self.rng.uniform(0, 1e6)
        node.booted_t, node.up = self.t, True
        rows = list(node.disk.values())
        step = member.start(node.name, COORDINATOR, node.boot, node.mono(self.t), rows, self.member_rules)
        before = node.own_mw - sum(loan.mw for loan in node.state.lent.values())
        node.state = step.state
        self._changed(node, before)
        self._post(node.name, step.messages)
        self._member_looks(node)

    def _member_step(self, node: Node, step: Step[Member]) -> None:
        torn = self._torn()
        if torn == "before":
            self._member_down(node)
            return
        before = node.limit_mw(self.t)
        self._write(node.disk, step.rows)
        node.state = step.state
        for news in step.news:
            self.seen[str(news.kind)] += 1
        self._changed(node, before)
        self._post(node.name, step.messages if torn is None else step.messages[: len(step.messages) // 2])
        if torn:
            self._member_down(node)
            return
        self._wake(node)

    def _wake(self, node: Node) -> None:
        wake, state = member.next_wakeup(node.state), node.state
        if wake is not None:
            seconds = max(wake - node.mono(self.t), 0.0) / node.rate
            self._after(seconds + 1e-6, lambda: self._member_looks(node, state))

    def _member_looks(self, node: Node, state: Member | None = None) -> None:
        if node.up and (state is None or state is node.state):
            self._member_step(node, member.look(node.state, node.situation(), node.mono(self.t)))

    def _member_dies(self, node: Node) -> None:
        if not self.calm:
            if node.up:
                self._member_down(node)
            self._after(self.rng.expovariate(1 / self.faults.member_crash_s), lambda: self._member_dies(node))

    def _member_down(self, node: Node) -> None:
        self.seen["crashes"] += 1
        node.up = False
        node.boot += 1
        back = self.rng.uniform(1.0, self.faults.down_s)
        self._changed(node, None)
        for loan in (*node.state.lent.values(), *node.state.borrowed.values()):
            ends = (loan.until - node.mono(self.t)) / node.rate
            if ends < back:
                self._after(max(ends, 0.0) + 1e-6, lambda: self._changed(node, None))
        self._after(back, lambda: self._start_member(node))

    def _torn(self) -> str | None:
        if self.calm or self.rng.random() >= self.faults.torn:
            return None
        self.seen["torn steps"] += 1
        return self.rng.choice(["before", "after"])

    # --- the sites ---

    def _demand(self, node: Node) -> None:
        if self.calm:
            return
        self._after(self.rng.expovariate(1 / self.demand_s), lambda: self._demand(node))
        node.demand_mw = int(node.own_mw * self.rng.uniform(0.1, 1.5))
        self._follow(node)
        if not node.up:
            return
        self._member_looks(node)
        now = node.mono(self.t)
        if node.up and node.demand_mw <= node.own_mw and node.state.borrowed_mw(now) and self.rng.random() < 0.5:
            self._member_step(node, member.give_back(node.state, None, node.situation(), now))
        short = node.demand_mw - max(node.limit_mw(self.t), 0)
        if node.up and short > 1000 and node.state.asking is None:
            node.asks += 1
            self.seen["asks"] += 1
            least, cap = int(short * self.rng.choice([0.1, 0.5, 1.0])), self.rng.choice([None, 120, 250, 400])
            ask = Ask(node.asks, short, least, cap, self.rng.choice([60, 300, 900, LONGEST_S, 2 * LONGEST_S]))
            self._member_step(node, member.ask(node.state, ask, node.mono(self.t)))

    def _event(self, node: Node) -> None:
        """A DR event of its own, announced or sudden; its limit falls for a while."""
        if self.calm:
            return
        self._after(self.rng.expovariate(1 / self.event_s), lambda: self._event(node))
        if node.lowest_mw is not None:
            return
        before = node.own_mw
        node.lowest_mw = int(before * self.rng.uniform(0.3, 0.9))
        notice = self.rng.choice([0.0, 30.0, 600.0])
        self.seen["sudden events" if notice == 0 else "announced events"] += 1
        self._member_looks(node)
        if notice == 0:
            self._own(node, node.lowest_mw)
        else:
            self._after(notice, lambda: self._own(node, node.lowest_mw or before))
        self._after(notice + self.rng.uniform(60.0, 3600.0), lambda: self._event_ends(node, before))

    def _event_ends(self, node: Node, before: int) -> None:
        node.lowest_mw = None
        self._own(node, before)

    def _own(self, node: Node, own_mw: int) -> None:
        if own_mw < node.own_mw and node.state.lent:
            node.tightened = True
        node.own_mw = own_mw
        self._follow(node)
        self._member_looks(node)

    def _follow(self, node: Node) -> None:
        """The site keeps to its limit: up at once, down within k passes. Where nobody runs, nobody raises anything."""
        limit = max(node.limit_mw(self.t), 0)
        if not node.up:
            limit = min(limit, max(node.own_mw - sum(loan.mw for loan in node.state.lent.values()), 0))
        if node.demand_mw <= node.draw_mw:
            node.draw_mw = node.demand_mw
        else:
            node.draw_mw = max(node.draw_mw, min(node.demand_mw, limit))
        if node.up and node.draw_mw > limit:
            self._after(REACTS_S, lambda: self._shed(node))
            self._after(PASSES_S, lambda: self._shed(node))

    def _shed(self, node: Node) -> None:
        coming = node.state.coming_mw(node.mono(self.t), PASSES_S - 1e-3)
        limit = max(node.limit_mw(self.t) + coming, 0)
        if not node.up or node.draw_mw <= limit:
            return
        cut = min(node.draw_mw, node.own_mw) - limit
        if cut > 0:
            # Only where an event took from a lender, and the borrower could not be reached within the passes.
            self.seen["cut while a recall was not answered"] += 1
            if not node.tightened or not (node.state.recalled or not node.up):
                self.broken.append(f"{self.t:.3f}: {node.name} is cut by {cut} mW because it lent: {node.state}")
        node.draw_mw = min(node.draw_mw, limit)
        self._member_looks(node)

    # --- what must hold ---

    def _changed(self, node: Node, before: int | None) -> None:
        """Its limit may have changed: does every loan that counts weigh on its lender, and nobody pay for a loan?"""
        now = node.mono(self.t)
        limit = node.limit_mw(self.t)
        balance = limit - node.own_mw
        self.excess += balance - self.balance[node.name]
        self.balance[node.name] = balance
        if self.excess > 0:
            self.broken.append(f"{self.t:.3f}: the limits in force are {self.excess} mW above their sum")
        for number, loan in node.state.borrowed.items():
            if (
                loan.hold is Hold.HELD
                and loan.until > now
                and not self._lends(self.nodes[loan.lender], number, loan.mw)
            ):
                self.broken.append(f"{self.t:.3f}: {node.name} counts loan {number}, {loan.lender} does not lend it")
        for name in {loan.borrower for loan in node.state.lent.values()} | set(self._borrowers.get(node.name, ())):
            self._check_borrower(self.nodes[name])
        self._borrowers[node.name] = {loan.borrower for loan in node.state.lent.values()}
        if before is not None and limit < before and limit < min(node.draw_mw, node.own_mw):
            self.broken.append(f"{self.t:.3f}: {node.name} falls from {before} to {limit} mW, drawing {node.draw_mw}")
        if node.tightened and node.up and limit >= min(node.draw_mw, node.own_mw) and not node.state.recalled:
            node.tightened = False
        self._follow(node)

    def _check_borrower(self, node: Node) -> None:
        now = node.mono(self.t)
        for number, loan in node.state.borrowed.items():
            if (
                loan.hold is Hold.HELD
                and loan.until > now
                and not self._lends(self.nodes[loan.lender], number, loan.mw)
            ):
                self.broken.append(f"{self.t:.3f}: {loan.lender} lends {number} no longer, {node.name} counts it")

    def _lends(self, node: Node, number: int, mw: int) -> bool:
        lending = node.state.lent.get(number)
        return lending is not None and lending.mw == mw and lending.until > node.mono(self.t)

    def _audit(self) -> None:
        """All of it from nothing, once an hour: the sums, and the limit as control reckons it."""
        self._after(3600.0, self._audit)
        own = {name: node.own_mw for name, node in self.nodes.items()}
        booked = self.state.ledger.limits(own)
        if sum(booked.values()) != sum(own.values()):
            self.broken.append(f"{self.t:.0f}: {sum(booked.values())} mW are booked of {sum(own.values())}")
        in_force = sum(node.limit_mw(self.t) for node in self.nodes.values())
        if in_force > sum(own.values()):
            self.broken.append(f"{self.t:.0f}: {in_force} mW in force of {sum(own.values())}")
        self.seen["most mW lent at an hour"] = max(self.seen["most mW lent at an hour"], self.lent_mw())
        node = self.rng.choice(list(self.nodes.values()))
        now = Instant(node.mono(self.t), WALL0 + self.t)
        limit = limit_at(Timeline(threshold_w=node.own_mw / 1000, loans=node.state.loans(now)), now).import_w
        if limit is None or abs(limit - max(node.limit_mw(self.t), 0) / 1000) > 1e-6:
            self.broken.append(f"{self.t:.0f}: control holds {node.name} to {limit} W, not {node.limit_mw(self.t)} mW")

    def lent_mw(self) -> int:
        return sum(node.state.lent_mw(node.mono(self.t)) for node in self.nodes.values())

    def left(self) -> list[str]:
        """Loans that did not end, anywhere."""
        found = [f"booked: {entry}" for entry in self.state.ledger.entries.values()]
        found += [f"on the coordinator's disk: {key}" for key in self.disk]
        for node in self.nodes.values():
            found += [f"{node.name}: {loan}" for loan in (*node.state.lent.values(), *node.state.borrowed.values())]
            found += [f"on the disk of {node.name}: {key}" for key in node.disk]
        return found
