"""One round of learning from rewards: sample workflows in groups, play them, move the model; and what is read of them.

The same for the tiny planner and for a model of 7B: a model, a `Tongue`, a book of replies. Needs the `train` extra.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from stretto.learning.conductor.alarms import entropy
from stretto.learning.conductor.data import Case, mask, prompt_again
from stretto.learning.conductor.grpo import (
    Sample,
    Stepped,
    advantages,
    filtered_step,
    grpo_step,
    samples_of,
)
from stretto.learning.conductor.model import Row, Tongue, Written, sample
from stretto.learning.conductor.play import Book, Played, play, reward
from stretto.policies.forms import GIVEN

__all__ = [
    "Counts",
    "Group",
    "Table",
    "drawn",
    "filtered_block",
    "generator_for",
    "greedy",
    "grpo_again",
    "grpo_round",
    "roll",
    "roll_again",
]


@dataclass(frozen=True, slots=True)
class Table:
    """What stays the same over a training: how the model reads and writes, the workers by ordinal, and their kept replies."""

    tongue: Tongue
    workers: tuple[str, ...]
    replies: Book
    most: int = 200
    """Tokens that a workflow may have."""


@dataclass(frozen=True, slots=True)
class Group:
    """The workflows sampled for one prompt, what became of each, and its reward."""

    prompt: str
    written: Sequence[Written]
    played: Sequence[Played]
    rewards: Sequence[float]


@dataclass
class Counts:
    """Running counts over sampled workflows, for a reading."""

    sampled: int = 0
    valid: int = 0
    right: int = 0
    steps: int = 0
    calls: int = 0
    workers: dict[int, int] | None = None

    def add(self, groups: Sequence[Group]) -> None:
        """Count these in."""
        self.workers = self.workers or {}
        for played in (one for group in groups for one in group.played):
            self.sampled += 1
            self.valid += played.valid
            self.right += played.right
            self.steps += len(played.workers)
            self.calls += played.calls
            for worker in played.workers:
                self.workers[worker] = self.workers.get(worker, 0) + 1

    def parsed(self) -> float:
        """The share of valid workflows."""
        return self.valid / max(1, self.sampled)

    def right_given_valid(self) -> float:
        """The share of right answers among the valid."""
        return self.right / max(1, self.valid)

    def mean_steps(self) -> float:
        """Steps of a valid workflow."""
        return self.steps / max(1, self.valid)

    def spread(self, n: int) -> float:
        """Entropy of the workers asked over that of an even choice among `n`."""
        asked = self.workers or {}
        return entropy([asked.get(worker, 0) for worker in range(n)])


def drawn(everything: Sequence[Case], seed: int, round: int, asked: int) -> list[Case]:
    """The cases of one round: all in turn, in an order that changes each time through; masks by lot.

    Half of them may use every worker that they might, the others 3 of those up to all but one.
    """
    found = []
    for place in range(round * asked, (round + 1) * asked):
        time, index = divmod(place, len(everything))
        order = list(range(len(everything)))
        random.Random(f"order/{seed}/{time}").shuffle(order)
        rng = random.Random(f"mask/{seed}/{place}")
        case = everything[order[index]]
        least = min(3, len(case.allowed))
        found.append(replace(case, allowed=mask(rng, case.allowed, least, 0.5)))
    return found


def roll(
    model: Any, table: Table, cases: Sequence[Case], *, group: int, generator: Any, price: float = 0.0
) -> list[Group]:
    """`group` workflows for each case, sampled at temperature 1 and played."""
    model.eval()
    prompts = [case.prompt for case in cases]
    written = sample(model, table.tongue, prompts, most=table.most, times=group, generator=generator)
    model.train()
    each = [case for case in cases for _ in range(group)]
    texts = [table.tongue.text(one.tokens) for some in written for one in some]
    played = play(each, texts, table.replies, table.workers)
    return [
        _group(prompt, some, played[i * group : (i + 1) * group], price)
        for i, (prompt, some) in enumerate(zip(prompts, written, strict=True))
    ]


def _group(prompt: str, written: Sequence[Written], played: Sequence[Played], price: float) -> Group:
    return Group(prompt, written, played, [reward(one, price) for one in played])


def grpo_round(
    model: Any, optimizer: Any, groups: Sequence[Group], table: Table, *, parts: int = 2
) -> list[Stepped]:
    """Move the model by these groups' advantages, in `parts` steps; clipping keeps the later ones near what was sampled."""
    sized = [(g, samples_of(table.tongue.reads(g.prompt), g.written, advantages(g.rewards))) for g in groups]
    return _in_parts(model, optimizer, sized, table, parts)


def _in_parts(
    model: Any, optimizer: Any, sized: Sequence[tuple[Group, list[Sample]]], table: Table, parts: int
) -> list[Stepped]:
    done = []
    for part in range(parts):
        some = sized[part::parts]
        samples = [one for _, found in some for one in found]
        total = sum(len(g.written) for g, _ in some)
        done.append(grpo_step(model, optimizer, samples, end=table.tongue.end, group=max(1, total)))
    return done


