"""The table of commands: what is imported, what is said, which exit code."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from gateway import __version__, cli
from gateway.cli import COMMANDS, SubCommand, main
from gateway.errors import OperatorError, TransientError
from tests.gateway.cli.fake_daemon import smartema


def test_help_imports_no_transport() -> None:
    script = (
        "import sys; from gateway.cli import main; code = main(['--help']);"
        "heavy = {'aiomqtt', 'aiocoap', 'paho', 'asyncio', 'ssl', 'sqlite3'} & set(sys.modules);"
        "sys.exit(code or (str(sorted(heavy)) if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_every_command() -> None:
    done = smartema("--help")
    assert done.returncode == 0
    for row in COMMANDS:
        assert f"  {row.name:<8} {row.help}" in done.stdout


@pytest.mark.parametrize("name", ["setup", "run", "check", "status", "why", "menu"])
def test_each_command_teaches_with_an_example(name: str) -> None:
    done = smartema(name, "--help")
    assert done.returncode == 0
    assert f"smartema {name}" in done.stdout.split("example")[1]


def test_version() -> None:
    done = smartema("--version")
    assert (done.returncode, done.stdout) == (0, f"smartema {__version__}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: smartema COMMAND"),
        (["stauts"], "there is no command 'stauts'; did you mean 'status'?"),
        (["--verbose"], "unrecognized arguments: --verbose"),
        (["check"], "the following arguments are required: -c/--config"),
        (["check", "-c", "/none.toml"], "/none.toml: no such file"),
        (["run"], "the following arguments are required: -c/--config"),
        (["run", "-c", "/none.toml"], "/none.toml: no such file"),
        (["why", "--last", "0"], "'0' is not a whole number from 1 to 10000"),
        (["status", "now"], "unrecognized arguments: now"),
        (["status", "-c", "/none.toml"], "/none.toml: no such file"),
        (["menu", "5"], "the menu has no number '5'"),
        (["menu", "--json"], "--json goes with a number"),
        (["setup", "--output", "/none/x.toml"], "/none: no such folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(words: list[str], said: str) -> None:
    done = smartema(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_no_daemon_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    for words in (["status"], ["why"], ["menu"], ["menu", "60"]):
        done = smartema(*words, "--socket", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"no daemon answers at {path}; start it with `smartema run -c FILE`, or name its --socket\n"
        )


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m gateway --help | head -n 1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""


def command(monkeypatch: pytest.MonkeyPatch, run: object, extra: str = "") -> None:
    """``smartema fake`` that does what ``run`` says."""
    module = types.ModuleType("tests.fake_command")
    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.fake_command", module)
    row = SubCommand("fake", "tests.fake_command", "a test", "smartema fake", extra)
    monkeypatch.setattr(cli, "COMMANDS", (row,))


def failing(err: BaseException) -> object:
    def run(args: object) -> int:
        raise err

    return run


@pytest.mark.parametrize(
    ("err", "code", "said"),
    [
        (OperatorError("one\ntwo"), 2, "one\ntwo\n"),
        (TransientError("later"), 1, "later\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
        (
            ModuleNotFoundError("x", name="gpiozero.pins"),
            2,
            "smartema fake needs gpiozero; install it: pip install 'smartema[gpio]'\n",
        ),
        (
            ModuleNotFoundError("x", name="aiocoap"),
            2,
            "smartema fake needs aiocoap; install it: pip install 'smartema'\n",
        ),
    ],
)
def test_errors_by_who_must_act(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], err: BaseException, code: int, said: str
) -> None:
    command(monkeypatch, failing(err))
    assert main(["fake"]) == code
    assert capsys.readouterr().err == said


def test_one_extra_brings_all_of_the_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, failing(ModuleNotFoundError("x", name="fastapi")), extra="demo")
    assert main(["fake"]) == 2
    assert capsys.readouterr().err == "smartema fake needs fastapi; install it: pip install 'smartema[demo]'\n"


def test_our_own_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, failing(ImportError("cannot import name 'x' from 'gateway.site'", name="gateway.site")))
    with pytest.raises(ImportError):
        main(["fake"])


def test_a_command_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = SubCommand("fake", "nothing_there.cli", "a test", "smartema fake", "headend")
    monkeypatch.setattr(cli, "COMMANDS", (row,))
    assert main(["fake"]) == 2
    assert capsys.readouterr().err == (
        "this installation has no `smartema fake`; install it: pip install 'smartema[headend]'\n"
    )
