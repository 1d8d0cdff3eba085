"""What the offline programme rests on: calibrated posteriors, exact lattices, honest cross-fitting, risk control."""

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.artifacts import packed, unpacked  # noqa: E402
from stretto.learning.evidence import (  # noqa: E402
    matrices,
    posterior,
    success,
)
from stretto.learning.evidence import trees as trees_of_learning  # noqa: E402
from stretto.learning.evidence.features import data_of, fit_features  # noqa: E402
from stretto.learning.evidence.lattice import Lattice, solve, walk  # noqa: E402
from stretto.learning.evidence.risk import certify  # noqa: E402
from stretto.learning.evidence.trees import available  # noqa: E402
from stretto.policies.evidence.beliefs import Beliefs, candidates  # noqa: E402
from stretto.policies.evidence.features import TextFeatures  # noqa: E402
from stretto.policies.evidence.trees import Trees  # noqa: E402
from tests.recorded_tables import made  # noqa: E402

BOTH = pytest.mark.parametrize(
    "trees",
    [
        False,
        pytest.param(True, marks=pytest.mark.skipif(not available(), reason="lightgbm is not installed")),
    ],
)


def world(n: int, workers: int = 4, seed: int = 0):
    """Independent workers of known skill choosing among five answers: truth, classes, log-odds, scores."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.35, 0.9, (n, workers))
    right = rng.random((n, workers)) < p
    wrong = rng.integers(1, 5, (n, workers))
    raw = np.where(right, 0, wrong)
    classes = matrices.renumbered(raw)
    return classes, success.log_odds(p), right.astype(float)


@BOTH
def test_the_posterior_is_calibrated_on_items_it_has_not_seen(trees: bool) -> None:
    """For any subset of replies: where it says .7 it is right 70 % of the time (within noise), bin by bin."""
    fit = posterior.fit_posterior(*world(3000, seed=1), identity=False, trees=trees)
    classes, logits, scores = world(6000, seed=2)
    asked = np.random.default_rng(3).random(classes.shape) < 0.7
    asked[:, 0] = True
    found = Beliefs.after(fit, classes, logits, asked)
    right = scores[np.arange(len(scores)), found.speaker]
    for low in np.arange(0.2, 1.0, 0.2):
        at = (found.first >= low) & (found.first < low + 0.2)
        if at.sum() > 200:
            noise = 3 * np.sqrt(0.25 / at.sum())
            assert found.first[at].mean() == pytest.approx(right[at].mean(), abs=max(0.03, noise))


@BOTH
def test_more_agreement_is_more_certainty(trees: bool) -> None:
    """Two who agree are surer than one; two who differ less sure."""
    fit = posterior.fit_posterior(*world(3000, seed=1), identity=False, trees=trees)
    logits = np.full((3, 4), 0.8)
    classes = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    asked = np.array([[True, False, False, False], [True, True, False, False], [True, True, False, False]])
    one, two, split = Beliefs.after(fit, classes, logits, asked).first
    assert two > one > split


@BOTH
def test_workers_may_change_places_in_an_exchangeable_posterior(trees: bool) -> None:
    """Without identity terms only how good the supporters are counts, not who they are."""
    classes, logits, _ = world(200, seed=4)
    asked = np.random.default_rng(5).random(classes.shape) < 0.6
    asked[:, 2] = True
    order = [2, 0, 3, 1]
    fit = posterior.fit_posterior(*world(2000, seed=1), identity=False, trees=trees)
    one = Beliefs.after(fit, classes, logits, asked).first
    moved = Beliefs.after(
        fit, matrices.renumbered(classes[:, order]), logits[:, order], asked[:, order]
    ).first
    assert np.allclose(one, moved)


def test_no_answer_is_no_candidate() -> None:
    """Abstentions count as such, and where all abstain nothing is believed."""
    classes, everybody = np.array([[-1, -1], [-1, 1]]), np.ones((2, 2), dtype=bool)
    features, item, number = candidates(classes, np.zeros((2, 2)), everybody)
    assert (item.tolist(), number.tolist()) == ([1], [1])
    assert np.isfinite(features).all()


def test_the_lattice_solves_a_case_known_by_hand() -> None:
    """A sure cheap worker is asked and believed; at a high price nobody asks the dear one, who adds nothing."""
    rng = np.random.default_rng(0)
    n = 2000
    first = np.zeros((4, n), dtype=np.float32)
    score = np.zeros_like(first)
    cheap_right = rng.random(n) < 0.7
    first[1], score[1] = (
        np.where(cheap_right, 0.95, 0.2),
        cheap_right,
    )  # a signal that tells when cheap is right
    first[2], score[2] = 0.9, rng.random(n) < 0.9
    first[3], score[3] = np.where(cheap_right, 0.97, 0.9), np.where(cheap_right, 1, rng.random(n) < 0.9)
    lattice = Lattice(first, np.zeros_like(first), score, np.zeros((n, 2)), np.tile([1.0, 10.0], (n, 1)))
    went, free, dear = walk(solve(lattice, (0.01, 0.0, 0.2)), lattice)
    assert went.score.mean() > 0.94
    assert went.cost.mean() < 6
    assert free.score.mean() >= went.score.mean() - 0.005
    assert dear.cost.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("make", [success.Logistic, success.Nearest, success.Clusters, success.Means])
def test_estimators_learn_who_is_good_at_what(make) -> None:
    """Every family beats or equals the means on fresh items of two kinds, takes missing scores, and knows how unsure it is."""
    rng = np.random.default_rng(0)

    def draw(n: int):
        kind = rng.integers(0, 2, n)
        x = rng.normal(0, 1, (n, 6)) + 3 * np.stack([kind, 1 - kind] + [np.zeros(n)] * 4, axis=1)
        chance = np.where(kind[:, None] == 0, [0.9, 0.3, 0.6], [0.4, 0.8, 0.6])
        return x, (rng.random((n, 3)) < chance).astype(float), chance

    x, scores, _ = draw(1500)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    fresh, _, chance = draw(800)
    fit = (make(c=1.0) if make is success.Logistic else make()).fit(x, scores)
    error = np.abs(fit.predict(fresh) - chance).mean()
    flat = np.abs(success.Means().fit(x, scores).predict(fresh) - chance).mean()
    assert error <= flat + 1e-9
    if make is not success.Means:
        assert error < 0.08
    few = (make(c=1.0) if make is success.Logistic else make()).fit(x[:60], scores[:60])
    assert few.deviation(fresh).mean() > fit.deviation(fresh).mean()


def test_factors_share_what_few_labels_cannot_tell_apart() -> None:
    """Where one difficulty explains all workers, rank 1 loses nothing; where two kinds of skill differ, it must."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2000, 8))
    hard = x[:, 0] + 0.5 * x[:, 1]
    one = 1 / (1 + np.exp(-(hard[:, None] * [1.0, 0.5, 1.5, 0.8] + [0.0, 1.0, -0.5, 0.3])))
    two = 1 / (1 + np.exp(-np.stack([x[:, 0], x[:, 0], x[:, 2], x[:, 2]], axis=1) * 2))
    for chance, loses in ((one, False), (two, True)):
        scores = (rng.random(chance.shape) < chance).astype(float)
        full, flat = (
            m.fit(x, scores).predict(x) for m in (success.Logistic(1.0), success.Factors(1.0, rank=1))
        )
        error_full, error_flat = np.abs(full - chance).mean(), np.abs(flat - chance).mean()
        assert bool(error_flat > 1.5 * error_full) is loses
    assert np.linalg.matrix_rank(success.Factors(1.0, rank=2).fit(x, scores).weights[1:], tol=1e-6) == 2


