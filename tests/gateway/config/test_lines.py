"""The finder of lines agrees with tomllib about what stands where."""

from __future__ import annotations

import pytest

from gateway.config.lines import Lines, show

TEXT = '''\
# a comment with [brackets] and "quotes
top = 1

[ema]          # a table
number = 1
"quoted key" = "a # that is no comment"
long = """
[not.a.table]
number = 2 \\"""
"""
literal = \'\'\'
[nor this]\'\'\'
list = [
  1,  # one ]
  "]",
]
after = 2
a.b = 3

[[device]]
number = 1

  [[ device ]]
pin = { x = 1, y = "}" }
number = 2
[device.deep]
z = 1
['odd "table"']
w = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("ema",), 4),
        (("ema", "number"), 5),
        (("ema", "quoted key"), 6),
        (("ema", "long"), 7),
        (("ema", "literal"), 11),
        (("ema", "list"), 13),
        (("ema", "after"), 17),
        (("ema", "a", "b"), 18),
        (("ema", "a"), 18),
        (("device", 0), 20),
        (("device", 0, "number"), 21),
        (("device", 1), 23),
        (("device", 1, "pin"), 24),
        (("device", 1, "pin", "y"), 24),  # inside an inline table: the line of its key
        (("device", 1, "number"), 25),
        (("device", 1, "deep"), 26),
        (("device", 1, "deep", "z"), 27),
        (('odd "table"',), 28),
        (('odd "table"', "w"), 29),
        (("device", 0, "missing"), 20),  # what is not there: the table that lacks it
        (("nowhere",), None),
    ],
)
def test_line_of(path: tuple[str | int, ...], line: int | None) -> None:
    assert Lines(TEXT).of(path) == line


def test_windows_line_ends() -> None:
    lines = Lines("[ema]\r\n\r\nnumber = 1\r\n[[device]]\r\nnumber = 4\r\n")
    assert lines.of(("ema", "number")) == 3
    assert lines.of(("device", 0, "number")) == 5


def test_the_last_line_needs_no_end() -> None:
    assert Lines("[ema]\nnumber = 1").of(("ema", "number")) == 2


def test_shown_as_an_operator_reads_it() -> None:
    assert show(("device", 2, "pin")) == "device[2].pin"
    assert show(("ema", "number")) == "ema.number"
