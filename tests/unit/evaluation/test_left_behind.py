"""What an evaluation leaves behind: a table that can be learned from, and only the answers that were asked for."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from stretto.engine.run import Engine  # noqa: E402
from stretto.evaluation import tables  # noqa: E402
from stretto.evaluation.comparison import columns_of, compare, recorded_columns  # noqa: E402
from stretto.evaluation.graders import Grade, Judge  # noqa: E402
from stretto.evaluation.report import html, markdown, sample, save  # noqa: E402
from stretto.evaluation.runner import Asking, Ceiling, Contender, Log, Result, play  # noqa: E402
from stretto.evaluation.tables import Table  # noqa: E402
from stretto.evaluation.tasks import Item  # noqa: E402
from stretto.policies.solo import Solo  # noqa: E402
from stretto.pool.scripted import Scripted  # noqa: E402
from stretto.steps import Ask  # noqa: E402
from stretto.testing import MemoryStore, ScriptedPool  # noqa: E402
from stretto.types import PICO, Answer, Card, Failure, FailureKind, Message, Price, TokenLogprob  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

CARDS = {
    "a": Card("a", Price.per_million(1, 1), abilities=frozenset({"text", "logprobs"})),
    "b": Card("b", Price.per_million(2, 2)),
    "j": Card("j", Price.per_million(1000, 1000)),
}


class World:
    """Two workers, a judge, and items; `down` makes a worker fail, by `kind`."""

    def __init__(self) -> None:
        self.down = ""
        self.kind: FailureKind = "upstream_error"
        self.store = MemoryStore()
        pool = ScriptedPool(dict.fromkeys(CARDS, self._say), cards=CARDS)
        self.engine, self.cards = Engine(pool, self.store), pool.cards()

    def _say(self, ask: Ask) -> Scripted:
        if ask.worker == self.down:
            return Scripted(error=Failure(self.kind, "down"))
        text = (ask.messages or ())[-1].text
        if ask.worker == "j":
            return Scripted("yes")
        right = ask.worker == "a" or text.endswith(("0", "1"))
        sure = (TokenLogprob("4", -0.1),) if ask.want == "logprobs" else ()
        return Scripted("4" if right else "5", logprobs=sure)

    def items(self, n: int = 4, judged: bool = False) -> list[Item]:
        """Items whose right answer is 4; the last is a conversation."""
        judge = Judge(self.engine, "j")

        async def exact(answer: Answer, reference: str) -> Grade:
            return Grade(float(answer.text == reference), "compared")

        check = judge if judged else exact
        found = [
            Item(str(k), (Message("user", f"sum {k}"),), check, reference="4", task="sums") for k in range(n)
        ]
        found[-1] = replace(found[-1], messages=(Message("system", "Be brief."), *found[-1].messages))
        return found

    def run(
        self, out: Path, items: list[Item], *, retry: bool = False, usd: float | None = None, **more: object
    ):  # type: ignore[no-untyped-def]
        """An evaluation of both workers alone, `a` twice, saved into `out`."""
        log = Log(out / "results.jsonl")
        several = [Contender("a", Solo("a", "logprobs"), "worker"), Contender("b", Solo("b"), "worker")]
        several.append(Contender("a#2", Solo("a"), "worker", 2))
        if retry:
            log.forget_errors()
        asking = Asking(usd=None if usd is None else round(usd * PICO))
        try:
            found = asyncio.run(
                play(self.engine, self.store, self.cards, items, several, log, asking, concurrency=2)
            )
            comparison = compare(items, columns_of(items, found), {"policy": found["b"]})
            names = save(out, comparison, items, found, title="t", provenance={})
            return found, names, log.settle()
        finally:
            log.close()


def test_what_the_workers_came_to_is_a_table_that_can_be_read(tmp_path: Path) -> None:
    """Items, outcomes with cost, tokens and confidence, and samples: the schema of recorded outcomes."""
    world = World()
    _, names, _ = world.run(tmp_path, world.items())
    assert {"items.jsonl", "outcomes.jsonl", "samples.jsonl"} <= set(names)
    table = tables.read(tmp_path)
    assert sorted(table.workers) == ["a", "b"]
    assert [i.prompt for i in table.items] == [f"sum {k}" for k in range(4)]
    assert table.samples("0", "a") == 2
    first = table.said("0", "a")
    assert first is not None
    assert (first.score, first.answer) == (1.0, "4")
    assert first.cost is not None
    assert first.cost > 0
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [row["confidence"] for row in rows if row["model"] == "a"] == [pytest.approx(math.exp(-0.1))] * 4
    assert all(row["confidence"] is None for row in rows if row["model"] == "b")
    shown = {g.result.item: g.prompt for g in sample(tmp_path, 99)}
    assert shown["3"].startswith("system: Be brief.")


def test_a_failure_is_no_outcome_and_can_be_asked_anew(tmp_path: Path) -> None:
    """Failed answers stay as they are until they are asked for again; nothing that was answered is asked twice."""
    world = World()
    world.down = "b"
    found, _, _ = world.run(tmp_path, world.items())
    assert {r.error for r in found["b"]} == {"upstream_error"}
    assert tables.read(tmp_path).workers == ("a",)
    world.down = ""
    same, _, _ = world.run(tmp_path, world.items())
    assert [r.run for r in same["b"]] == [r.run for r in found["b"]]
    anew, _, _ = world.run(tmp_path, world.items(), retry=True)
    assert {r.error for r in anew["b"]} == {""}
    assert [r.run for r in anew["a"]] == [r.run for r in found["a"]]


def test_an_empty_answer_is_an_outcome(tmp_path: Path) -> None:
    """The worker was there and had nothing to say: that is worth 0, and the item stays one that all have answered."""
    world = World()
    world.down, world.kind = "b", "empty"
    found, _, _ = world.run(tmp_path, world.items())
    assert {r.error for r in found["b"]} == {"empty"}
    table = tables.read(tmp_path)
    said = table.said("0", "b")
    assert said is not None
    assert (said.score, said.answer) == (0.0, "")
    assert len(table.only(complete=True).items) == 4


def test_answers_to_other_questions_are_put_aside(tmp_path: Path) -> None:
    """A folder that is used again holds one evaluation: what it did not ask for goes into a file of its own."""
    world = World()
    world.run(tmp_path, world.items(4))
    _, _, aside = world.run(tmp_path, world.items(2))
    assert aside == 6 + 3  # two items less for three contenders, and the second item is a conversation now
    assert len((tmp_path / "results.stale").read_text().splitlines()) == 9
    log = Log(tmp_path / "results.jsonl")
    log.close()
    assert len(log.done) == 6
    with pytest.raises(AssertionError, match="none"):
        assert [g for g in sample(tmp_path, 99) if g.result.item in ("2", "3")], "none"


def test_what_was_put_aside_is_taken_back_when_it_is_asked_for_again(tmp_path: Path) -> None:
    """Another command in between costs nothing that was paid for: the first one asks nobody again. What failed is no answer."""
    world = World()
    world.down = "b"
    before, _, _ = world.run(tmp_path, world.items(4))
    world.run(tmp_path, world.items(2))
    world.down, asked = "", len(world.store.runs(1000, None))
    after, _, aside = world.run(tmp_path, world.items(4))
    assert after["a"] == before["a"]
    assert after["a#2"] == before["a#2"]
    assert all(not r.error for r in after["b"][2:])
    assert (
        len(world.store.runs(1000, None)) == asked + 3
    )  # `b` only, on the three items that had been put aside
    assert aside == 3  # the second item as a conversation


def test_a_judge_is_paid_from_the_same_purse(tmp_path: Path) -> None:
    """What grading costs counts towards --limit-usd, and beyond it neither answers nor grades are bought."""
    world = World()
    found, _, _ = world.run(tmp_path / "free", world.items(judged=True))
    graded = sum(r.graded for results in found.values() for r in results)
    answered = sum(r.cost for results in found.values() for r in results)
    assert graded > 10 * answered > 0
    with pytest.raises(Ceiling):
        world.run(tmp_path / "poor", world.items(judged=True), usd=(graded + answered) / PICO / 2)
    spent = sum(r.cost for r in world.store.runs(purpose="evaluation", limit=1000)) - graded - answered
    assert 0 < spent <= (graded + answered) / 2


def test_costs_that_are_not_known_are_no_costs_of_nothing() -> None:
    """Of a partly priced worker the mean stands in, and is told; one without any price has no cost to compare."""
    table = made(40)
    rows = {w: {i.id: table.said(i.id, w) for i in table.items} for w in table.workers}
    part = {
        w: {
            id: (
                replace(s, cost=None if w == "middle" or (w == "dear" and int(id[1:]) % 4 == 0) else s.cost),
            )
            for id, s in found.items()
            if s is not None
        }
        for w, found in rows.items()
    }
    columns = recorded_columns(Table("t", table.items, part))
    means = dict(zip(columns.names, columns.costs.mean(0), strict=True))
    assert math.isnan(means["middle"])
    assert means["dear"] == pytest.approx(float(np.mean([s.cost for s in rows["dear"].values() if s])))
    assert columns.guessed["dear"] > 0
    items = [Item(i.id, (Message("user", i.prompt),), lambda a, b: None) for i in table.items]  # type: ignore[arg-type, return-value]
    told = compare(items, columns, {})
    assert any("No cost is known of middle" in note for note in told.notes)
    assert any("stands in" in note for note in told.notes)
    assert "nan" not in markdown(told, "t", {}) + html(told, "t", {})


def test_a_policy_is_held_against_its_own_money_spent_on_the_best_worker() -> None:
    """Where the best single worker was sampled, what a policy costs buys a vote of its samples: that is the rival."""
    world = World()
    items = world.items(12)
    made_up = {
        name: [Result(i.id, name, score, "", "4" if score else str(k), cost, 1, 0.1, "a") for i in items]
        for k, (name, score, cost) in enumerate(
            [("a", 1.0, 100), ("b", 0.0, 50), ("a#2", 1.0, 100), ("a#3", 1.0, 100)]
        )
    }
    policy = [replace(r, contender="p", cost=230) for r in made_up["a"]]
    found = compare(items, columns_of(items, made_up), {"p": policy})
    row = next(r for r in found.rows if r.name == "p")
    assert row.equal_budget is not None
    assert row.equal_budget[0] == "same model x 2, vote"
    assert row.equal_budget[1].value == 0.0
    assert "At equal budget" in markdown(found, "t", {})
    assert "At equal budget" in html(found, "t", {})
