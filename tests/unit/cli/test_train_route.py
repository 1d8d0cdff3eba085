"""`stretto train route --by` and `train newcomer`: from a folder to what `route` serves, or a message that says what to do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.cli.main import stretto  # noqa: E402
from stretto.policies.route import TABLE_SCHEMA, Table  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA  # noqa: E402


def folder(at: Path, items: int = 120) -> Path:
    """Sums, which `cheap` can do, and riddles, which it cannot; `late` was asked thirty, twenty of them of split train."""
    at.mkdir()
    rng = np.random.default_rng(0)
    rows, outcomes = [], []
    for n in range(items):
        text = f"Add {n} and {n + 7}" if n % 2 else f"Riddle {n}: what has hands and no arms"
        rows.append({"item_id": str(n), "prompt": text, "split": "dev" if n % 12 > 9 else "train"})
        for worker, right, usd in (
            ("cheap", (0.1, 0.9), 1e-5),
            ("dear", (0.8, 0.8), 1e-3),
            ("late", (0.9, 0.9), 1e-4),
        ):
            if worker != "late" or n % 4 == 0:
                score = float(rng.random() < right[n % 2])
                outcomes.append({"item_id": str(n), "model": worker, "score": score, "cost_usd": usd})
    (at / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (at / "outcomes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in outcomes))
    return at


def train(*words: object) -> Result:
    return CliRunner().invoke(stretto, ["train", *map(str, words)])


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder of outcomes, the table beside it, and what the command said."""
    base = tmp_path_factory.mktemp("learned")
    told = train("route", folder(base / "own"), "--by", "auto", "--out", base / "table.json")
    return base, told


def test_auto_tells_what_was_compared_and_what_serves(learned: tuple[Path, Result]) -> None:
    """A line for the table and each family with its figures, the one that serves marked; who was left out, and what to do."""
    base, told = learned
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0] == "100 items of split train, cross-fitted; best single worker dear 73.00"
    # two workers have nothing that factors could share
    assert [line.split()[0] for line in lines[2:7]] == ["table", "logistic", "irt", "nearest", "clusters"]
    assert sum("<- serves" in line for line in lines) == 1
    assert "asking by" in lines[8]
    assert (
        "late has 30 outcomes, 50 are needed; it may join by its probe profile: stretto train newcomer late"
        in told.stderr
    )
    made = Table(artifacts.read(base / "table.json", TABLE_SCHEMA))
    assert made.success is not None
    assert made.success.workers == ("cheap", "dear")


def test_a_newcomer_is_let_in_by_the_command_that_was_named(learned: tuple[Path, Result]) -> None:
    """With its outcomes of split train, with fewer of them, and with none: what is known of it and where it would be asked."""
    base, _ = learned
    words = "newcomer", "late", "--artefact", base / "table.json", "--out", base / "late.json"
    told = train(*words, "--data", base / "own")
    assert told.exit_code == 0, told.output
    assert "late: learned from 30 outcomes, in terms of cheap, dear" in told.stdout
    assert "over 100 prompts: right " in told.stdout
    assert "at dial 1 it would be asked " in told.stdout
    found = Table(artifacts.read(base / "late.json", TABLE_SCHEMA)).success
    assert found is not None
    assert found.names == ("cheap", "dear", "late")
    few = train(*words, "--data", base / "own", "--labels", 5)
    assert "late: learned from 5 outcomes" in few.stdout
    none = train(*words)
    assert "late: no outcomes; it counts as an average of cheap, dear" in none.stdout


def test_what_cannot_be_is_told(learned: tuple[Path, Result], tmp_path: Path) -> None:
    """Evidence, a worker without outcomes, more labels than there are, labels without a folder, a worker that is known."""
    base, _ = learned
    artifacts.write(Artifact(EVIDENCE_SCHEMA, {}, {}), tmp_path / "evidence.json")
    own, table, out = base / "own", base / "table.json", tmp_path / "out.json"
    for words, message in (
        (
            ("late", "--artefact", tmp_path / "evidence.json"),
            "then stretto train evidence; or name a route table",
        ),
        (("nobody", "--artefact", table, "--data", own), "there are cheap, dear, late. With --labels 0"),
        (
            ("late", "--artefact", table, "--data", own, "--labels", 180),
            "outcomes of late on items of split train",
        ),
        (("late", "--artefact", table, "--labels", 20), "name the folder of late's outcomes with --data"),
        (("dear", "--artefact", table, "--data", own), "dear was learned with the others"),
        (("late", "--artefact", tmp_path / "none.json"), "cannot be read"),
    ):
        told = train("newcomer", *words, "--out", out)
        assert (told.exit_code, out.exists()) == (2, False), told.output
        assert message in " ".join(told.output.split())


def test_without_by_nothing_changes(tmp_path: Path) -> None:
    """The table of tasks alone, from any number of outcomes, and who is best at what."""
    told = train("route", folder(tmp_path / "own", 20), "--out", tmp_path / "table.json")
    assert told.exit_code == 0, told.output
    assert "all " in told.stdout
    assert Table(artifacts.read(tmp_path / "table.json", TABLE_SCHEMA)).success is None
    few = train("route", tmp_path / "own", "--by", "nearest", "--out", tmp_path / "table.json")
    assert (few.exit_code, "--by table" in few.output) == (2, True)


def test_a_worker_whose_costs_are_not_known_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    """It would count as free and get every prompt; the notice says how it takes part."""
    data = folder(tmp_path / "own")
    rows = [json.loads(line) for line in (data / "outcomes.jsonl").read_text().splitlines()]
    rows += [
        {"item_id": row["item_id"], "model": "unknown", "score": 1.0}
        for row in rows
        if row["model"] == "dear"
    ]
    (data / "outcomes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = train("route", data, "--out", tmp_path / "table.json")
    assert told.exit_code == 0, told.output
    assert (
        "left out, since outcomes of theirs have no cost_usd: unknown (--worker takes them in)" in told.stderr
    )
    assert "unknown" not in told.stdout
    named = train("route", data, "--worker", "unknown,cheap", "--out", tmp_path / "named.json")
    assert "unknown 100.0 %" in named.stdout
