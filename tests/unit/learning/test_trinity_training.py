"""TRINITY's training: episodes as a graph, targets, evolution, and the same end after a kill."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stretto import artifacts
from stretto.learning.replies import Replies
from stretto.learning.trinity.backbone import Backbone, States, spectra
from stretto.learning.trinity.backbone_export import rescaled
from stretto.learning.trinity.episodes import Graph, Played
from stretto.learning.trinity.evolution import Evolution, Judge, Space, Whitening, entropy, evolve, population
from stretto.learning.trinity.newcomers import add
from stretto.learning.trinity.training import OBSERVATION, Recipe, able, alarm, mixed, train
from stretto.learning.trinity.tree import explore, fit, on_track, targets
from stretto.policies.coordinator import ROLES, TRINITY_SCHEMA, Coordinator, head_matrix
from stretto.policies.episode import THINKER, WORKER, Rules, observed
from stretto.policies.forms import GIVEN
from stretto.sparring import entries
from stretto.sparring.vocabulary import encode
from tests.unit.learning.simulated_pool import Simulated

POOL = entries()
WORKERS = [entry.id for entry in POOL]
HASHES = {entry.id: entry.sha256 for entry in POOL}
RULES = Rules(GIVEN, 5, ROLES, "agreement", heeds=False, done_ends=True)
SMALL = Recipe(problems=10, held=4, generations=10, replications=4, scales=False)


def graph(folder: Path, count: int = 6) -> tuple[Graph, Simulated]:
    """A graph over a few simulated problems."""
    problems = mixed("train", count, 5)
    simulated = Simulated(POOL, problems)
    book = Replies(folder / "replies.jsonl", HASHES, simulated)
    found = Graph(problems, RULES, lambda r, e: observed(OBSERVATION, r, e), WORKERS, book, able(POOL))
    return found, simulated


def test_the_right_choices_of_a_composite_lead_to_its_answer(tmp_path: Path) -> None:
    """Thinker, solver, thinker, solver, and the thinker's `done` ends it: five turns, and the reward is 1."""
    played, _ = graph(tmp_path)
    node, problem = played.roots[6:7], played.problems[6]
    for step in problem.steps:
        node = played.step(node, np.array([THINKER]), np.array([WORKERS.index("thinker-north")]))
        solver = next(i for i, e in enumerate(POOL) if e.role == "solver" and step.family in e.families)
        node = played.step(node, np.array([WORKER]), np.array([solver]))
        assert on_track(problem, played.episodes[node[0]])
    node = played.step(node, np.array([THINKER]), np.array([WORKERS.index("thinker-north")]))
    assert played.ended[node[0]]
    assert played.reward[node[0]] == 1.0


def test_what_was_played_once_is_not_asked_again(tmp_path: Path) -> None:
    """A second walk over the same choices asks nobody; equal choices lead to one node."""
    played, simulated = graph(tmp_path)
    roots, zero = played.roots, np.zeros(len(played.roots), np.int64)
    first = played.step(roots, zero, zero)
    asked = simulated.asked
    assert (played.step(roots, zero, zero) == first).all()
    assert simulated.asked == asked


def test_a_masked_worker_may_not_play_in_any_role(tmp_path: Path) -> None:
    """Random pools: who is masked is never allowed, and roles belong to whom the labels give them."""
    played, _ = graph(tmp_path)
    mask = np.ones(len(WORKERS), bool)
    mask[0] = False
    may = played.allowed(int(played.roots[0]), mask)
    assert not may[:, 0].any()
    assert may[THINKER].tolist() == [entry.role == "thinker" for entry in POOL]


def test_targets_are_shared_among_the_workers_that_are_right(tmp_path: Path) -> None:
    """At a simple problem all solvers that know it, and nobody else, have a share; roles and workers sum to one."""
    played, _ = graph(tmp_path)
    thinking = [place for place, entry in enumerate(POOL) if entry.role == "thinker"]
    wanted = targets(played, explore(played, range(len(played.problems)), thinking), 0.01)
    assert np.allclose(wanted.workers.sum(1), 1)
    assert np.allclose(wanted.roles.sum(1), 1)
    row = wanted.nodes.tolist().index(int(played.roots[0]))
    family = played.problems[0].family
    knows = [entry.role == "solver" and family in entry.families for entry in POOL]
    shares = wanted.workers[row]
    assert shares[np.array(knows)].sum() > 0.9
    assert wanted.roles[row].argmax() == WORKER


