"""Draws the demo's screen as an SVG for the README: ``python -m lab.demo.picture docs/demo.svg``."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lab.demo import screen as ansi

CELL_W, CELL_H, MARGIN = 8.4, 18, 14
COLUMNS, ROWS = 132, 34
PAPER, INK = "#101418", "#d8dee4"
STYLES = {
    ansi.BOLD: 'font-weight="bold"',
    ansi.DIM: 'fill="#7d8793"',
    ansi.RED: 'fill="#ff6b6b"',
    ansi.AMBER: 'fill="#e8b04b"',
    ansi.GREEN: 'fill="#5fc27e"',
}
# Real seconds of the demo until the picture is taken: in its first event, after both RDRs.
TAKEN_AFTER_S = 7.0


def svg(lines: Sequence[str]) -> str:
    """Lines with the screen's escape sequences as one drawing."""
    width, height = round(COLUMNS * CELL_W + 2 * MARGIN), len(lines) * CELL_H + 2 * MARGIN
    drawn = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + (row + 1) * CELL_H - 5}">{_spans(ansi.fit(line, COLUMNS))}</text>'
        for row, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" fill="{INK}" xml:space="preserve">\n'
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>\n{drawn}\n</svg>\n'
    )


def _spans(line: str) -> str:
    out, style = [], ""
    for part in re.split(r"(\x1b\[\d+m)", line):
        if part == ansi.PLAIN:
            style = ""
        elif part in STYLES:
            style = f"{style} {STYLES[part]}" if style else STYLES[part]
        elif part:
            out.append(f"<tspan {style}>{escape(part)}</tspan>" if style else escape(part))
    return "".join(out)


async def take() -> str:
    """Run the demo for a while and draw what it shows."""
    import tempfile

    from lab.demo.cli import PICTURE_S, clock_words, frame, listen
    from lab.demo.record import Recorder
    from lab.demo.scene import running
    from lab.demo.story import Teller, tell

    with tempfile.TemporaryDirectory(prefix="smartema-demo-") as directory:
        async with running(Path(directory), 60.0, 1) as scene:
            picture = ansi.Screen(ansi.Silence(), True)
            began = scene.clock.now()
            recorder = Recorder(began.mono, began.wall)
            listen(scene, recorder, picture)
            teller = Teller(lambda line: picture.decided(clock_words(scene), f"· {line}"), recorder.event)
            story = asyncio.create_task(tell(scene, teller))
            for _ in range(round(TAKEN_AFTER_S / PICTURE_S)):
                picture.draw(frame(scene, 60.0))
                await asyncio.sleep(PICTURE_S)
            lines = picture.lines(frame(scene, 60.0), ROWS, COLUMNS)
            story.cancel()
            scene.daemon.engine.listeners.clear()
            return svg(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(asyncio.run(take()))
