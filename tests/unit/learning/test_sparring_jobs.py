"""Several models trained side by side: what they start from first, each once, and the weights of one after the other."""

from dataclasses import replace
from pathlib import Path

import pytest

from stretto.errors import ConfigError


def test_what_models_start_from_comes_first_and_once() -> None:
    """A model in two stages needs three trainings; two of one vendor share their base."""
    pytest.importorskip("torch")
    from stretto.learning.sparring_jobs import needed
    from stretto.learning.sparring_recipes import models, recipe, recipes

    assert [r.name for r in needed([recipe("string-north")])] == [
        "base-north",
        "string-north-early",
        "string-north",
    ]
    assert [r.name for r in needed([recipe("list-north"), recipe("thinker-north")])] == [
        "base-north",
        "list-north",
        "thinker-north",
    ]
    assert {r.name for r in needed(models())} == {r.name for r in recipes()}


def test_two_at_a_time_are_as_one_after_the_other(tmp_path: Path) -> None:
    """Every process has its own thread and seeds, so the weights are the same; each tells how far it is."""
    torch = pytest.importorskip("torch")
    from stretto.learning.sparring import load
    from stretto.learning.sparring_jobs import train_together
    from stretto.learning.sparring_recipes import recipe

    pair = [
        replace(
            recipe("general-small"),
            seed=seed,
            name=f"s{seed}",
            steps=3,
            batch=4,
            width=16,
            layers=1,
            inner=16,
        )
        for seed in (1, 2)
    ]
    heard = set()
    apart = train_together(pair, tmp_path / "two", jobs=2, progress=lambda name, *_: heard.add(name))
    train_together(pair, tmp_path / "one")
    assert [trained.done for trained in apart] == [True, True]
    assert heard == {"s1", "s2"}
    for chosen in pair:
        one, two = (load(chosen, tmp_path / folder).state_dict() for folder in ("one", "two"))
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_base_that_was_stopped_is_told(tmp_path: Path, jobs: int) -> None:
    """Nothing starts from a base that is not finished: the error says which, and to go on."""
    pytest.importorskip("torch")
    from stretto.learning.sparring_jobs import train_together
    from stretto.learning.sparring_recipes import recipe

    with pytest.raises(
        ConfigError, match=r"base-north, which others start from, has \d+ of 600 steps: run this again"
    ):
        train_together([recipe("list-north")], tmp_path, jobs=jobs, minutes=0.001)
