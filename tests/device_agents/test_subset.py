"""The core keeps to what MicroPython has: an AST check, for what a run under MicroPython does not reach."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.device_agents.core import CORE

FOLDER = Path(__file__).parents[2] / "device_agents"
# What a board's MicroPython has, and the core may want.
ALLOWED = {"sys"} | {f"device_agents.{name}" for name in CORE}
# stack.md: these methods and arguments are not there.
MISSING_METHODS = {"removeprefix", "removesuffix", "isascii", "JSONDecodeError", "monotonic"}
MISSING_ARGUMENTS = {"sort_keys", "indent"}
MISSING_NODES = (ast.Match, ast.AsyncFunctionDef, ast.TryStar, ast.TypeAlias) if hasattr(ast, "TypeAlias") else (
    ast.Match, ast.AsyncFunctionDef, ast.TryStar,
)  # fmt: skip


def faults(tree: ast.AST) -> list[str]:
    """What MicroPython would stumble over, each with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: import {a.name}" for a in node.names if a.name not in ALLOWED]
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module not in ALLOWED:
                found.append(f"{node.lineno}: from {node.module}")
        elif isinstance(node, MISSING_NODES):
            found.append(f"{node.lineno}: {type(node).__name__}")  # type: ignore[attr-defined]
        elif isinstance(node, ast.arguments) and node.posonlyargs:
            found.append(f"{node.posonlyargs[0].lineno}: positional-only")
        elif isinstance(node, ast.Attribute) and node.attr in MISSING_METHODS:
            found.append(f"{node.lineno}: .{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in MISSING_ARGUMENTS:
            found.append(f"{node.value.lineno}: {node.arg}=")
        elif isinstance(node, ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load):
            found += [f"{node.lineno}: *" for item in node.elts if isinstance(item, ast.Starred)]
        elif isinstance(node, ast.Raise) and node.cause is not None:
            found.append(f"{node.lineno}: raise from")
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [d.id for d in node.decorator_list if isinstance(d, ast.Name)]
            found += [f"{node.lineno}: @{name}" for name in names if name not in ("staticmethod", "property")]
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_core_keeps_to_the_subset(name: str) -> None:
    assert faults(ast.parse((FOLDER / f"{name}.py").read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "import typing",
        "from gateway.clock import Clock",
        "from .protocol import Status",
        "from __future__ import annotations",
        "match x:\n    case 1: pass",
        "def f(a, /): pass",
        "x.removeprefix('a')",
        "dumps(x, indent=2)",
        "[*a, *b]",
        "@dataclass\nclass A: pass",
        "raise A from b",
    ],
)
def test_the_check_finds_it(text: str) -> None:
    assert faults(ast.parse(text))
