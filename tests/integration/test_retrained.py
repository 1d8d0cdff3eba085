"""Whether a sparring model trained anew is as good as the shipped one: asked for real, through llama.cpp."""

import pytest

from stretto.cli.retrained import asked_of, compared
from stretto.sparring.pool import entries

POOL = {entry.id: entry for entry in entries()}


def test_a_model_is_as_good_as_itself() -> None:
    """The shipped file against itself: the same bytes, the same answers, mostly right, and so it holds."""
    entry = POOL["string-north"]
    found = compared(entry, entry.path, 24)
    assert found.same_bytes
    assert found.holds
    assert found.shipped == found.anew
    assert found.shipped.value >= 0.7
    assert found.gain.value == 0.0
    assert "the same bytes" in found.told()
    assert "Within the interval" in found.told()


def test_a_worse_model_is_told_from_it() -> None:
    """Another model's file in its place falls below the interval."""
    found = compared(POOL["string-north"], POOL["number-north"].path, 24)
    assert not found.same_bytes
    assert not found.holds
    assert "BELOW" in found.told()


@pytest.mark.parametrize("name", list(POOL))
def test_each_model_is_asked_what_it_was_made_for(name: str) -> None:
    """Solvers get problems of their families, the thinker next steps, the checker verdicts and choices."""
    entry = POOL[name]
    families = {problem.family for problem in asked_of(entry, "test", 40, 1)}
    assert (
        families
        <= {
            "solver": set(entry.families),
            "thinker": {"thinker"},
            "checker": {"verifier", "judge"},
        }[entry.role]
    )
