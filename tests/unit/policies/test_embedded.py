"""A prompt read by an embedding worker: asked first, through the engine, and done without where it is not to be had."""

import asyncio
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.engine.run import Engine  # noqa: E402
from stretto.learning.evidence.training import Prompts, artefact, learn, matrix  # noqa: E402
from stretto.policies.evidence.embedded import Embedded, shortened  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.pool.scripted import Scripted  # noqa: E402
from stretto.testing import MemoryStore, ScriptedPool, by_hand, said  # noqa: E402
from stretto.testing import question as asked  # noqa: E402
from stretto.types import Card, Failure, Limits, Price  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

TABLE = made(480)
DATA = matrix(TABLE, TABLE.workers)
SUMS, WORDS = (1.0, 0.1, 0.0), (0.0, 0.1, 1.0)


def vector(prompt: str) -> tuple[float, ...]:
    return SUMS if "add" in prompt else WORDS


PROMPTS = Prompts.learned(
    [i for i in TABLE.items if i.split == "train"],
    embedder="vectors",
    vectors={i.id: vector(i.prompt) for i in TABLE.items},
)
LEARNED = artefact(learn(DATA, size=3, seen=PROMPTS), {"from": "a made table"})
POLICY = Sequential(Evidence(LEARNED), price=0.4)


def first(prompt: str, reply: Any = None, **fields: Any) -> tuple[list[str], Any]:
    """Who was asked, in order, where everybody says A."""

    def answer(step: Any) -> Any:
        if step.worker == "vectors":
            return reply or said("", "vectors", embeddings=(vector(step.messages[0].text),))
        return said("A", step.worker)

    steps, last = by_hand(POLICY.plan(asked(prompt, "cheap", "middle", "dear", **fields)), answer)
    return [s.worker for s in steps if hasattr(s, "worker")], last


def test_the_vector_of_a_prompt_tells_who_is_good_at_it() -> None:
    """Two kinds of task with a worker each: the vector alone says which kind it is."""
    known = POLICY.evidence
    sums, words = (known.logits("any", v)[0] for v in (SUMS, WORDS))
    cheap, middle = known.workers.index("cheap"), known.workers.index("middle")
    assert sums[cheap] > words[cheap] + 1
    assert words[middle] > sums[middle] + 1
    assert first("add the numbers")[0][:2] == ["vectors", "cheap"]
    assert first("name the word")[0][:2] == ["vectors", "middle"]


def test_without_the_vector_the_prompt_is_as_any_other() -> None:
    """A failure, a worker that may not be used, a single call: the average prompt's chances, and an answer all the same."""
    known = POLICY.evidence
    assert np.array_equal(known.logits("any"), known.logits("other", None))
    for kind in ("unavailable", "denied"):
        workers, last = first("add", said("", "vectors", error=Failure(kind, "no")))  # type: ignore[arg-type]
        assert workers[0] == "vectors"
        assert last.text == "A"
    workers, _ = first("add", limits=Limits(calls=1))
    assert "vectors" not in workers


def test_a_limit_that_refuses_the_vector_ends_the_run() -> None:
    """After a refusal by a limit nobody is asked any more."""
    limit = Failure("limit", "no money left")
    workers, last = first("add", said("", "vectors", error=limit))
    assert workers == ["vectors"]
    assert last.error == limit


def test_through_the_engine_a_worker_that_only_embeds_is_asked() -> None:
    """It cannot write the answer, so it is not among those who may; it may read the prompt all the same, and is in the ledger."""
    cards = {w: Card(w, Price.per_million(1, 1)) for w in ("cheap", "middle", "dear")}
    cards["vectors"] = Card("vectors", Price.per_million(1, 0), abilities=frozenset({"embedding"}))
    says: dict[str, Any] = dict.fromkeys(("cheap", "middle", "dear"), "A")
    says["vectors"] = [Scripted("", embeddings=(SUMS,))]
    pool, store = ScriptedPool(says, cards=cards), MemoryStore()
    run = asyncio.run(Engine(pool, store).run(POLICY, asked("add the numbers", *says)))
    assert run.answer.text == "A"
    assert [a.worker for a in pool.asks][:2] == ["vectors", "cheap"]
    assert run.calls == len(pool.asks)


def test_what_was_learned_survives_the_artefact() -> None:
    """Mean and deviation of the vectors; and long prompts are read at both ends."""
    embedder = POLICY.evidence.embedder
    assert embedder is not None
    again = Embedded.of(embedder.data)
    assert np.allclose(again.features(SUMS), embedder.features(SUMS))
    assert not np.allclose(again.features(SUMS), again.features(WORDS))
    assert shortened("a" * 9000 + "b") == "a" * 3000 + "a" * 2999 + "b"
