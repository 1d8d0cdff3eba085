"""Training of the Conductor's planner on the sparring pool, in stages, from a seed.

1. *format*: workflows in the frozen wording, workers by lot (the same for every seed of the later stages).
2. *filtered*: workflows with workers by lot are played, and those that end in a right answer are learned, not for long; and to
   leave a right answer as it is, and to mend a wrong one by what was right. From workers by lot GRPO goes nowhere.
3. *grpo*, and beside it *sft*: from there, on the same problems, with as many sampled workflows, GRPO against more filtered
   fine-tuning. What is better on calibration problems goes on.
4. *again*: GRPO over two rounds, the second of which sees the first one's answer. Its curve is that of two rounds.

Every stage is watched (`conductor_alarms`); an alarm ends it with its best weights so far. Everything is drawn from names and
numbers, so a training that was killed ends as one that was not. Needs the `train` extra.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from stretto.errors import ConfigError
from stretto.evaluation.curves import learning_curve
from stretto.evaluation.intervals import Interval, paired_difference
from stretto.learning.conductor.alarms import Limits, Reading, alarm, best_place
from stretto.learning.conductor.data import Case, by_lot, cases, second_looks
from stretto.learning.conductor.format import Format, formatted
from stretto.learning.conductor.grpo import filtered_step
from stretto.learning.conductor.model import Row, Shape, SparringTongue, new_model
from stretto.learning.conductor.play import Book, Played, alone, play
from stretto.learning.conductor.rounds import (
    Counts,
    Group,
    Table,
    drawn,
    filtered_block,
    generator_for,
    greedy,
    grpo_again,
    grpo_round,
    roll,
    roll_again,
)
from stretto.policies.forms import GIVEN
from stretto.sparring.problems import Problem
from stretto.sparring.wordings import VERSION

__all__ = ["STAGES", "Progress", "Setup", "Trained", "load", "rolled", "train"]

STAGES: Final = ("filtered", "grpo", "sft", "again")

Progress = Callable[[str, int, int, float], None]
"""Told `(stage, round, rounds, held-out accuracy; of the format, its loss)` after every round."""

Weights = dict[str, Any]

_SEEDS: Final = (61, 62)
"""Of the problems to train on and of those for calibration: the same for every training, so that kept replies serve all."""

_READ: Final = {"filtered": 60, "sft": 0}
"""Rounds between two readings where they are not `Setup.every`; 0: a block."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a training depends on. Shares are of simple problems, composites of two and of three steps."""

    workers: tuple[str, ...]
    seed: int = 1
    without: tuple[str, ...] = ()
    """Workers that have a number, but that no prompt after the format names."""
    form: Format = field(default_factory=Format)
    problems: tuple[int, int, int] = (600, 600, 300)
    held: tuple[int, int, int] = (130, 150, 120)
    """Calibration problems that the curve is read on."""
    chosen: tuple[int, int, int] = (170, 150, 120)
    """Other calibration problems, on which it is decided what is shipped."""
    asked: int = 16
    """Problems a round."""
    group: int = 16
    """Workflows for each."""
    by_lot: tuple[int, int, int] = (7, 12, 12)
    """Workflows with workers by lot for each problem of one, two and three steps."""
    epochs: int = 3
    """How often the brief filtered fine-tuning sees those that were right."""
    batch: int = 32
    rounds: int = 40
    """Rounds of GRPO, and of the filtered fine-tuning beside it."""
    block: int = 10
    """Rounds after which the latter learns what was right in them: meanwhile the model stands still."""
    again: int = 20
    every: int = 10
    """Rounds between two readings, each followed by a checkpoint."""
    rate: float = 7e-5
    """The learning rate of GRPO (AdamW); all of them fall linearly to a twentieth."""
    filtered_rate: float = 5e-4
    """That of the brief filtered fine-tuning."""
    sft_rate: float = 2e-4
    tokens: int = 200
    """The most that a workflow may have."""
    price: float = 0.0
    """What a micro-dollar of worker calls costs in reward."""
    limits: Limits = field(default_factory=Limits)

    def stamp(self) -> str:
        """Names everything that the result depends on."""
        plain = json.dumps([asdict(self), self.form.stamp(len(self.workers)), VERSION], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the weights to ship, how deep to recur, and what was found on the way, as plain data."""

    weights: Weights
    shape: Shape
    stage: str
    depth: int
    found: dict[str, Any]
    seconds: float
    """CPU time of this process and of those before it that the training went on from."""


def train(
    setup: Setup,
    out: Path,
    book: Book,
    *,
    start: Path | None = None,
    progress: Progress = lambda stage, step, steps, value: None,
) -> Trained:
    """Train, or go on with what `out` holds. `start` is another training's folder, whose format stage is taken over.

    Writes `format.pt`, `checkpoint.pt`, `log.jsonl` and `learning-curve.svg`. Raises `ConfigError` if `out` holds a training
    with another setup, or if the format was not learned.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    begun = time.process_time()
    form = formatted(setup.form, len(setup.workers), out, start=start, progress=progress)
    run = _Run(setup, out, book, progress, begun)
    run.resume()
    kept = run.state["kept"]
    kept["format"] = form
    run.stage("filtered", "format", run.lots())
    run.stage("grpo", "filtered", setup.rounds)
    run.stage("sft", "filtered", setup.rounds)
    if "winner" not in run.state["found"]:
        run.compare()
    run.stage("again", run.state["found"]["winner"], setup.again)
    if "shipped" not in run.state["found"]:
        run.choose()
    run.picture()
    found = run.state["found"]
    return Trained(
        kept[found["shipped"]], setup.form.shape, found["shipped"], found["depth"], found, run.seconds()
    )


def rolled(setup: Setup, trained: Trained, book: Book, n: int) -> list[tuple[Problem, bool]]:
    """The first `n` of the problems that were decided on, and whether the planner's rollouts over kept replies are right on them:
    what a live run of the same problems is held against."""
    model = new_model(trained.shape)
    model.load_state_dict(trained.weights)
    gone = [place for place, worker in enumerate(setup.workers) if worker in setup.without]
    count = len(setup.workers)
    those = cases("calibration", setup.chosen, _SEEDS[1], count, skip=setup.held, without=gone)[:n]
    played = greedy(model, Table(SparringTongue(), setup.workers, book), those, depth=trained.depth)
    return [(case.problem, rounds[-1].right) for case, rounds in zip(those, played, strict=True)]


def load(out: Path, stage: str) -> tuple[Any, Weights]:
    """The model with the weights that a stage of the training in `out` ended with, and the whole checkpoint."""
    saved: Weights = torch.load(out / "checkpoint.pt", weights_only=True)
    model = new_model(Shape(**saved["shape"]))
    model.load_state_dict(saved["kept"][stage])
    return model.eval(), saved


class _Run:
    """One training under way."""

    def __init__(self, setup: Setup, out: Path, book: Book, progress: Progress, begun: float) -> None:
        self.setup, self.out, self.progress, self.begun = setup, out, progress, begun
        self.table = Table(SparringTongue(), setup.workers, book, setup.tokens)
        n = len(setup.workers)
        gone = [place for place, worker in enumerate(setup.workers) if worker in setup.without]
        self.material = cases("train", setup.problems, _SEEDS[0], n, without=gone)
        self.held = cases("calibration", setup.held, _SEEDS[1], n, without=gone)
        self.others = cases("calibration", setup.chosen, _SEEDS[1], n, skip=setup.held, without=gone)
        self.rows: list[Row] = []
        self.pending: list[Group] = []
        self.model = new_model(setup.form.shape)
        self.single = 0.0
        self.state: dict[str, Any] = {
            "stamp": setup.stamp(),
            "shape": asdict(setup.form.shape),
            "kept": {},
            "done": [],
            "stage": "",
            "history": {},
            "found": {},
            "calls": {},
            "seconds": 0.0,
        }

    def seconds(self) -> float:
        """CPU time so far."""
        return float(self.state["seconds"]) + time.process_time() - self.begun

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        path = self.out / "checkpoint.pt"
        if path.is_file():
            saved = torch.load(path, weights_only=True)
            if saved["stamp"] != self.state["stamp"]:
                raise ConfigError(
                    f"{path} is of a training with another setup; give another folder or move it away"
                )
            self.state = saved
        right = alone(self.held, self.table.replies, self.setup.workers)
        self.single = max(
            sum(one)
            for worker, one in zip(self.setup.workers, right, strict=True)
            if worker not in self.setup.without
        ) / len(self.held)

    def save(self) -> None:
        """Write the checkpoint whole or not at all, and the log that belongs to it."""
        self.state["seconds"], self.begun = self.seconds(), time.process_time()
        part = self.out / "checkpoint.part"
        torch.save(self.state, part)
        part.replace(self.out / "checkpoint.pt")
        lines = [
            {"stage": stage, **reading}
            for stage, readings in self.state["history"].items()
            for reading in readings
        ]
        if self.state["found"]:
            lines.append({"found": self.state["found"]})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        log = self.out / "log.part"
        log.write_text(text, encoding="utf-8")
        log.replace(self.out / "log.jsonl")

    # --- a stage ---------------------------------------------------------------------------------------------------

    def stage(self, name: str, base: str, rounds: int) -> None:
        """Run a stage from the weights of another, or go on with it."""
        state, setup = self.state, self.setup
        if name in state["done"]:
            return
        if state["stage"] != name:
            state |= {
                "stage": name,
                "round": 0,
                "model": state["kept"][base],
                "optimizer": None,
                "best": None,
            }
            state["calls"][name] = state["calls"].get(base, 0)
            state["history"][name] = []
        self.model.load_state_dict(state["model"])
        self.model.train()
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self._rate(name), betas=(0.9, 0.98), weight_decay=0.0
        )
        if state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
        history = [Reading(**one) for one in state["history"][name]]
        if not history:
            self._read(name, 0, Counts(), history)
        counts, why = Counts(), None
        every = _READ.get(name, setup.every) or setup.block
        while state["round"] < rounds and why is None:
            now = state["round"]
            counts.add(self._round(name, optimizer, now, rounds))
            state["round"] = now + 1
            if state["round"] % every == 0 or state["round"] == rounds:
                state["calls"][name] += counts.calls
                why = self._read(name, state["round"], counts, history)
                counts = Counts()
                state |= {"model": _copy(self.model.state_dict()), "optimizer": optimizer.state_dict()}
                if why is None:
                    self.save()
            self.progress(name, state["round"], rounds, history[-1].held)
        state["kept"][name] = state["best"]
        state["done"].append(name)
        state |= {"stage": "", "model": None, "optimizer": None, "best": None}
        if why:
            state["found"].setdefault("alarms", {})[name] = why
        self.save()

    def _rate(self, name: str) -> float:
        return {"filtered": self.setup.filtered_rate, "sft": self.setup.sft_rate}.get(name, self.setup.rate)

    def lots(self) -> int:
        """Play the workflows with workers by lot and keep the right ones, in the order in which they are learned: the batches."""
        if "filtered" in self.state["done"]:
            return 0
        setup, tongue = self.setup, self.table.tongue
        lots = by_lot(self.material, setup.by_lot, setup.seed)
        played = play([c for c, _ in lots], [text for _, text in lots], self.table.replies, setup.workers)
        self.state["calls"]["format"] = sum(one.calls for one in played)
        found = [(case, text, one.answer, one.right) for (case, text), one in zip(lots, played, strict=True)]
        pairs = [(case.prompt, text) for case, text, _, right in found if right]
        pairs += second_looks(found, GIVEN.shown, random.Random(f"second looks/{setup.seed}"))
        rows = [(tongue.reads(prompt), tongue.writes(text)) for prompt, text in pairs]
        for epoch in range(setup.epochs):
            random.Random(f"filtered/{setup.seed}/{epoch}").shuffle(rows)
            self.rows += rows
        return len(self.rows) // setup.batch

    def _round(self, name: str, optimizer: Any, now: int, rounds: int) -> Sequence[Group]:
        setup = self.setup
        for group in optimizer.param_groups:
            group["lr"] = self._rate(name) * min((now + 1) / 10, 1 - 0.95 * now / rounds)
        if name == "filtered":
            part = self.rows[now * setup.batch : (now + 1) * setup.batch]
            filtered_step(self.model, (optimizer,), [(row, 1) for row in part], end=self.table.tongue.end)
            return []
        # both ways of the third stage see the same problems, with the same masks
        begun = setup.rounds if name == "again" else 0
        some = drawn(self.material, setup.seed, begun + now, setup.asked)
        how: dict[str, Any] = {
            "group": setup.group,
            "generator": generator_for(setup.seed, name, now),
            "price": setup.price,
        }
        if name == "again":
            half = len(some) // 2
            groups = roll(self.model, self.table, some[:half], **how)
            first, second = roll_again(self.model, self.table, some[half:], **how)
            grpo_again(self.model, optimizer, [*groups, *first], second, self.table)
            return [*groups, *first, *(one for each in second for one in each)]
        groups = roll(self.model, self.table, some, **how)
        if name == "grpo":
            grpo_round(self.model, optimizer, groups, self.table)
            return groups
        self.pending += groups
        if (now + 1) % setup.block == 0 or now + 1 == rounds:
            lot = random.Random(f"sft/{setup.seed}/{now}")
            filtered_block(self.model, optimizer, self.pending, self.table, lot, batch=setup.batch)
            self.pending = []
        return groups

    def _read(self, name: str, round: int, counts: Counts, history: list[Reading]) -> str | None:
        """Take a reading, keep the weights if they are the best so far; what raises an alarm, if anything."""
        setup = self.setup
        depth = 1 if name == "again" else 0
        played = [rounds[-1] for rounds in greedy(self.model, self.table, self.held, depth=depth)]
        held = _accuracy(played)
        if not counts.sampled:  # nothing was sampled since: what the likeliest workflows say
            counts.add([Group("", [], played, [])])
        now = Reading(
            round,
            counts.parsed(),
            counts.right_given_valid(),
            counts.spread(len(setup.workers)) if round else 1.0,
            held,
            self.single,
            counts.mean_steps(),
            self.state["calls"][name],
        )
        history.append(now)
        self.state["history"][name].append(asdict(now))
        if best_place(history, setup.limits) == len(history) - 1:
            self.state["best"] = _copy(self.model.state_dict())
        # before anything was learned from rewards, it may well be worse than one worker alone
        limits = replace(setup.limits, regret=1.0) if name == "filtered" else setup.limits
        return alarm(history, limits)

    # --- deciding --------------------------------------------------------------------------------------------------

    def _on_calibration(self, stage: str, depth: int = 0) -> list[list[Played]]:
        self.model.load_state_dict(self.state["kept"][stage])
        return greedy(self.model, self.table, self.others, depth=depth)

    def compare(self) -> None:
        """GRPO against filtered fine-tuning on calibration problems: the better goes on."""
        seen = {s: [r[-1] for r in self._on_calibration(s)] for s in ("format", "filtered", "grpo", "sft")}
        found = self.state["found"]
        found["calibration"] = {stage: _summary(self.others, played) for stage, played in seen.items()}
        gain = paired_difference([p.right for p in seen["grpo"]], [p.right for p in seen["sft"]])
        found["grpo_against_sft"] = [gain.value, gain.low, gain.high]
        found["calls"] = dict(self.state["calls"])
        found["winner"] = "grpo" if gain.value > 0 else "sft"
        self.save()

    def choose(self) -> None:
        """What is shipped: the planner that learned to look again, unless that cost accuracy; how deep it recurs.

        It recurs only if that is surely better on calibration problems.
        """
        found, winner = self.state["found"], self.state["found"]["winner"]
        plain = [r[-1] for r in self._on_calibration(winner)]
        deep = {depth: self._on_calibration("again", depth) for depth in (0, 1, 2)}
        last = {depth: [r[-1] for r in rounds] for depth, rounds in deep.items()}
        found["again"] = {
            str(depth): _summary(self.others, last[depth])
            | {"rounds": sum(map(len, rounds)) / len(rounds), "worker_calls": _calls(rounds)}
            for depth, rounds in deep.items()
        }
        gain: Interval = paired_difference([p.right for p in last[1]], [p.right for p in last[0]])
        found["depth_1_against_0"] = [gain.value, gain.low, gain.high]
        found["shipped"] = "again" if _accuracy(last[0]) >= _accuracy(plain) - 0.005 else winner
        found["depth"] = 1 if found["shipped"] == "again" and gain.above_zero else 0
        self.save()

    def picture(self) -> None:
        """Draw the held-out accuracy over worker calls."""
        names = {"filtered": "filtered", "grpo": "GRPO", "sft": "more filtered", "again": "recursion"}
        learning_curve(
            self.out / "learning-curve.svg",
            {
                names[stage]: [(float(one["calls"]), float(one["held"])) for one in readings]
                for stage, readings in self.state["history"].items()
            },
            title=f"The planner on {len(self.held)} calibration problems, seed {self.setup.seed}",
            across="worker calls",
            up="right",
            marks={"best single": self.single},
        )


def _accuracy(played: Sequence[Played]) -> float:
    return sum(one.right for one in played) / max(1, len(played))


def _calls(rounds: Sequence[Sequence[Played]]) -> float:
    return sum(one.calls for each in rounds for one in each) / max(1, len(rounds))


def _summary(those: Sequence[Case], played: Sequence[Played]) -> dict[str, Any]:
    """Accuracy over all, over valid workflows, and by the number of steps that a problem needs; with the steps taken."""
    told: dict[str, Any] = {
        "n": len(those),
        "right": _accuracy(played),
        "valid": sum(p.valid for p in played) / max(1, len(played)),
        "right_given_valid": _accuracy([p for p in played if p.valid]),
    }
    for count in (1, 2, 3):
        part = [p for c, p in zip(those, played, strict=True) if max(1, len(c.problem.steps)) == count]
        if part:
            told[f"right_{count}"] = _accuracy(part)
            told[f"steps_{count}"] = sum(len(p.workers) for p in part) / len(part)
    return told


def _copy(weights: Weights) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}
