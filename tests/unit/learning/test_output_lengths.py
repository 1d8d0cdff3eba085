"""Reply lengths: what is foretold of a reply before it is asked for, and what a plan is then expected to cost."""

from dataclasses import replace

import pytest

np = pytest.importorskip("numpy")

from stretto.learning.evidence.lengths import fit_lengths, lengths_data  # noqa: E402
from stretto.policies.evidence.lengths import MOST, Lengths  # noqa: E402
from stretto.steps import Ask, Quote  # noqa: E402
from stretto.testing import question  # noqa: E402
from stretto.types import Card, Message, Price  # noqa: E402


def drawn(count: int = 2000):
    """Features, and tokens of three workers: one whose replies grow with the first feature, two by lot (of the last few)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 5))
    means = np.stack([5 + 0.8 * x[:, 0], np.full(count, 4.0), np.full(count, 4.0)], axis=1)
    tokens = np.exp(means + rng.normal(0, 0.3, (count, 3)))
    tokens[::7, 0] = np.nan
    tokens[20:, 2] = np.nan
    return x, tokens


def test_lengths_follow_what_the_prompt_shows() -> None:
    """Replies that grow with a feature are foretold by it; unknown ones are no harm; in the mean replies are as long as usual."""
    x, tokens = drawn()
    found = Lengths(("a", "b", "c"), fit_lengths(x[:1500], tokens[:1500]))
    times = np.array([list(found.times(row).values()) for row in x[1500:]])
    real = tokens[1500:, 0] / np.nanmean(tokens[:1500, 0])
    assert np.nanstd(np.log(real) - np.log(times[:, 0])) < 0.35
    assert times[:, 0].mean() == pytest.approx(1.0, abs=0.1)
    assert times[:, 1].std() < 0.05
    assert (times[:, 2] == 1).all()
    assert max(found.times(np.full(5, 50.0)).values()) == MOST


def test_only_what_foretells_better_than_the_mean_counts() -> None:
    """Whose replies are long by lot has no weights, nor has one of whom little is known; without any, nothing is kept."""
    x, tokens = drawn(400)
    weights = Lengths.of(lengths_data(x, tokens), ("a", "b", "c")).weights
    assert np.abs(weights[1:, 0]).max() > 0.3
    assert np.abs(weights[:, 2]).max() == 0
    assert lengths_data(x[:20], tokens[:20]) == {}
    assert lengths_data(x, np.full((400, 2), np.nan)) == {}


def test_a_plan_is_expected_to_cost_what_its_prompt_asks_for() -> None:
    """Of a prompt that asks for four times as much, the expected money for output is four times as much, never above the worst;
    another text than the request's own, an unknown worker, and all that a limit rests on stay as they were."""
    lengths = Lengths(("a",), np.array([[0.0], [np.log(4.0)]]))
    request = replace(question("q", "a", "b"), pool=(Card("a", Price(1, 10)), Card("b", Price(1, 10))))

    def plain(ask: Ask) -> Quote:
        return Quote(50 + 100 * 10, 4000, 50, 400, 1.0, True, 100.0)

    quotes = lengths.quoting(request, plain, np.array([1.0]))
    own, other = quotes(Ask("a", speaks=True)), quotes(Ask("b", speaks=True))
    assert (own.expected, own.output, own.worst, own.max_tokens) == (4000, 400.0, 4000, 400)
    assert other == plain(Ask("b"))
    assert quotes(Ask("a", (Message("user", "x"),))) == plain(Ask("a"))
    shorter = lengths.quoting(request, plain, np.array([-1.0]))(Ask("a", speaks=True))
    assert (shorter.expected, shorter.output) == (50 + 25 * 10, 25.0)
