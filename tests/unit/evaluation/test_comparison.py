"""Comparisons and reports: controls that choose on other items than they are judged on, and a verdict read off intervals."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numpy")

from stretto.errors import ConfigError
from stretto.evaluation.comparison import Columns, columns_of, compare, recorded_columns
from stretto.evaluation.graders import exact
from stretto.evaluation.report import html, markdown, sample, save
from stretto.evaluation.runner import Log, Result
from stretto.evaluation.tables import Said, Table
from stretto.evaluation.tasks import Item, recorded_items
from stretto.types import PICO, Message
from tests.recorded_tables import made

TABLE = made(600)


def copied(
    worker: str, name: str, table: Table = TABLE, *, sure: float | None = None
) -> dict[str, list[Result]]:
    """A policy that always asks one worker."""
    found = []
    for item in table.items:
        s = table.said(item.id, worker)
        assert s is not None
        cost = round((s.cost or 0) * PICO)
        found.append(
            Result(
                item.id, name, s.score, "as recorded", s.answer or "", cost, 1, 1.0, worker, (worker,), sure
            )
        )
    return {name: found}


def items(split: bool = True, table: Table = TABLE) -> list[Item]:
    return [i if split else replace(i, split="") for i in recorded_items(table)]


def test_a_policy_that_is_the_best_single_worker_gains_nothing() -> None:
    """Its difference is exactly zero, and the verdict says so in words."""
    found = compare(items(), recorded_columns(TABLE), copied("dear", "mine"))
    mine = next(r for r in found.rows if r.name == "mine")
    assert (found.best, found.n, mine.compared.difference.value) == ("dear", 100, 0.0)
    assert found.verdict.startswith("No gain shown")
    assert mine.asked == {"dear": 100}


def test_better_and_worse_are_said_where_intervals_say_so() -> None:
    """A policy that is right everywhere is better, one that asks the worst worker is worse."""
    perfect = {"seer": [replace(r, score=1.0) for r in copied("cheap", "seer")["seer"]]}
    verdict = compare(items(), recorded_columns(TABLE), perfect | copied("cheap", "poor")).verdict
    assert re.search(
        r"Better than the best single worker: seer \(x0\.05 the cost\)\. Worse than it: poor", verdict
    )


def test_without_a_split_choosing_is_cross_fitted() -> None:
    """Every item is reported, and for each fifth the choice is made on the rest: with equal workers that costs, as it must.

    Two workers of which one is right exactly where the other is wrong: whoever leads on four fifths trails on the fifth left out,
    more often than not; choosing on the reported items themselves would show a lead that is only luck.
    """
    right = {str(k): (Said(float(k % 2)),) for k in range(100)}
    wrong = {str(k): (Said(float(1 - k % 2)),) for k in range(100)}
    from stretto.evaluation.tables import Item as Recorded

    table = Table("coin", [Recorded(str(k), f"p{k}") for k in range(100)], {"a": right, "b": wrong})
    found = compare(items(False, table), recorded_columns(table), copied("a", "mine", table))
    best = next(r for r in found.rows if r.verdict == "the measure")
    assert found.n == 100
    assert "other 4 of 5" in found.chosen_on
    assert best.compared.score <= 0.5
    assert [n for n in found.notes if "few" in n]


def test_live_answers_make_the_same_columns_as_the_record() -> None:
    """Scores, costs and which answers agree are equal, whichever way they come; a further answer becomes a sample."""
    live = columns_of(items(), {w: copied(w, w)[w] for w in TABLE.workers})
    recorded = recorded_columns(TABLE)
    assert live.names == recorded.names
    assert (live.scores == recorded.scores).all()
    assert abs(live.costs - recorded.costs).max() < 1e-9
    assert (live.classes == recorded.classes).all()
    again = columns_of(items(), copied("dear", "dear") | copied("cheap", "cheap") | copied("dear", "dear#2"))
    assert again.names == ("dear", "cheap")
    assert again.samples["dear"].shape == (600, 2)


def test_controls_stand_in_every_report() -> None:
    """Best single, random, known task, plain vote, resampling where there are samples, and both oracles where they can be had."""
    thrice = {
        w: {i.id: tuple(TABLE.said(i.id, w) for _ in range(3)) for i in TABLE.items} for w in TABLE.workers
    }
    table = Table("thrice", TABLE.items, thrice)  # type: ignore[arg-type]
    found = compare(items(table=table), recorded_columns(table), {})
    names = [r.name for r in found.rows if r.kind in ("control", "bound")]
    assert names == [
        "best single, chosen before",
        "random worker",
        "known task",
        "plain vote of 3",
        "same model x 2, vote",
        "same model x 3, vote",
        "best of 3 samples, perfect judge",
        "oracle, naive (luck included)",
        "oracle, cross-fitted over samples",
    ]


def test_the_report_is_one_page_that_fetches_nothing(tmp_path: Path) -> None:
    """HTML with inline pictures, no script, no address; names are escaped; the same verdict in every form."""
    policies = copied("dear", "<b>mine</b>", sure=0.8)
    found = compare(items(), recorded_columns(TABLE), policies)
    names = save(tmp_path, found, items(), policies, title="A & B", provenance={"stretto": "1"})
    page = (tmp_path / "report.html").read_text()
    assert page == html(found, "A & B", {"stretto": "1"})
    assert not re.search(r"https?:|<script|@import|url\(|<link|<b>mine", page)
    assert page.count("<svg") == 3
    assert "A &amp; B" in page
    assert found.verdict in markdown(found, "A & B", {})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["verdict"], summary["n"]) == (found.verdict, 100)
    assert {"report.html", "report.md", "summary.json", "items.jsonl"} <= set(names)
    if "results.parquet" in names:
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(tmp_path / "results.parquet").num_rows == 600


def test_the_table_left_behind_keeps_the_functions_of_an_item(tmp_path: Path) -> None:
    """What an answer might call is read again as it was given."""
    call = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    some = [replace(items()[0], tools=(call,)), *items()[1:]]
    policies = copied("dear", "mine")
    save(tmp_path, compare(some, recorded_columns(TABLE), policies), some, policies, title="", provenance={})
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert {row["item_id"]: json.loads(row["tools"]) for row in rows if "tools" in row} == {
        some[0].id: [call]
    }


def test_an_audit_draws_decisions_by_lot(tmp_path: Path) -> None:
    """Equal seeds draw the same ones; they can be narrowed to one contender and to what was graded wrong."""
    policies = copied("cheap", "mine")
    found = compare(items(), recorded_columns(TABLE), policies)
    save(tmp_path, found, items(), policies, title="x", provenance={})
    log = Log(tmp_path / "results.jsonl")
    for number, result in enumerate(policies["mine"]):
        log.end(str(number), result)
    log.close()
    drawn = sample(tmp_path, 5, seed=1, contender="mine", wrong=True)
    assert drawn == sample(tmp_path, 5, seed=1, contender="mine", wrong=True)
    assert [g.result.score for g in drawn] == [0.0] * 5
    item = TABLE.item(drawn[0].result.item)
    assert item is not None
    assert (drawn[0].prompt, drawn[0].reference) == (item.prompt, item.reference)
    with pytest.raises(ConfigError, match="no grading decision"):
        sample(tmp_path, 5, contender="nobody")
    with pytest.raises(ConfigError, match="holds no evaluation"):
        sample(tmp_path / "elsewhere", 5)


def test_a_results_file_is_held_by_one_and_read_whole(tmp_path: Path) -> None:
    """A second writer is refused; a line that is none of ours is named; half a line at the end is cut off."""
    file = tmp_path / "results.jsonl"
    log = Log(file)
    log.begin("k", "run_1")
    with pytest.raises(ConfigError, match="another evaluation"):
        Log(file)
    log.close()
    with file.open("a") as out:
        out.write('{"key": "x", "beg')
    again = Log(file)
    assert again.begun == {"k": "run_1"}
    again.close()
    file.write_text("nonsense\n")
    with pytest.raises(ConfigError, match="line 1: is no line of an evaluation"):
        Log(file)


def test_a_judge_that_always_says_the_same_is_told() -> None:
    """How often a judge said what stands in the report; one that never says yes is named for it."""
    judge = 'judge {"worker": "j"}'
    items = [Item(str(k), (Message("user", "x"),), exact(), judge) for k in range(3)]
    whys = (
        "j said no (run 1)",
        "j could not judge: empty",
        "equal to the reference, so the judge was not asked",
    )
    results = [Result(str(k), "w", 0.0, why, "a", 0, 1, 0.1, "w") for k, why in enumerate(whys)]
    (note,) = columns_of(items, {"w": results}).judged
    assert note.startswith("The judge j said yes 0 times, no 1 times, and gave no verdict 1 times")
    assert "never said anything else" in note
    assert note in compare(items, columns_of(items, {"w": results}), {}).notes


def test_who_is_never_right_is_named_with_what_to_run(tmp_path: Path) -> None:
    """On 20 items or more, worker or policy, live or recorded; also who never answered, with the first failure. Not who is right
    once, and not on fewer items. It stands at the top of the page."""
    some = items()[:100]
    right = [r for r in copied("dear", "dear")["dear"] if r.item in {i.id for i in some}]
    wrong = [replace(r, contender="odd", score=0.0) for r in right]
    failed = [replace(r, contender="down", error="refused", score=0.0) for r in wrong]
    once = [replace(r, contender="once", score=float(k == 7)) for k, r in enumerate(wrong)]
    live = columns_of(some, {"dear": right, "odd": wrong, "down": failed, "once": once})
    odd, down = live.doubts
    assert odd.startswith("odd was right on none of 100 items.")
    assert odd.endswith("Read some: `stretto eval audit FOLDER --contender odd`.")
    assert down.startswith("down answered none of 100 items. The first failure: refused.")
    assert columns_of(some[:19], {"dear": right[:19], "odd": wrong[:19]}).doubts == ()
    zero = {w: {i.id: (TABLE.said(i.id, w),) for i in TABLE.items} for w in ("dear", "cheap")}
    zero["nil"] = {i.id: (Said(0.0, 0.1, answer="X"),) for i in TABLE.items}
    table = Table("made", TABLE.items, zero)  # type: ignore[arg-type]
    policies = {"mine": [replace(r, score=0.0) for r in copied("dear", "mine")["mine"]]}
    found = compare(items(), recorded_columns(table), policies | copied("dear", "good"))
    assert [doubt.split()[0] for doubt in found.doubts] == ["nil", "mine"]
    assert found.doubts[0].endswith("look at its `score` and `answer` in made.")
    assert all(doubt in markdown(found, "A", {}) for doubt in found.doubts)
    page = html(found, "A", {})
    assert page.index("nil is recorded with score 0") < page.index("<table")


def test_nobody_vanishes_from_the_chart() -> None:
    """Who is far below the others, or free, stands at the edge with an arrow and its figure; who is near has none."""
    rows = {w: {i.id: (TABLE.said(i.id, w),) for i in TABLE.items} for w in ("dear", "middle")}
    rows["nil"] = {i.id: (Said(float(k % 50 == 0), 0.1, answer="X"),) for k, i in enumerate(TABLE.items)}
    rows["gratis"] = {i.id: (Said(float(k % 3 > 0), 0.0, answer="X"),) for k, i in enumerate(TABLE.items)}
    table = Table("made", TABLE.items, rows)  # type: ignore[arg-type]
    far = {"far": [replace(r, score=0.0) for r in copied("dear", "far")["far"]]}
    found = compare(items(), recorded_columns(table), far | copied("dear", "good"))
    shown = re.findall(r'<g class="(\w+)"><title>([\w ]+):.*?</g>', html(found, "A", {}))
    edge = re.findall(
        r'<title>(\w+):[^<]*</title><path class="beyond"[^>]*/><text[^>]*>([^<]*)</text>',
        html(found, "A", {}),
    )
    assert {name for kind, name in shown if kind != "bound"} >= {"far", "good", "nil", "gratis", "dear"}
    nil = next(100 * r.compared.score for r in found.rows if r.name == "nil")
    assert dict(edge) == {"far": "far: 0.0", "nil": f"nil: {nil:.1f}", "gratis": "gratis: free"}


def test_a_best_single_that_differs_by_part_is_no_easy_mark() -> None:
    """Two workers equally good, each at its own kind of task: whoever asks one of them always is not better than the measure.

    The part of the items on which one of them shines is missing where the choice is made, so the mixture of both choices would
    be worse than either, and each of them "better than the best single worker".
    """
    import numpy as np

    rng = np.random.default_rng(2)
    count = 300
    tasks = ["letters" if k % 2 else "numbers" for k in range(count)]
    items = [
        Item(f"i{k}", (Message("user", f"prompt {k}"),), exact(), task=task) for k, task in enumerate(tasks)
    ]
    good = rng.random(count) < 0.95
    letters = np.array([float(t == "letters" and g) for t, g in zip(tasks, good, strict=True)])
    numbers = np.array([float(t == "numbers" and g) for t, g in zip(tasks, good, strict=True)])
    columns = Columns(
        ("letters", "numbers"),
        np.stack([letters, numbers], 1),
        np.ones((count, 2)),
        np.zeros((count, 2), dtype=int),
    )
    for seed in range(20):
        found = compare(items, columns, {}, seed=seed)
        base = next(row for row in found.rows if row.kind == "control" and "best single" in row.name)
        each = [row.compared.score for row in found.rows if row.kind == "worker"]
        assert base.compared.score >= min(each)
        assert not any(row.verdict.startswith("better") for row in found.rows if row.kind == "worker")
        assert found.best in columns.names
