"""`stretto train evidence`: from a folder to an artefact that a configuration serves, or a message that says what to do."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.catalog import Catalog, Learned
from stretto.cli.main import stretto
from stretto.config import parse
from stretto.errors import ConfigError
from stretto.policies.auto import Auto
from stretto.policies.route import TABLE_SCHEMA, Route, Table
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential
from stretto.steps import Ask, Note, Quote
from stretto.testing import by_hand, question, said
from stretto.types import Card, Price
from tests.recorded_tables import made

WORKERS = ("cheap", "middle", "dear")
CONFIG = """
[policy.careful]
type = "sequential"
artifact = "evidence.json"

[[rule]]
when = { contains = ["urgent"] }
use = "dear"
"""


def folder(at: Path, items: int = 120, cost: str | None = None) -> Path:
    """A made table as CSV."""
    at.mkdir()
    table = made(items)
    with (at / "items.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["item_id", "prompt", "task", "split"])
        out.writerows([i.id, i.prompt, i.task, i.split] for i in table.items)
    with (at / "outcomes.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["item_id", "model", "score", "answer", "cost_usd"])
        for item in table.items:
            for worker in WORKERS:
                one = table.said(item.id, worker)
                assert one is not None
                out.writerow([item.id, worker, one.score, one.answer, one.cost if cost is None else cost])
    return at


def run(*arguments: object, what: str = "evidence") -> Result:
    return CliRunner().invoke(stretto, ["train", what, *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with `evidence.json`, and what the command said."""
    base = tmp_path_factory.mktemp("trained")
    return base, run("--data", folder(base / "outcomes"), "--out", base / "evidence.json", "--size", 3)


def catalog(base: Path, text: str = CONFIG, workers: tuple[str, ...] = WORKERS) -> Catalog:
    cards = tuple(Card(w, Price.per_million(1, 1)) for w in workers)
    return Catalog(cards, parse(text, file=str(base / "stretto.toml"), environ={}), Learned())


def test_a_table_becomes_an_artefact_and_a_summary(trained: tuple[Path, Result]) -> None:
    """The best single worker, every price and whether one is safe are printed, and the file is there."""
    base, result = trained
    assert result.exit_code == 0, result.output
    assert "best single dear" in result.stdout
    assert result.stdout.count("\nprice ") == 21
    assert (
        "no price is certified (nothing was certified): from dial 0.5 on dear answers alone" in result.stdout
    )
    made = artifacts.read(base / "evidence.json", EVIDENCE_SCHEMA)
    assert sum(made.data["forms"].values()) == pytest.approx(1.0, abs=0.02)


def test_a_plan_expects_the_money_of_those_who_are_asked(trained: tuple[Path, Result]) -> None:
    """At a low dial mostly cheap workers are asked, so an ask is expected to cost less than the mean of the shortlist; an
    artefact of before, which does not tell what was spent, takes the mean."""
    base, _ = trained
    made = artifacts.read(base / "evidence.json", EVIDENCE_SCHEMA)
    assert len(made.data["spent"]) == len(made.data["prices"])
    older = replace(made, data={k: v for k, v in made.data.items() if k != "spent"})
    usd = {"cheap": 10, "middle": 100, "dear": 1000}
    request = replace(question("What is 1 + 1?", *WORKERS), dial=0.1)

    def outlook(artifact: Artifact):
        policy = Sequential(Evidence(artifact))
        return policy.outlook(request, lambda ask: Quote(usd[ask.worker], 5000, 10, 100))

    now, before = outlook(made), outlook(older)
    assert before.usd.expected == pytest.approx(before.calls.expected * 370)
    assert 0 < now.usd.expected < 0.8 * before.usd.expected
    assert (now.calls, now.usd.most, now.seconds) == (before.calls, before.usd.most, before.seconds)


def test_where_nothing_costs_anything_that_is_said(tmp_path: Path) -> None:
    """Two local models without a price: it learns without a warning, and says that the dial comes to the same everywhere."""
    result = run(folder(tmp_path / "outcomes", cost="0"), "--out", tmp_path / "evidence.json", "--size", 2)
    assert result.exit_code == 0, result.output
    assert "nothing cost anything" in result.stderr
    rows = [line.split()[2:4] for line in result.stdout.splitlines() if line.startswith("price 0.")]
    assert len(rows) == 20
    assert all(row == rows[0] for row in rows)


