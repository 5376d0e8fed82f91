"""The journal: what must survive a restart and a power cut (docs/journal.md)."""

from gateway.journal.journal import Journal
from gateway.journal.saved import SavedDevice, SavedEvent
from gateway.journal.store import Connection, Connector, JournalError

__all__ = ["Connection", "Connector", "Journal", "JournalError", "SavedDevice", "SavedEvent"]
