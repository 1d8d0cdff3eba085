"""The fit of what models can do over several sets: a made world whose truth is known."""

import numpy as np
import pytest

from stretto.learning.repute import Cell, Facts, Fitted, fit

TRUE = {"old": -0.8, "cheap": -0.3, "fine": 0.4, "dear": 1.0, "gem": 1.6}
FACTS = {
    "old": Facts(0.0, 2023.0, family="a"),
    "cheap": Facts(-0.5, 2024.0, family="a"),
    "fine": Facts(0.3, 2024.0, family="a"),
    "dear": Facts(1.0, 2024.5, family="b"),
    "gem": Facts(-0.5, 2024.5, family="b"),
}


def made(seed: int = 1) -> list[Cell]:
    """Three sets of several parts; the last one knows only two models."""
    rng = np.random.default_rng(seed)
    cells = []
    for name, parts, known in (("x", 3, list(TRUE)), ("y", 3, list(TRUE)), ("z", 2, ["old", "dear"])):
        for part in range(parts):
            hard = float(rng.normal(0, 1))
            for model in known:
                chance = 1 / (1 + np.exp(-(TRUE[model] - hard + rng.normal(0, 0.15))))
                cells.append(
                    Cell(
                        name,
                        f"{part}",
                        ("math", "code")[part % 2],
                        model,
                        500,
                        rng.binomial(500, chance) / 500,
                    )
                )
    return cells


@pytest.fixture(scope="module", name="found")
def _found() -> Fitted:
    return fit(made(), FACTS)


def test_models_stand_in_their_true_order_with_honest_errors(found: Fitted) -> None:
    """Differences of models are found again within what their standard errors allow."""
    assert sorted(found.models, key=lambda m: found.models[m][0]) == list(TRUE)
    for model, truth in TRUE.items():
        odds, error = found.models[model]
        gap = (odds - found.models["fine"][0]) - (truth - TRUE["fine"])
        assert abs(gap) < 3 * np.hypot(error, found.models["fine"][1])
        assert 0 < error < 0.8


def test_a_hard_set_is_no_fault_of_who_was_asked_there() -> None:
    """A model that was only seen where everybody does badly is not believed to be bad for that."""
    cells = [c for c in made() if c.model != "dear"]
    hard = [Cell("h", "0", "math", m, 500, r) for m, r in (("old", 0.05), ("fine", 0.15), ("dear", 0.25))]
    found = fit([*cells, *hard], FACTS)
    assert found.models["dear"][0] > found.models["fine"][0]


def test_who_was_seen_little_is_drawn_to_its_kin_and_known_less() -> None:
    """Five items say little: the error is wider than after thousands."""
    whole = fit(made(), FACTS)
    few = fit([*(c for c in made() if c.model != "gem"), Cell("x", "0", "math", "gem", 5, 1.0)], FACTS)
    assert few.models["gem"][1] > whole.models["gem"][1]
    assert few.models["gem"][0] < whole.models["gem"][0]


def test_the_same_outcomes_give_the_same_figures(found: Fitted) -> None:
    """To the bit: what ships can be made again."""
    assert fit(made(), FACTS) == found
