"""The whole way of somebody with prompts and two models of their own: eval, train, promote, serve. Each step as it is typed."""

import json
import shutil
from pathlib import Path

import pytest

from stretto.sparring import FAMILIES, entries
from stretto.sparring.problems import problems
from tests.acceptance.test_cli import Home

pytest.importorskip("scipy")

N = 160
KINDS = ("spell-backward", "sort-letters", "digit-sum", "subtraction")


def world(folder: Path) -> tuple[Home, Path]:
    """Two GGUF files as anybody might have them, a configuration, and prompts as JSON lines."""
    home = Home(folder)
    lines = []
    for name, model, usd in (("letters", "string-north", 0.5), ("numbers", "number-north", 1.0)):
        entry = next(e for e in entries() if e.id == model)
        shutil.copy(entry.path, folder / f"{name}.gguf")
        lines.append(
            f'[[worker]]\nid = "{name}"\npath = "{name}.gguf"\nprice = {{ input = {usd}, output = {4 * usd} }}\n'
        )
    home.config.write_text("\n".join(lines))
    assert set(KINDS) <= set(FAMILIES)
    file = folder / "mine.jsonl"
    with file.open("w") as out:
        for p in problems(KINDS, "calibration", N, 5):
            row = {
                "prompt": p.prompt,
                "reference": rf"(?:^|= ){p.answer}\s*$",
                "grader": "regex",
                "task": p.family,
            }
            out.write(json.dumps(row) + "\n")
    return home, file


def test_from_prompts_of_ones_own_to_a_policy_that_serves(tmp_path: Path) -> None:
    """What the evaluation leaves behind is what is learned from; what was learned passes its gate; then `stretto` goes by it.

    Each of the two workers knows half of the tasks, so there is something to gain; the prior cannot know which half.
    """
    home, file = world(tmp_path)
    told = home.run(
        "eval", "--tasks", str(file), "--policy", "stretto", "--temperature", "0", "--out", "first"
    ).stdout
    assert "best single worker" in told
    assert (tmp_path / "first" / "outcomes.jsonl").is_file()

    told = home.run("train", "evidence", "first", "--last-line", "--out", "evidence.json").stdout
    assert "best single" in told

    told = home.run("promote", "evidence.json", "--least", "100").stdout
    assert (tmp_path / ".stretto" / "artifacts" / "evidence.json").is_file(), told

    plan = home.json("plan", "What is the sum of the digits of 35445?")
    assert plan["choices"][0]["picked"] == "sequential"
    found = home.json("ask", "What is the sum of the digits of 49217?", "--temperature", "0")
    assert found["served_by"] == "numbers"
    told = home.run(
        "eval", "--tasks", str(file), "--policy", "stretto", "--temperature", "0", "--out", "second"
    ).stdout
    assert "Better than the best single worker: stretto" in told
