"""Which records the outbox holds, counted without looking at them.

A position is ``boot * 2**40 + seq``: it grows for ever, and within a boot without gaps. The log is a list of spans of
successive positions; spans are small enough (a 64th of the bytes, a 256th of the age) to be what is dropped at once.
"""

from __future__ import annotations

from collections import deque

SEQ_BITS = 40
_SEQ_MASK = (1 << SEQ_BITS) - 1


def position(boot: int, seq: int) -> int:
    return (boot << SEQ_BITS) | seq


def boot_and_seq(place: int) -> tuple[int, int]:
    return place >> SEQ_BITS, place & _SEQ_MASK


class Span:
    """Positions ``first`` to ``last``, what they take on disk, and when the first and the last dated one came
    (wall seconds; 0: none is dated)."""

    __slots__ = ("first", "last", "newest_at", "oldest_at", "size")

    def __init__(self, first: int, last: int, size: float, at: float) -> None:
        self.first = first
        self.last = last
        self.size = size
        self.oldest_at = at
        self.newest_at = at

    @property
    def count(self) -> int:
        return self.last - self.first + 1


class Spans:
    """The log's spans, oldest first."""

    def __init__(self, most_size: float, most_age_s: float) -> None:
        self._span_size = most_size / 64
        self._span_age = most_age_s / 256
        self._spans: deque[Span] = deque()
        self.size = 0.0

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def oldest(self) -> Span:
        return self._spans[0]

    @property
    def newest(self) -> Span:
        return self._spans[-1]

    def add(self, place: int, size: float, at: float) -> None:
        """A new newest record; ``at`` wall seconds, 0 while the clock is not trusted."""
        self.size += size
        if self._spans:
            span = self._spans[-1]
            young = not at or not span.oldest_at or at - span.oldest_at < self._span_age
            if place == span.last + 1 and span.size + size <= self._span_size and young:
                span.last = place
                span.size += size
                span.oldest_at = span.oldest_at or at
                span.newest_at = at or span.newest_at
                return
        self._spans.append(Span(place, place, size, at))

    def count(self, after: int, upto: int) -> int:
        """Records behind ``after``, up to and with ``upto``."""
        if not self._spans or upto <= after:
            return 0
        total = 0
        if after < self._spans[0].last:  # an acknowledgement after an outage: a few of the oldest
            for span in self._spans:
                if span.first > upto:
                    break
                total += max(min(span.last, upto) - max(span.first - 1, after), 0)
            return total
        for span in reversed(self._spans):
            if span.last <= after:
                break
            total += max(min(span.last, upto) - max(span.first - 1, after), 0)
        return total

    def drop_upto(self, place: int) -> None:
        """Forget everything up to and with ``place``."""
        while self._spans and self._spans[0].last <= place:
            self.size -= self._spans.popleft().size
        if self._spans and self._spans[0].first <= place:
            span = self._spans[0]
            left = span.size * (span.last - place) / span.count
            self.size -= span.size - left
            span.size = left
            span.first = place + 1
        if not self._spans:
            self.size = 0.0

    def drop_one(self, place: int, size: float) -> bool:
        """Forget one record in the midst; was it there?"""
        for index in range(len(self._spans) - 1, -1, -1):
            span = self._spans[index]
            if not span.first <= place <= span.last:
                continue
            if span.count == 1:
                self.size -= span.size
                del self._spans[index]
                return True
            size = min(size, span.size)
            self.size -= size
            if place == span.first:
                span.first += 1
                span.size -= size
            elif place == span.last:
                span.last -= 1
                span.size -= size
            else:
                rest = span.size - size
                tail = rest * (span.last - place) / (span.count - 1)
                self._spans.insert(index + 1, Span(place + 1, span.last, tail, span.newest_at))
                span.last = place - 1
                span.size = rest - tail
            return True
        return False

    def aged(self, wall: float, most_age_s: float) -> int | None:
        """The last position of what is wholly older than that (None: nothing is)."""
        aged = None
        if not wall:
            return None
        for span in self._spans:
            if not span.newest_at:
                continue  # of an untrusted clock: goes with the next span that has a date
            if span.newest_at >= wall - most_age_s:
                break
            aged = span.last
        return aged


def footprint(body: int) -> float:
    """Bytes that a row with a body of that size takes in SQLite pages of 4096, packing waste included."""
    row = body + 48
    if row <= 4000:
        return 4096 / (4000 // row)
    return 4096 * (row // 4092 + 2)
