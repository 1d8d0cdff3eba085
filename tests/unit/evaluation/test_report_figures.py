"""What a report says beside its table: the published figures of routers, equal budgets, honesty, and nothing of earlier runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy")

from stretto.evaluation.comparison import Comparison, compare, recorded_columns
from stretto.evaluation.report import between_lines, html, markdown, save
from stretto.evaluation.runner import Result
from stretto.evaluation.tasks import Item, recorded_items
from stretto.types import PICO
from tests.recorded_tables import made

TABLE = made(600)


def between(name: str, share: float, sure: float | None = None) -> list[Result]:
    """A policy that asks the dear worker on the first part of the items, the cheap one on the rest."""
    rows = []
    for number, item in enumerate(TABLE.items):
        worker = "dear" if number % 100 < 100 * share else "cheap"
        said = TABLE.said(item.id, worker)
        assert said is not None
        cost = round((said.cost or 0) * PICO)
        row = Result(item.id, name, said.score, "", said.answer or "", cost, 1, 1.0, worker, (worker,), sure)
        rows.append(row)
    return rows


def compared(*names: tuple[str, float], sure: float | None = None) -> Comparison:
    policies = {name: between(name, share, sure) for name, share in names}
    return compare(items(), recorded_columns(TABLE), policies)


def items() -> list[Item]:
    return [replace(i, split="") for i in recorded_items(TABLE)]


def test_two_dials_between_two_workers_bring_the_figures_everywhere() -> None:
    """Markdown, HTML, summary and screen name the pair, its scores, APGR and both CPT with intervals, and what that means."""
    found = compared(("mine@0.2", 0.25), ("mine@0.6", 0.5), ("other@0.5", 0.5))
    (line,) = between_lines(found)
    assert line.startswith("mine between cheap (56.7) and dear (81.7), 2 dials: APGR 0.")
    for told in ("CPT50 ", "CPT80 "):
        assert told in line
    page, text = html(found, "made", {}), markdown(found, "made", {})
    for each in (page, text):
        assert "Between two workers" in each
        assert "choosing by lot comes to 0.5" in each
        assert "arXiv 2406.18665" in each
    assert 'aria-label="mine between cheap and dear"' in page
    assert "mine@0.2: " in page


def test_one_dial_brings_none() -> None:
    """Nothing is said where there is no line to speak of."""
    found = compared(("mine@0.2", 0.25))
    assert between_lines(found) == []
    assert "Between two workers" not in html(found, "made", {}) + markdown(found, "made", {})


def test_a_budget_that_buys_no_vote_is_said_so() -> None:
    """Each policy has a line: what its money buys of the best single worker, and with what it is to be compared then."""
    found = compared(("poor@0", 0.0), ("half", 0.5))
    rows = {row.name: row for row in found.rows}
    assert rows["poor@0"].budget == (
        "its money buys 0.05 samples of dear, and a vote takes two: compare with dear alone"
    )
    dear = {"twice": [replace(r, contender="twice", cost=round(0.042 * PICO)) for r in between("twice", 1.0)]}
    (twice,) = (r for r in compare(items(), recorded_columns(TABLE), dear).rows if r.name == "twice")
    assert twice.budget.startswith("its money buys 2.10 samples of dear, of which no others are there")
    for page in (html(found, "made", {}), markdown(found, "made", {})):
        assert "At equal budget" in page
        assert page.count("samples of dear, and a vote takes two") == 2


def test_calibration_says_how_much_luck_allows() -> None:
    """An error is told beside the one that a policy would have whose chances are exactly true."""
    text = markdown(compared(("mine", 0.5), sure=0.9), "made", {})
    assert "## Calibration of mine: stated and realised are 0." in text
    assert "; luck alone would allow 0.0" in text


def test_nothing_of_an_earlier_evaluation_stays_beside_the_new_items(tmp_path: Path) -> None:
    """A table of outcomes with other items would be learned from together with these."""
    for name in ("outcomes.jsonl", "samples.jsonl"):
        (tmp_path / name).write_text("{}\n")
    policies = {"mine@0.2": between("mine@0.2", 0.25), "mine@0.6": between("mine@0.6", 0.5)}
    found = compare(items(), recorded_columns(TABLE), policies)
    save(tmp_path, found, items(), policies, title="made", provenance={})
    assert not (tmp_path / "outcomes.jsonl").exists()
    assert not (tmp_path / "samples.jsonl").exists()
    (one,) = json.loads((tmp_path / "summary.json").read_text())["between"]
    assert (one["weak"], one["strong"], len(one["points"])) == ("cheap", "dear", 2)
    assert one["figures"]["cpt50"]["low"] <= one["figures"]["cpt50"]["value"]