def filtered_block(
    model: Any, optimizer: Any, groups: Sequence[Group], table: Table, lot: random.Random, *, batch: int
) -> list[float]:
    """Fine-tune once on the workflows that ended in a right answer, in batches by lot; equal ones count once for each time."""
    rows: list[tuple[Row, int]] = []
    for group in groups:
        prompt = table.tongue.reads(group.prompt)
        kept = [w for w, p in zip(group.written, group.played, strict=True) if p.right]
        rows += [(one.row, one.times) for one in samples_of(prompt, kept, [1.0] * len(kept))]
    lot.shuffle(rows)
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return [filtered_step(model, (optimizer,), part, end=table.tongue.end) for part in parts]


def greedy(model: Any, table: Table, cases: Sequence[Case], *, depth: int = 0) -> list[list[Played]]:
    """The likeliest workflow for each case, played; with `depth`, again after its answer, until the planner leaves it be.

    For each case the rounds that were played: the last one's answer counts. A workflow that cannot be read ends it, and the
    answer before it stands.
    """
    model.eval()

    def written(prompts: Sequence[str]) -> list[str]:
        found = sample(model, table.tongue, prompts, most=table.most, temperature=0.0)
        return [table.tongue.text(one.tokens) for [one] in found]

    rounds = [[one] for one in play(cases, written([c.prompt for c in cases]), table.replies, table.workers)]
    going = [place for place, found in enumerate(rounds) if found[0].valid]
    for _ in range(depth):
        shown = [rounds[place][-1].answer for place in going]
        those = [cases[place] for place in going]
        prompts = [
            prompt_again(c.problem.prompt, c.allowed, GIVEN.shown(s))
            for c, s in zip(those, shown, strict=True)
        ]
        found = play(those, written(prompts), table.replies, table.workers, earlier=shown)
        going = [place for place, one in zip(going, found, strict=True) if not _stands(rounds[place], one)]
    model.train()
    return rounds


def _stands(rounds: list[Played], now: Played) -> bool:
    """Take in one more round; whether it leaves the answer as it is."""
    before = rounds[-1]
    if now.valid and not now.empty:
        rounds.append(now)
        return False
    rounds.append(replace(before, calls=0, cost=0, empty=True, fault=now.fault))
    return True


# --- recursion -----------------------------------------------------------------------------------------------------


def roll_again(
    model: Any,
    table: Table,
    cases: Sequence[Case],
    *,
    group: int,
    generator: Any,
    discount: float = 0.25,
    price: float = 0.0,
) -> tuple[list[Group], list[list[Group]]]:
    """Like `roll`, with one more round: each workflow's answer is shown and the planner writes again.

    The first round is worth `(1 - discount) r0 + discount r1`. The second is paid by what it changed: a right answer kept 1, a
    wrong one mended 1.5, a wrong one left 0.5, a right one spoilt 0, no workflow 0. Of the second round there is a list of
    groups of one for each case, whose rewards are compared with each other.
    """
    first = roll(model, table, cases, group=group, generator=generator, price=price)
    shown = [(c, g, i) for c, g in zip(cases, first, strict=True) for i in range(group) if g.played[i].valid]
    prompts = [
        prompt_again(c.problem.prompt, c.allowed, GIVEN.shown(g.played[i].answer)) for c, g, i in shown
    ]
    model.eval()
    written = sample(model, table.tongue, prompts, most=table.most, generator=generator)
    model.train()
    texts = [table.tongue.text(one.tokens) for [one] in written]
    earlier = [g.played[i].answer for _, g, i in shown]
    played = play([c for c, _, _ in shown], texts, table.replies, table.workers, earlier=earlier)
    rewards = [list(g.rewards) for g in first]
    second: list[list[Group]] = [[] for _ in cases]
    places = {id(g): place for place, g in enumerate(first)}
    for (_, g, i), prompt, some, now in zip(shown, prompts, written, played, strict=True):
        worth = _changed(g.played[i], now, price)
        second[places[id(g)]].append(Group(prompt, some, [now], [worth]))
        rewards[places[id(g)]][i] = (1 - discount) * g.rewards[i] + discount * worth
    return [replace(g, rewards=r) for g, r in zip(first, rewards, strict=True)], second


def _changed(before: Played, now: Played, price: float) -> float:
    if not now.valid:
        return 0.0
    right, wrong = (1.0, 0.0) if before.right else (1.5, 0.5)
    return (right if now.right else wrong) - price * now.cost / 1e6


def grpo_again(
    model: Any,
    optimizer: Any,
    first: Sequence[Group],
    second: Sequence[Sequence[Group]],
    table: Table,
    *,
    parts: int = 2,
) -> list[Stepped]:
    """Move the model by both rounds, each compared within its own."""
    sized = [(g, samples_of(table.tongue.reads(g.prompt), g.written, advantages(g.rewards))) for g in first]
    for some in second:
        worth = advantages([g.rewards[0] for g in some]) if some else []
        for g, advantage in zip(some, worth, strict=True):
            found = samples_of(table.tongue.reads(g.prompt), g.written, [advantage])
            sized.append((g, found))
    return _in_parts(model, optimizer, sized, table, parts)


def generator_for(*names: object) -> Any:
    """A generator of torch's that these names alone determine."""
    made = torch.Generator()
    made.manual_seed(random.Random("/".join(map(str, names))).getrandbits(62))
    return made
