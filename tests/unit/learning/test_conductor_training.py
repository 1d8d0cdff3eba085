"""Training of the planner: sampling, the steps of GRPO, a training that is killed. Runs where the `train` extra is installed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from stretto.errors import ConfigError
from stretto.learning.conductor.alarms import Limits
from stretto.learning.conductor.data import cases, tasks_of
from stretto.learning.conductor.export import export
from stretto.learning.conductor.format import Format, formatted
from stretto.learning.conductor.grpo import Sample, advantages, filtered_step, grpo_step, samples_of
from stretto.learning.conductor.model import (
    Shape,
    SparringTongue,
    Written,
    log_probabilities,
    new_model,
    sample,
)
from stretto.learning.conductor.rounds import drawn, generator_for
from stretto.learning.conductor.training import Setup, load, train
from stretto.learning.replies import Pair, Said
from stretto.pool.gguf import read_gguf_header

TONGUE = SparringTongue()
TINY = Shape(16, 1, 16)
PROMPTS = ["Models: 0 1\nTask: Reverse tree.\nPlan?", "Models: 1\nTask: Count the vowels in pear.\nPlan?"]


def tiny() -> Any:
    """A planner with random weights."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return new_model(TINY)


class Few:
    """Workers by rule: `a` solves every sub-problem of the training problems of `small`, the others say what they were asked."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        for case in cases("train", (20, 4, 2), 61, 3):
            problem = case.problem
            answers = [step.answer for step in problem.steps] or [problem.answer]
            self._answers |= dict(zip(tasks_of(problem), answers, strict=True))

    def get(self, pairs: Sequence[Pair]) -> list[Said]:
        """The replies."""
        return [Said(self._said(worker, prompt), cost=len(prompt)) for worker, prompt in pairs]

    def _said(self, worker: str, prompt: str) -> str:
        task = prompt.rpartition("\n")[2]
        return self._answers.get(task, "") if worker == "a" else prompt[-5:]


def small(seed: int = 1) -> Setup:
    """The smallest training that has every stage."""
    return Setup(
        ("a", "b", "c"),
        seed=seed,
        form=Format(shape=TINY, base="", steps=6, batch=4, needed=0.0, checked=1),
        tokens=12,
        problems=(20, 4, 2),
        held=(3, 2, 1),
        chosen=(3, 2, 1),
        by_lot=(1, 1, 1),
        asked=4,
        group=3,
        epochs=1,
        batch=4,
        rounds=2,
        block=1,
        again=2,
        every=1,
        limits=Limits(parsed=0.0, spread=0.0, regret=1.0, fall=1.0),
    )


def test_samples_have_the_probabilities_that_the_model_gives_them() -> None:
    """Sampled in one batch with prompts of other lengths, from memory: read at once, the tokens have the same probabilities."""
    model = tiny().eval()
    found = sample(model, TONGUE, PROMPTS, most=12, times=5, generator=generator_for(1))
    rows = [(TONGUE.reads(p), one.tokens) for p, some in zip(PROMPTS, found, strict=True) for one in some]
    with torch.no_grad():
        now, owner = log_probabilities(model, rows, TONGUE.end)
    said = torch.tensor([chance for some in found for one in some for chance in one.chances])
    assert torch.allclose(now, said, atol=1e-4)
    assert owner.tolist() == [row for row, (_, written) in enumerate(rows) for _ in written]


def test_sampling_is_the_same_for_the_same_generator_and_greedy_does_not_depend_on_company() -> None:
    """So a training that goes on samples what it would have sampled."""
    model = tiny().eval()
    one, two = (sample(model, TONGUE, PROMPTS, most=9, times=3, generator=generator_for(4)) for _ in "ab")
    assert one == two
    alone = [sample(model, TONGUE, [p], most=9, temperature=0.0)[0][0].tokens for p in PROMPTS]
    together = [one[0].tokens for one in sample(model, TONGUE, PROMPTS, most=9, temperature=0.0)]
    assert alone == together


def test_advantages_are_within_the_group() -> None:
    """Nothing is learned where all workflows of a prompt came to the same."""
    assert advantages([0.5, 0.5, 0.5]) == [0.0, 0.0, 0.0]
    worth = advantages([0.0, 0.5, 1.0])
    assert worth[1] == 0.0
    assert worth[2] == pytest.approx(-worth[0]) == pytest.approx(1.2247, abs=1e-3)


def test_equal_workflows_of_a_group_count_once_with_their_number() -> None:
    """The sum is the same; those without an advantage are left out."""
    same, other = Written([5, 256], [-1.0, -0.1]), Written([6, 256], [-2.0, -0.1])
    found = samples_of([1, 2], [same, other, same, other], [1.0, -1.0, 1.0, 0.0])
    assert [(one.row[1], one.times, one.advantage) for one in found] == [
        ([5, 256], 2, 1.0),
        ([6, 256], 1, -1.0),
    ]


def test_grpo_makes_the_better_likelier_and_the_worse_less_likely() -> None:
    """One step on a group of two."""
    model = tiny()
    prompt = TONGUE.reads(PROMPTS[0])
    good, bad = TONGUE.writes("model_id = [0]"), TONGUE.writes("model_id = [1]")

    def chance(written: list[int]) -> float:
        with torch.no_grad():
            return float(log_probabilities(model, [(prompt, written)], TONGUE.end)[0].sum())

    def before(written: list[int]) -> tuple[float, ...]:
        with torch.no_grad():
            return tuple(log_probabilities(model, [(prompt, written)], TONGUE.end)[0].tolist())

    samples = [Sample((prompt, good), before(good), 1.0), Sample((prompt, bad), before(bad), -1.0)]
    apart = chance(good) - chance(bad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(3):
        stepped = grpo_step(model, optimizer, samples, end=TONGUE.end, group=2)
    assert stepped.samples == 2
    assert chance(good) - chance(bad) > apart + 0.01


def test_what_has_moved_far_enough_is_clipped() -> None:
    """A token whose probability has risen by more than a fifth since it was sampled moves nothing any more."""
    model = tiny()
    row = (TONGUE.reads(PROMPTS[0]), TONGUE.writes("x"))
    with torch.no_grad():
        now = log_probabilities(model, [row], TONGUE.end)[0].tolist()
    weights = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    stepped = grpo_step(
        model, optimizer, [Sample(row, tuple(c - 1.0 for c in now), 1.0)], end=TONGUE.end, group=1
    )
    assert stepped.clipped == 1.0
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_filtered_fine_tuning_makes_rows_likelier() -> None:
    """The loss falls over a few steps on the same rows."""
    model = tiny()
    rows = [((TONGUE.reads(p), TONGUE.writes("model_id = [1]")), 2) for p in PROMPTS]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = [filtered_step(model, (optimizer,), rows, end=TONGUE.end) for _ in range(8)]
    assert losses[-1] < losses[0] - 0.2


def test_masks_of_a_round_are_by_lot_and_the_same_again() -> None:
    """Every problem comes once before one comes twice; pools differ."""
    material = cases("train", (8, 4, 2), 61, 7)
    rounds = [drawn(material, 1, now, 7) for now in range(2)]
    assert rounds == [drawn(material, 1, now, 7) for now in range(2)]
    assert len({case.problem.prompt for some in rounds for case in some}) == 14
    assert len({case.allowed for some in rounds for case in some}) > 3


def test_a_shipped_model_is_where_the_format_begins(tmp_path: Path) -> None:
    """With a base, the planner at first is that model: what it writes about a thinker's prompt is a sub-problem."""
    form = Format(steps=0, needed=0.0, checked=1)
    model = new_model(form.shape)
    model.load_state_dict(formatted(form, 7, tmp_path))
    asked = "Task: Reverse tree and then count the vowels in it.\nNext step?"
    [[one]] = sample(model.eval(), TONGUE, [asked], most=30, temperature=0.0)
    assert TONGUE.text(one.tokens) == "reverse tree."


