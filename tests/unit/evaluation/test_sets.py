"""The named test sets of the sparring problems, and named pools."""

import pytest

from stretto.errors import ConfigError
from stretto.evaluation.sets import SETS, problem_set, sets_named, sub_pool
from stretto.sparring import entries
from stretto.sparring.problems import FAMILIES, UNSEEN_PAIRS, problems


def test_sets_take_turns_and_every_id_names_its_set():
    """Ten problems of two sets are five of each, alternating; equal arguments give equal problems."""
    made = problem_set(("simple", "composite"), "test", 10, 1)

    assert [p.id.partition("/")[0] for p in made] == ["simple", "composite"] * 5
    assert made == problem_set(("simple", "composite"), "test", 10, 1)
    assert [bool(p.steps) for p in made] == [False, True] * 5


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("split", ["calibration", "test"])
def test_every_set_is_held_out(name, split):
    """What a set asks has the split that was asked for, and as many problems."""
    made = problem_set((name,), split, 40, 3)

    assert len(made) == 40
    assert {p.split for p in made} == {split}
    assert len({p.id for p in made}) == 40


def test_pairs_are_those_that_nothing_is_trained_on():
    """The set `pairs` has only chains with a held-out pair, `composite` none of them."""
    held = {"+".join(pair) for pair in UNSEEN_PAIRS}

    assert {p.family for p in problem_set(("pairs",), "test", 60, 1)} <= held
    assert not {p.family for p in problem_set(("composite",), "test", 60, 1)} & held


def test_held_out_wordings_are_not_the_trained_ones():
    """The set `wordings` is half simple problems, half composites, none of them worded as one that is trained on."""
    made = problem_set(("wordings",), "test", 40, 1)

    assert sum(not p.steps for p in made) == 20
    assert not {p.prompt for p in made} & {p.prompt for p in problems(FAMILIES, "test", 4000, 1)}


def test_mix_is_simple_problems_and_composites():
    """Names may be joined by commas and given twice; an unknown one is refused with those that exist."""
    assert sets_named(["mix"]) == ("simple", "composite")
    assert sets_named(["pairs,simple", "simple"]) == ("pairs", "simple")
    with pytest.raises(ConfigError, match='no problem set "hard"; there are simple'):
        sets_named(["hard"])


def test_some_families_alone_make_no_composites():
    """Composites are of all families: with some only, they are refused instead of quietly asking others."""
    assert {p.family for p in problem_set(("simple",), "test", 6, 1, FAMILIES[:2])} == {*FAMILIES[:2]}
    with pytest.raises(ConfigError, match="of all families"):
        problem_set(("composite",), "test", 6, 1, FAMILIES[:2])


def test_a_named_pool_is_read_from_a_file_and_checked(tmp_path):
    """A pool names some sparring models and families; what does not exist is told."""
    worker = entries()[0].id
    file = tmp_path / "small.toml"
    file.write_text(f'about = "one"\nworkers = ["{worker}"]\nfamilies = ["addition"]\n')

    assert sub_pool(str(file)).workers == (worker,)
    file.write_text('about = "one"\nworkers = ["nobody"]\nfamilies = ["addition"]\n')
    with pytest.raises(ConfigError, match='no sparring model "nobody"'):
        sub_pool(str(file))
    with pytest.raises(ConfigError, match='no pool "large"'):
        sub_pool("large")
    file.write_text('workers = ["nobody"]\n')
    with pytest.raises(ConfigError, match="needs `about`, `workers` and `families`"):
        sub_pool(str(file))


def test_the_dominated_pool_ships():
    """The pool in which one model is best everywhere can be asked for by name."""
    pool = sub_pool("dominated")

    assert len(pool.workers) >= 2
    assert set(pool.families) < set(FAMILIES)
