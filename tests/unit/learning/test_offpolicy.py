"""Off-policy values: checked against simulations in which the truth is known, and on plans followed by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")

from stretto.learning import offpolicy  # noqa: E402
from stretto.learning.evidence.success import Logistic  # noqa: E402
from stretto.learning.own_outcomes import Logged, Spoken  # noqa: E402
from stretto.policies.exploring import chances  # noqa: E402
from stretto.policies.fuse import Fuse  # noqa: E402
from stretto.policies.route import Route, Uniform  # noqa: E402
from stretto.policies.solo import Solo  # noqa: E402
from stretto.testing import question  # noqa: E402
from stretto.types import Message, Price  # noqa: E402

RIGHT = np.array([[0.9, 0.5, 0.6], [0.3, 0.8, 0.6]])
"""How often each of three workers is right on each of two kinds of prompt."""

TARGET = np.array([0, 1])
"""The policy to be valued: the best worker of each kind. It brings .85, since both kinds are equally frequent."""


def simulated(n: int, explore: float, rng: Any) -> tuple[Any, Any, Any, Any]:
    """Logs of a policy that always prefers worker 2: kind, worker, its chance, reward."""
    kind = rng.integers(0, 2, n)
    odds = np.array(list(chances("2", {"0": 0.5, "1": 0.5, "2": 0.6}, explore).values()))
    asked = rng.choice(3, n, p=odds)
    reward = (rng.random(n) < RIGHT[kind, asked]).astype(float)
    return kind, asked, odds[asked], reward


def estimates(n: int, explore: float, rng: Any) -> list[offpolicy.Estimate]:
    """All three estimates of the target from fresh logs; the direct model knows the truth."""
    kind, asked, chance, reward = simulated(n, explore, rng)
    weights = np.where(asked == TARGET[kind], 1 / chance, 0.0)
    model = RIGHT[kind]
    rows = np.arange(n)
    return [
        offpolicy.ips(weights, reward),
        offpolicy.snips(weights, reward),
        offpolicy.doubly_robust(weights, reward, model[rows, asked], model[rows, TARGET[kind]]),
    ]


@pytest.fixture(scope="module")
def trials() -> list[list[offpolicy.Estimate]]:
    """600 fresh logs of 1,500 runs each, exploring one time in five: an effective size of about 150."""
    rng = np.random.default_rng(0)
    return [estimates(1500, 0.2, rng) for _ in range(600)]


def test_the_inverse_propensity_value_is_unbiased(trials: Any) -> None:
    """Over 600 logs its mean is the true value within three standard errors; so is that of the doubly robust one."""
    for place in (0, 2):
        found = np.array([trial[place].value for trial in trials])
        assert abs(found.mean() - 0.85) < 3 * found.std() / len(found) ** 0.5


def test_intervals_cover_what_they_promise(trials: Any) -> None:
    """The 95 % intervals hold the true value in 92 to 98 of 100 logs, for each estimator."""
    for place, name in enumerate(("IPS", "SNIPS", "DR")):
        told = [offpolicy.value(trial[place]) for trial in trials]
        assert {v.method for v in told} == {name}
        held = sum(v.low <= 0.85 <= v.high for v in told) / len(told)
        assert 0.92 <= held <= 0.98, name


def test_a_right_model_makes_the_doubly_robust_value_narrower(trials: Any) -> None:
    """Where the direct model is right, its mean squared error is below that of the other two."""
    errors = [np.mean([(trial[place].value - 0.85) ** 2 for trial in trials]) for place in range(3)]
    assert errors[2] < errors[1] < errors[0]


def test_a_wrong_model_does_no_harm_on_average() -> None:
    """Doubly robust with a model that knows nothing is still unbiased, since the chances are right."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(400):
        kind, asked, chance, reward = simulated(800, 0.3, rng)
        weights = np.where(asked == TARGET[kind], 1 / chance, 0.0)
        wrong = rng.random(800)
        found.append(offpolicy.doubly_robust(weights, reward, wrong, wrong[::-1]).value)
    assert abs(np.mean(found) - 0.85) < 3 * np.std(found) / 20


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.just(0.0) | st.floats(1e-6, 100), st.floats(0, 1)), min_size=1, max_size=60
    )  # a chance in the denominator is never so large that a weight vanishes
)
def test_the_self_normalised_value_is_a_mean_of_what_was_seen(rows: list[tuple[float, float]]) -> None:
    """It lies between the least and the greatest reward of the runs that weigh anything; the effective size is at most n."""
    weights, rewards = (np.array(column) for column in zip(*rows, strict=True))
    found = offpolicy.snips(weights, rewards)
    seen = rewards[weights > 0]
    if len(seen):
        assert seen.min() - 1e-9 <= found.value <= seen.max() + 1e-9
    assert offpolicy.effective(weights) <= len(rows) + 1e-6


def test_a_difference_is_narrower_than_its_parts() -> None:
    """Two policies that mostly agree are compared on what they do differently: the paired interval covers, and is narrow."""
    rng = np.random.default_rng(2)
    held, width, alone = 0, [], []
    other = np.array([0, 2])
    for _ in range(300):
        kind, asked, chance, reward = simulated(1500, 0.3, rng)
        a, b = (np.where(asked == who[kind], 1 / chance, 0.0) for who in (TARGET, other))
        found = offpolicy.difference(offpolicy.snips(a, reward), offpolicy.snips(b, reward))
        held += found.low <= 0.10 <= found.high
        width.append(found.high - found.low)
        one = offpolicy.value(offpolicy.snips(a, reward))
        alone.append(one.high - one.low)
    assert held / 300 > 0.91
    assert np.mean(width) < 1.42 * np.mean(alone)


