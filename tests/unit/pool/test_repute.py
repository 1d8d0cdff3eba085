"""What is believed of a model by its name: shipped figures, matched the way that names are written in the wild."""

import json
from pathlib import Path

import pytest

from stretto.artifacts import Artifact
from stretto.pool import repute as module
from stretto.pool.repute import Repute, family, repute, shipped, size, stem, thinks, version
from stretto.pool.worker import describe
from stretto.types import Price

MADE = Repute(
    Artifact(
        "stretto.repute/1",
        data={
            "models": {"gpt-4o": [1.0, 0.2]},
            "families": {"gpt": {"odds": [0.5, 0.3], "years": {"3.5": 2023.0, "4": 2024.0}}},
            "slopes": {"level": [0.0, 0.1], "price": [0.6, 0.1], "year": [1.0, 0.2], "thinks": [0.3, 0.2]},
            "centre": {"price": 0.0, "year": 2024.0},
            "left": 0.4,
            "oldest": 2023.0,
            "newest": 2025.0,
            "prices": [-1.0, 1.5],
            "size": [-1.0, 0.5],
        },
    )
)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4-1106-preview", "gpt-4-turbo"),
        ("gpt-4-0613", "gpt-4"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("anthropic/claude-3.5-sonnet", "claude-3-5-sonnet"),
        ("claude-sonnet-4-20250514", "claude-4-sonnet"),
        ("models/gemini-1.5-pro-latest", "gemini-1-5-pro"),
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", "llama-3-1-8b"),
        ("llama3.1:70b-instruct-q4_0", "llama-3-1-70b"),
        ("accounts/fireworks/models/llama-v3p1-70b-instruct", "llama-3-1-70b"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama-3-3-70b"),
        ("llama-3.1-8b-instant", "llama-3-1-8b"),
        ("qwen2.5:7b", "qwen-2-5-7b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b"),
        ("open-mixtral-8x7b", "mixtral-8x7b"),
        ("deepseek-ai/DeepSeek-R1", "deepseek-r1"),
    ],
)
def test_what_does_not_make_it_another_model_is_left_off_its_name(written: str, name: str) -> None:
    """Vendor, host, date, quantisation, `instruct`: the same model. What ships knows each of these."""
    assert stem(written) == name
    assert name in shipped().artifact.data["models"]


@pytest.mark.parametrize(
    ("name", "kin", "told"),
    [
        ("claude-4-8-opus", "claude", 4.8),
        ("gpt-5-4-mini", "gpt", 5.4),
        ("o4-mini", "o", 4.0),
        ("qwq-32b", "qwen", None),
        ("gemini-2-5-flash", "gemini", 2.5),
        ("deepseek-r1-distill-qwen-7b", "", 1.0),
        ("llama-3-chatqa-1-5-8b", "", 3.0),
        ("hermes-3-llama-3-1-8b", "", 3.0),
        ("digits-north", "", None),
    ],
)
def test_a_family_is_read_off_where_the_name_begins_with_it(name: str, kin: str, told: float | None) -> None:
    """A model that somebody cut, distilled or tuned for another job is of no family: its name promises nothing."""
    assert family(name) == kin
    assert version(name) == told


def test_what_a_name_tells_of_size_and_of_thinking() -> None:
    """Billions of parameters, experts multiplied; and whether it reasons at length first."""
    assert [size(n) for n in ("llama-3-1-8b", "mixtral-8x7b", "qwen-2-5-0-5b", "gpt-4o")] == [
        8,
        56,
        0.5,
        None,
    ]
    assert thinks("o3-mini")
    assert thinks("deepseek-r1")
    assert not thinks("gpt-4o")


def test_a_measured_model_has_its_own_figures_whatever_it_costs() -> None:
    """Its record, not its price, says what it can do."""
    found = MADE.of("openai/gpt-4o-2024-08-06", Price.per_million(100, 100))
    assert found is not None
    assert (found.odds, found.error, found.on, found.measured) == (1.0, 0.2, "gpt-4o", True)


def test_another_member_of_a_family_stands_at_its_price_and_age_with_a_wide_error() -> None:
    """Dearer and newer ones are believed to be better; nothing is believed beyond the prices and years that were seen."""

    def odds(model: str, usd: float) -> float:
        found = MADE.of(model, Price.per_million(usd, usd) if usd else None)
        assert found is not None
        assert not found.measured
        assert found.on == "the family gpt"
        assert found.error > 0.45
        return found.odds

    assert odds("gpt-4-nano", 1) == pytest.approx(0.5)
    assert odds("gpt-4-nano", 10) == pytest.approx(1.1)
    assert odds("gpt-4-nano", 10_000) == odds("gpt-4-nano", 10**1.5)
    assert odds("gpt-4.5", 1) == pytest.approx(1.0)  # half a version newer than all known: half a year
    assert odds("gpt-5", 1) == odds("gpt-9", 1) == pytest.approx(1.8)  # and it thinks
    assert odds("gpt-2", 1) == odds("gpt-1", 1) == pytest.approx(-0.5)
    assert odds("gpt-4-8b", 0) == pytest.approx(
        0.5 + 0.6 * (-1.0 + 0.5 * 0.90309), abs=1e-3
    )  # free: by its size


def test_of_any_other_name_nothing_is_believed() -> None:
    """Then its price is all there is; the sparring models are such."""
    assert MADE.of("my-model", Price(1)) is None
    assert repute("digits-north") is None
    assert describe("mine", "my-model", ()).card.repute is None


def test_a_worker_carries_the_repute_of_the_model_that_it_names_upstream() -> None:
    """Not of its id, which is the owner's."""
    found = describe("fast", "openai/gpt-4o-mini", ()).card.repute
    assert found is not None
    assert found.on == "gpt-4o-mini"


def test_what_ships_comes_from_sets_that_allow_it_and_is_small() -> None:
    """Apache-2.0 or MIT, each with source and commit, and the command that makes the file."""
    provenance = shipped().artifact.provenance
    assert {row["licence"] for row in provenance["from"].values()} <= {"Apache-2.0", "MIT"}
    assert set(provenance["from"]) == {
        "mmlu_pro",
        "reasoning_gym",
        "zeroeval_reasoning",
        "llmrouter_default",
        "routellm_eval",
    }
    assert all(len(row["source"].split(", ")[1]) == 40 for row in provenance["from"].values())
    assert provenance["by"].startswith("recipes/profile_priors.py")
    file = Path(module.__file__).with_name("repute.json")
    assert file.stat().st_size < 20_000
    assert json.loads(file.read_text())["hash"] == shipped().artifact.hash
