"""Exit 0 when this project and the extras named are installed as setup.cfg wants them, 1 when not. Asks no network."""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from pathlib import Path


def satisfied(setup: Path, extras: list[str]) -> bool:
    """Is the project installed from here, with its command and every requirement of the extras."""
    from pip._vendor.packaging.requirements import Requirement

    config = configparser.ConfigParser()
    config.read(setup, encoding="utf-8")
    wanted = config["options"]["install_requires"].split("\n")
    for extra in extras:
        wanted += config["options.extras_require"][extra].split("\n")
    try:
        own = importlib.metadata.distribution(config["metadata"]["name"])
        if own.version != config["metadata"]["version"]:
            return False
        if {entry.name for entry in own.entry_points} != {"smartema"}:
            return False
        for text in filter(None, map(str.strip, wanted)):
            need = Requirement(text)
            if not need.specifier.contains(importlib.metadata.version(need.name), prereleases=True):
                return False
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(not satisfied(Path("setup.cfg"), sys.argv[1].split(",")))