def test_no_value_is_claimed_without_support_or_runs() -> None:
    """What the logged policy never did, or hardly any run speaks for, has no value; thin evidence has one with a warning."""
    rng = np.random.default_rng(3)
    found = estimates(1500, 0.2, rng)[1]
    unknown = offpolicy.value(found, unsupported=4)
    assert unknown.value is None
    assert "in 4 of 1500 runs" in unknown.warning
    few = offpolicy.value(estimates(1500, 0.01, rng)[1])
    assert few.value is None
    assert "effective sample size" in few.warning
    thin = offpolicy.value(estimates(600, 0.2, rng)[1])
    assert thin.value is not None
    assert "only" in thin.warning
    assert offpolicy.value(found).warning == ""


def test_the_direct_model_learns_from_who_was_asked() -> None:
    """Fitted on the rewards of the workers that were asked, cross-fitted, it comes near to how often each is right."""
    kind, asked, _, reward = simulated(4000, 0.5, np.random.default_rng(4))
    x = np.stack([kind, 1 - kind], axis=1).astype(float)
    found = offpolicy.direct(x, asked, reward, 3, lambda: Logistic(c=10.0))
    assert np.abs(found - RIGHT[kind]).mean() < 0.04


# --- following plans ---


def run(*replies: tuple[str, float, dict[str, float], float | None], seed: int = 0) -> Logged:
    """A logged run: (worker, its chance, everybody's, score) of each reply, the last of which was the answer."""
    prices = {"a": Price.per_million(1, 1), "b": Price.per_million(2, 2)}
    spoken = tuple(
        Spoken(
            str(2 * k + 1), w, True, chance, all_, Message("assistant", f"from {w}"), 1, 1, 1, 1.0, "", score
        )
        for k, (w, chance, all_, score) in enumerate(replies)
    )
    request = question("hi", "a", "b", prices=prices, seed=seed)
    last = spoken[-1]
    return Logged("r", 0.0, "serve", "route", "v", "i", request, spoken, last.worker, last.at, 1, last.score)


EVEN = {"a": 0.5, "b": 0.5}


def test_a_run_weighs_by_the_chance_of_what_the_policy_would_do() -> None:
    """Route asks `a`: a run that drew `a` weighs 1 / its chance, one that drew `b` 0; where `a` had no chance, unknown."""
    route = Route()
    assert offpolicy.follow(route, run(("a", 0.5, EVEN, 1.0))) == offpolicy.Followed(2.0, 1.0)
    assert offpolicy.follow(route, run(("b", 0.5, EVEN, 1.0))).weight == 0.0
    lost = offpolicy.follow(route, run(("b", 1.0, {"b": 1.0}, 1.0)))
    assert lost.weight is None
    assert "a, which had no chance" in lost.why


def test_what_cannot_be_followed_is_unknown() -> None:
    """An unscored answer, a record that goes on, a lot, and plans that ask side by side."""
    assert "not scored" in offpolicy.follow(Solo("a"), run(("a", 1.0, {"a": 1.0}, None))).why
    longer = run(("a", 1.0, {"a": 1.0}, 1.0), ("b", 1.0, {"b": 1.0}, 1.0))
    assert "asks on" in offpolicy.follow(Solo("a"), longer).why
    assert "by lot" in offpolicy.follow(Uniform(), run(("a", 0.5, EVEN, 1.0))).why
    assert "side by side" in offpolicy.follow(Fuse(("a", "b")), run(("a", 0.5, EVEN, 1.0))).why


def test_what_is_valued_does_not_explore() -> None:
    """A policy is valued by what it decides: its own exploration is taken out, at any depth."""
    assert offpolicy.greedy(Route(explore=0.3)) == Route()
    assert offpolicy.greedy(Solo("a")) == Solo("a")
    route = Route(explore=0.5)
    weights = [
        offpolicy.follow(offpolicy.greedy(route), run(("a", 0.5, EVEN, 1.0), seed=s)).weight
        for s in range(20)
    ]
    assert weights == [2.0] * 20


def test_a_policy_is_valued_by_three_estimators() -> None:
    """On runs that drew `a` or `b` evenly, where `a` is right four times in five: all three come to that, with their intervals
    and the effective size; a policy that needs what had no chance has no value.
    """
    rng = np.random.default_rng(5)
    drawn = [("a", float(rng.random() < 0.8)) if rng.random() < 0.5 else ("b", 0.0) for _ in range(600)]
    runs = [run((worker, 0.5, EVEN, score)) for worker, score in drawn]
    found = offpolicy.values(Route(), runs)
    assert not isinstance(found, str)
    assert [v.method for v in found] == ["IPS", "SNIPS", "DR"]
    for each in found:
        assert each.value is not None
        assert each.low is not None
        assert each.high is not None
        assert each.low < 0.8 < each.high
        assert each.ess == pytest.approx(sum(worker == "a" for worker, _ in drawn))
    never = [run(("b", 1.0, {"a": 0.0, "b": 1.0}, 1.0))] * 40
    assert "had no chance" in offpolicy.values(Route(), never)
