"""How far a verifier can be trusted, where its verdicts pay, and that what is learned of them is what serves."""

from dataclasses import replace
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.artifacts import Artifact  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix  # noqa: E402
from stretto.learning.evidence.verifying import (  # noqa: E402
    error,
    free_of,
    replies_of,
    spread_of,
    taught,
    walked,
)
from stretto.policies.evidence.verification import Verifier  # noqa: E402
from stretto.policies.judging import STANDARD  # noqa: E402
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential  # noqa: E402
from stretto.steps import Ask, Step  # noqa: E402
from stretto.testing import by_hand, question, said  # noqa: E402
from tests.recorded_tables import PRICES, made  # noqa: E402

TABLE = made(600)
_WHOLE = matrix(TABLE, TABLE.workers)
DATA = replace(_WHOLE, classes=np.tile(np.arange(3), (len(_WHOLE.items), 1)), tokens=_WHOLE.tokens * np.nan)
FREE = np.full(DATA.scores.shape, -2)
US = (0.003, 0.03, 0.1, 0.25, 0.6)
LEARNED = learn(DATA, size=3, dimensions=12, prices=US)
MADE = artefact(LEARNED, {"from": "a made table"})
ESSAY = "It is so because of the tides, and of the moon that makes them. " * 12


def verdicts(sensitivity: float, specificity: float, seed: int = 3) -> Any:
    """What a verifier of these rates says of every reply."""
    yes = np.where(DATA.scores >= 0.5, sensitivity, 1 - specificity)
    return np.random.default_rng(seed).random(DATA.scores.shape) < yes


def found(said_: Any, most: int = 400) -> Any:
    sample = replies_of(DATA, FREE, most, "nobody")
    return error({place: bool(said_[place]) for place in sample}, DATA)


def learned(said_: Any, usd: float = 0.0001, free: Any = None, worker: str = "referee") -> Any:
    told = {place: bool(said_[place]) for place in np.ndindex(*said_.shape)}
    free = np.ones(len(DATA.items), dtype=bool) if free is None else free
    known = {"worker": worker, "usd": usd, "wordings": STANDARD, "free": free}
    return taught(MADE, LEARNED, DATA, found(said_), told, **known)


def test_the_sample_has_a_right_and_a_wrong_reply_a_prompt_and_none_of_the_verifiers_own() -> None:
    """Of train items only: else easy prompts would count for the right replies, and hard ones for the wrong."""
    sample = replies_of(DATA, FREE, 100, "dear")
    assert len(sample) == 100
    for right, wrong in zip(sample[::2], sample[1::2], strict=True):
        assert right[0] == wrong[0]
        assert DATA.items[right[0]].split == "train"
        assert (DATA.scores[right], DATA.scores[wrong]) == (1.0, 0.0)
        assert "dear" not in (DATA.workers[right[1]], DATA.workers[wrong[1]])


def test_replies_that_can_be_compared_are_not_shown_where_there_are_others() -> None:
    """A table of letters with some free texts: the verifier is for the texts."""
    values = np.where(np.arange(len(DATA.items))[:, None] % 3 == 0, FREE, 1)
    assert {item % 3 for item, _ in replies_of(DATA, values, 60, "nobody")} == {0}
    assert free_of(values).tolist() == [k % 3 == 0 for k in range(len(values))]


@pytest.mark.parametrize("rates", [(0.9, 0.8), (0.7, 0.7)])
def test_rates_are_found_again(rates: tuple[float, float]) -> None:
    """Within their interval, for all and, drawn towards these, for each task."""
    judged = found(verdicts(*rates))
    assert judged.informed
    assert judged.rates == pytest.approx(rates, abs=0.06)
    assert judged.edge_interval[0] < sum(rates) - 1 < judged.edge_interval[1]
    assert set(judged.tasks) == {"sums", "words"}
    for (yes, no), (low, high), n in judged.tasks.values():
        assert n > 30
        assert low[0] < yes < high[0]
        assert low[1] < no < high[1]


def test_a_task_with_few_verdicts_is_drawn_towards_all() -> None:
    """Ten prompts at which it is always right do not make it certain there."""
    said_ = verdicts(0.75, 0.75)
    sample = replies_of(DATA, FREE, 400, "nobody")
    kept = [p for p in sample if DATA.items[p[0]].task == "sums"]
    few = [p for p in sample if DATA.items[p[0]].task == "words"][:20]
    told = {p: bool(said_[p]) for p in kept} | {p: bool(DATA.scores[p] >= 0.5) for p in few}
    yes, no = error(told, DATA).tasks["words"][0]
    assert 0.75 < yes < 0.95
    assert 0.75 < no < 0.95


@pytest.mark.parametrize(
    "rates", [(0.5, 0.5), (0.24, 0.76), (1.0, 0.0)], ids=["coin", "a no more often", "yes"]
)
def test_who_is_no_better_than_a_coin_is_one(rates: tuple[float, float]) -> None:
    """Whatever it likes to say: it is worth nothing, no price asks it, and the artefact serves as before."""
    judged = found(verdicts(*rates))
    assert not judged.informed
    assert judged.rates == (0.5, 0.5)
    _, crossed, verifier = learned(verdicts(*rates))
    assert not verifier.informed
    assert not any(verifier.serves)
    assert np.array_equal(crossed.score, LEARNED.crossed.score)


