"""What is to be expected of a healthy worker's reply is learned so that it holds on items that were not learned from."""

import pytest

np = pytest.importorskip("numpy")

from stretto.learning.evidence import (  # noqa: E402
    matrices,
    success,
)
from stretto.learning.evidence.drift import fit_agreement  # noqa: E402
from stretto.learning.evidence.lattice import Lattice  # noqa: E402
from stretto.learning.evidence.posterior import fit_posterior  # noqa: E402
from stretto.policies.evidence.agreement import expected, signs  # noqa: E402
from stretto.policies.evidence.beliefs import Beliefs  # noqa: E402


def world(n: int, seed: int):
    """Four workers of known skill choosing among five answers: classes, log-odds, scores."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.35, 0.9, (n, 4))
    right = rng.random((n, 4)) < p
    raw = np.where(right, 0, rng.integers(1, 5, (n, 4)))
    return matrices.renumbered(raw), success.log_odds(p), right.astype(float)


def believing(posterior, classes, logits, scores) -> Lattice:
    """What is believed of every subset, where asking costs the same everywhere."""
    none = np.zeros(len(classes), dtype=int)
    return Lattice.of([posterior], none, classes, logits, scores, np.ones(classes.shape))


def test_expected_agreement_is_calibrated() -> None:
    """For each worker as the third to reply: in bins of what was expected it joins somebody about as often, on fresh items."""
    classes, logits, scores = world(3000, 1)
    posterior = fit_posterior(classes, logits, scores, identity=False, trees=False)
    weights = fit_agreement(believing(posterior, classes, logits, scores), classes)
    assert weights.shape == (4, signs(0.5, 0.0, 0.0).shape[-1])
    classes, logits, _ = world(4000, 2)
    for k in range(4):
        asked = np.zeros(classes.shape, dtype=bool)
        asked[:, [j for j in range(4) if j != k][:2]] = True
        found = Beliefs.after(posterior, classes, logits, asked)
        agrees = ((classes == classes[:, [k]]) & asked).any(1)
        chance = 1 / (1 + np.exp(-signs(found.first, found.second, logits[:, k]) @ weights[k]))
        assert chance[:5] == pytest.approx(
            [expected(weights[k], found.first[i], found.second[i], logits[i, k]) for i in range(5)]
        )
        for low in np.arange(0.1, 0.9, 0.2):
            at = (chance >= low) & (chance < low + 0.2)
            if at.sum() > 200:
                assert chance[at].mean() == pytest.approx(agrees[at].mean(), abs=0.06)


def test_what_is_expected_holds_where_the_policy_asks_on() -> None:
    """A policy that asks on where it has doubts that its beliefs do not show meets less agreement: what was met is learned."""
    rng = np.random.default_rng(4)
    easy = rng.random(4000) < 0.7
    right = rng.random((4000, 3)) < np.where(easy, 0.95, 0.3)[:, None]
    classes = matrices.renumbered(np.where(right, 0, rng.integers(1, 5, right.shape)))
    logits = np.full(right.shape, 1.0)  # nobody can tell easy from hard beforehand
    posterior = fit_posterior(classes, logits, right.astype(float), identity=False, trees=False)
    lattice = believing(posterior, classes, logits, right.astype(float))
    choice = np.zeros((1, 8, 4000), dtype=np.int8)
    choice[0, 0] = 1  # everybody begins with the first worker, and only hard prompts go on to the second
    choice[0, 1] = np.where(easy, 0, 2)
    met = ~easy
    agreed = (classes[met, 1] == classes[met, 0]).mean()
    blind, knowing = (
        fit_agreement(lattice, classes[:, :3], chosen)[1] for chosen in ((), np.repeat(choice, 6, axis=0))
    )
    sure = lattice.first[1, met], lattice.second[1, met], logits[met, 1]
    expects = [float((1 / (1 + np.exp(-(signs(*sure) @ w)))).mean()) for w in (blind, knowing)]
    assert abs(expects[1] - agreed) < 0.6 * abs(expects[0] - agreed)
    assert expects[0] > agreed
