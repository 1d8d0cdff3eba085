"""The coordinator: heads of three kinds, whitening, two softmaxes under masks, draws."""

import math

import pytest

from stretto.artifacts import Artifact, packed
from stretto.policies.coordinator import (
    TRINITY_SCHEMA,
    Coordinator,
    Observation,
    chances,
    head_matrix,
    picked,
    whitened,
)

np = pytest.importorskip("numpy")

EVERYBODY = ((True, True),) * 3


def linear(weight) -> dict:
    return {"kind": "linear", "weight": packed(np.asarray(weight, dtype=np.float32))}


def artifact(**data) -> Artifact:
    """Two workers, and a state that is the five logits themselves."""
    return Artifact(TRINITY_SCHEMA, {}, {"workers": ["a", "b"], "head": linear(np.eye(5)), **data})


def test_the_likeliest_role_and_the_likeliest_worker_are_picked():
    """Each by its own softmax, whose chances come with the decision."""
    decision = Coordinator(artifact()).decide([0.0, 1.0, 0.0, 2.0, 0.0], EVERYBODY)
    assert (decision.role, decision.worker) == (1, 1)
    assert decision.workers == pytest.approx((1 / (1 + math.e), math.e / (1 + math.e)))
    assert sum(decision.roles) == pytest.approx(1)
    assert decision.roles[1] == pytest.approx(math.e**2 / (math.e**2 + 2))


def test_who_may_not_play_has_no_chance_and_the_others_share_it():
    """A mask takes part before the softmax: the rest keep their proportions."""
    coordinator = Coordinator(artifact())
    decision = coordinator.decide([0.0, 9.0, 0.0, 9.0, 0.0], ((True, False), (False, False), (True, True)))
    assert decision.roles == pytest.approx((0.5, 0.0, 0.5))
    assert (decision.role, decision.workers) == (0, (1.0, 0.0))


@pytest.mark.parametrize(
    ("draws", "role", "worker"),
    [((0.0, 0.0), 0, 0), ((0.49, 0.3), 0, 1), ((0.51, 0.999), 2, 1), ((0.9999999, 0.0), 2, 0)],
)
def test_draws_pick_by_the_chances(draws, role, worker):
    """A number in [0, 1) falls into somebody's share; nobody without a chance is ever drawn."""
    allowed = ((True, True), (False, False), (True, True))
    decision = Coordinator(artifact()).decide([0.0, math.log(3), 1.0, 50.0, 1.0], allowed, draws)
    assert decision.roles == pytest.approx((0.5, 0, 0.5))
    assert decision.workers == pytest.approx((0.25, 0.75))
    assert (decision.role, decision.worker) == (role, worker)


def test_a_draw_beyond_the_sum_by_rounding_takes_the_last_who_may():
    """Chances add up to one only nearly."""
    assert picked(np.array([0.3, 0.7 - 1e-12, 0.0]), 1 - 1e-16) == 1


def test_equal_chances_take_the_first():
    """So argmax is the same everywhere."""
    assert picked(np.array([0.0, 0.5, 0.5])) == 1


def test_three_kinds_of_heads_make_the_same_kind_of_matrix():
    """Low-rank is a product; in a block-diagonal one each group of rows reads columns of its own."""
    left, right = np.arange(10.0).reshape(5, 2), np.arange(8.0).reshape(2, 4)
    low = head_matrix({"kind": "low-rank", "left": packed(left), "right": packed(right)})
    assert np.array_equal(low, left @ right)

    blocks = [np.full((2, 1), 7.0), np.full((3, 3), 9.0)]
    whole = head_matrix({"kind": "block", "blocks": [packed(b) for b in blocks]})
    assert whole.shape == (5, 4)
    assert np.array_equal(whole[:2], [[7, 0, 0, 0]] * 2)
    assert np.array_equal(whole[2:], [[0, 9, 9, 9]] * 3)

    with pytest.raises(ValueError, match="cubic"):
        head_matrix({"kind": "cubic"})


def test_the_papers_smallest_head_has_a_thousand_parameters():
    """Ten blocks of one row each over a state of 1,024: 1,024 numbers in all, against 10,240 of the linear head."""
    parts = [packed(np.ones((1, len(part)))) for part in np.array_split(np.arange(1024), 10)]
    whole = head_matrix({"kind": "block", "blocks": parts})
    assert whole.shape == (10, 1024)
    assert np.count_nonzero(whole) == 1024


def test_whitening_takes_the_mean_away_and_turns_or_scales():
    """One state or many; a vector scales columns, a matrix turns; a bias is a one behind."""
    state, mean = np.array([3.0, 5.0]), np.array([1.0, 1.0])
    assert whitened(state, mean).tolist() == [2, 4]
    assert whitened(state, mean, np.array([2.0, 0.5])).tolist() == [4, 2]
    turned = whitened(np.stack([state, state]), mean, np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    assert turned.tolist() == [[4, 2, 6]] * 2
    assert whitened(state, mean, bias=True).tolist() == [2, 4, 1]


def test_an_artefact_with_whitening_and_bias_decides_on_what_they_make_of_the_state():
    """The state is as long as the mean; the head is one column wider than what whitening gives."""
    head = np.zeros((5, 3))
    head[1, 0] = 5.0  # the worker b where the whitened first number is high
    head[2, 2] = 1.0  # a lean towards the role worker, whatever the state
    body = artifact(
        head=linear(head), mean=packed(np.array([10.0, 0.0])), whiten=packed(np.eye(2)), bias=True
    )
    coordinator = Coordinator(body)
    assert coordinator.width == 2
    assert coordinator.decide([12.0, 0.0], EVERYBODY).worker == 1
    assert coordinator.decide([8.0, 0.0], EVERYBODY).worker == 0
    assert coordinator.decide([8.0, 0.0], EVERYBODY).role == 0


def test_many_rows_are_masked_each_for_itself():
    """Training decides for a batch with the same function."""
    rows = chances(np.zeros((2, 3)), np.array([[True, True, False], [False, True, False]]))
    assert rows.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]


def test_who_may_play_a_role_is_the_artefacts_say():
    """Where it names workers for a role; eligible ones only. A role that it does not name is open to all."""
    coordinator = Coordinator(artifact(able={"thinker": ["b"]}))
    assert coordinator.able([True, True]) == ((True, True), (False, True), (True, True))
    assert coordinator.able([True, False]) == ((True, False), (False, False), (True, False))


def test_an_artefact_that_cannot_be_meant_is_refused():
    """Another schema, a head for another number of workers, an observation with unknown parts."""
    with pytest.raises(ValueError, match="schema"):
        Coordinator(Artifact("stretto.route-table/1"))
    with pytest.raises(ValueError, match="6 rows"):
        Coordinator(artifact(head=linear(np.eye(6))))
    with pytest.raises(ValueError, match="colour"):
        Observation.of({"colour": "red"})
    with pytest.raises(ValueError, match="4 numbers"):
        Coordinator(artifact()).decide([0.0] * 4, EVERYBODY)


def test_two_coordinators_of_equal_data_go_by_one_name():
    """The name is the artefact's hash: it stands in every recorded choice and in the policy's version."""
    assert repr(Coordinator(artifact())) == repr(Coordinator(artifact()))
    assert repr(Coordinator(artifact())) != repr(Coordinator(artifact(sample=True)))
