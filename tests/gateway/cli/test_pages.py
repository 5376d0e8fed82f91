"""The pages say what is there: links lead somewhere, commands and menu numbers exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli import COMMANDS
from gateway.cli.menu_items import ITEMS
from gateway.config.load import examine

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    names = {row.name for row in COMMANDS}
    pieces = re.findall(r"(?s)```.*?```|`[^`\n]*`", page.read_text(encoding="utf-8"))
    command = re.compile(r"(?m)(?:^|&& |sudo -u smartema )smartema ([a-z]+)\b")
    shown = [name for piece in pieces for name in command.findall(piece.strip("`"))]
    assert set(shown) <= names


def test_every_number_of_the_menu_is_explained() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    told = {number for row in re.findall(r"(?m)^\| (`\d.*?) \|", text) for number in re.findall(r"`(\d+)", row)}
    assert told == set(ITEMS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_configurations_are_right(page: Path, tmp_path: Path) -> None:
    for block in re.findall(r"(?s)```toml\n(.*?)```", page.read_text(encoding="utf-8")):
        if page.name == "ems.md" and not block.startswith("["):
            from headend.ems.settings import EmsSettings, load

            (tmp_path / "ems.toml").write_text(block)
            EmsSettings(**load(str(tmp_path / "ems.toml"))).check()
            continue
        found = examine(block, "example.toml")
        # Files that an example names are not here.
        assert [line for line in found.mistakes if "no such file" not in line] == []
