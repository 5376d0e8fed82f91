"""smartema's gateway: the energy management agent (EMA) as a daemon."""

__version__ = "0.1.0"
