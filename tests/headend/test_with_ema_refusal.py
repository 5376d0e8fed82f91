"""Reports that the EMS does not take: for good, and for now. The daemon as it is started, against the real EMS."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DataError

from gateway.links.mir2017.messages import split_request_id
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until


def tables(ems_port: int, site_port: int) -> dict[str, Any]:
    return {
        "control": {"threshold_w": 1000, "restore_delay_s": 0},
        "reports": {"period_s": 1.0, "change_w": 0},
        "site_broker": {"port": site_port, "anonymous": True},
        "upstream": [{"name": "ems", "host": "127.0.0.1", "port": ems_port, "mode": 4, "timezone": "UTC"}],
        "device": lamps(1, 2),
    }


async def test_what_the_ems_will_never_take_is_dropped_and_shown(tmp_path: Path, mosquitto: Mosquitto) -> None:
    site_port = free_port()
    ema, ems = Ema(tmp_path / "ema", tables(mosquitto.port, site_port)), EmsBeside(tmp_path / "ems", mosquitto.port)
    agents = Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        agents.mqtt(site_port, agents.lamp(1, 100.0), period_s=0.1)
        await ema.present(1)
        await ema.registered()
        await until(lambda: ems.stored(), 30, "reports flow")

        store, refused = ems.ems.service.book.store, []
        add = store.add_report

        def some_cannot(report: Any, stored: Callable[[bool | None, Exception | None], None]) -> bool:
            boot, seq = split_request_id(int(report.request_id)) or (0, 0)
            if seq % 3:
                return add(report, stored)
            refused.append((boot, seq))
            stored(None, DataError("INSERT", {}, ValueError("too large a number")))
            return True

        store.add_report = some_cannot  # type: ignore[method-assign]
        await until(lambda: len(refused) >= 4, 30, "four are refused")
        store.add_report = add  # type: ignore[method-assign]
        status = await ema.shows(lambda s: s["upstreams"][0]["waiting"] == 0, "the others are through")
        upstream = status["upstreams"][0]
        assert (upstream["rejected"], upstream["resent"], upstream["lost"]) == (len(refused), 0, 0)
        boot, seq = refused[-1]
        assert upstream["last_rejected"].startswith(f"report {boot}.{seq}: 400 report ")
        stored = ems.stored()
        assert stored == sorted(set(stored))
        assert not set(refused) & set(stored)
        assert len(ema.lines("the EMS does not take report")) == 1, "said once"

        # On the screen as well, and after a start that nobody was told of.
        words = [sys.executable, "-m", "gateway", "status", "--socket", str(ema.socket)]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert f"rejected {len(refused)}, last_rejected report {boot}.{seq}: 400" in shown
        ema.kill()
        await ema.start()
        upstream = (await ema.status())["upstreams"][0]
        assert upstream["rejected"] == 4  # noted when it had doubled
        assert upstream["last_rejected"].startswith("report ")


async def test_what_the_ems_cannot_take_now_is_kept(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Somebody holds the EMS's database for longer than it waits."""
    site_port = free_port()
    ema = Ema(tmp_path / "ema", tables(mosquitto.port, site_port))
    ems = EmsBeside(tmp_path / "ems", mosquitto.port, db=f"sqlite:///{tmp_path}/ems/ems.db?timeout=0.5")
    agents = Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        agents.mqtt(site_port, agents.lamp(1, 100.0), period_s=0.1)
        await ema.present(1)
        await ema.registered()
        await ema.shows(lambda s: ems.stored() and s["upstreams"][0]["waiting"] == 0, "reports flow")
        first = ems.stored()[-1]
        with contextlib.closing(sqlite3.connect(ems.directory / "ems.db", isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            await ema.until(lambda: ema.lines("cannot take reports now (503"), "the EMS says that it cannot", 60)
            status = await ema.shows(lambda s: s["upstreams"][0]["waiting"] >= 8, "they wait")
            assert status["upstreams"][0]["rejected"] == 0
            somebody.execute("ROLLBACK")
        await ema.shows(lambda s: s["upstreams"][0]["waiting"] < 3, "all are through", 60)
        stored = ems.stored()
        numbers = [seq for boot, seq in stored if (boot, seq) > first]
        assert sorted(numbers) == list(range(first[1] + 1, max(numbers) + 1)), "one is missing, or doubled"
        assert len(ema.lines("cannot take reports now")) == 1, "said once"
        assert "Traceback" not in ema.log()
