"""``RequestID``: an integer made of boot and sequence (wire reference, section 1), exact in a double."""

from __future__ import annotations

SEQ_BITS = 30
MOST_SEQ = 2**SEQ_BITS - 1
# Seven eighths of the boots that fit below 2**53 (a journal that lost its count takes the minutes since 2025: until
# 2038); the last eighth is for reports that are not in an outbox.
MOST_BOOT = 7 * 2**20 - 1
_UNSTORED = 7 << 50
# The lab's EMS answers every report with it. No outbox uses boot 0, so it never is one of ours.
LAB_REQUEST_ID = 1


def request_id(boot: int, seq: int) -> int:
    """The RequestID of a record of the outbox. ``boot`` from 1, ``seq`` from 0."""
    if not 1 <= boot <= MOST_BOOT or not 0 <= seq <= MOST_SEQ:
        raise ValueError(f"boot {boot} or seq {seq} does not fit into a RequestID")
    return boot << SEQ_BITS | seq


def split_request_id(number: int) -> tuple[int, int] | None:
    """(boot, seq) of a RequestID made by ``request_id``; None when it is not one: the lab's, or ``unstored_id``."""
    boot, seq = number >> SEQ_BITS, number & MOST_SEQ
    return (boot, seq) if 1 <= boot <= MOST_BOOT else None


def unstored_id(wall: float, draw: int) -> int:
    """The RequestID of a report made on request, outside the outbox: of the millisecond and nine drawn bits."""
    return _UNSTORED | (int(wall * 1000) % 2**41) << 9 | draw & 0x1FF
