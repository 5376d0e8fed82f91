"""VTNs above the EMS that registered over UDP: who is there, and what they say their VENs draw."""

from __future__ import annotations

from headend.ems.book import Book
from headend.ems.state import Vtn


class VtnDesk:
    """In memory alone: after a restart of the EMS a VTN is told that it is not registered, and registers again."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.known: dict[str, Vtn] = {}

    def registered(self, name: str, address: str, vens: int) -> None:
        """It came, perhaps again."""
        wall = self._book.wall
        fresh = name not in self.known
        self.known[name] = Vtn(name, address, vens, registered_at=wall, last_seen=wall)
        if fresh:
            self._book.log.info("VTN %s registered from %s", name, address)
        self._book.changed("vtn", None, self.known[name])

    def reported(self, name: str, address: str, vens: int, watts: float) -> None:
        """Its VENs draw so many W."""
        vtn = self.known.get(name)
        if vtn is None:
            return
        vtn.address, vtn.vens, vtn.value_w, vtn.last_seen = address, vens, watts, self._book.wall
        self._book.changed("vtn", None, vtn)

    def gone(self, name: str) -> None:
        """It deregistered."""
        vtn = self.known.pop(name, None)
        if vtn is not None:
            self._book.log.info("VTN %s deregistered", name)
            self._book.changed("vtn", None, {"name": name, "gone": True})
