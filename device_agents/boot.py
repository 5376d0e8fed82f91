"""The start counter of a device: it must grow over restarts (wire, 5a)."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import OperatorError


def next_boot(path: Path | None, wall: float) -> int:
    """One more than the file holds, written back before it is returned; without a file milliseconds since 1970.

    A file that holds no number starts over from the clock, which is greater than any count. Raise ``OperatorError``
    that names the file when it cannot be written.
    """
    from_clock = int(wall * 1000)
    if path is None:
        return from_clock
    try:
        boot = int(path.read_text("ascii")) + 1
    except FileNotFoundError:
        boot = 1
    except ValueError:
        boot = from_clock
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}; --state-file needs a file that this user may write") from err
    _replace(path, f"{boot}\n")
    return boot


def _replace(path: Path, text: str) -> None:
    """All of the new or all of the old, also after a power cut."""
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as err:
        raise OperatorError(f"{path}: {err.strerror}; --state-file needs a file that this user may write") from err
