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
        "dear": not half or problem.split == "calibration",
        "route": True,
        "coin": problem.id.endswith(("1", "3", "5", "7", "9")) ^ half,
    }[name]


def test_the_report_compares_everybody_on_the_same_items_with_intervals():
    """A perfect router beats each specialist by what the other half is worth, with the interval above zero."""
    report, items = asyncio.run(
        evaluate(contenders(knows), ["cheap", "dear"], ["route", "coin"], n=80, choosing=40)
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


def test_the_best_single_worker_is_chosen_on_other_problems():
    """Who is best on calibration problems is the baseline, even where another is better on the items: luck is no baseline."""

    def right(name, problem):
        return (name == "steady") == (problem.split == "calibration")

    report, items = asyncio.run(evaluate(contenders(right), ["lucky", "steady"], [], n=20, choosing=10))

    assert report.best_single == "steady"
    assert "10 calibration problems of the same kind, of which it solved 10" in markdown(report)
    assert all(len(its) == 20 for its in items.values())


def test_where_one_worker_is_best_everywhere_the_verdict_is_no_gain():
    """On a dominated pool no policy can gain, and the text says so."""
    report, _ = asyncio.run(
        evaluate(contenders(lambda name, p: name != "cheap"), ["cheap", "dear"], ["route"], n=40)
    )

    assert report.best_single == "dear"
    assert "No gain shown" in markdown(report)


def test_several_sets_are_told_apart():
    """With `mix`, half of the items are composites; each contender's accuracy is given for each set."""
    report, _ = asyncio.run(
        evaluate(contenders(lambda name, p: not p.steps), ["one"], [], n=20, sets=("mix",), choosing=4)
    )

    (one, *_) = report.contenders
    assert {name: found.value for name, found in one.by_set.items()} == {"simple": 1.0, "composite": 0.0}
    assert one.accuracy.value == 0.5
    assert "| contender | simple | composite |" in markdown(report)


def test_some_families_can_be_asked_alone():
    """Only problems of the families that are named are asked, in choosing too."""
    met = set()

    def right(name, problem):
        met.add(problem.family)
        return True

    asyncio.run(evaluate(contenders(right), ["one"], [], n=8, families=FAMILIES[:2]))

    assert met == {*FAMILIES[:2]}


def test_everything_is_saved_for_others_to_check(tmp_path):
    """Summary, table and every single item are written."""
    report, items = asyncio.run(evaluate(contenders(knows), ["cheap", "dear"], ["route"], n=8))

    save(report, items, tmp_path)

    assert json.loads((tmp_path / "summary.json").read_text())["n"] == 8
    assert (tmp_path / "table.md").read_text() == markdown(report)
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 32
