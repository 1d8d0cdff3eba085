"""The gate refuses ties, losses and thin proof; what is served is versioned, swapped whole, and can go back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

np = pytest.importorskip("numpy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.cli.main import stretto  # noqa: E402
from stretto.errors import ConfigError  # noqa: E402
from stretto.learning import promotion  # noqa: E402
from stretto.learning.promotion import Promise, Promotions, judge  # noqa: E402
from stretto.policies.route import TABLE_SCHEMA  # noqa: E402

PROMISE = Promise("best", "an evaluation", 400, 0.8, (0.02, 0.01, 0.03), (0.5, 0.4, 0.6), 0.01, "better")


def outcomes(n: int, gain: float, loss: float, cost: float, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Paired scores and costs: the base is right 7 times in 10; the candidate gains and loses on these shares of the items."""
    rng = np.random.default_rng(seed)
    base = (rng.random(n) < 0.7).astype(float)
    mine = base.copy()
    mine[(rng.random(n) < gain / 0.3) & (base == 0)] = 1.0
    mine[(rng.random(n) < loss / 0.7) & (base == 1)] = 0.0
    dear = rng.lognormal(0, 0.5, n)
    return mine, base, cost * dear * rng.lognormal(0, 0.2, n), dear


@pytest.mark.parametrize(
    ("n", "gain", "loss", "cost", "passed", "why"),
    [
        (1000, 0.10, 0.02, 1.5, True, "better"),
        (3000, 0.01, 0.01, 0.5, True, "as good (loses less than 1 point with 95 %) and cheaper"),
        (3000, 0.0, 0.0, 1.0, False, "a tie: as good, but it is not shown to be cheaper"),
        (3000, 0.0, 0.0, 1.3, False, "a tie: as good, but it is not shown to be cheaper"),
        (400, 0.05, 0.05, 0.4, False, "cheaper, but a loss of up to"),
        (400, 0.05, 0.05, 1.2, False, "a tie: the interval of the difference holds zero"),
        (1000, 0.0, 0.10, 0.1, False, "worse"),
        (200, 0.30, 0.0, 0.1, False, "200 paired items are too few: 300 are needed"),
    ],
)
def test_the_gate_says_why(n: int, gain: float, loss: float, cost: float, passed: bool, why: str) -> None:
    """Better passes; as good passes only with its loss bounded and its cost shown lower; everything else is refused by name."""
    verdict = judge(*outcomes(n, gain, loss, cost))
    assert (verdict.passed, verdict.reason.startswith(why)) == (passed, True), verdict.reason


def test_free_workers_are_judged_by_quality_alone() -> None:
    """Where nothing costs anything, an equal candidate is a tie: there is nothing to gain."""
    mine, base, _, _ = outcomes(3000, 0.0, 0.0, 1.0)
    assert judge(mine, base, 0 * mine, 0 * mine).reason.startswith("a tie: as good, but no cost is known")


def test_a_candidate_that_loses_more_than_the_margin_hardly_ever_passes() -> None:
    """Of 400 candidates that truly lose 1.5 points at half the cost at most about 1 in 20 passes; of harmless ones most do."""
    bad = sum(judge(*outcomes(1000, 0.0, 0.015, 0.5, seed)).passed for seed in range(200))
    good = sum(judge(*outcomes(1000, 0.002, 0.002, 0.5, seed)).passed for seed in range(200))
    assert bad <= 16
    assert good >= 190


def test_the_relative_cost_is_what_is_paid_in_sum() -> None:
    """It is the ratio of the sums, and its interval covers the true one in about 95 of 100 draws."""
    held = 0
    for seed in range(60):
        _, _, mine, base = outcomes(300, 0, 0, 0.5, seed)
        value, low, high = promotion.relative_cost(mine, base)
        assert value == pytest.approx(mine.sum() / base.sum())
        held += low <= 0.5 * float(np.exp(0.02)) <= high
    assert held >= 52


# --- what is served ---


def table(number: int) -> Artifact:
    """An artefact that can be told from others."""
    return Artifact(TABLE_SCHEMA, {"from": "a test"}, {"number": number})


