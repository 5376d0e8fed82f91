"""TLS with a certificate authority of one's own, client certificates, and the access lists that we write."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.field.broker_files import write_ems_files
from gateway.transport.mqtt import Tls
from tests.support.certificates import Authority, listener
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import Agents, Ema, EmsBeside, closing, lamps
from tests.support.tap import Tap
from tests.support.wait import until


async def test_tls_accounts_and_rights(tmp_path: Path) -> None:
    certificates, ours = tmp_path / "certificates", tmp_path / "ems-broker"
    authority = Authority(certificates)
    for name in ("server", "client"):
        authority.sign(name)
    port = free_port()
    written = write_ems_files(ours, [1, 2], "127.0.0.1", port)
    assert all(path.stat().st_mode & 0o077 == 0 for path in written)
    # What the daemon's own generator wrote, and TLS on top of it; no listener without.
    rights = written[0].read_text().split("\n", 1)[1].replace("user root\n", "")
    broker = Mosquitto(tmp_path / "broker", f"{listener(authority)}{rights}", port)
    tls = {
        "ca_file": str(certificates / "ca.pem"),
        "cert_file": str(certificates / "client.pem"),
        "key_file": str(certificates / "client.key"),
    }
    site_port = free_port()
    upstream = {"name": "ems", "host": "127.0.0.1", "port": port, "timezone": "UTC", "tls": True, **tls}
    account = {"username": "gw-1", "password_file": str(ours / "gw-1.password")}
    tables = {
        "control": {"restore_delay_s": 0},
        "site_broker": {"port": site_port, "anonymous": True},
        "upstream": [{**upstream, **account}],
        "device": lamps(1, 2),
    }
    ema = Ema(tmp_path / "ema", tables)
    ems = EmsBeside(tmp_path / "ems", port, user="ems", password_file=str(ours / "ems.password"), **tls)
    ours_tls = Tls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    secret = (ours / "gw-2.password").read_text().strip()
    other = Tap(port, ("#",), tls=ours_tls, username="gw-2", password=secret)
    agents = Agents()
    await broker.start()
    try:
        async with closing(agents, other, ema, ems):
            await ems.start()
            await other.start()
            await ema.start()
            for number in (1, 2):
                agents.mqtt(site_port, agents.lamp(number, 100.0))
            await ema.present(1, 2)
            await ema.registered()
            # An EMA's account cannot write where only the EMS may, and hears nothing of another EMA.
            await other.link.publish("gw/1/dev/1/control", b"\x11\x10")
            await other.link.publish("gw/2/dev/1/control", b"\x11\x10")
            await other.link.publish("gw/pushall/DistributeEvent", b"{}")
            event = await ems.event(100)
            await ems.answered(event)
            await until(lambda: agents.watts <= 100, 20, "shed")
            assert (await ema.status())["upstreams"][0]["refused"] == 0
            await ems.ems.cancel_event(event.id)
            await until(lambda: agents.watts == 200, 20, "the forbidden command reached nobody")
            assert not [topic for topic, _ in other.heard if not topic.startswith("gw/pushall/")]

            # Without a certificate, and with a wrong password, it stays outside: said once, and it goes on trying.
            await ema.terminate()
            wrong = tmp_path / "wrong"
            wrong.write_text("wrong\n")
            wrong.chmod(0o600)
            for broken in (
                {**upstream, **account, "cert_file": "", "key_file": ""},
                {**upstream, **account, "password_file": str(wrong)},
            ):
                ema.write({**tables, "upstream": [broken]})
                before = len(ema.lines("WARNING"))
                await ema.start()
                await ema.until(lambda before=before: len(ema.lines("WARNING")) > before, "said")
                assert (await ema.status())["upstreams"][0]["state"] != "up"
                assert "Traceback" not in ema.log()
                await ema.terminate()
    finally:
        broker.stop()
        await asyncio.sleep(0)
