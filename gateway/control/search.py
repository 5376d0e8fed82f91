"""Inside one priority: the least W lost, then the fewest actions, dimming before switching."""

from __future__ import annotations

from gateway.control.items import EQUAL_W, Choice, Item

# Beyond so many candidates, or so many partial plans looked at, the greedy plan stands: a pass must not take
# longer than the wire does.
MOST_ITEMS = 12
MOST_LOOKS = 300

# Two plans that lose this much more or less are alike; the one with fewer actions is taken.
ALIKE_W = 1.0

Chosen = list[tuple[Item, Choice]]


def least_cut(items: list[Item], need_w: float, room_w: float) -> Chosen:
    """What to take from these items to cut ``need_w``, never more than ``room_w``; all of it if that is too little."""
    total = sum(item.most_w(True) for item in items)
    if total <= need_w + EQUAL_W and total <= room_w + EQUAL_W:
        return [(item, choice) for item in items if (choice := item.most()) is not None]
    switching = sum(item.most_w(False) for item in items) < need_w - EQUAL_W
    greedy = _greedy(items, need_w, switching)
    if _cut(greedy) > room_w + EQUAL_W:
        greedy = _filled(items, min(need_w, room_w), room_w)
    if len(items) > MOST_ITEMS or _cut(greedy) < need_w - EQUAL_W:
        return greedy
    return _Search(items, need_w, room_w, switching, greedy).best


def _greedy(items: list[Item], need_w: float, switching: bool) -> Chosen:
    """The largest first, the last one only as far as is needed."""
    left = need_w
    chosen: Chosen = []
    waiting = sorted(items, key=lambda item: -item.most_w(switching))
    while waiting and left > EQUAL_W:
        enough = [(item, choice) for item in waiting if (choice := item.at_least(left, switching)) is not None]
        if enough:
            return [*chosen, min(enough, key=lambda pair: pair[1].cut_w)]
        item = waiting.pop(0)
        choice = item.most(switching)
        if choice is not None:
            chosen.append((item, choice))
            left -= choice.cut_w
    return chosen


def _filled(items: list[Item], need_w: float, room_w: float) -> Chosen:
    """As near to what is needed as the cap allows."""
    chosen: Chosen = []
    cut = 0.0
    for item in sorted(items, key=lambda item: -item.most_w(True)):
        if cut >= need_w - EQUAL_W:
            break
        choice = item.at_least(need_w - cut)
        if choice is None or choice.cut_w > room_w - cut + EQUAL_W:
            choice = item.at_most(room_w - cut)
        if choice is not None:
            chosen.append((item, choice))
            cut += choice.cut_w
    return chosen


class _Search:
    """Depth first, the largest first, cut off by what the rest can still give and by the best plan so far."""

    def __init__(self, items: list[Item], need_w: float, room_w: float, switching: bool, start: Chosen) -> None:
        self.best = start
        self._loss = _cut(start)
        self._need, self._room, self._switching = need_w, room_w, switching
        self._items = sorted(items, key=lambda item: -item.most_w(switching))
        self._rest = [0.0] * (len(items) + 1)
        for i in range(len(items) - 1, -1, -1):
            self._rest[i] = self._rest[i + 1] + self._items[i].most_w(switching)
        self._looks = MOST_LOOKS
        self._look(0, 0.0, [])

    def _look(self, i: int, cut: float, chosen: Chosen) -> None:
        if cut >= self._need - EQUAL_W:
            less = cut < self._loss - ALIKE_W
            alike = abs(cut - self._loss) <= ALIKE_W
            if cut <= self._room + EQUAL_W and (less or (alike and len(chosen) < len(self.best))):
                self.best, self._loss = list(chosen), cut
            return
        self._looks -= 1
        if self._looks < 0 or i == len(self._items) or cut + self._rest[i] < self._need - EQUAL_W:
            return
        if self._loss <= self._need + ALIKE_W and len(chosen) + 1 >= len(self.best):
            return
        item = self._items[i]
        for choice in item.choices(self._need - cut, self._switching):
            if cut + choice.cut_w > self._loss + ALIKE_W:
                continue
            chosen.append((item, choice))
            self._look(i + 1, cut + choice.cut_w, chosen)
            chosen.pop()
        self._look(i + 1, cut, chosen)


def _cut(chosen: Chosen) -> float:
    return sum(choice.cut_w for _, choice in chosen)
