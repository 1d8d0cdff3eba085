"""Running an evaluation: what the ledger and the results say, ceilings, and what makes a question another one."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from stretto.engine.run import Engine
from stretto.evaluation.recorded import RecordedPool
from stretto.evaluation.runner import Asking, Ceiling, Contender, Log, Result, fingerprint, play
from stretto.evaluation.tasks import recorded_items
from stretto.policies.fallback import Fallback
from stretto.policies.fuse import Fuse
from stretto.policies.solo import Solo
from stretto.testing import MemoryStore
from stretto.types import PICO
from tests.recorded_tables import made

TABLE = made(20)
ITEMS = recorded_items(TABLE)
PANEL = Contender("panel", Fuse(("cheap", "middle", "dear")))
DEAR = Contender("dear", Solo("dear"), "worker")


def run(
    folder: Path, *contenders: Contender, usd: float | None = None, store: MemoryStore | None = None
) -> dict[str, list[Result]]:
    pool, store = RecordedPool(TABLE), store or MemoryStore()
    log = Log(folder / "results.jsonl")
    asking = Asking(usd=None if usd is None else round(usd * PICO))
    try:
        return asyncio.run(
            play(Engine(pool, store), store, pool.cards(), ITEMS, contenders, log, asking, concurrency=3)
        )
    finally:
        log.close()


def test_results_tell_score_money_and_who_was_asked(tmp_path: Path) -> None:
    """In the order of the items; each is one run in the ledger with purpose evaluation."""
    store = MemoryStore()
    found = run(tmp_path, PANEL, DEAR, store=store)
    said = [TABLE.said(item.id, "dear") for item in ITEMS]
    assert [r.score for r in found["dear"]] == [s.score for s in said if s is not None]
    assert {r.cost for r in found["panel"]} == {round(0.025 * PICO)}
    assert all(sorted(r.asked) == ["cheap", "dear", "middle"] and r.calls == 3 for r in found["panel"])
    runs = {s.run for s in store.runs(purpose="evaluation", limit=1000)}
    assert runs == {r.run for results in found.values() for r in results}


def test_a_ceiling_for_everything_is_never_passed_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    """Open runs share what is left, so that together they cannot pass it; what was answered is not asked again."""
    with pytest.raises(Ceiling, match="higher --limit-usd"):
        run(tmp_path, DEAR, usd=0.2)
    log = Log(tmp_path / "results.jsonl")
    log.close()
    spent = sum(r.cost for r in log.done.values())
    assert 0 < spent <= 0.2 * PICO
    before = {r.run for r in log.done.values()}
    found = run(tmp_path, DEAR, usd=1.0)
    assert len(found["dear"]) == 20
    assert before <= {r.run for r in found["dear"]}


def test_what_makes_a_question_another_one() -> None:
    """Prompt, reference, policy settings, sample, dial, parameters and prices are in the key; the order of the pool is not."""
    cards = RecordedPool(TABLE).cards()
    item, asking = ITEMS[0], Asking()
    one = fingerprint(item, PANEL, asking, cards)
    assert fingerprint(item, PANEL, asking, cards[::-1]) == one
    others = {
        fingerprint(ITEMS[1], PANEL, asking, cards),
        fingerprint(replace(item, reference="other"), PANEL, asking, cards),
        fingerprint(item, replace(PANEL, policy=Fallback(("cheap", "dear"))), asking, cards),
        fingerprint(item, replace(PANEL, sample=2), asking, cards),
        fingerprint(item, replace(PANEL, dial=0.9), asking, cards),
        fingerprint(item, PANEL, replace(asking, params={"temperature": 0}), cards),
        fingerprint(item, PANEL, asking, cards[:2]),
    }
    assert len(others | {one}) == 8
