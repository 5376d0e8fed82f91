"""What the Makefile stands on: a virtual environment or one line that says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

NO_ENSUREPIP = """#!/bin/sh
case "$2" in *ensurepip*) exit 1;; *"print("*) echo 3.12;; esac
"""
TOO_OLD = """#!/bin/sh
exit 1
"""


def venv(python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ".ci/venv.sh", str(folder / "venv"), "demo"],
        cwd=ROOT,
        env=os.environ | {"PYTHON": python},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            NO_ENSUREPIP,
            "{} cannot make virtual environments: python3-venv is missing; install it: apt install python3.12-venv\n",
        ),
        (TOO_OLD, "Python 3.11 or newer is needed, and {} is older; install it: apt install python3 python3-venv\n"),
        (None, "Python 3.11 or newer is needed; install it: apt install python3 python3-venv\n"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, script: str | None, said: str) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(script)
        python.chmod(0o755)
    done = venv(str(python), tmp_path)
    assert (done.returncode, done.stderr) == (1, said.format(python))
    assert not (tmp_path / "venv").exists()


def installed(setup: str, folder: Path, extras: str) -> int:
    (folder / "setup.cfg").write_text(setup)
    script = str(ROOT / ".ci" / "installed.py")
    return subprocess.run([sys.executable, script, extras], cwd=folder, timeout=60, check=False).returncode


def test_what_is_installed_is_not_asked_for_again(tmp_path: Path) -> None:
    setup = (ROOT / "setup.cfg").read_text()
    assert installed(setup, tmp_path, "gpio") == 0
    assert installed(setup.replace("gpiozero>=2.0.1,<3", "gpiozero>=9"), tmp_path, "gpio") == 1
    assert installed(setup.replace("gpiozero>=", "no-such-package>="), tmp_path, "gpio") == 1
    assert installed(setup.replace("version = 0.1.0", "version = 9.9.9"), tmp_path, "gpio") == 1


def test_the_help_names_every_target() -> None:
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    targets = [line.split()[1] for line in shown.stdout.splitlines()]
    assert targets == ["run", "test", "lint", "bench", "soak", "docs", "clean"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)
