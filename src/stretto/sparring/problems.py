"""Sparring problems: plain-English tasks made from a seed, each with one right answer.

*Simple* problems come from twenty families (`skills`), *composites* chain two or three of them, and *hand-overs* are what a
worker sees of a composite's later step. The payload decides the split, by its hash: what was trained on is never tested, in any
family, under any wording. Three more things can be held out: wordings, forms of composites, and pairs of skills. Numbers that
arise on the way (a count, a sum) are few, so those can have been seen in training; words that arise mostly have not.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from stretto.sparring.skills import SKILLS, Params, Skill, fresh_word, word
from stretto.sparring.wordings import (
    AFTERWARDS,
    AFTERWARDS_UNSEEN,
    FIRST_OR_LAST,
    GIVEN,
    IT,
    POLITE,
    WORDINGS,
)

__all__ = [
    "FAMILIES",
    "PAIRS",
    "UNSEEN_PAIRS",
    "Problem",
    "Split",
    "Step",
    "composites",
    "handovers",
    "problems",
    "split_of",
]

Split = Literal["train", "calibration", "test"]

FAMILIES: Final = tuple(WORDINGS)
"""The names of the problem families."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a problem: its skill, its sub-problem as it may be handed over, and its right answer."""

    family: str
    task: str
    answer: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `id` is `family/seed/index`, of a composite `first+second/seed/index`, and makes the same problem again."""

    id: str
    family: str
    prompt: str
    answer: str
    working: str
    """The line of steps that a number specialist writes before ` = `; empty where the answer is given directly."""
    split: Split
    steps: tuple[Step, ...] = ()
    """Of a composite, what has to be done one after the other; else empty."""

    @property
    def worked(self) -> str:
        """The answer as a careful worker writes it: `working = answer`, or the answer alone."""
        return f"{self.working} = {self.answer}" if self.working else self.answer


def split_of(payload: str) -> Split:
    """The split that a payload belongs to: 8 of 10 are for training, one each for calibration and test."""
    bucket = hashlib.blake2b(payload.encode(), digest_size=8).digest()[0] % 10
    return "train" if bucket < 8 else "calibration" if bucket == 8 else "test"


# --- which skills can follow each other --------------------------------------------------------------------------

_SAME_EITHER_WAY: Final = frozenset(
    {
        ("spell-backward", "sort-letters"),
        ("spell-backward", "count-vowels"),
        ("spell-backward", "count-letter"),
        ("sort-letters", "count-vowels"),
        ("sort-letters", "count-letter"),
        ("drop-vowels", "count-vowels"),
        ("count-vowels", "digit-sum"),
        ("count-letter", "digit-sum"),
        ("count-vowels", "gcd"),
        ("count-letter", "gcd"),
        ("sort-words", "longest-word"),
        ("reverse-words", "longest-word"),
        ("reverse-words", "sort-words"),
        ("sort-numbers", "maximum"),
        ("to-binary", "from-binary"),
        ("from-binary", "to-binary"),
        ("to-roman", "from-roman"),
        ("from-roman", "to-roman"),
    }
)
"""Pairs whose first step changes nothing of the second's answer, or leaves it nothing to do."""


def _follows(first: Skill, second: Skill) -> bool:
    """Whether `second` can be asked about what `first` gives: the thing itself, or the first or last of a list."""
    if first.name == second.name or (first.name, second.name) in _SAME_EITHER_WAY:
        return False
    return second.takes == first.gives or first.gives == second.takes + "s"


PAIRS: Final = tuple((a.name, b.name) for a in SKILLS.values() for b in SKILLS.values() if _follows(a, b))
"""Every pair of skills that makes sense, held-out ones included."""

UNSEEN_PAIRS: Final = tuple(
    pair for pair in PAIRS if hashlib.blake2b("+".join(pair).encode(), digest_size=8).digest()[0] % 6 == 0
)
"""Pairs that nothing is trained on: about one in six, chosen by hash."""

_TRIPLES: Final = tuple((a, b, c) for a, b in PAIRS for b2, c in PAIRS if b == b2 and a != c)