def test_what_cannot_be_learned_from_is_told(tmp_path: Path) -> None:
    """No answers at all; a worker that the table does not have, in one option or several, with those that it has."""
    table = folder(tmp_path / "outcomes")
    unknown = run(table, "--out", tmp_path / "e.json", "--worker", "cheap,small")
    assert "outcomes: has no outcomes of small; there are cheap, middle, dear" in unknown.output
    file = table / "outcomes.csv"
    head, *rows = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("\n".join(",".join([*row[:3], *row[4:]]) for row in [head, *rows]) + "\n")
    silent = run(table, "--out", tmp_path / "e.json", "--worker", "cheap,dear")
    assert (silent.exit_code, unknown.exit_code) == (2, 2)
    assert "outcomes: no outcome has an `answer`" in silent.output
    assert "stretto train route" in silent.output


@pytest.mark.parametrize("named", ["evidence.json", "."])
def test_on_recorded_outcomes_stretto_goes_by_it_too(
    trained: tuple[Path, Result], tmp_path: Path, named: str
) -> None:
    """Nobody serves anything there, so what is named is what `stretto` knows: a file, or a folder of artefacts."""
    base, _ = trained
    names = "stretto,sequential" if named == "evidence.json" else "stretto"
    words = [
        "--recorded",
        base / "outcomes",
        "--policy",
        names,
        "--artefact",
        base / named,
        "--out",
        tmp_path / "out",
    ]
    done = CliRunner().invoke(stretto, ["eval", *map(str, words)])
    assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "summary.json").open() as file:
        rows = [row for row in json.load(file)["rows"] if row["kind"] == "policy"]
    assert all((row["asked"], row["usd"]) == (rows[0]["asked"], rows[0]["usd"]) for row in rows)
    bare = [
        "eval",
        "--recorded",
        str(base / "outcomes"),
        "--policy",
        "stretto",
        "--out",
        str(tmp_path / "bare"),
    ]
    assert CliRunner().invoke(stretto, bare).exit_code == 0
    with (tmp_path / "bare" / "summary.json").open() as file:
        (unlearned,) = (row for row in json.load(file)["rows"] if row["kind"] == "policy")
    assert unlearned["asked"] != rows[0]["asked"]


def test_a_configuration_serves_it_under_its_name_and_as_stretto(trained: tuple[Path, Result]) -> None:
    """`careful` is the policy; `stretto` is the rules and then it, and says which it chose and why."""
    base, _ = trained
    names = catalog(base)
    assert isinstance(names.resolve("careful"), Sequential)
    auto = names.resolve("stretto")
    assert isinstance(auto, Auto)
    for prompt, picked, why in (
        ("add the numbers", "careful", "by evidence"),
        ("urgent: add", "dear", "rule 1: contains 'urgent'"),
    ):
        steps, _ = by_hand(
            auto.plan(question(prompt, *WORKERS)), lambda step: said("A", getattr(step, "worker", ""))
        )
        first = steps[0]
        assert isinstance(first, Note)
        assert first.choice.picked == picked
        assert why in first.choice.reason
    steps, last = by_hand(auto.plan(question("urgent", "cheap")), lambda step: said("A", "cheap"))
    assert isinstance(steps[0], Note)
    assert "not eligible" in steps[0].choice.options[0].rejected
    assert isinstance(last, Ask)
    assert last.worker == "cheap"


