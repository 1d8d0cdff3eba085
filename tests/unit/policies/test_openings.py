"""What two rounds may begin with: one of a few batches, by what is known of the prompt."""

import pytest

np = pytest.importorskip("numpy")

from stretto.artifacts import packed  # noqa: E402
from stretto.learning.evidence.lattice import Lattice  # noqa: E402
from stretto.learning.evidence.rounds import solve_rounds, walk_rounds  # noqa: E402
from stretto.policies.evidence.pools import Openings  # noqa: E402

SEEN = np.array([1.0, 2.0])
AFTER = np.array([[1.0, 0.0], [0.0, 1.0]])
BATCHES = [
    {"first": 0b001, "added": [0, 0b010], "weights": packed(AFTER)},
    {"first": 0b110, "added": [0, 0b001], "weights": packed(-AFTER)},
]


def test_the_worthiest_batch_that_can_be_had_whole_comes_first() -> None:
    """By its worth for the prompt; one of whose workers somebody is missing is passed over, and without any it is nobody."""
    found = Openings.of({"batches": BATCHES, "weights": packed(np.array([[0.0, 1.0], [0.5, 0.5]]))})
    assert found.first(0b111, SEEN) == 0b110
    assert found.first(0b011, SEEN) == 0b001
    assert found.first(0b100, SEEN) == 0
    assert found.additions(0b001, SEEN) == {0: 1.0, 0b010: 2.0}
    assert found.additions(0b110, SEEN) == {0: -1.0, 0b001: -2.0}


def test_an_older_artefact_begins_with_the_same_batch_for_every_prompt() -> None:
    """It holds no weights to choose by."""
    found = Openings.of(BATCHES[0])
    assert found.first(0b111, SEEN) == 0b001
    assert found.first(0b110, SEEN) == 0
    assert found.additions(0b001, SEEN) == {0: 1.0, 0b010: 2.0}


def test_the_first_batch_is_chosen_by_the_prompt_and_among_who_is_there() -> None:
    """Two specialists whose log-odds tell prompts apart: each is asked first where it is good; where it is missing, another."""
    rng = np.random.default_rng(0)
    items = 600
    first_kind = rng.random(items) < 0.5
    logits = np.where(first_kind[:, None], [2.0, -2.0], [-2.0, 2.0]) + rng.normal(0, 0.1, (items, 2))
    right = np.stack([first_kind, ~first_kind], axis=1).astype(float)
    score = np.stack([np.zeros(items), right[:, 0], right[:, 1], np.ones(items)])
    there = np.ones((items, 2), dtype=bool)
    there[::10, 1] = False
    score[2, ::10], score[3, ::10] = 0.0, right[::10, 0]
    costs = np.where(there, 1.0, 0.0)
    lattice = Lattice(score, np.zeros_like(score), score, logits, costs, there)
    (went,) = walk_rounds(solve_rounds(lattice, [0.3]), lattice)
    assert went.score[there[:, 1]].mean() > 0.99
    assert went.calls.max() == 1
    assert went.cost.min() == 1.0
