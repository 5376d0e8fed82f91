"""The daemon and the EMS as installed and started, over CoAP under OSCORE, each killed in the middle."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

pytest.importorskip("filelock")
pytest.importorskip("cryptography")
pytest.importorskip("cbor2")

from gateway.transport.oscore_files import make_pair
from tests.headend.test_with_ema import Site, below
from tests.support.ems_process import EmsChild
from tests.support.mosquitto import free_port
from tests.support.process import closing
from tests.support.wait import until


def reserved(folder: Path) -> int:
    number = json.loads((folder / "sequence.json").read_text())["next-to-send"]
    assert isinstance(number, int)
    return number


async def test_killed_on_either_side_they_find_together_again(tmp_path: Path) -> None:
    make_pair(tmp_path / "key", tmp_path / "keys" / "ema-1", 1)
    coap = free_port(socket.SOCK_DGRAM)
    words = ("--coap", f"127.0.0.1:{coap}", "--oscore-dir", str(tmp_path / "keys"), "--duration-ms", "500")
    ems = EmsChild(tmp_path / "ems", None, *words)
    way = {"protocol": "coap", "port": coap, "mode": 0, "bind": "127.0.0.3", "local_port": coap}
    site = Site(tmp_path, 0, 1, 0, "coap", {**way, "oscore_dir": str(tmp_path / "key")})
    try:
        async with closing(site):
            await below(ems, site)
            await site.draws(200)
            first = await ems.command("event", "--value", "150", "--for", "10m", "--to", "all")
            await until(lambda: 100 < site.agents.watts <= 150, 30, "the EMA sheds")
            await ems.answered(first["id"], 0, "gw/1")
            numbers = [reserved(tmp_path / "key"), reserved(tmp_path / "keys" / "ema-1")]
            site.ema.kill()
            await site.ema.start()
            await ems.shows("/emas", lambda emas: emas[0]["connected"], "it is back")
            ems.kill()
            await ems.start()
            assert reserved(tmp_path / "key") > numbers[0]
            # Pushed: from an EMS that was killed to an EMA that was.
            await ems.shows("/emas", lambda emas: emas[0]["connected"], "it is here again")
            await ems.command("cancel", str(first["id"]))
            await site.draws(200)
            assert reserved(tmp_path / "keys" / "ema-1") > numbers[1]
            assert "Traceback" not in site.ema.log() + ems.log()
    finally:
        await ems.stop()
