"""Opens the journal's two files, or begins new ones where a file is damaged."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.config.model import JournalConfig
from gateway.journal.numbers import MOST_BOOT_TOLD, MOST_TOLD
from gateway.journal.outbox import Outbox
from gateway.journal.outbox_file import Connect, OutboxFile, wal_pages
from gateway.journal.store import (
    Connection,
    Connector,
    DamagedError,
    is_damage,
    open_store,
    operator_error,
    set_aside,
)

log = logging.getLogger(__name__)


def open_essential(connector: Connector, path: Path) -> tuple[Connection, dict[str, int] | None]:
    """The essential file; with it, if the old one was damaged, the counters that could still be read there."""
    try:
        return open_store(connector, path, "essential", essential=True), None
    except DamagedError:
        salvaged = _salvage(connector, path)
        kept = set_aside(path)
        log.error("%s is damaged and set aside as %s: what it held is lost, devices are taken up anew", path, kept)
        return open_store(connector, path, "essential", essential=True), salvaged


def open_outbox(connector: Connector, path: Path, config: JournalConfig) -> Outbox:
    def reopen() -> tuple[Connection, Callable[[], Connection]]:
        set_aside(path)
        return connect()

    def connect() -> tuple[Connection, Callable[[], Connection]]:
        pages = wal_pages(config.outbox_max_bytes)
        writing = open_store(connector, path, "outbox", essential=False, wal_pages=pages)
        return writing, lambda: connector.read(path, writing)

    def load(pair: Connect) -> Outbox:
        file = OutboxFile(pair, reopen)
        try:
            return Outbox(file, config, threading.Lock())
        except sqlite3.Error as error:
            file.close()
            if is_damage(error):
                raise DamagedError(str(path)) from error
            raise operator_error(path, error) from error

    try:
        return load(connect)
    except DamagedError:
        log.error("%s is damaged and set aside; what it held and nobody acknowledged is lost", path)
        return load(reopen)


def _salvage(connector: Connector, path: Path) -> dict[str, int]:
    """The counters of a damaged file, as far as they can be read."""
    found: dict[str, int] = {}
    try:
        connection = connector.write(path)
        try:
            rows: Iterable[tuple[str, int]] = connection.execute("SELECT name, value FROM counter")
            for name, value in rows:
                # What lies in a damaged page need not be a count; one too great would leave no numbers.
                if 0 <= int(value) <= (MOST_BOOT_TOLD if name == "boot" else MOST_TOLD):
                    found[str(name)] = int(value)
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, TypeError):
        pass
    return found
