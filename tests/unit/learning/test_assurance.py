"""How sure a worker was, as evidence: what it adds, what it leaves alone, and that what serves is what was learned."""

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.learning.evidence.assurance import (  # noqa: E402
    assured,
    calibration_error,
    fit_assurance,
    stated,
    stating,
)
from stretto.learning.evidence.lattice import Walk  # noqa: E402
from stretto.learning.evidence.training import artefact, learn, matrix, nats  # noqa: E402
from stretto.policies.evidence.assurance import Assurance, Stated  # noqa: E402
from stretto.policies.sequential import Evidence, Sequential  # noqa: E402
from stretto.steps import Ask  # noqa: E402
from stretto.testing import by_hand, said  # noqa: E402
from stretto.types import Card, Message, Request  # noqa: E402
from tests.recorded_tables import made  # noqa: E402


def drawn(n: int = 800, seed: int = 3):  # type: ignore[no-untyped-def]
    """Two workers of the same prior; the first knows when it is right, the second says anything."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((n, 2)) < 0.6).astype(float)
    confidence = rng.random((n, 2))
    confidence[:, 0] = np.clip(0.5 + 0.35 * (2 * scores[:, 0] - 1) + 0.1 * rng.standard_normal(n), 0.01, 0.99)
    return np.full((n, 2), 0.4), confidence, scores


def test_confidence_counts_as_much_as_it_is_worth() -> None:
    """Of a worker that knows when it is right nearly all doubt goes; of one that does not, nothing changes."""
    logits, confidence, scores = drawn()
    _, after = assured(logits, confidence, scores, np.arange(800) % 5)
    chance = 1 / (1 + np.exp(-after))
    assert nats(chance[:, 0], scores[:, 0]) < 0.1
    assert nats(chance[:, 1], scores[:, 1]) == pytest.approx(0.673, abs=0.03)


def test_who_does_not_tell_keeps_its_odds() -> None:
    """Untold confidence changes nothing, neither in learning nor in serving, and the artefact's form gives the same."""
    logits, confidence, scores = drawn()
    confidence[::2, 0] = np.nan
    confidence[:, 1] = np.nan
    fit = fit_assurance(logits, confidence, scores)
    after = Assurance.of(fit.data).after(logits, confidence)
    assert (after[::2, 0] == logits[::2, 0]).all()
    assert (after[:, 1] == logits[:, 1]).all()
    assert (after == fit.after(logits, confidence)).all()


def test_a_policy_that_learned_from_confidence_asks_for_it_and_goes_by_it() -> None:
    """Workers that can tell are asked to; the same answer is worth less where it was written in doubt."""
    table = made(480)
    data = matrix(table, table.workers)
    rng = np.random.default_rng(0)
    sure = np.clip(
        0.5 + 0.3 * (2 * data.scores - 1) + 0.15 * rng.standard_normal(data.scores.shape), 0.01, 0.99
    )
    told = type(data)(data.workers, data.items, data.classes, data.scores, data.costs, data.tokens, sure)
    learned = learn(told, size=3, dimensions=12)
    assert learned.assurance is not None
    policy = Sequential(Evidence(artefact(learned, {})))
    pool = tuple(
        Card(w, abilities=frozenset({"text", "logprobs"} if w != "dear" else {"text"})) for w in table.workers
    )
    request = Request(messages=(Message("user", table.items[0].prompt),), pool=pool, dial=1.0)
    found = {}
    for logprob in (-0.05, -3.0):
        steps, last = by_hand(policy.plan(request), lambda s, p=logprob: said("7", s.worker, logprob=p))  # type: ignore[misc]
        asks = [s for s in steps if isinstance(s, Ask)]
        assert {s.want for s in asks if s.worker == "dear"} <= {"text"}
        assert {s.want for s in asks if s.worker != "dear"} == {"logprobs"}
        assert not isinstance(last, Ask)
        found[logprob] = float(last.why.split()[0])
    assert found[-0.05] > found[-3.0]


def walked(too_sure: float, n: int = 3000) -> Walk:
    """Answers at two prices, whose posterior's log-odds are too high by so much at the second."""
    rng = np.random.default_rng(5)
    z = rng.normal(1.5, 1.0, (2, n))
    score = (rng.random((2, n)) < 1 / (1 + np.exp(-z))).astype(float)
    sure = 1 / (1 + np.exp(-z - np.array([[0.0], [too_sure]])))
    return Walk(score, np.ones((2, n)), np.ones((2, n)), sure)


def test_what_is_said_at_the_stop_is_how_often_it_is_right() -> None:
    """A posterior that is too high where asking is dear is said lower there, cross-fitted; where it was true, about the same."""
    went, told = walked(0.8), {}  # type: ignore[var-annotated]
    found, said_ = stating(went, (0.01, 0.4), told)
    assert found is not None
    before, after = (calibration_error(w.sure[1], went.score[1]) for w in (went, said_))
    assert after < 0.4 * before
    assert found.chance(0.8, 0.01) == pytest.approx(0.8, abs=0.02)
    assert found.chance(0.8, 0.4) < 0.72
    assert found.chance(0.9, 0.4) > found.chance(0.8, 0.4)
    figures = told["calibration error at the stop"]
    assert figures["stated"] < figures["posterior"]
    again = Stated.of(found.data)
    assert again.chance(0.7, 0.1) == pytest.approx(found.chance(0.7, 0.1), abs=1e-5)


def test_a_true_posterior_is_said_as_it_is_or_little_else() -> None:
    """Where nothing is wrong nothing is put right by more than chance would; too few items say nothing."""
    went = walked(0.0)
    found, _ = stating(went, (0.01, 0.4), {})
    assert stated(found, went, (0.01, 0.4)).sure == pytest.approx(went.sure, abs=0.03)
    few = Walk(*(part[:, :60] for part in (went.score, went.cost, went.calls, went.sure)))
    assert stating(few, (0.01, 0.4), {})[0] is None


def test_silence_is_as_often_right_as_it_was() -> None:
    """Where no reply could be compared (posterior 0) the answer may be right all the same: as often as that was seen."""
    went = walked(0.5)
    went.sure[:, ::10] = 0.0
    went.score[:, ::10] = 1.0
    found, _ = stating(went, (0.01, 0.4), {})
    assert found is not None
    assert found.chance(0.0, 0.4) == 1.0
