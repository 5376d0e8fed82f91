"""The files of the state folder that scripts and people read: token, endpoint, first password."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import OperatorError

TOKEN_FILE = "token"  # noqa: S105
PASSWORD_FILE = "admin-password"  # noqa: S105
ENDPOINT_FILE = "endpoint.json"


def private_file(path: Path, text: str) -> None:
    """A file that only we can read, there whole or not at all. Raise ``OperatorError``."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text + "\n")
        new.replace(path)
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}; choose another --state-dir") from err


def read_token(path: Path) -> str:
    """The token that the EMS made. Raise ``OperatorError``."""
    try:
        mode = path.stat().st_mode
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        reason = getattr(err, "strerror", None) or "not UTF-8"
        raise OperatorError(f"{path}: {reason}; is `smartema ems` running with this --state-dir?") from err
    if mode & 0o077:
        raise OperatorError(f"{path} can be read by others; chmod 600 {path}")
    if len(token) < 20:
        raise OperatorError(f"{path}: holds no token; remove it, and the EMS makes a new one at its next start")
    return token
