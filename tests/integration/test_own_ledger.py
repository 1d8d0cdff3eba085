"""From runs to values: an engine over scripted workers, feedback, and what is read back from the record."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

np = pytest.importorskip("numpy")

from stretto import artifacts  # noqa: E402
from stretto.artifacts import Artifact  # noqa: E402
from stretto.cli.main import stretto  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.evaluation.tables import read as read_table  # noqa: E402
from stretto.learning import offpolicy  # noqa: E402
from stretto.learning.own_outcomes import Logged, item_of, read, table_of, write  # noqa: E402
from stretto.learning.promotion import Promise, Promotions  # noqa: E402
from stretto.ledger.journal import JournalStore  # noqa: E402
from stretto.policies.fuse import Fuse  # noqa: E402
from stretto.policies.route import TABLE_SCHEMA, Route, Table, Uniform  # noqa: E402
from stretto.policies.solo import Solo  # noqa: E402
from stretto.steps import Ask, Policy  # noqa: E402
from stretto.testing import MemoryStore, ScriptedPool  # noqa: E402
from stretto.types import Message, Price, Request  # noqa: E402

PRICES = {"weak": Price.per_million(1, 1), "strong": Price.per_million(10, 10)}


def answers(ask: Ask) -> str:
    """`strong` is right about every question, `weak` about three in ten."""
    number = int(str((ask.messages or ())[-1].text).split()[-1])
    return "right" if ask.worker == "strong" or number % 10 < 3 else "wrong"


def asked(number: int) -> Request:
    """One question."""
    return Request(messages=(Message("user", f"question {number}"),), seed=number)


async def served(store: Any, policy: Policy, n: int, *, purpose: str = "serve", score: bool = True) -> None:
    """`n` questions answered under a policy, and each answer's feedback."""
    pool = ScriptedPool({w: lambda ask: answers(ask) for w in PRICES}, prices=PRICES)
    engine = Engine(pool, store)
    for number in range(n):
        run = await engine.run(policy, asked(number), name="route", purpose=purpose)
        if score:
            await engine.score(run.id, float(run.answer.text == "right"), by="me")


def logs(store: Any, **only: Any) -> list[Logged]:
    """What is read back."""
    return list(read(store, store.cards, **only))


def test_what_the_strong_worker_would_bring_is_known_from_exploring() -> None:
    """`route` asks the cheap worker and explores; from its log the value of always asking the other one is right, with cost."""
    store = MemoryStore()
    asyncio.run(served(store, Route(explore=0.3), 600))
    runs = logs(store)
    assert len(runs) == 600
    found = [offpolicy.follow(Solo("strong"), run) for run in runs]
    assert all(f.weight is not None for f in found)
    weights, scores = np.array([f.weight for f in found]), np.array([f.score for f in found])
    value = offpolicy.value(offpolicy.snips(weights, scores))
    assert value.value == pytest.approx(1.0)
    stays = [offpolicy.follow(offpolicy.greedy(Route(explore=0.3)), run) for run in runs]
    now = offpolicy.value(
        offpolicy.ips(np.array([f.weight for f in stays]), np.array([f.score for f in stays]))
    )
    assert now.low < 0.3 < now.high
    cost = offpolicy.snips(weights, np.array([float(run.cost) for run in runs])).value
    cheap = offpolicy.snips(
        np.array([f.weight for f in stays]), np.array([float(run.cost) for run in runs])
    ).value
    assert cost == pytest.approx(10 * cheap, rel=0.1)


def test_a_candidate_is_held_against_what_is_served() -> None:
    """On the same log: always the strong worker against the cheap route: +70 points at ten times the cost; else words."""
    store = MemoryStore()
    asyncio.run(served(store, Route(explore=0.3), 500))
    found = offpolicy.against(Solo("strong"), Route(), logs(store))
    assert not isinstance(found, str)
    score, (gap, low, high), (cost, _, _), warning = found
    assert (score, cost, warning) == (pytest.approx(1.0), pytest.approx(10, rel=0.1), "")
    assert low < 0.7 < high
    assert gap == pytest.approx(0.7, abs=0.1)
    assert "by lot" in str(offpolicy.against(Uniform(), Route(), logs(store)))


