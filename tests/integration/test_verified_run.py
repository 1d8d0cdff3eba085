"""Verdicts through the engine: calls in the role of a verifier, in the receipt, within the limits, and replayed."""

import asyncio
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.artifacts import Artifact  # noqa: E402
from stretto.engine.run import Engine  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix  # noqa: E402
from stretto.ledger.read import receipt  # noqa: E402
from stretto.policies.evidence.verification import Verifier  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.steps import Ask  # noqa: E402
from stretto.testing import MemoryStore, ScriptedPool  # noqa: E402
from stretto.types import Limits, Message, Request  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(480)
_MADE = artefact(learn(matrix(TABLE, TABLE.workers), size=3, dimensions=12), {"from": "a made table"})
PLAIN = {k: v for k, v in _MADE.data.items() if k != "certified"} | {"free": True}
MANY = len(PLAIN["prices"])
VERIFIER = Verifier(
    "referee", (0.95, 0.95), (), 0.5, 0.01, 0.0001, (True,) * MANY, (1.5,) * MANY, (1.2,) * MANY
)
POLICY = Sequential(Evidence(Artifact(EVIDENCE_SCHEMA, {}, PLAIN | {"verifying": VERIFIER.data})))
ESSAY = "It is so because of the tides, and of the moon that makes them. " * 12


def world() -> tuple[Engine, MemoryStore, ScriptedPool]:
    """Three workers that write essays, and a verifier that accepts what the cheap one wrote alone."""

    def verdict(ask: Ask) -> str:
        return "yes" if ask.messages and "cheap: " in ask.messages[0].text else "no"

    scripts: dict[str, Any] = {w: [f"{w}: {ESSAY}"] for w in ("cheap", "middle", "dear")}
    pool, store = ScriptedPool(scripts | {"referee": verdict}), MemoryStore()
    return Engine(pool, store), store, pool


def asked(limits: Limits | None = None) -> Request:
    message = Message("user", "add the numbers total 7 red")
    return Request(messages=(message,), dial=1.0, limits=limits or Limits())


def test_verdicts_are_calls_in_the_receipt() -> None:
    """Each stands there with its role, what it cost and why it was asked, between the choices that bought it."""
    engine, store, pool = world()
    run = asyncio.run(engine.run(POLICY, asked()))
    assert run.answer.text.startswith("cheap: ")
    told = receipt(store.events(run.id))
    checks = [a for a in told["attempts"] if a["role"] == "verifier"]
    assert checks
    assert {a["worker"] for a in checks} == {"referee"}
    assert all(a["cost_pico"] > 0 and a["reason"].startswith("whether the reply of") for a in checks)
    assert told["consistent"]
    picked = [c["picked"] for c in told["choices"]]
    assert sum("verified by referee" in name for name in picked) == len(checks)
    assert picked[-1] == "stop: cheap"
    assert run.calls == len(pool.asks)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_limits_bound_verdicts_as_all_calls(calls: int) -> None:
    """With room for one call there is an answer and no verdict; what was refused is said."""
    engine, _, pool = world()
    run = asyncio.run(engine.run(POLICY, asked(Limits(calls=calls))))
    assert run.answer.error is None
    assert run.calls <= calls
    assert len(pool.asks) <= calls
    assert "a limit ended the asking" in run.answer.why


def test_a_run_with_verdicts_replays_without_a_call() -> None:
    """The record holds what the verifier said, and the same is chosen again."""
    engine, _, pool = world()
    run = asyncio.run(engine.run(POLICY, asked()))
    before = len(pool.asks)
    again = asyncio.run(engine.replay(run.id, POLICY))
    assert again.answer == run.answer
    assert (again.cost, again.calls, again.missing) == (run.cost, run.calls, ())
    assert len(pool.asks) == before
