"""The devices' core under a real MicroPython (its WebAssembly port, under Node): the same lines as here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.device_agents.core import CORE
from tests.device_agents.scenario import main

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "micropython"
PACKAGE = HERE / "node_modules" / "@micropython" / "micropython-webassembly-pyscript"
# The core's modules in a board's heap: small enough for an ESP32 without PSRAM, whose heap is near 110 kB.
MOST_BYTES = 80_000


@pytest.fixture(scope="module")
def micropython() -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: apt install nodejs npm")
    if not PACKAGE.is_dir():
        reason = f"MicroPython is not installed: run {HERE.relative_to(ROOT)}/install.sh"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    files = ["device_agents/__init__.py", *(f"device_agents/{name}.py" for name in CORE)]
    files += [f"tests/{name}" for name in ("__init__.py", "device_agents/__init__.py")]
    files += [f"tests/device_agents/{name}.py" for name in ("vectors", "scenario")]
    done = subprocess.run(
        [node, str(HERE / "run.mjs"), str(ROOT), *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_same_bytes_and_values(micropython: list[str]) -> None:
    here: list[str] = []
    main(here.append)
    there = micropython[:-1]
    assert len(here) > 200
    for number, (ours, theirs) in enumerate(zip(here, there, strict=False)):
        assert theirs == ours, f"line {number}"
    assert len(there) == len(here)


def test_every_vector_holds_there(micropython: list[str]) -> None:
    assert not [line for line in micropython if line.startswith(("False", "taken"))]


def test_it_fits_a_board(micropython: list[str]) -> None:
    words = micropython[-1].split()
    assert words[:3] == ["#", "mem_alloc", "core"]
    assert int(words[3]) < MOST_BYTES