def served(folder: Path) -> Any:
    """What a server would read at its next start."""
    file = folder / "artifacts" / "route-table.json"
    return artifacts.read(file, TABLE_SCHEMA).data["number"] if file.exists() else None


def test_promotions_are_kept_and_can_go_back_step_by_step(tmp_path: Path) -> None:
    """Three promotions, then back to the second, the first, and nothing; each step is in the history with its reason."""
    promotions = Promotions(tmp_path, clock=lambda: 7.0)
    for number in (1, 2, 3):
        promotions.promote(table(number), PROMISE)
    assert served(tmp_path) == 3
    kept = artifacts.read(tmp_path / "artifacts" / "route-table.json", TABLE_SCHEMA)
    assert kept.provenance["promotion"]["against"] == "best"
    assert kept.provenance["from"] == "a test"
    for left in (2, 1, None):
        promotions.back("route-table.json", "undone", "a test")
        assert served(tmp_path) == left
    with pytest.raises(ConfigError, match="nothing was promoted"):
        promotions.back("route-table.json", "undone", "a test")
    assert [r.what for r in promotions.history()] == ["promoted"] * 3 + ["undone"] * 3
    assert {r.time for r in promotions.history("route-table.json")} == {7.0}
    assert len(list((tmp_path / "artifacts" / "versions").iterdir())) == 3


def test_what_stood_there_before_is_kept(tmp_path: Path) -> None:
    """An artefact that was put there by hand comes back by an undo, and is itself not undone."""
    artifacts.write(table(9), tmp_path / "artifacts" / "route-table.json")
    promotions = Promotions(tmp_path)
    promotions.promote(table(1), PROMISE)
    promotions.back("route-table.json", "undone", "a test")
    assert served(tmp_path) == 9
    with pytest.raises(ConfigError, match="by hand"):
        promotions.back("route-table.json", "undone", "a test")


def test_what_cannot_be_promoted(tmp_path: Path) -> None:
    """The same artefact twice, and one that nobody would look for."""
    promotions = Promotions(tmp_path)
    promotions.promote(table(1), PROMISE)
    with pytest.raises(ConfigError, match="served already"):
        promotions.promote(table(1), PROMISE)
    with pytest.raises(ConfigError, match="are not promoted"):
        promotions.promote(replace(table(1), schema="other/1"), PROMISE)


def test_a_torn_line_of_the_history_is_passed_over(tmp_path: Path) -> None:
    """A kill while a line was written loses that line only."""
    promotions = Promotions(tmp_path)
    promotions.promote(table(1), PROMISE)
    with (tmp_path / "artifacts" / "promotions.jsonl").open("a") as out:
        out.write('{"what": "promo')
    assert [r.hash for r in promotions.history()] == [table(1).hash]


# --- the command ---


def evaluation(folder: Path, results: tuple[Any, Any, Any, Any], hash: str) -> Path:
    """A folder as `stretto eval` leaves it: candidate `sequential`, worker `big`."""
    folder.mkdir()
    rows = [{"name": "sequential", "kind": "policy"}, {"name": "big", "kind": "worker"}]
    summary = {"best": "big", "rows": rows, "title": "mine", "provenance": {"artefact_hash": hash}}
    (folder / "summary.json").write_text(json.dumps(summary))
    lines, items = [], []
    for k, (mine, base, cost, dear) in enumerate(zip(*results, strict=True)):
        items.append(json.dumps({"id": f"i{k}", "prompt": f"prompt {k}"}))
        for name, score, paid in (("sequential", mine, cost), ("big", base, dear)):
            lines.append(json.dumps({"key": f"{name}{k}", "begun": "run_1"}))
            lines.append(
                json.dumps({"contender": name, "item": f"i{k}", "score": score, "cost": int(1e6 * paid)})
            )
    (folder / "results.jsonl").write_text("\n".join(lines) + "\n" + '{"half')
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")
    return folder


def command(*words: object) -> Result:
    """`stretto promote ...`."""
    return CliRunner().invoke(stretto, ["promote", *map(str, words)])


