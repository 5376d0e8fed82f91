"""A disk that loses power: an SQLite VFS in memory that knows which writes were synced, and can be full."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw

from gateway.journal import Connection, Connector

SECTOR = 512
_names = itertools.count()


class File:
    """What is in it now, what a power cut leaves, and the writes between the two."""

    def __init__(self, content: bytes = b"") -> None:
        self.current = bytearray(content)
        self.synced = bytes(content)
        self.unsynced: list[tuple[int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        _put(self.current, data, offset)
        self.unsynced.append((offset, data))

    def sync(self) -> None:
        self.synced = bytes(self.current)
        self.unsynced.clear()

    def after_cut(self, survives: Callable[[], bool]) -> bytes:
        """Sectors that were not synced survive or not, each for itself, in any order."""
        content = bytearray(self.synced)
        for offset, data in self.unsynced:
            for start in range(0, len(data), SECTOR):
                if survives():
                    _put(content, data[start : start + SECTOR], offset + start)
        return bytes(content)


def _put(content: bytearray, data: bytes, offset: int) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """Files over several boots. ``room``: bytes that may still be written (None: no bound)."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.room: int | None = None
        self.syncs = 0
        self._vfs: Vfs | None = None
        self.boot()

    def boot(self) -> Connector:
        """A new VFS on what is there; whoever holds the old one writes into nothing."""
        self.files = dict(self.files)
        if self._vfs is not None:
            self._vfs.alive = False
        self._vfs = Vfs(self, self.files)
        return ApswConnector(self._vfs.vfs_name)

    def kill(self) -> Connector:
        """The process ends, the machine goes on: every write is there."""
        self.files = {name: _copy(file) for name, file in self.files.items()}
        return self.boot()

    def cut(self, survives: Callable[[], bool]) -> Connector:
        """The power goes: what was not synced is there or not."""
        self.files = {name: File(file.after_cut(survives)) for name, file in self.files.items()}
        return self.boot()


def _copy(file: File) -> File:
    copy = File()
    copy.current = bytearray(file.current)
    copy.synced = file.synced
    copy.unsynced = list(file.unsynced)
    return copy


class Vfs(apsw.VFS):
    def __init__(self, disk: Disk, files: dict[str, File]) -> None:
        self.vfs_name = f"disk-{next(_names)}"
        self.disk = disk
        self.files = files
        self.alive = True
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Handle:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        if path is None:
            return Handle(self, File())
        if path not in self.files:
            if not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError("no such file")
            self.files[path] = File()
        return Handle(self, self.files[path])

    def xAccess(self, path: str, flags: int) -> bool:
        return path in self.files

    def xDelete(self, path: str, sync: bool) -> None:
        self.files.pop(path, None)

    def xFullPathname(self, name: str) -> str:
        return name


class Handle:
    def __init__(self, vfs: Vfs, file: File) -> None:
        self.vfs = vfs
        self.disk = vfs.disk
        self.file = file

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.file.current[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        if self.disk.room is not None and self.vfs.alive:
            if len(data) > self.disk.room:
                raise apsw.FullError("no room")
            self.disk.room -= len(data)
        self.file.write(bytes(data), offset)

    def xTruncate(self, size: int) -> None:
        # A file system journals its metadata: a truncation is there at once.
        del self.file.current[size:]
        self.file.synced = self.file.synced[:size]
        self.file.unsynced = [(o, d[: size - o]) for o, d in self.file.unsynced if o < size]

    def xSync(self, flags: int) -> None:
        self.disk.syncs += 1
        self.file.sync()

    def xFileSize(self) -> int:
        return len(self.file.current)

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xClose(self) -> None: ...

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False


class ApswConnector(Connector):
    def __init__(self, vfs: str) -> None:
        self.vfs = vfs

    def write(self, path: Path) -> Connection:
        return ApswConnection(apsw.Connection(str(path), vfs=self.vfs))

    def read(self, path: Path, writer: Connection) -> Connection:
        return Borrowed(writer)


class ApswConnection:
    """apsw with the errors of sqlite3; exclusive, for this disk has no shared memory."""

    def __init__(self, inner: apsw.Connection) -> None:
        self._inner = inner
        inner.execute("PRAGMA locking_mode=EXCLUSIVE")

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Iterable[Any]:
        return _translated(lambda: list(self._inner.execute(sql, parameters)))

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> object:
        return _translated(lambda: list(self._inner.executemany(sql, parameters)))

    def close(self) -> None:
        _translated(self._inner.close)


class Borrowed:
    """The writer's connection, for reading."""

    def __init__(self, writer: Connection) -> None:
        self.execute = writer.execute
        self.executemany = writer.executemany

    def close(self) -> None: ...


def _translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except apsw.Error as error:
        told = sqlite3.OperationalError(str(error))
        told.sqlite_errorcode = getattr(error, "extendedresult", 1)
        raise told from error
