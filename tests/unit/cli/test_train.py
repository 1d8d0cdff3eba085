"""`stretto train evidence`: from a folder to an artefact that a configuration serves, or a message that says what to do."""

import csv
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.catalog import Catalog, Learned
from stretto.cli.main import stretto
from stretto.config import parse
from stretto.errors import ConfigError
from stretto.policies.auto import Auto
from stretto.policies.sequential import Sequential
from stretto.steps import Ask, Note
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


def run(*arguments: object) -> Result:
    return CliRunner().invoke(stretto, ["train", "evidence", *map(str, arguments)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with `evidence.json`, and what the command said."""
    base = tmp_path_factory.mktemp("trained")
    return base, run("--data", folder(base / "outcomes"), "--out", base / "evidence.json", "--size", 3)


def catalog(base: Path, text: str = CONFIG, workers: tuple[str, ...] = WORKERS) -> Catalog:
    cards = tuple(Card(w, Price.per_million(1, 1)) for w in workers)
    return Catalog(cards, parse(text, file=str(base / "stretto.toml"), environ={}), Learned())


def test_a_table_becomes_an_artefact_and_a_summary(trained: tuple[Path, Result]) -> None:
    """The best single worker and every price are printed, and the file is there."""
    base, result = trained
    assert result.exit_code == 0, result.output
    assert "best single dear" in result.stdout
    assert result.stdout.count("\nprice ") == 10
    assert (base / "evidence.json").exists()


def test_a_configuration_serves_it_under_its_name_and_as_stretto(trained: tuple[Path, Result]) -> None:
    """`careful` is the policy; `stretto` is the rules and then it, and says which it chose and why."""
    base, _ = trained
    names = catalog(base)
    assert isinstance(names.resolve("careful"), Sequential)
    auto = names.resolve("stretto")
    assert isinstance(auto, Auto)
    for prompt, picked, why in (
        ("add the numbers", "careful", "no rule holds"),
        ("urgent: add", "dear", "rule 1: contains 'urgent'"),
    ):
        steps, _ = by_hand(
            auto.plan(question(prompt, *WORKERS)), lambda step: said("A", getattr(step, "worker", ""))
        )
        first = steps[0]
        assert isinstance(first, Note)
        assert (first.choice.picked, first.choice.reason) == (picked, why)
    steps, last = by_hand(auto.plan(question("urgent", "cheap")), lambda step: said("A", "cheap"))
    assert isinstance(steps[0], Note)
    assert "not eligible" in steps[0].choice.options[0].rejected
    assert last.text == "A"


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


def test_without_numpy_both_ends_say_what_to_install(
    trained: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy is no dependency of Stretto itself."""
    base, _ = trained
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigError, match=r"stretto\[evidence\]"):
        catalog(base)
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
