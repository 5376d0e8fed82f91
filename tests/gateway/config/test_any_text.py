"""Whatever a file holds, reading it ends in a configuration or in lines that name their place."""

from __future__ import annotations

import dataclasses
import re
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import model
from gateway.config.lines import Lines
from gateway.config.load import examine

TABLES = {
    table.name: [
        field.name
        for field in dataclasses.fields(
            getattr(model, str(table.type).removeprefix("tuple[").partition(",")[0].rstrip("]"))
        )
    ]
    for table in dataclasses.fields(model.Config)
}
VALUES = (
    "0", "1", "-1", "18", "99999999999", "0.5", "-0.0", "inf", "nan", "true", "false", '""', '"x"', '"127.0.0.1"',
    '"::1"', '"gpio"', '"coap"', '"ess"', '"ev"', '"pv"', '"/"', '"é"', "[]", "[1]", '["1", "2"]', "[1, 2, 3]", "[[1]]",
    "{ a = 1 }", "[{ a = 1 }]", "1979-05-27", "07:32:00", '"""\nlong\n"""', "'\\'", "[\n1, # ]\n2,\n]",
)  # fmt: skip
LINE = re.compile(r"gateway\.toml(:\d+)?( [^ ].*?)?: .+")


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file of the right shape that holds anything."""
    parts = []
    for name in draw(st.lists(st.sampled_from([*TABLES, "zzz"]), max_size=6)):
        several = draw(st.booleans())
        parts.append(f"[[{name}]]" if several else f"[{name}]")
        keys = draw(
            st.lists(st.sampled_from([*TABLES.get(name, []), "zzz", '"a b"', "deep.er"]), unique=True, max_size=8)
        )
        parts += [f"{key} = {draw(st.sampled_from(VALUES))}" for key in keys]
    return "\n".join(parts)


@given(files())
def test_any_file(text: str) -> None:
    found = examine(text)
    assert (found.config is None) == bool(found.mistakes)
    for line in (*found.mistakes, *found.warnings):
        assert LINE.fullmatch(line), line


@given(st.text(alphabet="[]{}\"'\\=.,#\n\t ab1", max_size=60))
def test_any_text(text: str) -> None:
    found = examine(text)
    assert (found.config is None) == bool(found.mistakes)


@given(files())
def test_a_found_line_holds_its_key(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = Lines(text)
    rows = text.split("\n")
    for name, table in data.items():
        for index, one in enumerate(table if isinstance(table, list) else [table]):
            base = (name, index) if isinstance(table, list) else (name,)
            for key in one:
                at = lines.of((*base, key))
                assert at is not None
                assert rows[at - 1].lstrip('"').startswith(key)
