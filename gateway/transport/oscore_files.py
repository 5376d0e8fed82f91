"""OSCORE contexts as folders: what they hold, who may read them, and how a pair of them is made.

``secret.json`` never changes; ``sequence.json`` holds what may be sent and was received, and is written anew by
whoever uses the context. The form is aiocoap's own. Imports nothing of OSCORE. Cannot do: tell a folder that was
copied or put back from a backup: it would repeat numbers, and must be made anew.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path

from gateway.errors import OperatorError

SECRET, SEQUENCE = "secret.json", "sequence.json"
KEY_BYTES, SALT_BYTES, CONTEXT_BYTES = 16, 8, 8
LOOSE = 0o077
EMS_ID = b"S"


def ema_id(number: int) -> bytes:
    """An EMA's sender ID."""
    return b"E" + number.to_bytes(4, "big")


def make_pair(ema: Path, ems: Path, number: int) -> None:
    """The two contexts of EMA ``number`` and its EMS, of fresh random keys. Raise ``OperatorError``."""
    common: dict[str, str | int] = {
        "ema": number,
        "secret_hex": secrets.token_hex(KEY_BYTES),
        "salt_hex": secrets.token_hex(SALT_BYTES),
        # Sent with each request: an EMA with several EMSs tells them apart by it.
        "id-context_hex": secrets.token_hex(CONTEXT_BYTES),
    }
    for folder in (ema, ems):
        if folder.exists():
            raise OperatorError(f"{folder}: is there already; remove it first, on both ends, to make new keys")
    for folder, own, other in ((ema, ema_id(number), EMS_ID), (ems, EMS_ID, ema_id(number))):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(mode=0o700)
            write(folder, SECRET, {**common, "sender-id_hex": own.hex(), "recipient-id_hex": other.hex()})
            write(folder, SEQUENCE, {"next-to-send": 0, "received": {"index": 0, "bitfield": 0}})
        except OSError as err:
            raise OperatorError(f"{folder}: {err.strerror or err}") from err


def write(folder: Path, name: str, content: object) -> None:
    """Replace a file of a context; when this returns, file and folder are on the disk. Raise ``OSError``."""
    new = folder / f".{name}.new"
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, folder / name)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def ema_of(folder: Path) -> int:
    """The EMA whose context this is. Raise ``OperatorError`` for one that cannot be used."""
    try:
        if os.stat(folder).st_mode & LOOSE:
            raise OperatorError(f"{folder}: is open to others; chmod 700 {folder}")
        for name in (SECRET, SEQUENCE):
            path = folder / name
            found = os.stat(path).st_mode
            if found & LOOSE:
                raise OperatorError(f"{path}: is open to others ({stat.S_IMODE(found):04o}); chmod 600 {path}")
        if not os.access(folder, os.W_OK):
            raise OperatorError(f"{folder}: cannot be written by this user, but sequence.json changes with use")
        number = json.loads((folder / SECRET).read_text(encoding="utf-8"))["ema"]
    except FileNotFoundError as err:
        text = "make a new pair with smartema oscore make; a lost sequence.json cannot be replaced"
        raise OperatorError(f"{err.filename}: no such file; {text}") from err
    except OSError as err:
        raise OperatorError(f"{folder}: {err.strerror or err}") from err
    except (ValueError, LookupError, TypeError) as err:
        raise OperatorError(f"{folder / SECRET}: is no OSCORE context of an EMA") from err
    if not isinstance(number, int):
        raise OperatorError(f"{folder / SECRET}: ema: {number!r} is no number")
    return number


def contexts_in(folder: Path) -> list[Path]:
    """The contexts of an EMS: each folder in ``folder``. Raise ``OperatorError``."""
    try:
        if os.stat(folder).st_mode & LOOSE:
            raise OperatorError(f"{folder}: is open to others; chmod 700 {folder}")
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as err:
        raise OperatorError(f"{folder}: {err.strerror or err}") from err