def test_a_format_that_was_not_learned_goes_no_further(tmp_path: Path) -> None:
    """And the one of another setup is not taken over."""
    form = Format(shape=TINY, base="", steps=1, batch=2, checked=1)
    with pytest.raises(ConfigError, match="are needed"):
        formatted(form, 3, tmp_path)
    with pytest.raises(ConfigError, match="another format"):
        formatted(form, 4, tmp_path)


def test_the_artefact_names_the_planners_file(tmp_path: Path) -> None:
    """Equal weights give equal bytes; the artefact has what the policy reads."""
    weights, place = tiny().state_dict(), {"region": "eu"}
    for name in ("one", "two"):
        export(
            weights,
            ("a", "b"),
            tmp_path / name,
            depth=0,
            steps=5,
            tokens=200,
            seed=1,
            provenance={},
            labels=place,
        )
    one, two = ((tmp_path / name / "planner.gguf").read_bytes() for name in ("one", "two"))
    assert one == two
    assert read_gguf_header(tmp_path / "one" / "planner.gguf").name == "stretto planner"
    data = json.loads((tmp_path / "one" / "conductor.json").read_text())["data"]
    assert data["workers"] == ["a", "b"]
    assert data["beside"][0]["role"] == "planner"
    assert data["beside"][0]["labels"] == place


def test_an_alarm_ends_a_stage_and_its_best_weights_are_kept(tmp_path: Path) -> None:
    """Random weights write no workflow: each stage stops at its first reading, goes back, and the reason is on record."""
    watched = replace(small(), limits=Limits(parsed=0.9, spread=0.0, regret=1.0, fall=1.0))
    found = train(watched, tmp_path, Few())
    assert set(found.found["alarms"]) == {"filtered", "grpo", "sft", "again"}
    assert all(why.startswith("parse: 0.000") for why in found.found["alarms"].values())
    _, saved = load(tmp_path, "format")
    assert all(torch.equal(saved["kept"]["format"][key], found.weights[key]) for key in found.weights)
    rounds = [json.loads(line).get("round") for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rounds == [0, 4, 0, 1, 0, 1, 0, 1, None]


def test_another_setup_does_not_go_on_with_a_training(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    train(small(), tmp_path, Few())
    with pytest.raises(ConfigError, match="another setup"):
        train(small(seed=2), tmp_path, Few())


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.unit.learning.test_conductor_training import Few, small
from stretto.learning.conductor.training import train
import os, signal
left = int(sys.argv[2])
def told(stage, step, steps, value):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
train(small(), Path(sys.argv[1]), Few(), progress=told)
"""


def test_killed_at_any_time_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Killed with -9 in the format and three times in the fine-tuning: the same weights, log and findings."""
    root = str(Path(__file__).parents[3])
    straight = train(small(), tmp_path / "straight", Few())
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for at in (3, 7, 1, 4):
        done = subprocess.run(
            [sys.executable, "-c", _CHILD.format(root=root), str(tmp_path / "killed"), str(at)],
            env=environ,
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resumed = train(small(), tmp_path / "killed", Few())
    assert resumed.found == straight.found
    assert resumed.stage == straight.stage
    assert all(torch.equal(straight.weights[key], resumed.weights[key]) for key in straight.weights)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("straight", "killed")]
    assert logs[0] == logs[1]
