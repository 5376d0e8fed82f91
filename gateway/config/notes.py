"""What is wrong or doubtful in a configuration, collected with its place."""

from __future__ import annotations

from gateway.config.lines import Lines, Path, show
from gateway.config.values import one_line


class Notes:
    """Mistakes and warnings of one file. A key that is wrong once is not blamed again for what follows from it."""

    def __init__(self, filename: str, lines: Lines) -> None:
        self._filename = filename
        self._lines = lines
        self._wrong: list[tuple[Path, str]] = []
        self._doubtful: list[tuple[Path, str]] = []

    def bad(self, path: Path) -> bool:
        """Is this key already known to be wrong."""
        return any(path == known for known, _ in self._wrong)

    def wrong(self, path: Path, text: str, *also: Path) -> None:
        """A mistake at ``path``; not noted when it, or a key in ``also`` it was compared with, is wrong already."""
        if not any(self.bad(each) for each in (path, *also)):
            self._wrong.append((path, text))

    def doubtful(self, path: Path, text: str, *also: Path) -> None:
        """A warning, under the same condition."""
        if not any(self.bad(each) for each in (path, *also)):
            self._doubtful.append((path, text))

    def mistakes(self) -> list[str]:
        """One line each, in the order of the file's lines."""
        return self._told(self._wrong)

    def warnings(self) -> list[str]:
        """One line each, in the order of the file's lines."""
        return self._told(self._doubtful)

    def _told(self, notes: list[tuple[Path, str]]) -> list[str]:
        placed = [(self._lines.of(path), show(path), text) for path, text in notes]
        placed.sort(key=lambda note: note[0] or 10**9)
        return [
            f"{self._filename}{f':{line}' if line else ''} {one_line(where)}: {one_line(text)}"
            for line, where, text in placed
        ]
