"""An evaluation that is killed with -9 goes on where it was."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.acceptance.evaluated import ITEMS, NAMES

ASKS = ITEMS * (1 + 1 + 3)


def start(folder: Path, block_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.acceptance.evaluated", str(folder), str(block_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("block_at", [1, 9, 18, 40])
def test_after_a_kill_nothing_that_was_answered_is_asked_again(tmp_path: Path, block_at: int) -> None:
    """Killed in the middle of a call and with half a line written: the second process asks only what has no reply yet.

    Every reply that came is in the record; the calls that were open when the process died are asked once more, and no other.
    """
    with start(tmp_path, block_at) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "blocked\n"
        first.kill()
    file = tmp_path / "out" / "results.jsonl"
    with file.open("a") as out:
        out.write('{"key": "half a li')
    notes = tmp_path / "asks"
    before = notes.read_text().splitlines()
    with start(tmp_path, 0) as second:
        assert second.stdout is not None
        assert set(json.loads(second.stdout.read().replace("'", '"'))) == set(NAMES)
        assert second.wait() == 0
    both = Counter(notes.read_text().splitlines())
    answered = Counter({k.removeprefix("answered "): n for k, n in both.items() if k.startswith("answered ")})
    asked = Counter({k.removeprefix("asked "): n for k, n in both.items() if k.startswith("asked ")})
    assert sum(answered.values()) == ASKS
    open_then = Counter(x.removeprefix("asked ") for x in before if x.startswith("asked ")) - Counter(
        x.removeprefix("answered ") for x in before if x.startswith("answered ")
    )
    assert asked - answered == open_then
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    told = [row for row in rows if "begun" not in row]
    assert len(told) == ITEMS * len(NAMES) == len({row["key"] for row in told})
