"""How far a comparer of free texts can be trusted: learned from pairs whose scores tell whether they are the same."""

from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")

from stretto.artifacts import Artifact  # noqa: E402
from stretto.evaluation.tables import Item  # noqa: E402
from stretto.learning.evidence import comparing  # noqa: E402
from stretto.learning.evidence.comparing import Told, assumed, cosines, drawn, error  # noqa: E402
from stretto.learning.evidence.lattice import Lattice  # noqa: E402
from stretto.learning.evidence.training import Matrix  # noqa: E402
from stretto.policies.evidence.beliefs import Linear, Posterior  # noqa: E402
from stretto.policies.evidence.equivalence import Compared, Comparer, softly  # noqa: E402

WEIGHTS = np.zeros(23)
WEIGHTS[1] = 0.8
PLAIN = Posterior(Linear(WEIGHTS, np.zeros(23), np.ones(23)))
JUDGE = Comparer("judge", "referee", 0.9, 0.75, collision=0.3)
ITEMS, WORKERS = 400, 4


def world(seed: int = 3) -> tuple[Any, Any, Any]:
    """Scores, true classes (wrong ones may coincide), and log-odds of made replies."""
    rng = np.random.default_rng(seed)
    chance = rng.uniform(0.35, 0.9, (ITEMS, WORKERS))
    scores = (rng.random((ITEMS, WORKERS)) < chance).astype(float)
    wrong = 1 + rng.integers(0, 3, (ITEMS, WORKERS))
    numbers = np.where(scores > 0, 0, wrong)
    first = (numbers[:, :, None] == numbers[:, None, :]).argmax(2)
    return scores, first, np.log(chance / (1 - chance))


SCORES, TRUTH, ODDS = world()


def test_the_error_of_a_judge_is_found_again() -> None:
    """From verdicts drawn by a known error, within a few points; and how often wrong replies coincide."""
    found = error(drawn(JUDGE, TRUTH), SCORES, "judge", "referee", usd=0.001)
    assert found.comparer.sensitivity == pytest.approx(0.9, abs=0.04)
    assert found.comparer.specificity == pytest.approx(0.75, abs=0.04)
    assert found.comparer.collision == pytest.approx(1 / 3, abs=0.1)
    assert found.comparer.usd == 0.001
    assert found.edge_interval[0] > 0.5
    assert found.told["items"] == found.items > 200


def test_a_coin_is_known_for_a_coin() -> None:
    """The interval of its edge holds 0, so it counts as right half of the time, exactly."""
    coin = Comparer("judge", "coin", 0.5, 0.5)
    found = error(drawn(coin, TRUTH, seed=6), SCORES, "judge", "coin")
    assert found.edge_interval[0] <= 0 <= found.edge_interval[1]
    assert (found.comparer.sensitivity, found.comparer.specificity) == (0.5, 0.5)
    assert not found.comparer.informed


def test_too_few_pairs_make_a_coin() -> None:
    """Nobody is trusted on a handful of prompts."""
    few = error(drawn(JUDGE, TRUTH)[:20], SCORES[:20], "judge", "referee")
    assert not few.comparer.informed


