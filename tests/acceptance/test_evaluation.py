"""An evaluation that is killed with -9 goes on where it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.evaluated import ITEMS, NAMES

ASKS = ITEMS * (1 + 1 + 3)


def start(folder: Path, block_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.acceptance.evaluated", str(folder), str(block_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def replies(data: Path) -> int:
    """How many replies the journals hold."""
    lines = [line for file in data.glob("ledger/*/*.jsonl") for line in file.read_text().splitlines()]
    return sum(json.loads(line).get("kind") == "answered" for line in lines)


@pytest.mark.parametrize("block_at", [1, 9, 18, 40])
def test_after_a_kill_nothing_that_was_answered_is_asked_again(tmp_path: Path, block_at: int) -> None:
    """Killed in the middle of a call and with half a line written: the second process asks exactly what has no reply on record.

    Beside the call that blocks, another may just have been under way; what counts is what the journal holds after the death.
    """
    with start(tmp_path, block_at) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "blocked\n"
        first.kill()
    file = tmp_path / "out" / "results.jsonl"
    with file.open("a") as out:
        out.write('{"key": "half a li')
    notes = tmp_path / "asks"
    before, recorded = len(notes.read_text().splitlines()), replies(tmp_path / "data")
    assert 0 <= recorded < before <= recorded + 2 * 3
    with start(tmp_path, 0) as second:
        assert second.stdout is not None
        assert set(json.loads(second.stdout.read().replace("'", '"'))) == set(NAMES)
        assert second.wait() == 0
    assert len(notes.read_text().splitlines()) - before == ASKS - recorded
    assert replies(tmp_path / "data") == ASKS
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    told = [row for row in rows if "begun" not in row]
    assert len(told) == ITEMS * len(NAMES) == len({row["key"] for row in told})