def test_a_fitted_head_comes_near_its_targets(tmp_path: Path) -> None:
    """With features that tell every situation apart the fit reproduces the likeliest role everywhere."""
    played, _ = graph(tmp_path)
    thinking = [place for place, entry in enumerate(POOL) if entry.role == "thinker"]
    wanted = targets(played, explore(played, range(len(played.problems)), thinking), 0.02)
    features = np.eye(len(wanted.nodes))
    head = fit(features, wanted, decay=0.0, steps=600, rate=0.1)
    logits = np.where(wanted.able.any(2), (features @ head.T)[:, len(WORKERS) :], -np.inf)
    best = wanted.roles[np.arange(len(logits)), logits.argmax(1)]
    assert (best >= wanted.roles.max(1) - 0.02).all()


def test_whitened_features_have_no_mean_and_even_variance() -> None:
    """Whitening on what it was made of; small directions are not blown up beyond the floor."""
    rng = np.random.default_rng(3)
    states = rng.standard_normal((400, 5)) * np.array([5.0, 3.0, 1.0, 1.0, 1e-6]) + 2
    features = Whitening.of(states, floor=1e-4).features(states)
    assert np.allclose(features[:, :5].mean(0), 0, atol=1e-8)
    deviations = sorted(features[:, :5].std(0))
    assert np.allclose(deviations[1:], 1, atol=0.01)
    assert deviations[0] < 0.01
    assert (features[:, 5] == 1).all()


@pytest.mark.parametrize("shape", ["linear", "low-rank", "block"])
def test_a_genome_is_a_head_and_back(shape: str) -> None:
    """A head of the shape survives; `parts` is what the artefact holds, and reads as the same head."""
    rng = np.random.default_rng(1)
    space = Space(12, 9, shape, rank=12, blocks=3)  # type: ignore[arg-type]
    genome = rng.standard_normal(space.size)
    head = space.candidate(genome).head
    assert np.allclose(space.candidate(space.genome(head)).head, head)
    if shape == "block":
        assert (head == 0).sum() == 12 * 9 * 2 // 3


def test_scales_keep_the_nuclear_norm_and_are_those_that_are_baked() -> None:
    """The matrices that a candidate plays with are those that the export writes."""
    backbone = Backbone(next(entry.path for entry in POOL if entry.id == "thinker-north"))
    space = Space(12, 129, scaled=spectra(backbone))
    genome = np.random.default_rng(2).normal(0, 0.05, space.size)
    matrices, deltas = space.candidate(genome).matrices, space.deltas(genome)
    assert set(matrices) == set(deltas)
    for name, matrix in matrices.items():
        own = backbone.weight(name, backbone.layers - 1)
        nuclear = [np.linalg.svd(m.astype(np.float64), compute_uv=False).sum() for m in (own, matrix)]
        assert nuclear[0] == pytest.approx(nuclear[1], rel=1e-5)
        assert np.allclose(matrix, rescaled(own, deltas[name]), atol=1e-5)


def test_the_population_is_of_the_published_size() -> None:
    """4 + 3 ln n: 33 for the 19,456 parameters of the paper."""
    assert population(19_456) == 33


def test_alarms_tell_collapse_loss_and_regret(tmp_path: Path) -> None:
    """Each alarm has its reason; a training that goes well has none."""
    played, _ = graph(tmp_path)
    zero = np.zeros((len(played.roots), 5), np.int64)
    one = Played(zero[:, 0], zero[:, 0], played.roots, zero, zero)

    def row(held: float, even: float = 0.8) -> dict[str, float]:
        return {"held": held, "entropy": even}

    assert entropy(one, 9) == 0.0
    assert alarm(0.5, Evolution(None, curve=[row(0.6), row(0.7)]), one) == ""
    assert "collapsed" in alarm(0.5, Evolution(None, curve=[row(0.6), row(0.7, 0.1)]), one)
    assert "fell" in alarm(
        0.5, Evolution(None, curve=[row(0.6), row(0.9), row(0.7), row(0.7), row(0.7)]), one
    )
    late = [row(0.6)] * 11 + [row(0.45)]
    assert "best single" in alarm(0.5, Evolution(None, curve=late), one)


