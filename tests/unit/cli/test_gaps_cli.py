"""A table in which one worker has gaps, from the command that learns to the one that evaluates."""

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("numpy")
pytest.importorskip("scipy")
read_table = pytest.importorskip("pyarrow.parquet").read_table

from stretto.cli.main import stretto  # noqa: E402
from stretto.evaluation.tables import Said, Table  # noqa: E402
from tests.recorded_tables import made, write  # noqa: E402


def late() -> Table:
    """`late` was asked sums only; it is as good there as `dear`, for a tenth of the price."""
    table = made(600)
    said: dict[str, dict[str, tuple[Said, ...]]] = {
        w: {i.id: (one,) for i in table.items if (one := table.said(i.id, w))} for w in table.workers
    }
    said["late"] = {
        i.id: (dataclasses.replace(one, cost=0.002),)
        for i in table.items
        if i.task == "sums" and (one := table.said(i.id, "dear"))
    }
    return Table("late", table.items, said)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(stretto, [str(a) for a in arguments])


def test_a_worker_with_gaps_is_learned_of_and_asked_where_it_was(tmp_path: Path) -> None:
    """`train evidence` names it; `eval --recorded` lets the policy ask it, and keeps it out of the controls."""
    data, file, out = write(tmp_path / "data", late()), tmp_path / "evidence.json", tmp_path / "out"
    learned = run("train", "evidence", "--data", data, "--out", file)
    assert learned.exit_code == 0, learned.output
    assert "learned of where they were: late" in learned.stderr
    assert json.loads(file.read_text())["data"]["gaps"] == ["late"]
    found = run("eval", "--recorded", data, "--policy", "sequential@0.2", "--artefact", file, "--out", out)
    assert found.exit_code == 0, found.output
    results = read_table(out / "results.parquet").to_pylist()
    assert any("late" in row["asked"] for row in results)
    assert not any(row["error"] for row in results)
    report = (out / "report.md").read_text()
    assert "Workers with gaps may be asked" in report
    assert "100 items" in found.output


def test_who_is_named_says_which_items_count(tmp_path: Path) -> None:
    """Named with a worker without gaps, the items are that one's; by itself it leaves nothing to choose."""
    data = write(tmp_path / "data", late())
    both = run(
        "train",
        "evidence",
        "--data",
        data,
        "--out",
        tmp_path / "a.json",
        "--worker",
        "dear",
        "--worker",
        "late",
    )
    assert "500 items of split train" in both.output
    alone = run("train", "evidence", "--data", data, "--out", tmp_path / "b.json", "--worker", "late")
    assert alone.exit_code == 2
    assert "late alone leaves nothing to choose" in alone.output
