"""libgpiod's Python modules, as far as we use them, over a pipe and a dictionary: v1 (1.6) and v2 (2.x)."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any


class Chips:
    """The levels of all lines, and who holds them. ``outputs`` lists every level that was driven."""

    def __init__(self) -> None:
        self.levels: dict[tuple[str, int], int] = {}
        self.held: set[tuple[str, int]] = set()
        self.outputs: list[tuple[str, int, int]] = []
        self.events: dict[tuple[str, int], int] = {}
        self.when = 0.0

    def take(self, key: tuple[str, int]) -> None:
        if key[0] != "gpiochip0":
            raise FileNotFoundError(2, "No such file or directory")
        if key in self.held:
            raise OSError(16, "Device or resource busy")
        self.held.add(key)

    def drive(self, key: tuple[str, int], level: int) -> None:
        self.levels[key] = level
        self.outputs.append((*key, level))

    def watch(self, key: tuple[str, int]) -> int:
        read, write = os.pipe()
        self.events[key] = write
        return read

    def press(self, line: int, at: float) -> None:
        self.when = at
        os.write(self.events[("gpiochip0", line)], b"!")


def v1(chips: Chips) -> Any:
    """``import gpiod`` of libgpiod 1.6."""

    class Line:
        def __init__(self, key: tuple[str, int]) -> None:
            self.key = key
            self.kind = ""
            self.fd = -1

        def request(self, consumer: str, type: str, flags: int = 0, default_val: int = 0) -> None:
            chips.take(self.key)
            self.kind = type
            if type == "out":
                chips.drive(self.key, default_val)
            elif type == "falling":
                assert flags == 32
                self.fd = chips.watch(self.key)

        def set_value(self, value: int) -> None:
            assert self.kind == "out"
            chips.drive(self.key, value)

        def get_value(self) -> int:
            return chips.levels.get(self.key, 0)

        def release(self) -> None:
            chips.held.discard(self.key)

        def event_get_fd(self) -> int:
            return self.fd

        def event_read(self) -> Any:
            os.read(self.fd, 1)
            return SimpleNamespace(sec=int(chips.when), nsec=int(chips.when % 1 * 1e9))

    class Chip:
        def __init__(self, name: str) -> None:
            self.name = name

        def get_line(self, line: int) -> Line:
            return Line((self.name, line))

    return SimpleNamespace(
        Chip=Chip,
        LINE_REQ_DIR_AS_IS="as is",
        LINE_REQ_DIR_OUT="out",
        LINE_REQ_EV_FALLING_EDGE="falling",
        LINE_REQ_FLAG_BIAS_PULL_UP=32,
    )


def v2(chips: Chips) -> Any:
    """``import gpiod`` of libgpiod 2.x."""
    line_module = SimpleNamespace(
        Direction=SimpleNamespace(AS_IS="as is", OUTPUT="out"),
        Value=SimpleNamespace(ACTIVE="active", INACTIVE="inactive"),
        Edge=SimpleNamespace(FALLING="falling"),
        Bias=SimpleNamespace(PULL_UP="up"),
    )

    class LineSettings:
        def __init__(self, **settings: Any) -> None:
            self.settings = settings

    class Request:
        def __init__(self, name: str, config: dict[int, LineSettings]) -> None:
            [(line, settings)] = config.items()
            self.key = (name, line)
            self.settings = settings.settings
            chips.take(self.key)
            self.fd = -1
            if "output_value" in self.settings:
                self.set_value(line, self.settings["output_value"])
            if "edge_detection" in self.settings:
                assert self.settings["bias"] == "up"
                self.fd = chips.watch(self.key)

        def set_value(self, line: int, value: str) -> None:
            assert self.settings["direction"] == "out"
            chips.drive(self.key, int(value == "active"))

        def get_value(self, line: int) -> str:
            return "active" if chips.levels.get(self.key) else "inactive"

        def release(self) -> None:
            chips.held.discard(self.key)

        def read_edge_events(self) -> list[str]:
            os.read(self.fd, 1)
            return ["edge"]

    def request_lines(path: str, consumer: str, config: dict[int, LineSettings]) -> Request:
        assert path.startswith("/dev/")
        return Request(path.removeprefix("/dev/"), config)

    return SimpleNamespace(request_lines=request_lines, LineSettings=LineSettings, line=line_module)
