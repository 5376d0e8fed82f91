"""The start counter grows, whatever became of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agents.boot import next_boot
from gateway.errors import OperatorError


def test_it_grows_with_each_start(tmp_path: Path) -> None:
    path = tmp_path / "boot"
    assert [next_boot(path, 0.0) for _ in range(3)] == [1, 2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["boot"]


def test_without_a_file_the_clock_counts() -> None:
    assert next_boot(None, 1_764_000_000.5) == 1_764_000_000_500


@pytest.mark.parametrize("held", ["", "x", "\x00\x00\x00"])
def test_a_broken_file_goes_on_above_any_count(tmp_path: Path, held: str) -> None:
    path = tmp_path / "boot"
    path.write_text(held)
    assert next_boot(path, 1_764_000_000.0) == 1_764_000_000_000
    assert next_boot(path, 1_764_000_000.0) == 1_764_000_000_001


def test_a_file_that_cannot_be_is_the_operators_mistake(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "boot"
    with pytest.raises(OperatorError, match=str(path)):
        next_boot(path, 0.0)
    with pytest.raises(OperatorError, match="--state-file"):
        next_boot(tmp_path, 0.0)
