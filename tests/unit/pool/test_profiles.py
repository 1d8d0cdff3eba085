"""Shipped facts about models, and how a model's name finds them."""

import re

import pytest

from stretto.pool.profiles import all_profiles, as_of, profile
from stretto.types import Price


def test_every_list_price_is_there() -> None:
    """The 142 entries of the price list are 116 models, 25 prices for long prompts, and one repetition."""
    profiles = all_profiles()
    assert len(profiles) == 116
    assert sum(found.long is not None for found in profiles) == 25
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", as_of())


def test_every_profile_is_sane() -> None:
    """Prices are whole pico-dollars, output does not cost less than input, caching never costs more; limits are in order."""
    for found in all_profiles():
        assert 0 < found.price.input <= found.price.output
        assert found.price.cached is None or found.price.cached <= found.price.input
        assert found.long is None or found.long[1].input >= found.price.input
        assert found.max_output is None or (found.context or 0) >= found.max_output
        assert found.vendor
        assert found.name
        assert profile(found.id) is found


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("claude-opus-4-8", "claude-opus-4-8"),
        ("Claude-Opus-4.8", "claude-opus-4-8"),
        ("gpt-5.1-2026-01-02", "gpt-5.1"),
        ("openai/gpt-5.1", "gpt-5.1"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-haiku-4-5-20251001", "claude-4.5-haiku"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4.5"),
        ("claude-3-7-sonnet-latest", "claude-3.7-sonnet"),
        ("claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("mistral-large-2411", "mistral-large-latest"),
        ("grok-4-0709", "grok-4"),
        ("o1", "o1-preview"),
    ],
)
def test_names_that_mean_a_model(name: str, id: str) -> None:
    """Case, vendor prefixes, dots, dates and other spellings lead to the same model."""
    found = profile(name)
    assert found is not None
    assert found.id == id


@pytest.mark.parametrize(
    "name",
    ["gpt-5.3", "gpt-5.1-codex-max", "gpt-4o:free", "gpt", "gpt-4", "", "-", "my-own", "claude-opus-4-80"],
)
def test_names_that_mean_another_model(name: str) -> None:
    """A name that merely begins like a known one is not priced like it."""
    assert profile(name) is None


def test_prices_are_what_the_list_says() -> None:
    """USD per million tokens become pico-dollars per token."""
    found = profile("gpt-5.1")
    assert found is not None
    assert found.price == Price(1_250_000, 10_000_000, 125_000)
    long = profile("gpt-5.5")
    assert long is not None
    assert long.long == (272_000, Price(10_000_000, 45_000_000, 1_000_000))
