"""The evaluation on sparring problems, with contenders whose answers are known."""

import asyncio
import json

from stretto.evaluation.sparring import Item, evaluate, markdown, save
from stretto.sparring.problems import FAMILIES


def contenders(right):
    """`right(name, problem)` says whether a contender solves a problem."""

    async def play(name, problem):
        return Item(
            problem.id,
            problem.family,
            float(right(name, problem)),
            100 if name == "dear" else 10,
            1,
            0.01,
            name,
        )

    return play


def knows(name, problem):
    half = FAMILIES.index(problem.family) < len(FAMILIES) // 2
    return {
        "cheap": half,
        "dear": not half,
        "route": True,
        "coin": problem.id.endswith(("1", "3", "5", "7", "9")),
    }[name]


def test_the_report_compares_everybody_on_the_same_items_with_intervals():
    """A perfect router beats each specialist by what the other half is worth, with the interval above zero."""
    report, items = asyncio.run(
        evaluate(
            contenders(knows), ["cheap", "dear"], ["route", "coin"], n=80, chosen=("cheap", "other items")
        )
    )

    rows = {c.name: c for c in report.contenders}
    assert len({tuple(i.problem for i in its) for its in items.values()}) == 1
    assert rows["route"].gain.value == 0.5
    assert rows["route"].gain.above_zero
    assert not rows["coin"].gain.above_zero
    assert rows["oracle"].accuracy.value == 1.0
    assert 0.25 < rows["random"].accuracy.value < 0.75
    assert rows["oracle"].usd_per_thousand < rows["dear"].usd_per_thousand
    assert "Better than the best single worker: route." in markdown(report)


def test_where_one_worker_is_best_everywhere_the_verdict_is_no_gain():
    """On a dominated pool no policy can gain, and the text says so."""
    report, _ = asyncio.run(
        evaluate(contenders(lambda name, p: name != "cheap"), ["cheap", "dear"], ["route"], n=40)
    )

    assert report.best_single == "dear"
    assert "No gain shown" in markdown(report)


def test_everything_is_saved_for_others_to_check(tmp_path):
    """Summary, table and every single item are written."""
    report, items = asyncio.run(evaluate(contenders(knows), ["cheap", "dear"], ["route"], n=8))

    save(report, items, tmp_path)

    assert json.loads((tmp_path / "summary.json").read_text())["n"] == 8
    assert (tmp_path / "table.md").read_text() == markdown(report)
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 32


def test_a_baseline_chosen_on_these_items_is_compared_on_the_others():
    """The worker that is best on the odd items by luck does not make the gain over it smaller (or larger) by that luck."""
    order = {}

    async def play(name, problem):
        place = order.setdefault(problem.id, len(order))
        right = {"lucky": place % 2 == 1, "steady": place % 2 == 0, "route": True}[name]
        return Item(problem.id, problem.family, float(right), 1, 1, 0.01, name)

    report, _ = asyncio.run(evaluate(play, ["lucky", "steady"], ["route"], n=40, concurrency=1))

    rows = {c.name: c for c in report.contenders}
    assert (report.best_single, rows["route"].gain.value, rows["route"].accuracy.value) == ("lucky", 1.0, 1.0)
    assert "gains are over the even ones" in markdown(report)
