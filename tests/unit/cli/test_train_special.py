"""`stretto train evidence --by-question` and `--chain`: RouteLLM's threshold and FrugalGPT's cascade, by one command each."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts
from stretto.cli.main import stretto
from stretto.policies.sequential import EVIDENCE_SCHEMA
from tests.recorded_tables import made, write


def run(*arguments: object) -> Result:
    return CliRunner().invoke(stretto, [str(each) for each in arguments])


def test_between_two_workers_no_answers_are_needed(tmp_path: Path) -> None:
    """Scores and costs are enough; each prompt takes one call; and what serves is `sequential`, at the dial that is asked for."""
    table = write(tmp_path / "outcomes", made(240))
    rows = [json.loads(line) for line in (table / "outcomes.jsonl").read_text().splitlines()]
    (table / "outcomes.jsonl").write_text("".join(json.dumps(r | {"answer": None}) + "\n" for r in rows))
    out = tmp_path / "router.json"
    found = run("train", "evidence", table, "--worker", "cheap,dear", "--by-question", "--out", out)
    assert found.exit_code == 0, found.output
    priced = [line.split() for line in found.stdout.splitlines() if line.startswith("price ")][:21]
    assert {row[4] for row in priced} == {"1.00"}
    assert float(priced[0][3]) > 5 * float(priced[-1][3])
    made_of = artifacts.read(out, EVIDENCE_SCHEMA)
    assert set(made_of.data["workers"]) == {"cheap", "dear"}
    assert made_of.provenance["asks"] == "one, by the question"
    policies = ",".join(f"sequential@{dial}" for dial in (0, 0.2, 0.4))
    table = write(tmp_path / "with answers", made(240))
    words = ["--policy", policies, "--artefact", out, "--worker", "cheap,dear", "--out", tmp_path / "report"]
    assert run("eval", "--recorded", table, *words).exit_code == 0
    rows = json.loads((tmp_path / "report" / "summary.json").read_text())["rows"]
    assert {r["compared"]["calls"] for r in rows if r["kind"] == "policy"} == {1.0}


def test_a_chain_says_from_which_scores_on_answers_stand(tmp_path: Path) -> None:
    """A threshold for each worker but the last, at each price, in the order that was given; higher where asking is cheap."""
    table, out = write(tmp_path / "outcomes", made(240)), tmp_path / "chain.json"
    found = run("train", "evidence", table, "--chain", "cheap, middle, dear", "--out", out)
    assert found.exit_code == 0, found.output
    assert "shortlist: cheap, middle, dear" in found.stdout
    assert "answers stand from" in found.stdout
    priced = [line.split()[6:] for line in found.stdout.splitlines() if line.startswith("price ")][:21]
    stand = [[float(each) for each in row] for row in priced]
    assert all(len(row) == 2 and all(0 <= each <= 1 for each in row) for row in stand)
    assert stand[0][0] > stand[-1][0]
    assert artifacts.read(out, EVIDENCE_SCHEMA).provenance["asks"] == "cheap > middle > dear"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--by-question", "--chain", "cheap,dear"],
            "of --compare, --verify, --by-question and --chain give one",
        ),
        (
            ["--by-question", "--compare", "static"],
            "of --compare, --verify, --by-question and --chain give one",
        ),
        (["--chain", "cheap,dear", "--worker", "cheap"], "--chain names its workers: leave --worker out"),
        (["--chain", "cheap,dear,cheap"], "--chain names from 2 to 10 workers, each once"),
        (["--chain", "cheap,small"], "has no outcomes of small"),
        (["--chain", "cheap"], "two workers are needed"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path: Path, words: list[str], told: str) -> None:
    """Before anything is learned, with what to do."""
    table = write(tmp_path / "outcomes", made(120))
    found = run("train", "evidence", table, "--out", tmp_path / "e.json", *words)
    assert found.exit_code == 2
    assert told in " ".join(found.output.split())