def test_a_newcomer_is_average_until_its_labels_say_otherwise() -> None:
    """Without labels it is the mean of the others; twenty labels move it, two hundred tell its level; doubt shrinks."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0.5, 1.0, (3000, 5))
    truth = 1 / (1 + np.exp(-(1.5 + odds.mean(1))))
    scores = (rng.random(3000) < truth).astype(float)[:, None]
    fresh = success.Newcomer()
    assert np.allclose(fresh.predict(odds)[:, 0], 1 / (1 + np.exp(-odds.mean(1))))
    error, doubt = [np.abs(fresh.predict(odds)[:, 0] - truth).mean()], [fresh.deviation(odds).mean()]
    for labels in (20, 200):
        fit = success.Newcomer().fit(odds[:labels], scores[:labels])
        error.append(np.abs(fit.predict(odds)[:, 0] - truth).mean())
        doubt.append(fit.deviation(odds).mean())
    assert error[0] > error[1] > error[2]
    assert doubt[0] > doubt[1] > doubt[2]
    assert success.Newcomer().fit(odds[:9], np.ones((9, 1))).predict(odds).max() <= success.HIGH


def test_cross_fitting_never_looks() -> None:
    """Scores that are pure noise cannot be predicted: cross-fitted chances are as good as the mean, fitted ones look better."""
    rng = np.random.default_rng(0)
    x, scores = rng.normal(0, 1, (300, 60)), (rng.random((300, 2)) < 0.5).astype(float)
    fold = success.folds(300)
    honest = success.cross_fitted(lambda: success.Logistic(1.0), x, scores, fold)
    fooled = success.Logistic(1.0).fit(x, scores).predict(x)
    assert np.abs(fooled - scores).mean() < 0.45
    assert np.abs(honest - scores).mean() > 0.47


def test_text_features_are_the_same_when_read_again() -> None:
    """Learned, packed and unpacked, the features of a prompt agree; unknown words and empty prompts are no trouble."""
    items = made(60).items
    fit = fit_features([i.prompt for i in items], dimensions=6)
    data = data_of(fit)
    again = TextFeatures.of(data)
    older = TextFeatures.of({k: v for k, v in data.items() if k != "kept"} | {"rows": packed(fit.rows)})
    for text in (items[0].prompt, "", "entirely unknown", "x" * 20_000, "é ß 漢字 \ud800"):
        assert np.allclose(fit.vector(text), again.vector(text), atol=0.02)
        assert (older.vector(text) == again.vector(text)).all()
    kinds = np.array([i.task == "sums" for i in items])
    x = fit.matrix([i.prompt for i in items])
    assert np.abs(x[kinds].mean(0) - x[~kinds].mean(0)).max() > 1


def test_arrays_survive_being_packed() -> None:
    """Shape, type and values."""
    for array in (
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.array([-1, 7], dtype=np.int32),
        np.zeros((0, 3)),
    ):
        back = unpacked(packed(array))
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert np.array_equal(back, array)


def test_the_certificate_holds_its_level() -> None:
    """A policy that truly loses 2 points is certified in at most about 5 % of 400 trials; a harmless cheap one nearly always."""
    rng = np.random.default_rng(0)
    wrongly = rightly = 0
    for _ in range(400):
        base = (rng.random(1000) < 0.7).astype(float)
        bad = np.where(rng.random(1000) < 0.02 / 0.7, 0.0, base)
        good = base
        ones = np.ones(1000)
        wrongly += certify([(0.1, bad, 0.3 * ones)], base, ones).u is not None
        rightly += certify([(0.1, good, 0.3 * ones)], base, ones).u is not None
    assert wrongly <= 30
    assert rightly == 400


def test_what_is_dearer_or_unproven_is_not_served() -> None:
    """Too few items, a failed first test, or a certified policy that costs more: keep the best single."""
    base, ones = np.ones(1000), np.ones(1000)
    assert "too few" in certify([(0.1, base[:40], ones[:40])], base[:40], ones[:40]).reason
    assert certify([(0.1, np.zeros(1000), ones)], base, ones).reason == "nothing was certified"
    assert "costs 2.00 x" in certify([(0.1, base, 2 * ones)], base, ones).reason
    found = certify(
        [(0.1, base, 0.5 * ones), (0.3, base, 0.2 * ones), (0.9, base - 0.05, 0 * ones)], base, ones
    )
    assert (found.u, found.cost, len(found.tested)) == (0.3, pytest.approx(0.2), 3)


def test_few_items_certify_what_is_much_better_and_never_a_tie() -> None:
    """Of 160 items a policy that is right on all is certified against one that is right on half; one that is never seen to
    lose is not: three losses in 160 could have gone unseen."""
    half, ones = np.arange(160) % 2 * 1.0, np.ones(160)
    assert certify([(0.1, ones, 0.3 * ones)], half, ones).u == 0.1
    tie = certify([(0.1, half, 0.3 * ones)], half, ones)
    assert tie.u is None
    assert tie.bound == pytest.approx(3 / 160)


@pytest.mark.skipif(not available(), reason="lightgbm is not installed")
def test_our_evaluator_gives_the_same_sums_as_lightgbm() -> None:
    """To the last bit or so, for one row and for many, after the disk too; trees that could not split are constants."""
    import lightgbm

    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 9))
    y = 1 / (1 + np.exp(-(x[:, 0] * x[:, 1] + x[:, 2])))
    fit = trees_of_learning.fit_trees(x, y, rounds=40, rate=0.06)
    settings = {
        "objective": "cross_entropy",
        "num_leaves": 15,
        "learning_rate": 0.06,
        "min_data_in_leaf": 100,
    }
    settings |= {"feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 5.0}
    settings |= {"num_threads": 1, "deterministic": True, "seed": 0, "verbose": -1}
    theirs = lightgbm.train(settings, lightgbm.Dataset(x, y), 40).predict(x, raw_score=True)
    assert np.abs(fit.log_odds(x) - theirs).max() < 1e-12
    again = Trees.of(fit.data)
    assert again.log_odds(x[:1]) == pytest.approx(fit.log_odds(x)[:1], abs=1e-12)
    flat = trees_of_learning.fit_trees(x[:150], np.full(150, 0.3), rounds=3)
    assert 1 / (1 + np.exp(-flat.log_odds(x[:2]))) == pytest.approx([0.3, 0.3], abs=1e-6)


def test_a_tree_by_hand() -> None:
    """Two splits, three leaves: left of the first, right of it and left of the second, right of both; and the base."""
    tree = Trees(
        np.array([[0], [1]]),
        np.array([[0.5], [2.0]]),
        np.array([[0b001], [0b010]], dtype=np.uint16),
        np.array([[10.0, 20.0, 30.0]]),
        1.0,
    )
    rows = np.array([[0.5, 9.0], [0.6, 2.0], [0.6, 2.1]])
    assert tree.log_odds(rows).tolist() == [11.0, 21.0, 31.0]
    assert tree.log_odds(np.repeat(rows, 200, axis=0)).tolist() == [11.0] * 200 + [21.0] * 200 + [31.0] * 200
