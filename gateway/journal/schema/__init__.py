"""Schema versions of the journal's two files: ``<file>_<version>.sql``, applied in order (see ``store.py``)."""
