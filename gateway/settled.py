"""What a process holds once it serves stays for its life: the garbage collector need not walk it again and again.

A full collection stops the whole process: 40 to 130 ms with the libraries and some hundred peers, and more often the
more waits for a disk. What comes after ``settle`` is collected as ever.
"""

from __future__ import annotations

import gc


def settle() -> None:
    """Call once, when all parts serve. For whoever owns the process: what is known now is never collected."""
    gc.collect()
    gc.freeze()