def test_vectors_are_compared_by_a_threshold_that_was_learned() -> None:
    """Replies that are the same lie near each other; the threshold falls between, and both rates are high."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(ITEMS, WORKERS, 16))
    vectors = np.take_along_axis(centres, TRUTH[:, :, None], axis=1) + 0.4 * rng.normal(size=centres.shape)
    found = error(cosines(vectors), SCORES, "embedding", "embedder")
    assert found.auc > 0.95
    assert found.comparer.sensitivity > 0.85
    assert found.comparer.specificity > 0.85
    assert 0 < found.comparer.threshold < 1


def test_easy_prompts_do_not_pass_for_a_good_comparer() -> None:
    """A measure that only says how easy a prompt is ranks pairs well over all prompts, and not at all within one."""
    ease = ODDS.mean(1)[:, None, None] * np.ones((1, WORKERS, WORKERS))
    noise = np.random.default_rng(1).normal(0, 0.01, ease.shape)
    found = error(ease + noise + noise.transpose(0, 2, 1), SCORES, "embedding", "embedder")
    assert found.auc == pytest.approx(0.5, abs=0.06)
    assert not found.comparer.informed


def test_assumed_classes_keep_what_the_scores_tell() -> None:
    """Right replies are one class, no wrong one is in it, who gave no answer has none; wrong ones follow the verdicts."""
    speaks = np.ones_like(SCORES, dtype=bool)
    speaks[::7, 1] = False
    sure = Comparer("judge", "referee", 1 - 1e-9, 1 - 1e-9, collision=0.3)
    classes = assumed(Told.of(sure, drawn(sure, TRUTH)), SCORES, speaks)
    assert (classes[~speaks] == -1).all()
    for a in range(WORKERS):
        for b in range(a):
            both = speaks[:, a] & speaks[:, b]
            assert ((classes[:, a] == classes[:, b]) == (TRUTH[:, a] == TRUTH[:, b]))[both].all()


def test_the_lattice_believes_what_serving_believes() -> None:
    """Subset by subset the same chances and the same speaker as `equivalence.softly`, the silent ones included."""
    speaks = np.ones_like(SCORES, dtype=bool)
    speaks[1, 2] = False
    verdicts = drawn(JUDGE, TRUTH)
    told = Told.of(JUDGE, verdicts).at(slice(0, 4))
    none = np.zeros(4, dtype=int)
    found = comparing.lattice([PLAIN], none, told, speaks[:4], ODDS[:4], SCORES[:4], np.ones((4, WORKERS)))
    for item in range(4):
        for mask in range(1, 1 << WORKERS):
            values: dict[int, str | None] = {
                k: None if speaks[item, k] else "" for k in range(WORKERS) if mask >> k & 1
            }
            pairs = {
                (a, b): bool(verdicts[item, a, b]) for b in range(WORKERS) for a in range(b) if a in values
            }
            served = softly(PLAIN, JUDGE, values, Compared(pairs), ODDS[item : item + 1])
            assert found.first[mask, item] == pytest.approx(float(served.first[0]), abs=1e-6)
            assert found.second[mask, item] == pytest.approx(float(served.second[0]), abs=1e-6)
            assert found.score[mask, item] == SCORES[item, int(served.speaker[0])]


def test_a_perfect_comparer_gives_the_exact_lattice() -> None:
    """And a coin gives one in which agreement is never seen, so that nobody is surer than the best of those asked."""
    perfect = Comparer("judge", "referee", 1 - 1e-12, 1 - 1e-12, collision=0.3)
    speaks, costs, none = np.ones_like(SCORES, dtype=bool), np.ones_like(SCORES), np.zeros(ITEMS, dtype=int)
    parts = ODDS, SCORES, costs
    soft = comparing.lattice([PLAIN], none, Told.of(perfect, drawn(perfect, TRUTH)), speaks, *parts)
    hard = Lattice.of([PLAIN], none, TRUTH, *parts)
    assert soft.first == pytest.approx(hard.first, abs=1e-4)
    coin = Comparer("judge", "coin", 0.5, 0.5, collision=0.3)
    yes, no = (
        comparing.lattice([PLAIN], none, Told.of(coin, np.full((ITEMS, WORKERS, WORKERS), v)), speaks, *parts)
        for v in (1.0, 0.0)
    )
    assert yes.first == pytest.approx(no.first, abs=1e-6)


def test_values_that_tell_are_taken_at_their_word() -> None:
    """Where two replies can be compared exactly, no verdict counts."""
    values = np.array([[0, 0, -2]])
    told = Told.of(JUDGE, np.array([[[1.0, 0, 1], [0, 1, 0], [1, 0, 1]]]), values)
    assert told.same[0, 0, 1] == 0
    assert told.differ[0, 0, 1] == -np.inf
    assert told.same[0, 0, 2] == pytest.approx(np.log(0.9))
    assert told.among([0, 2]).same[0, 0, 1] == told.same[0, 0, 2]


def test_the_error_is_that_on_free_texts() -> None:
    """Short answers, whose values tell, are not what a comparer is asked about; they do not make it look better than it is."""
    items = tuple(Item(f"i{k}", f"prompt {k}") for k in range(ITEMS))
    blank = np.zeros((ITEMS, WORKERS))
    data = Matrix(tuple("abcd"), items, TRUTH, SCORES, blank, blank)
    verdicts = drawn(JUDGE, TRUTH)
    short = np.arange(ITEMS) % 2 == 0
    values = np.where(short[:, None], TRUTH, -2)
    verdicts[short] = (TRUTH[short][:, :, None] == TRUTH[short][:, None, :]).astype(
        float
    )  # no error on short ones
    found, beside = comparing.learned(data, verdicts, values, "judge", "referee", usd=0.0, wordings=None)
    assert found.comparer.sensitivity == pytest.approx(0.9, abs=0.05)
    assert found.comparer.specificity == pytest.approx(0.75, abs=0.05)
    assert all(not short[item] for item, _, _ in comparing.pairs_of(data, values, 100))
    assumed_ = beside.assumed(data)
    right = SCORES >= 0.5
    assert (assumed_.classes[right] == right.argmax(1)[:, None].repeat(WORKERS, 1)[right]).all()
    taught = beside.taught(Artifact("s", {}, {}))
    assert Comparer.of(taught.data["comparing"]) == beside.comparer


def test_a_coin_costs_nothing_in_the_values() -> None:
    """Nobody will ask it, so no ask is dearer for it; one that knows something makes every ask dearer by its price."""
    items = tuple(Item(f"i{k}", f"prompt {k}") for k in range(ITEMS))
    costs = np.ones((ITEMS, WORKERS))
    data = Matrix(tuple("abcd"), items, TRUTH, SCORES, costs, costs)
    free = np.full((ITEMS, WORKERS), -2)
    for rate, extra in ((0.5, 0.0), (0.9, 0.25)):
        comparer = Comparer("judge", "referee", rate, rate, usd=0.25)
        beside = comparing.Comparison.of(comparer, data, drawn(comparer, TRUTH), free, {})
        made = beside.lattice([PLAIN], np.zeros(ITEMS, dtype=int), data, ODDS)
        assert np.allclose(made.costs, 1 + extra)