def _chains(steps: int, unseen: bool) -> tuple[tuple[str, ...], ...]:
    """The chains of that length; with `unseen` those with a pair that nothing is trained on, else those without."""
    chains: Sequence[tuple[str, ...]] = PAIRS if steps == 2 else _TRIPLES
    held = set(UNSEEN_PAIRS)
    return tuple(
        chain for chain in chains if any(pair in held for pair in itertools.pairwise(chain)) == unseen
    )


_CHAINS: Final = {(steps, unseen): _chains(steps, unseen) for steps in (2, 3) for unseen in (False, True)}

# --- problems ----------------------------------------------------------------------------------------------------


def problems(
    families: Sequence[str], split: Split, n: int, seed: int, *, unseen_wordings: bool = False
) -> list[Problem]:
    """`n` simple problems of `split`, the families taking turns; equal arguments give equal problems.

    With `unseen_wordings` they are worded as no training problem is.
    """
    _check(families, split)
    made = []
    for index in range(n):
        family = families[index % len(families)]
        rng = random.Random(f"{family}/{split}/{seed}/{index}")
        value, params = _drawn(SKILLS[family], split, rng)
        made.append(_problem(f"{family}/{seed}/{index}", family, value, params, split, rng, unseen_wordings))
    return made


def handovers(families: Sequence[str], split: Split, n: int, seed: int) -> list[Problem]:
    """`n` later steps as a worker sees them: one or two `Given:` lines, and an order that refers to the last of them."""
    _check(families, split)
    return [_handover(families[index % len(families)], split, seed, index) for index in range(n)]


def composites(
    split: Split,
    n: int,
    seed: int,
    *,
    steps: Sequence[int] = (2,),
    unseen_pairs: bool = False,
    unseen_wordings: bool = False,
) -> list[Problem]:
    """`n` composites of `split`, the numbers of steps (2 or 3) taking turns; equal arguments give equal problems.

    With `unseen_pairs` each has a pair of skills that nothing is trained on, else none has. With `unseen_wordings` the steps are
    joined as in no training problem.
    """
    _check(FAMILIES, split)
    if not steps or any(count not in (2, 3) for count in steps):
        raise ValueError(f"composites have 2 or 3 steps, not {list(steps)}")
    label = f"composite/{split}/{int(unseen_pairs)}{int(unseen_wordings)}/{seed}"
    made = []
    for index in range(n):
        count, rng = steps[index % len(steps)], random.Random(f"{label}/{index}")
        forms = (AFTERWARDS_UNSEEN if unseen_wordings else AFTERWARDS)[count]
        problem = None
        while problem is None:
            problem = _composite(rng.choice(_CHAINS[count, unseen_pairs]), rng.choice(forms), split, rng)
        made.append(replace(problem, id=f"{problem.family}/{seed}/{index}"))
    return made


def _check(families: Sequence[str], split: Split) -> None:
    if unknown := [name for name in families if name not in SKILLS]:
        raise ValueError(f"unknown problem family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}; there are {', '.join(get_args(Split))}")
    if not families:
        raise ValueError("at least one problem family is needed")


def _drawn(skill: Skill, split: Split, rng: random.Random) -> tuple[str, Params]:
    """A payload of `split` with its parameters. Rejection: one draw in ten is for calibration, one for test."""
    while True:
        value = skill.draw(rng, lambda made: split_of(made) == split)
        params = skill.params(rng, value)
        if params is None or not skill.solve(value, params)[0]:
            continue
        if skill.takes in ("word", "words") or split_of(_payload(value, params)) == split:
            return value, params


def _payload(value: str, params: Params) -> str:
    """What is hashed: a pair of numbers in one order, so that `3 + 5` and `5 + 3` are one problem."""
    return "+".join(sorted((value, params["b"]), key=int)) if "b" in params else value


def _problem(
    id: str, family: str, value: str, params: Params, split: Split, rng: random.Random, unseen: bool
) -> Problem:
    wordings = WORDINGS[family]
    if family == "addition" and rng.random() < 0.5:  # a sum reads the same either way round
        value, params = params["b"], {"b": value}
    fields = {"v": value, **params}
    if unseen:
        prompt = rng.choice(wordings.unseen).format_map(fields)
    else:
        text = rng.choice((*wordings.does, *wordings.asks))
        prompt = text.format_map(fields)
        if text in wordings.does:
            prompt = _sentence(prompt)
    answer, working = SKILLS[family].solve(value, params)
    return Problem(id, family, _vary(prompt, fields["v"], family, rng), answer, working, split)