def test_without_exploring_nothing_is_known_of_the_other_worker() -> None:
    """The same log without exploration supports no value, and says of whom nothing is known."""
    store = MemoryStore()
    asyncio.run(served(store, Route(), 20))
    found = [offpolicy.follow(Solo("strong"), run) for run in logs(store)]
    assert {f.why for f in found} == {"it asks strong, which had no chance"}


def test_a_run_is_read_back_whole() -> None:
    """Worker, chance, everybody's chances, cost, answer, score and who gave it, purpose, and one name for equal questions."""
    store = MemoryStore()
    asyncio.run(served(store, Route(explore=0.3), 3))
    for number, run in enumerate(sorted(logs(store), key=lambda run: run.request.seed)):
        (reply,) = run.replies
        assert run.item == item_of(asked(number).messages)
        assert (run.purpose, run.scored_by, run.served, run.error) == ("serve", "me", reply.worker, "")
        assert reply.chances == {"weak": pytest.approx(0.7), "strong": pytest.approx(0.3)}
        assert reply.chance == reply.chances[reply.worker]
        assert run.score == reply.score == float(reply.content.text == "right")
        assert reply.cost == run.cost > 0
    assert logs(store, purposes=("evaluation",)) == []
    assert len(logs(store, most=2)) == 2


def test_a_reply_that_says_the_same_has_the_same_score() -> None:
    """Feedback on a panel's answer tells of every member that agreed with it, and nothing of one that did not."""
    store = MemoryStore()
    asyncio.run(served(store, Fuse(("weak", "strong")), 10))
    for run in logs(store):
        answer = next(r for r in run.replies if r.at == run.at)
        for reply in run.replies:
            same = reply.content.text == answer.content.text
            assert reply.score == (run.score if same else None)


def test_a_table_comes_out_and_can_be_read(tmp_path: Path) -> None:
    """Evaluated workers become a complete table in the schema of recorded ones; unscored runs are left out."""
    store = MemoryStore()
    for worker in PRICES:
        asyncio.run(served(store, Solo(worker), 30, purpose="evaluation"))
    asyncio.run(served(store, Solo("weak"), 40, score=False))
    write(table_of(logs(store)), tmp_path)
    table = read_table(tmp_path)
    assert set(table.workers) == set(PRICES)
    assert len(table.items) == 30
    assert {i.split for i in table.items} == {"train", "dev"}
    assert sum(table.said(i.id, "weak").score for i in table.items) == 9
    assert all(table.said(i.id, "strong").cost > table.said(i.id, "weak").cost for i in table.items)


def test_the_command_writes_what_a_data_folder_knows(tmp_path: Path) -> None:
    """`stretto runs outcomes` on a real journal; without any score it says what to do; evidence is learned from the folder."""
    data, out = tmp_path / "data", tmp_path / "out"
    store = JournalStore(data, content="full")
    try:
        asyncio.run(served(store, Solo("weak"), 5, score=False))
        command = ["runs", "outcomes", "--data", str(data), "--out", str(out)]
        refused = CliRunner().invoke(stretto, command)
        assert refused.exit_code == 2
        assert "POST /v1/feedback" in refused.output
        for worker in PRICES:
            asyncio.run(served(store, Solo(worker), 90, purpose="evaluation"))
        made = CliRunner().invoke(stretto, command)
        assert made.exit_code == 0, made.output
        assert "90 items, 180 outcomes" in made.output
        few = CliRunner().invoke(stretto, [*command, "--purpose", "shadow"])
        assert few.exit_code == 2
    finally:
        store.close()
    pytest.importorskip("scipy")
    learned = ["train", "evidence", "--ledger", str(data), "--out", str(tmp_path / "evidence.json")]
    trained = CliRunner().invoke(stretto, learned)
    assert trained.exit_code == 0, trained.output
    assert "best single strong" in trained.output


