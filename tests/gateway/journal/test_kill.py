"""kill -9 in the midst of writing: what was said to be durable is there, and no number comes twice."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

from gateway.clock import SystemClock
from gateway.config.model import JournalConfig
from gateway.journal import Journal

LIVES = 6

# Prints a line after each promise that the journal made: durable value, number given, record appended.
CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.config.model import JournalConfig
from gateway.journal import Journal
from tests.gateway.journal.samples import decision, lamp, report

async def main():
    home = Path(sys.argv[1])
    journal = Journal.open(home, home, JournalConfig(), SystemClock())
    reader = journal.reader("ems")
    print("boot", journal.boot, flush=True)
    n = int(journal.value("n") or 0)
    while True:
        n += 1
        record = journal.append(report(float(n), 3))
        journal.save_value("n", str(n))
        journal.save_device(lamp(n % 50), "mqtt", str(n))
        journal.save_decision(decision(journal.next_decision_id(), "lamp-1"))
        command = journal.next_command_id()
        print("command", command, flush=True)
        await journal.durable()
        print("durable", n, record.boot, record.seq, flush=True)
        if n % 7 == 0:
            first = reader.unacknowledged(None, 3)
            reader.acknowledge(first[-1].boot, first[-1].seq)

asyncio.run(main())
"""


async def test_kill_in_the_midst(tmp_path: Path) -> None:
    chance = random.Random(20)
    boots: list[int] = []
    commands: list[int] = []
    durable = 0
    for _ in range(LIVES):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert child.stdout is not None
        for _ in range(chance.randint(20, 120)):
            _take(child.stdout.readline(), boots, commands)
        child.kill()
        last = ""
        for line in child.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                _take(line, boots, commands)
                last = line if line.startswith("durable") else last
        child.wait()
        child.stdout.close()
        if last:
            durable = int(last.split()[1])
        journal = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock())
        boots.append(journal.boot)
        n = int(journal.value("n") or 0)
        assert n >= durable
        assert any(saved.address == str(n) for saved in journal.devices())
        assert len(journal.decisions(10_000)) == n
        reader = journal.reader("ems")
        places = []
        after = None
        while records := reader.unacknowledged(after, 40):
            places += [(r.boot, r.seq) for r in records]
            after = places[-1]
        assert places == sorted(set(places))
        assert len(places) == reader.waiting()
        await journal.close()
    assert boots == sorted(set(boots))
    assert commands == sorted(set(commands))
    assert len(commands) > LIVES


def _take(line: str, boots: list[int], commands: list[int]) -> None:
    word, _, rest = line.partition(" ")
    if word == "boot":
        boots.append(int(rest))
    elif word == "command":
        commands.append(int(rest))


def test_what_was_appended_outlives_a_kill(tmp_path: Path) -> None:
    """Records that the thread wrote (here: before the next durable moment) survive the process."""
    code = CHILD.replace("while True:", "for _ in range(200):").replace(
        "asyncio.run(main())", "asyncio.run(main()); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    code = code.replace("if n % 7 == 0:", "if False:")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False)

    async def look() -> int:
        journal = Journal.open(tmp_path, tmp_path, JournalConfig(), SystemClock())
        waiting = journal.reader("ems").waiting()
        await journal.close()
        return waiting

    # Each durable() is followed by the outbox's own commit; the last one may not have had its turn.
    assert 198 <= asyncio.run(look()) <= 200
