"""The control socket: modes, claims, and what a client can do wrong."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.errors import OperatorError
from gateway.socket_server import SocketServer
from tests.support.wait import until


async def _handle(request: dict[str, Any]) -> Any:
    if request["do"] == "fail":
        raise OperatorError("number: 'x' is not a whole number")
    if request["do"] == "bug":
        raise KeyError("inside")
    return {"echo": request.get("value")}


@pytest_asyncio.fixture
async def server(tmp_path: Path):
    server = SocketServer(tmp_path / "s.sock", _handle)
    task = asyncio.create_task(server.run())
    await until(lambda: server.path.exists())
    yield server
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.path.exists()


async def _ask(path: Path, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line + b"\n")
    answer = await reader.readline()
    writer.close()
    return json.loads(answer) if answer else None


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"do":"echo","value":1}', {"ok": True, "result": {"echo": 1}}),
        (b'{"do":"fail"}', {"ok": False, "error": "number: 'x' is not a whole number"}),
        (b'{"do":1}', {"ok": False, "error": 'a request is an object with "do"'}),
        (b"[]", {"ok": False, "error": 'a request is an object with "do"'}),
    ],
)
async def test_answers(server: SocketServer, line: bytes, answer: Any) -> None:
    assert await _ask(server.path, line) == answer


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[" * 60_000, b'{"do":"bug"}'])
async def test_what_is_not_understood_is_said_and_the_next_is_served(server: SocketServer, line: bytes) -> None:
    assert (await _ask(server.path, line))["ok"] is False
    assert (await _ask(server.path, b'{"do":"echo"}'))["ok"] is True


async def test_a_line_without_end_is_dropped(server: SocketServer) -> None:
    assert await _ask(server.path, b"x" * 200_000) is None
    assert (await _ask(server.path, b'{"do":"echo"}'))["ok"] is True


async def test_only_owner_and_group_may_open_it(server: SocketServer) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


async def test_a_second_daemon_is_refused(server: SocketServer) -> None:
    with pytest.raises(OperatorError, match="another smartema runs here"):
        await SocketServer(server.path, _handle).run()
    assert (await _ask(server.path, b'{"do":"echo"}'))["ok"] is True


async def test_what_a_killed_daemon_left_is_taken_over(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    server = SocketServer(path, _handle)
    task = asyncio.create_task(server.run())
    await until(lambda: server.path.is_socket())
    for _ in range(100):
        try:
            assert (await _ask(path, b'{"do":"echo"}'))["ok"] is True
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    task.cancel()


def test_a_path_too_long_names_the_key(tmp_path: Path) -> None:
    server = SocketServer(tmp_path / ("x" * 120), _handle)
    with pytest.raises(OperatorError, match=r"shorten \[ema\] socket"):
        server._claim()
