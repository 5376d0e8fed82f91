"""DR modes 1 to 4 from an EMS's event to the lamp and back, with RDR, over real brokers and processes."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.wait import until


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
async def test_an_event_from_end_to_end(tmp_path: Path, mosquitto: Mosquitto, mode: int) -> None:
    site_port, coap_port = free_port(), free_port(socket.SOCK_DGRAM)
    ema = Ema(
        tmp_path / "ema",
        {
            "control": {"threshold_w": 1000, "restore_delay_s": 0},
            "reports": {"period_s": 0.5, "change_s": 0.1},
            "site_broker": {"port": site_port, "anonymous": True},
            "site_coap": {"port": coap_port},
            "upstream": [{"name": "ems", "host": "127.0.0.1", "port": mosquitto.port, "mode": mode, "timezone": "UTC"}],
            "device": [*lamps(1, 2, 3), *lamps(4, link="coap")],
        },
    )
    ems, agents = EmsBeside(tmp_path / "ems", mosquitto.port, rdr_policy="grant"), Agents()
    async with closing(agents, ema, ems):
        await ems.start()
        await ema.start()
        for number in (1, 2, 3):
            agents.mqtt(site_port, agents.lamp(number, 100.0))
        agents.coap(coap_port, agents.lamp(4, 100.0))
        await ema.present(1, 2, 3, 4)
        await ema.registered()
        assert agents.watts == 400

        event = await ems.event(250)
        await ems.answered(event)
        await until(lambda: agents.watts <= 250, 20, "shed")
        assert [agents.draws(n) for n in (3, 4)] == [100, 100], "the smaller number sheds first"
        if mode == 3:
            ems.ems.service.want_report("gw/1")
        await until(lambda: (ems.book.emas["gw/1"].power_w or 999) <= 250, 20, "the EMS sees it")
        assert ems.book.emas["gw/1"].threshold_w == 250

        # What is over the limit is asked of the EMS: granted, the limit is lifted for it, and the lamp shines.
        wanted = 100 - agents.draws(1)
        assert agents.runners[1].press_button()
        await until(lambda: agents.draws(1) == 100, 20, "granted by the EMS")
        rdr = (await ema.shows(lambda s: s["rdr"], "the RDR is settled"))["rdr"][-1]
        assert (rdr["device"], rdr["result"], rdr["watts"]) == ("led-1", "granted", wanted)
        await until(lambda: ems.rows("SELECT number, state FROM rdr") == [(1, "granted")], 10, "the EMS keeps it")

        # Denied, nothing moves, and the device hears why.
        await ems.ems.service.rdr.set_policy("deny")
        shed = next(n for n in (2, 3, 4) if agents.draws(n) < 100)
        before = agents.draws(shed)
        assert agents.runners[shed].press_button()
        await until(lambda: (a := agents.runners[shed].agent.rdr) is not None and a.rdr == "denied", 20, "denied")
        assert agents.draws(shed) == before

        await ems.ems.cancel_event(event.id)
        await until(lambda: agents.watts == 400, 20, "everything returns")
        status = await ema.status()
        assert status["limit"]["import_w"] >= 1000
        if mode == 3:
            ems.ems.service.want_report("gw/1")
        else:
            await ema.shows(
                lambda s: s["upstreams"][0]["acknowledged"] > 0 and s["outbox"]["waiting"] < 3, "acknowledged"
            )
        stored = ems.stored()
        assert stored == sorted(set(stored))
        why = await ema.ask("why", last=50)
        assert {"shed", "rdr", "restore", "opt"} <= {decision["rule"] for decision in why}
        assert status["commands"]["failed"] == 0
        assert "Traceback" not in ema.log()