def _sentence(order: str) -> str:
    return order[0].upper() + order[1:] + "."


def _vary(prompt: str, value: str, family: str, rng: random.Random) -> str:
    """The same prompt as different people type it: quotes, no full stop, politeness."""
    if SKILLS[family].takes == "word" and rng.random() < 0.15:
        quote = rng.choice("\"'")
        prompt = re.sub(rf" {value}\b", f" {quote}{value}{quote}", prompt, count=1)
    if prompt.endswith(".") and rng.random() < 0.15:
        prompt = POLITE + prompt[0].lower() + prompt[1:]
    if rng.random() < 0.15:
        prompt = prompt.rstrip(".?").rstrip()
    return prompt


# --- hand-overs and composites -----------------------------------------------------------------------------------


def _handover(family: str, split: Split, seed: int, index: int) -> Problem:
    rng = random.Random(f"handover/{family}/{split}/{seed}/{index}")
    skill = SKILLS[family]
    value, params = _drawn(skill, split, rng)
    given, it = value, rng.choice(IT)
    if skill.takes in ("word", "number") and rng.random() < 0.2:
        given, it = _list_around(skill, value, split, rng)
    earlier = ""
    if rng.random() < 0.25:
        distraction = word(rng) if rng.random() < 0.5 else str(rng.randint(1, 999))
        earlier = GIVEN.format(reply=distraction)
    task = _sentence(rng.choice(_refers(family, it)).format_map({"it": it, **params}))
    answer, working = skill.solve(value, params)
    prompt = earlier + GIVEN.format(reply=given) + task
    return Problem(f"handover-{family}/{seed}/{index}", family, prompt, answer, working, split)


def _refers(family: str, it: str) -> Sequence[str]:
    """The orders about an earlier reply; where that is a list, only those that say which item is meant."""
    orders = WORDINGS[family].refers
    return [order for order in orders if "{it}" in order] if it in FIRST_OR_LAST else orders


def _list_around(skill: Skill, value: str, split: Split, rng: random.Random) -> tuple[str, str]:
    """A list that begins or ends with `value`, and how that item is named."""
    if skill.takes == "word":
        # what merely stands beside the payload of a training problem may be a word that is held out: nothing is asked about it
        items = [fresh_word(rng, lambda made: split in ("train", split_of(made)), 3, 6) for _ in range(3)]
    else:
        items = [str(rng.randint(1, 999)) for _ in range(rng.randint(2, 4))]
    named = rng.choice(FIRST_OR_LAST)
    ordered = [value, *items] if named == FIRST_OR_LAST[0] else [*items, value]
    return ", ".join(ordered), named


def _composite(chain: Sequence[str], form: str, split: Split, rng: random.Random) -> Problem | None:
    """One composite over `chain`, or `None` where a step cannot be asked of what the one before gave."""
    first = SKILLS[chain[0]]
    value, params = _drawn(first, split, rng)
    order = rng.choice(WORDINGS[chain[0]].does).format_map({"v": value, **params})
    answer, _ = first.solve(value, params)
    orders, steps = [order], [Step(chain[0], _sentence(order), answer)]
    for before, name in itertools.pairwise(chain):
        skill, it = SKILLS[name], rng.choice(IT)
        if SKILLS[before].gives != skill.takes:
            it = rng.choice(FIRST_OR_LAST)
            answer = answer.split(", ")[0 if it == FIRST_OR_LAST[0] else -1]
        further = skill.params(rng, answer) if answer else None
        if further is None:
            return None
        solved, _ = skill.solve(answer, further)
        if not solved:
            return None
        order = rng.choice(_refers(name, it)).format_map({"it": it, **further})
        orders.append(order)
        steps.append(Step(name, _sentence(order), solved))
        answer = solved
    text = form.format(*orders)
    return Problem("", "+".join(chain), text[0].upper() + text[1:], answer, "", split, tuple(steps))