def test_promote_by_an_evaluation_and_back(tmp_path: Path) -> None:
    """A cheap equal candidate passes and is served; --dry-run changes nothing; --undo takes it away; a tie leaves 3."""
    artifacts.write(table(1), tmp_path / "mine.json")
    folder = evaluation(tmp_path / "out", outcomes(1000, 0.0, 0.0, 0.4), table(1).hash)
    common = (tmp_path / "mine.json", "--evaluation", folder, "--data", tmp_path)
    dry = command(*common, "--dry-run")
    assert (dry.exit_code, served(tmp_path)) == (0, None)
    assert "would be promoted: as good" in dry.output
    done = command(*common)
    assert (done.exit_code, served(tmp_path)) == (0, 1), done.output
    assert "against big, on: mine" in done.output
    back = command("--undo", "route-table.json", "--data", tmp_path)
    assert (back.exit_code, served(tmp_path)) == (0, None), back.output
    tie = evaluation(tmp_path / "tie", outcomes(1000, 0.05, 0.05, 1.0), table(1).hash)
    refused = command(tmp_path / "mine.json", "--evaluation", tie, "--data", tmp_path)
    assert (refused.exit_code, served(tmp_path)) == (3, None)
    assert "refused: a tie" in refused.output
    as_data = command(tmp_path / "mine.json", "--evaluation", tie, "--data", tmp_path, "--json")
    assert json.loads(as_data.output)["passed"] is False


def test_promote_leaves_out_what_was_learned_from(tmp_path: Path) -> None:
    """Items whose prompts the artefact was learned from do not count; too few are left then, and it says so."""
    marks = " ".join(promotion.item_mark(f"prompt {k}") for k in range(900))
    artifacts.write(replace(table(1), provenance={"learned_from": marks}), tmp_path / "mine.json")
    folder = evaluation(tmp_path / "out", outcomes(1000, 0.1, 0.0, 0.4), table(1).hash)
    refused = command(tmp_path / "mine.json", "--evaluation", folder, "--data", tmp_path)
    assert refused.exit_code == 3
    assert "100 paired items are too few" in refused.output
    assert "900 items left out" in refused.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--policy", "nobody"), "has no answers of nobody"),
        (("--against", "nobody"), "has no answers of nobody"),
        (("--ledger",), "judge by one of"),
    ],
)
def test_promote_says_what_it_lacks(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """Names that were not evaluated, and two kinds of proof at once."""
    artifacts.write(table(1), tmp_path / "mine.json")
    folder = evaluation(tmp_path / "out", outcomes(400, 0.1, 0.0, 0.4), table(1).hash)
    found = command(tmp_path / "mine.json", "--evaluation", folder, "--data", tmp_path, *words)
    assert found.exit_code == 2
    assert told in found.output


def test_promote_refuses_the_figures_of_another_artefact(tmp_path: Path) -> None:
    """What was evaluated must be what is promoted."""
    artifacts.write(table(1), tmp_path / "mine.json")
    folder = evaluation(tmp_path / "out", outcomes(400, 0.1, 0.0, 0.4), table(2).hash)
    found = command(tmp_path / "mine.json", "--evaluation", folder, "--data", tmp_path)
    assert found.exit_code == 2
    assert "another artefact" in found.output


def test_promote_by_what_training_showed(tmp_path: Path) -> None:
    """Without an evaluation the artefact's own cross-fitted figures count; one that has none must be evaluated."""
    prompts = [f"prompt {k}" for k in range(1000)]
    shown = promotion.shown("big", 0.08, outcomes(1000, 0.0, 0.0, 0.4), prompts)
    assert len(shown["learned_from"].split()) == 1000
    artifacts.write(replace(table(1), provenance=shown), tmp_path / "mine.json")
    found = command(tmp_path / "mine.json", "--data", tmp_path)
    assert (found.exit_code, served(tmp_path)) == (0, 1)
    assert "against big, on: cross-fitted over 1000 items" in found.output
    thin = promotion.shown("big", 0.08, outcomes(200, 0.3, 0.0, 0.4), prompts)
    artifacts.write(replace(table(3), provenance=thin), tmp_path / "thin.json")
    assert "200 items are too few" in command(tmp_path / "thin.json", "--data", tmp_path).output
    artifacts.write(table(2), tmp_path / "bare.json")
    assert "name an evaluation" in command(tmp_path / "bare.json", "--data", tmp_path).output
