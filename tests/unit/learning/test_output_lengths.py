"""Output lengths and costs: what is foretold of a reply before it is asked for."""

import pytest

np = pytest.importorskip("numpy")

from stretto.learning.evidence.lengths import Lengths, costs  # noqa: E402
from stretto.types import Price  # noqa: E402


def test_lengths_follow_what_the_prompt_shows() -> None:
    """Replies that grow with a feature are foretold by it, those of constant length are not; unknown lengths are no harm."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 5))
    tokens = np.exp(np.stack([5 + 0.8 * x[:, 0], np.full(2000, 4.0)], axis=1) + rng.normal(0, 0.3, (2000, 2)))
    tokens[::7, 0] = np.nan
    fit = Lengths().fit(x[:1500], tokens[:1500])
    logs, real = fit.logs(x[1500:]), np.log1p(tokens[1500:])
    assert np.nanstd(real[:, 0] - logs[:, 0]) < 0.35
    assert logs[:, 1].std() < 0.05
    assert fit.predict(x[1500:]).mean(0) == pytest.approx(np.nanmean(tokens[1500:], 0), rel=0.1)


def test_with_few_items_every_prompt_gets_the_usual_length() -> None:
    """The penalty outweighs five items; without any item nothing is foretold."""
    x = np.eye(5)
    fit = Lengths().fit(x, np.array([[10.0], [10.0], [10.0], [10.0], [1000.0]]))
    assert np.ptp(fit.logs(x)) < 0.1
    assert Lengths().fit(x, np.full((5, 1), np.nan)).predict(x).tolist() == [[0.0]] * 5


def test_costs_are_prices_times_tokens() -> None:
    """USD: input and output tokens at their prices, a column a worker."""
    prices = (Price.per_million(1, 10), Price.per_million(0, 2))
    found = costs(prices, [1000, 0], [[100, 100], [0, 500]])
    assert np.allclose(found, [[0.002, 0.0002], [0.0, 0.001]], atol=1e-12)