def test_an_alarm_leaves_the_last_good_candidate(tmp_path: Path) -> None:
    """The evolution stops at once, and what remains is the best from before the alarm."""
    played, _ = graph(tmp_path, 2)
    backbone = Backbone(next(entry.path for entry in POOL if entry.id == "thinker-north"))
    states = States(backbone, "penultimate", encode)
    rows = states.rows([played.texts[t] for t in played.text[played.roots]])
    judge = Judge(played, states, Whitening.of(rows))
    space = Space(len(WORKERS) + 3, judge.whitening.width)
    start = np.zeros(space.size)
    looks: list[int] = []

    def stops(state: Evolution, played: object) -> str:
        looks.append(state.generation)
        return "enough" if state.generation >= 5 else ""

    state = evolve(space, start, judge, judge, seed=1, generations=50, replications=2, sigma=0.5, alarm=stops)
    assert state.stopped == "enough"
    assert looks == [0, 5]
    assert (state.best == start).all()


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from dataclasses import replace
from stretto.learning.trinity.newcomers import add
from stretto.learning.replies import Replies
from stretto.learning.trinity.training import mixed, train
from tests.unit.learning.simulated_pool import Simulated
from tests.unit.learning.test_trinity_training import HASHES, POOL, SMALL
problems = [*mixed("train", SMALL.problems, 61), *mixed("calibration", SMALL.held, 62)]
book = Replies(Path(sys.argv[1]), HASHES, Simulated(POOL, problems))
recipe = replace(SMALL, scales=True)
tell = lambda row: print(row["generation"], flush=True)
train(recipe, POOL, book, Path(sys.argv[2]), resume=True, tell=tell)
"""


def run(replies: Path, out: Path, kill_after: int | None) -> bool:
    """A training in a process of its own, killed after so many looks; whether it came to its end."""
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(replies), str(out)], env=env, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        for number, _ in enumerate(child.stdout):
            if number == kill_after:
                child.send_signal(signal.SIGKILL)
                break
    return child.wait() == 0


def test_a_training_that_is_killed_again_and_again_ends_in_the_same_artefact(tmp_path: Path) -> None:
    """kill -9 at random points, and --resume each time: the same genome, the same curve, the same hash."""
    replies, lot = tmp_path / "replies.jsonl", random.Random(4)
    assert run(replies, tmp_path / "whole", None)
    killed = 0
    while not run(replies, tmp_path / "torn", lot.randint(0, 2) if killed < 4 else None):
        killed += 1
    assert killed >= 2
    made = [artifacts.read(tmp_path / name / "trinity.json", TRINITY_SCHEMA) for name in ("whole", "torn")]
    assert made[0].hash == made[1].hash
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "torn")]
    curves = [[line for line in log if "generation" in json.loads(line)] for log in logs]
    assert curves[0] == curves[1]


def test_a_training_brings_what_a_coordinator_reads(tmp_path: Path) -> None:
    """The artefact, the GGUF file beside it, the log and the picture; the policy's own class takes it."""
    problems = [*mixed("train", SMALL.problems, 61), *mixed("calibration", SMALL.held, 62)]
    book = Replies(tmp_path / "replies.jsonl", HASHES, Simulated(POOL, problems))
    made = train(SMALL, POOL, book, tmp_path / "out")
    found = artifacts.read(tmp_path / "out" / "trinity.json", TRINITY_SCHEMA)
    assert found.hash == made.artifact.hash
    coordinator = Coordinator(found)
    assert coordinator.workers == tuple(WORKERS)
    assert coordinator.width == 128
    assert (tmp_path / "out" / "learning-curve.svg").read_text().startswith("<svg")
    (beside,) = found.data["beside"]
    assert beside["labels"]["vendor"] == "sparring-north"
    assert (tmp_path / "out" / beside["file"]).is_file()
    assert [row["generation"] for row in made.curve] == [0, 5, 10]


def test_a_newcomer_is_put_in_by_its_answers_and_gets_what_it_can_do(tmp_path: Path) -> None:
    """Trained without words-south, then probed: all other rows stay, and it ranks above workers that know nothing of words."""
    problems = [*mixed("train", 150, 61), *mixed("calibration", SMALL.held, 62)]
    book = Replies(tmp_path / "replies.jsonl", HASHES, Simulated(POOL, problems))
    less = replace(SMALL, method="stage-1", problems=60, without=("words-south",))
    before = train(less, POOL, book, tmp_path / "less").artifact
    after = add(tmp_path / "less", "words-south", POOL, book, tmp_path / "added")
    assert after.data["workers"] == [*before.data["workers"], "words-south"]
    old, new = (
        Coordinator(before),
        Coordinator(artifacts.read(tmp_path / "added" / "trinity.json", TRINITY_SCHEMA)),
    )
    heads = head_matrix(before.data["head"]), head_matrix(after.data["head"])
    assert np.allclose(heads[0][:8], heads[1][:8])
    assert np.allclose(heads[0][8:], heads[1][9:])
    profile = after.data["profiles"]["success"]
    assert max(profile["words-south"]) > 0.8
    assert old.width == new.width