def test_too_few_prompts_make_a_coin() -> None:
    """Of twenty prompts nobody can say."""
    assert not found(verdicts(1.0, 1.0), 40).informed


def test_a_good_verifier_pays_and_a_dear_one_does_not() -> None:
    """It serves where it was worth more than doing without; at ten thousand times the price nowhere."""
    _, crossed, verifier = learned(verdicts(0.95, 0.95))
    assert any(verifier.serves)
    place = verifier.serves.index(True)
    per = US[place] / LEARNED.unit
    with_, without = (
        float((w.score[place] - per * w.cost[place]).mean()) for w in (crossed, LEARNED.crossed)
    )
    assert with_ > without
    assert verifier.checks[place] > 0
    assert not any(learned(verdicts(0.95, 0.95), usd=1.0)[2].serves)


def test_where_replies_can_be_compared_nothing_changes() -> None:
    """A table of which no item is free learns the error, and never asks."""
    _, crossed, verifier = learned(verdicts(0.95, 0.95), free=np.zeros(len(DATA.items), dtype=bool))
    assert verifier.informed
    assert not any(verifier.serves)
    assert verifier.tasks == (None, None)
    assert np.array_equal(crossed.cost, LEARNED.crossed.cost)


def test_one_kind_of_task_may_be_free_and_the_other_not() -> None:
    """Only the free one has rates, and only its items are bought verdicts for."""
    free = np.array([i.task == "words" for i in DATA.items])
    _, crossed, verifier = learned(verdicts(0.95, 0.95), free=free)
    assert [pair is None for pair in verifier.tasks] == [True, False]
    train = [i for i in DATA.items if i.split == "train"]
    same = (crossed.cost == LEARNED.crossed.cost).all(0)
    assert all(same[[i.task == "sums" for i in train]])


def test_hardness_for_all_is_found() -> None:
    """Workers that fail on the same prompts have more of it than workers that fail each by itself."""
    rng = np.random.default_rng(2)
    odds = np.full((2000, 4), 0.5)
    alone = (rng.random((2000, 4)) < 0.62).astype(float)
    hard = rng.normal(size=(2000, 1)) * 2.0
    together = (rng.random((2000, 4)) < 1 / (1 + np.exp(-(0.77 + hard)))).astype(float)
    assert spread_of(odds, alone) <= 0.25
    assert 1.5 <= spread_of(odds, together) <= 2.5


def test_what_serves_is_what_was_learned() -> None:
    """Each item of the table played through the plan brings the score, the money and the calls that the learner foretold."""
    said_ = verdicts(0.9, 0.85)
    verifier = Verifier("referee", (0.9, 0.85), (), 1.0, 0.02, 0.02 * LEARNED.unit, (True,) * len(US))
    verifier = replace(verifier, calls=(1.0,) * len(US), checks=(1.0,) * len(US))
    plain = {k: v for k, v in MADE.data.items() if k != "certified"}
    known = Evidence(Artifact(EVIDENCE_SCHEMA, {}, plain | {"verifying": verifier.data, "free": True}))
    at = [k for k, i in enumerate(DATA.items) if i.split == "train"][:40]
    columns = [DATA.workers.index(w) for w in LEARNED.workers]
    place = 2
    for item in at:
        prompt = DATA.items[item].prompt
        logits = known.logits(prompt)
        lattice = _lattice(known, item, columns, logits)
        walk, checks = walked(
            lattice,
            verifier,
            np.array([verifier.rates]),
            said_[[item]][:, columns],
            [US[place]],
            LEARNED.unit,
            np.ones(len(columns), dtype=bool),
        )

        def answer(step: Step, item: int = item) -> Any:
            assert isinstance(step, Ask)
            if step.worker == "referee":
                asked = step.messages[0].text if step.messages else ""
                author = next(k for k, w in enumerate(DATA.workers) if f"{w}: " in asked)
                return said("yes" if said_[item, author] else "no", "referee")
            return said(f"{step.worker}: {ESSAY}", step.worker)

        one = Sequential(known, price=US[place])
        steps, last = by_hand(one.plan(question(prompt, *LEARNED.workers, "referee")), answer)
        asks = [s.worker for s in steps if isinstance(s, Ask)]
        paid = sum(PRICES[w] for w in asks if w != "referee") + verifier.usd * asks.count("referee")
        assert paid == pytest.approx(float(walk.cost[0, 0]))
        assert asks.count("referee") == int(checks[0, 0])
        speaker = DATA.workers.index(last.text.split(":")[0])  # type: ignore[union-attr]
        assert DATA.scores[item, speaker] == walk.score[0, 0]


def _lattice(known: Evidence, item: int, columns: list[int], logits: Any) -> Any:
    """One item as the learner sees it, with the chances that serving has."""
    from stretto.learning.evidence.lattice import Lattice

    classes = DATA.classes[[item]][:, columns]
    scores, costs = DATA.scores[[item]][:, columns], DATA.costs[[item]][:, columns]
    part = Lattice.of([known.posterior], np.zeros(1, dtype=int), classes, logits, scores, costs)
    return replace(part, costs=np.array([[PRICES[DATA.workers[k]] for k in columns]]))