def learned_table(best: str = "strong") -> Artifact:
    """A route table that knows one kind of question, and prefers `best`."""
    workers = {worker: [90 if worker == best else 30, 100] for worker in ("strong", "weak")}
    tasks = {"ask": {"prior": 1.0, "workers": workers}}
    words = {word: {"ask": -1.0} for word in ("question", "0", ".")}
    return Artifact(
        TABLE_SCHEMA, {"from": "a test"}, {"tasks": tasks, "words": words, "unseen": {"ask": -6.0}}
    )


def test_a_candidate_is_promoted_on_what_the_record_tells(tmp_path: Path) -> None:
    """`promote --ledger` on the runs that a route table decided, which explored: the other table is better, and its score is told
    by three estimators with intervals.
    """
    now, then = learned_table("weak"), learned_table()
    same = Promise("strong", "a test", 400, 0.3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 0.01, "a test")
    promotions = Promotions(tmp_path, clock=lambda: 0.0)
    promotions.promote(now, same)
    artifacts.write(then, tmp_path / "then.json")
    store = JournalStore(tmp_path, content="full")
    try:
        asyncio.run(served(store, Route(table=Table(now), explore=0.5), 320))
    finally:
        store.close()
    found = CliRunner().invoke(
        stretto, ["promote", str(tmp_path / "then.json"), "--ledger", "--data", str(tmp_path)]
    )
    assert found.exit_code == 0, found.output
    assert "promoted: better" in found.output
    for method in ("IPS", "SNIPS", "DR"):
        value, low, high = re.search(rf"{method} ([\d.]+) \[([\d.]+), ([\d.]+)\]", found.output).groups()
        assert float(low) <= float(value) <= float(high)
        assert float(low) <= 1.0 <= float(high) + 1e-9
    current = promotions.current("route-table.json")
    assert current is not None
    assert current.hash == then.hash


@pytest.mark.parametrize(("promised", "kept"), [(0.9, True), (0.99, True), (1.0, False)])
def test_a_promise_that_feedback_refutes_is_taken_back(tmp_path: Path, promised: float, kept: bool) -> None:
    """`stretto demote --check` holds the feedback since against the promised score; the history says what was done."""
    promotions = Promotions(tmp_path, clock=lambda: 0.0)
    gap, cost = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    margin = 0.01 if kept else 0.0
    promotions.promote(learned_table(), Promise("weak", "a test", 400, promised, gap, cost, margin, "better"))
    store = JournalStore(tmp_path, content="digest")
    try:
        asyncio.run(served(store, Route(table=Table(learned_table())), 12))
        asyncio.run(disliked(store, promised))
    finally:
        store.close()
    found = CliRunner().invoke(stretto, ["demote", "--check", "--data", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert ("kept" in found.output) is kept, found.output
    assert (promotions.current("route-table.json") is not None) is kept
    assert [r.what for r in promotions.history()] == ["promoted"] + ([] if kept else ["demoted"])


async def disliked(store: Any, promised: float) -> None:
    """Where everything was promised to be right, one complaint among thirteen refutes it; else nobody complains."""
    if promised == 1.0:
        engine = Engine(ScriptedPool({w: ["no"] for w in PRICES}, prices=PRICES), store)
        run = await engine.run(Route(table=Table(learned_table())), asked(99), name="route")
        await engine.score(run.id, 0.0, by="me")


def test_demote_says_what_it_needs(tmp_path: Path) -> None:
    """Without a file and a reason, or a check; and where nothing was promoted."""
    bare = CliRunner().invoke(stretto, ["demote", "--data", str(tmp_path)])
    assert (bare.exit_code, "--reason" in bare.output) == (2, True)
    unknown = CliRunner().invoke(stretto, ["demote", "other.json", "--check", "--data", str(tmp_path)])
    assert (unknown.exit_code, "is none of" in unknown.output) == (2, True)
    nothing = CliRunner().invoke(stretto, ["demote", "--check", "--data", str(tmp_path)])
    assert (nothing.exit_code, "Nothing is served" in nothing.output) == (0, True)
