"""The client's end of the daemon's control socket: one JSON object a line there, one back."""

from __future__ import annotations

import argparse
import json
import socket
from typing import Any

from gateway.errors import OperatorError, SmartemaError, TransientError

DEFAULT_SOCKET = "/var/lib/smartema/smartema.sock"
# An RDR that is asked upwards is answered within 2 s by default; a daemon under load gets time beyond that.
ANSWER_S = 30.0
# The status of 1,000 devices is near 400 kB.
LARGEST_ANSWER = 16_000_000


def add_socket_arguments(parser: argparse.ArgumentParser) -> None:
    """``--socket`` and ``-c``: which daemon is meant."""
    parser.add_argument("--socket", metavar="PATH", help=f"the daemon's socket (default: {DEFAULT_SOCKET})")
    parser.add_argument("-c", "--config", metavar="FILE", help="take the socket's path from this configuration")


def socket_path(args: argparse.Namespace) -> str:
    """The path that the arguments name. Raise ``OperatorError`` when the configuration cannot be read."""
    if args.socket:
        return str(args.socket)
    if args.config:
        from gateway.config.load import socket_of

        return socket_of(args.config)
    return DEFAULT_SOCKET


def request(path: str, body: dict[str, Any], timeout_s: float = ANSWER_S) -> Any:
    """Ask the daemon one thing and return the answer's ``result``.

    Raise ``TransientError`` when no daemon answers there, ``OperatorError`` when we may not speak to it, and
    ``SmartemaError`` with the daemon's own line when it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
            wire.settimeout(timeout_s)
            wire.connect(path)
            wire.sendall(json.dumps(body).encode() + b"\n")
            answer = _line(wire)
    except (FileNotFoundError, ConnectionRefusedError):
        raise TransientError(
            f"no daemon answers at {path}; start it with `smartema run -c FILE`, or name its --socket"
        ) from None
    except PermissionError:
        raise OperatorError(f"{path}: permission denied; join the group that owns it, or use sudo") from None
    except TimeoutError:
        raise TransientError(f"the daemon at {path} does not answer within {timeout_s:g} s") from None
    except OSError as err:
        raise TransientError(f"{path}: {err.strerror or err}") from None
    try:
        told = json.loads(answer)
        well = told["ok"]
    except (ValueError, TypeError, KeyError):
        raise TransientError(f"{path}: what answers there is no smartema daemon") from None
    if not well:
        raise SmartemaError(str(told.get("error") or "refused without a reason"))
    return told.get("result")


def _line(wire: socket.socket) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n"):
        part = wire.recv(65_536)
        if not part:
            raise ConnectionResetError(
                0, "the daemon closed the connection without an answer; it may be busy or ending"
            )
        parts += part
        if len(parts) > LARGEST_ANSWER:
            raise OSError(0, f"the answer is longer than {LARGEST_ANSWER} bytes")
    return bytes(parts)
