"""Many EMAs in one process: a few of them, counted at both ends."""

from __future__ import annotations

import pytest

from benchmarks import emas


async def test_a_few_emas_poll_and_nothing_is_lost() -> None:
    looks, ems, first_kb = await emas.measure(count=3, devices=2, rounds=1, seconds=2.2)
    assert ems["connected"] == 3
    assert ems["polls"] >= 3
    assert ems["reports"] >= 3
    assert looks[-1]["rss_kb"] > first_kb
    assert sum(len(look["taken"]) for look in looks) == looks[-1]["polls"] == ems["polls"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"polls": 9}, "9 polls were sent, 10 came"),
        ({"reports": 6}, "6 reports were sent, 5 came"),
        ({"under_way": 1}, "1 were not answered, 0 dropped"),
        ({"lost": 2}, "0 were not answered, 2 dropped"),
        ({"up": 1}, "1 of 2 are registered, 2 by the EMS's word"),
    ],
)
def test_a_lost_message_ends_the_bench(changed: dict[str, int], words: str) -> None:
    ems = {"polls": 10, "reports": 5, "connected": 2}
    last = {"up": 2, "polls": 10, "reports": 5, "under_way": 0, "lost": 0}
    emas.check(last, ems, 2)
    with pytest.raises(RuntimeError, match=words):
        emas.check({**last, **changed}, ems, 2)
