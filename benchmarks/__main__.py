"""``make bench``: each figure against a floor measured in the same run. ``ONLY=name,name`` runs some."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.table import Row, show

# module → the figures it measures
BENCHES = {
    "footprint": ("rss_idle", "start"),
    "reaction": ("reaction_p50", "reaction_p99", "reaction_200_p99"),
    "event": ("event_p50", "event_p99"),
    "cpu": ("cpu_200",),
    "coap_poll": ("coap_poll_p50", "coap_poll_p99"),
    "coap_observe": ("observe_event_p50",),
    "coap_reaction": ("coap_reaction_push_p99", "coap_reaction_observe_p99"),
    "emas": ("emas_per_process",),
    "coap_bytes": ("poll_frame", "poll_answer_frame"),
    "journal": ("commit_p99", "outbox"),
    "control_quality": ("control_quality",),
}


def main() -> int:
    """Print the table, write ``bench.json``; 1 when a figure misses what it must be."""
    only = {name for name in os.environ.get("ONLY", "").split(",") if name}
    known = {figure for figures in BENCHES.values() for figure in figures} | set(BENCHES)
    if unknown := only - known:
        print(f"ONLY: {', '.join(sorted(unknown))}: not one of {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    rows: list[Row] = []
    for module, figures in BENCHES.items():
        if only and module not in only and not only & set(figures):
            continue
        print(f"… {module}", file=sys.stderr, flush=True)
        for row in importlib.import_module(f"benchmarks.{module}").run():
            rows.append(Row(**{**row, "on": row.get("on") or machine}))
    print(show(rows))
    Path("bench.json").write_text(json.dumps([row.plain() for row in rows], indent=1) + "\n")
    return 1 if any(row.missed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
