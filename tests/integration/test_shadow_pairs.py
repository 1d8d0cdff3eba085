"""From shadow runs to a verdict: pairs read from the record, what they tell, and a promotion that rests on them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

np = pytest.importorskip("numpy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.cli.main import stretto  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.learning.own_outcomes import read  # noqa: E402
from stretto.learning.shadows import Pair, beside, pairs, scores  # noqa: E402
from stretto.ledger.journal import JournalStore  # noqa: E402
from stretto.policies.route import TABLE_SCHEMA, Route, Table  # noqa: E402
from stretto.policies.solo import Solo  # noqa: E402
from stretto.steps import Ask, Policy  # noqa: E402
from stretto.testing import MemoryStore, ScriptedPool  # noqa: E402
from stretto.types import Limits, Message, Price, Request  # noqa: E402

PRICES = {"cheap": Price.per_million(1, 1), "dear": Price.per_million(10, 10)}
TABLE = Artifact(
    TABLE_SCHEMA,
    {"from": "a test"},
    {
        "tasks": {"ask": {"prior": 1.0, "workers": {"cheap": [90, 100], "dear": [10, 100]}}},
        "words": {word: {"ask": -1.0} for word in ("question", "0", ".")},
        "unseen": {"ask": -6.0},
    },
)


def answers(ask: Ask) -> str:
    """Both are right, but `cheap` errs on every twentieth question."""
    number = int(str((ask.messages or ())[-1].text).split()[-1])
    return "7" if ask.worker == "dear" or number % 20 else "8"


async def shadowed(store: Any, candidate: Policy, n: int, limits: Limits = Limits()) -> None:
    """`n` questions answered by `dear`, scored by their callers, each with the candidate's answer beside it."""
    engine = Engine(ScriptedPool(dict.fromkeys(PRICES, answers), prices=PRICES), store)
    for number in range(n):
        request = Request(messages=(Message("user", f"question {number}"),))
        run = await engine.run(Solo("dear"), request, name="stretto")
        await engine.score(run.id, 1.0, by="me")
        asks = Request(messages=request.messages, limits=limits)
        await engine.run(candidate, asks, name="candidate", purpose="shadow", beside=run.id)


def found(store: Any) -> list[Pair]:
    return pairs(list(read(store, store.cards)))


def test_agreement_cost_and_scores_of_pairs() -> None:
    """95 of 100 say the same at a tenth of the cost; the five that differ are unscored: wrong at worst, and at best, too,
    since what was served was right."""
    store = MemoryStore()
    asyncio.run(shadowed(store, Solo("cheap"), 100))
    told = beside(found(store))
    assert (told.n, told.comparable, told.scored) == (100, 100, 100)
    assert told.agree[0] == 0.95
    assert told.agree[1] < 0.95 < told.agree[2]
    assert told.cost[0] == pytest.approx(0.1)
    assert told.worst[0] == pytest.approx(-0.05)
    assert told.best[0] == pytest.approx(-0.05)


def test_a_score_of_the_shadow_itself_counts() -> None:
    """Whoever looks at an answer that differs may score the shadow run: it is right after all."""
    store = MemoryStore()
    asyncio.run(shadowed(store, Solo("cheap"), 40))
    engine = Engine(ScriptedPool({}), store)
    for pair in found(store):
        if not pair.agree:
            asyncio.run(engine.score(pair.shadow.run, 1.0))
    assert beside(found(store)).worst[0] == 0.0


def test_what_a_limit_cut_is_no_pair() -> None:
    """A shadow run that a ceiling ended has not shown what the candidate would have done."""
    store = MemoryStore()
    asyncio.run(shadowed(store, Solo("cheap"), 5, Limits(usd=0)))
    assert found(store) == []


def test_without_texts_cost_is_all_that_is_told() -> None:
    """Where texts are not kept nobody can say whether two answers agree."""
    pair = Pair(*(one for p in _one_pair() for one in (p.served, p.shadow)), None)
    told = beside([pair, pair])
    assert (told.comparable, told.scored) == (0, 2)
    assert told.worst[0] == -1.0
    assert told.best[0] == 0.0
    assert scores([pair])[:3] == ([0.0], [1.0], [1.0])


def _one_pair() -> list[Pair]:
    store = MemoryStore()
    asyncio.run(shadowed(store, Solo("cheap"), 1))
    return found(store)


def test_the_commands_tell_it_and_promote_on_it(tmp_path: Path) -> None:
    """`runs shadows` prints the comparison; `promote --shadow` refuses the loss of a point, and allows what is as good."""
    artifacts.write(TABLE, tmp_path / "table.json")
    store = JournalStore(tmp_path / "a")
    try:
        asyncio.run(shadowed(store, Route(table=Table(TABLE)), 60))
    finally:
        store.close()
    run = CliRunner()
    told = run.invoke(stretto, ["runs", "shadows", "--data", str(tmp_path / "a"), "--json"])
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.output)
    assert (row["policy"], row["n"], row["scored"]) == ("candidate", 60, 60)
    text = run.invoke(stretto, ["runs", "shadows", "--data", str(tmp_path / "a")]).output
    assert "says the same  95.0%" in text
    given = [
        "promote",
        str(tmp_path / "table.json"),
        "--shadow",
        "--data",
        str(tmp_path / "a"),
        "--least",
        "50",
    ]
    refused = run.invoke(stretto, given)
    assert refused.exit_code == 3, refused.output
    assert "60 shadow runs, 60 of them beside a scored run" in refused.output
    passed = run.invoke(stretto, [*given, "--margin", "20"])
    assert passed.exit_code == 0, passed.output
    assert "as good" in passed.output
    assert run.invoke(stretto, ["runs", "shadows", "--data", str(tmp_path / "b")]).exit_code == 2


def test_erasing_a_run_erases_its_shadow(tmp_path: Path) -> None:
    """The same texts stand in both; other runs keep theirs."""
    store = JournalStore(tmp_path)
    try:
        asyncio.run(shadowed(store, Solo("cheap"), 3))
        runs = list(read(store, store.cards))
    finally:
        store.close()
    gone = next(r for r in runs if r.beside)
    told = CliRunner().invoke(stretto, ["runs", "erase", gone.beside, "--yes", "--data", str(tmp_path)])
    assert told.exit_code == 0, told.output
    assert f"and of {gone.run}, beside it," in told.output
    store = JournalStore(tmp_path)
    try:
        left = {r.run for r in read(store, store.cards) if r.request is not None}
    finally:
        store.close()
    assert left == {r.run for r in runs} - {gone.run, gone.beside}