def test_a_fixed_price_does_not_follow_the_dial(trained: tuple[Path, Result]) -> None:
    """With `price` the same workers are asked at both ends of the dial."""
    base, _ = trained
    fixed = catalog(
        base, CONFIG.replace('artifact = "evidence.json"', 'artifact = "evidence.json"\nprice = 0.4')
    )
    asked = []
    for dial in (0.0, 1.0):
        steps, _ = by_hand(
            fixed.resolve("careful").plan(question("add the numbers", *WORKERS, dial=dial)),
            lambda step: said("A", getattr(step, "worker", "")),
        )
        asked.append([s.worker for s in steps if isinstance(s, Ask)])
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("text", "workers", "message"),
    [
        ('[policy.p]\ntype = "sequential"', WORKERS, "needs the key `artifact`"),
        ('[policy.p]\ntype = "sequential"\nartifact = "nowhere.json"', WORKERS, "cannot be read"),
        (CONFIG.partition("[[")[0], ("cheap", "middle"), "careful.*artifact: there is no worker .dear."),
        (CONFIG.replace('"evidence.json"', '"evidence.json"\nprice = 2'), WORKERS, "price"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(
    trained: tuple[Path, Result], text: str, workers: tuple[str, ...], message: str
) -> None:
    """No artefact, one that is not there, workers that the pool lacks, an impossible price."""
    with pytest.raises(ConfigError, match=message):
        catalog(trained[0], text, workers)


def test_without_scipy_learning_says_what_to_install(
    trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serving what was learned needs numpy alone, learning it more."""
    base, _ = trained
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert isinstance(catalog(base).resolve("careful"), Sequential)
    result = run(base / "outcomes", "--out", base / "other.json")
    assert result.exit_code == 2
    assert "stretto[evidence]" in result.output


def test_a_table_that_is_too_small_or_without_costs_is_refused(tmp_path: Path) -> None:
    """One line, and no file. So is a command that names no table."""
    out = tmp_path / "evidence.json"
    assert "name one folder" in run("--out", out).output
    small = run(folder(tmp_path / "small", 30), "--out", out)
    free = run(folder(tmp_path / "free", 60, cost=""), "--out", out)
    assert (small.exit_code, free.exit_code) == (2, 2)
    assert "50 are needed" in small.output
    assert "no cost_usd" in free.output
    assert not out.exists()


def test_workers_without_costs_are_left_out_and_named(tmp_path: Path) -> None:
    """One unpriced worker does not stop the others from being learned; named outright it does."""
    table = folder(tmp_path / "outcomes", 60)
    rows = (table / "outcomes.csv").read_text().replace(",0.004", ",")
    (table / "outcomes.csv").write_text(rows)
    result = run(table, "--out", tmp_path / "evidence.json", "--size", 2)
    assert result.exit_code == 0, result.output
    assert "left out, since outcomes of theirs have no cost_usd: middle" in result.stderr
    assert "middle" not in result.stdout
    refused = run(table, "--out", tmp_path / "other.json", "--worker", "middle", "--worker", "dear")
    assert (refused.exit_code, "outcomes of middle have no cost_usd" in refused.output) == (2, True)


def test_a_route_table_needs_outcomes_of_its_train_items(tmp_path: Path) -> None:
    """Where nobody answered an item of split train that is told; a kind that nobody answered is no row of the table."""
    where = tmp_path / "outcomes"
    where.mkdir()
    (where / "items.csv").write_text("item_id,prompt,task,split\n1,a,x,train\n2,b,y,train\n3,c,z,dev\n")
    (where / "outcomes.csv").write_text("item_id,model,score\n3,small,1\n")
    none = run(where, "--out", tmp_path / "table.json", what="route")
    assert none.exit_code == 2
    assert "no item of split train has an outcome of small" in none.output
    (where / "outcomes.csv").write_text("item_id,model,score\n1,small,1\n3,small,1\n")
    some = run(where, "--out", tmp_path / "table.json", what="route")
    assert some.exit_code == 0, some.output
    assert set(artifacts.read(tmp_path / "table.json", TABLE_SCHEMA).data["tasks"]) == {"x"}


def test_a_route_table_from_recorded_outcomes_routes_by_kind(tmp_path: Path) -> None:
    """Who is best at each kind is printed; the table sends each kind of prompt to its best worker."""
    result = run(folder(tmp_path / "outcomes"), "--out", tmp_path / "table.json", what="route")
    assert result.exit_code == 0, result.output
    table = Table(artifacts.read(tmp_path / "table.json", TABLE_SCHEMA))
    route = Route(table=table)
    for prompt, kind in (("add the numbers total 7 red", "sums"), ("name the word meaning 3 blue", "words")):
        assert table.guess(prompt).task == kind
        best = max(table.estimates(kind).items(), key=lambda pair: pair[1])[0]
        steps, _ = by_hand(route.plan(question(prompt, *WORKERS, dial=1.0)), lambda step: said("A", ""))
        assert isinstance(steps[0], Note)
        assert steps[0].choice.picked == best
        assert f"{kind:32} {best}" in result.stdout
