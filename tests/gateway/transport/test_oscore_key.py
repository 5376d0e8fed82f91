"""A context on the disk: no sequence number twice, whatever ends the process or fills the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("filelock")
pytest.importorskip("cryptography")
pytest.importorskip("cbor2")

from aiocoap.oscore import ContextUnavailable

from gateway.cli import main
from gateway.config.load import examine
from gateway.errors import OperatorError
from gateway.transport import oscore, oscore_files
from gateway.transport.oscore import BLOCK, Key, Keys
from gateway.transport.oscore_files import make_pair

# Says each number once it may be used, until it is killed.
CHILD = """
import sys
from pathlib import Path
from gateway.transport.oscore import Key
key = Key(Path(sys.argv[1]))
while True:
    print(key.new_sequence_number(), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pair(tmp_path / "ema", tmp_path / "ems", 1)
    return tmp_path / "ema"


def test_killed_at_any_moment_no_number_comes_twice(folder: Path) -> None:
    given: list[int] = []
    for wanted in (1, 7, BLOCK - 1, BLOCK + 3, 2 * BLOCK):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")
        child.stdout.close()
        child.wait()
        # The last line may be cut off; its number counts as given all the same where it is whole.
        given += [int(line) for line in (*heard, *rest[:-1])]
    assert len(given) == len(set(given))
    assert given == sorted(given)


def test_a_block_is_on_the_disk_with_its_folder_before_its_first_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key(folder)
    synced: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(oscore_files.os, "fsync", noted)
    assert key.new_sequence_number() == 0
    assert synced == [str(folder / ".sequence.json.new"), str(folder)]
    assert json.loads((folder / "sequence.json").read_text())["next-to-send"] > BLOCK
    for number in range(1, BLOCK + 1):
        assert key.new_sequence_number() == number
    assert len(synced) == 2
    key.close()


def test_a_block_that_could_not_be_written_gives_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Key(folder)
    given = [key.new_sequence_number() for _ in range(BLOCK + 1)]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(oscore, "write", full)
        for _ in range(3):
            with pytest.raises(ContextUnavailable, match="No space left"):
                key.new_sequence_number()
    assert key.new_sequence_number() not in given
    reserved = json.loads((folder / "sequence.json").read_text())["next-to-send"]
    assert reserved > max(given)
    key.close()


def test_closed_in_order_it_goes_on_where_it_was_and_gives_nothing_more(folder: Path) -> None:
    key = Key(folder)
    last = [key.new_sequence_number() for _ in range(3)][-1]
    key.close()
    with pytest.raises(ContextUnavailable):
        key.new_sequence_number()
    again = Key(folder)
    assert again.new_sequence_number() == last + 1
    again.close()


def test_two_processes_do_not_share_one(folder: Path) -> None:
    key = Key(folder)
    with pytest.raises(OperatorError, match="another process uses this context"):
        Key(folder)
    key.close()


def test_a_lost_sequence_file_is_not_a_new_beginning(folder: Path) -> None:
    (folder / "sequence.json").unlink()
    with pytest.raises(OperatorError, match=r"sequence.json: no such file; make a new pair"):
        Key(folder)


def test_the_configuration_names_what_will_not_do(folder: Path) -> None:
    def mistakes(protocol: str) -> str:
        upstream = f'[[upstream]]\nhost = "127.0.0.1"\nprotocol = "{protocol}"\noscore_dir = "{folder}"\n'
        return "\n".join(examine(upstream).mistakes)

    assert mistakes("coap") == ""
    assert 'oscore_dir: belongs to protocol = "coap"' in mistakes("mqtt")
    folder.chmod(0o755)
    assert f"{folder}: is open to others; chmod 700" in mistakes("coap")


def test_two_contexts_of_one_ema_are_one_too_many(tmp_path: Path) -> None:
    make_pair(tmp_path / "a", tmp_path / "ems" / "a", 1)
    make_pair(tmp_path / "b", tmp_path / "ems" / "b", 1)
    folders = oscore_files.contexts_in(tmp_path / "ems")
    with pytest.raises(OperatorError, match="is a second context of EMA 1"):
        Keys(folders).open()
    Key(folders[0]).close()  # it was let go


def test_the_command_makes_pairs_closed_to_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oscore", "make", str(tmp_path / "keys"), "--ema", "1", "--ema", "2"]) == 0
    assert "--oscore-dir" in capsys.readouterr().out
    for path in [tmp_path / "keys", *(tmp_path / "keys").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert main(["oscore", "make", str(tmp_path / "keys"), "--ema", "1"]) == 2
    assert "is there already" in capsys.readouterr().err
    for number in (1, 2):
        one, other = (Key(tmp_path / "keys" / place / f"ema-{number}") for place in (".", "ems"))
        assert (one.sender_key, one.recipient_key) == (other.recipient_key, other.sender_key)
        assert one.sender_key != one.recipient_key
        one.close()
        other.close()


def test_nothing_of_it_is_imported_without_a_key() -> None:
    code = """
import sys
import gateway.upstream.carriers, gateway.upstream.carrier_coap, gateway.transport.coap_shared
import gateway.transport.coap_ask, gateway.config.load
found = {"gateway.transport.oscore", "gateway.transport.oscore_files", "cryptography", "cbor2", "filelock"}
sys.exit(str(found & set(sys.modules)) if found & set(sys.modules) else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
