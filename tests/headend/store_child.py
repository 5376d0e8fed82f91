"""A child that stores reports as fast as it can and prints each one it would acknowledge, until it is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from headend.ems.records import NewReport
from headend.ems.store import Store

IN_FLIGHT = 200


async def main(url: str) -> None:
    store = Store(url, logging.getLogger("child"))
    await store.open()
    room = asyncio.Semaphore(IN_FLIGHT)
    number = 0
    while True:
        await room.acquire()
        number += 1
        name, report = f"gw/{number % 8 + 1}", str(number)

        def stored(fresh: bool | None, error: Exception | None, line: str = f"{name} {report}\n") -> None:
            assert error is None
            assert fresh
            os.write(1, line.encode())
            room.release()

        sample = {"ema": name, "at": float(number), "power_w": 1.0}
        full = {**sample, "threshold_w": None, "margin_w": None, "generate_w": None, "storage_w": None}
        assert store.add_report(NewReport(name, report, 0, float(number), 0.0, "[]", full), stored)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
