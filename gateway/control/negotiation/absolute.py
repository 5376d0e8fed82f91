"""Loans towards a peer of the lab, which knows absolute thresholds in whole W only (wire reference, 7)."""

from __future__ import annotations


def need_mw(energy_w: int, own_mw: int) -> int:
    """What the asker of ``{ID, energy}`` lacks: it names the threshold that it wants. 0: nothing."""
    return max(energy_w * 1000 - own_mw, 0)


def threshold_w(own_mw: int, balance_mw: int) -> int:
    """The threshold that an event tells: own limit and balance of loans, in whole W.

    Rounded down for lenders and borrowers alike, so the thresholds told never add up to more than the limits.
    """
    return max((own_mw + balance_mw) // 1000, 0)


def difference_mw(own_mw: int, value_w: int) -> int:
    """A threshold that was told, as a loan: above 0 borrowed, below 0 lent. What rounding took is no loan."""
    difference = value_w * 1000 - own_mw
    return 0 if -1000 < difference <= 0 else difference
