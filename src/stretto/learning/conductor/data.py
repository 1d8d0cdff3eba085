"""What a planner of the sparring pool learns from: prompts with anonymous ordinals, and workflows in the frozen format.

A workflow's text is `wordings.WORKFLOW`; a sub-task stands in it as the thinker writes it, in lower case, after a space: so its
words are single tokens, equal to those of the prompt, and writing it is copying. Workers are ordinals, places in the order of
the artefact; those that may not be used are left out of the prompt. Pure, and every draw comes from a seed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stretto.sparring.problems import FAMILIES, Problem, Split, composites, problems
from stretto.sparring.roles import wrong
from stretto.sparring.skills import word
from stretto.sparring.wordings import IT, PLANNER, PLANNER_AGAIN, TEMPLATE_WORDS, WORDINGS, WORKFLOW

__all__ = [
    "NOTHING",
    "Case",
    "by_lot",
    "cases",
    "lessons",
    "mask",
    "plan_text",
    "prompt_again",
    "prompt_of",
    "second_looks",
    "tasks_of",
]

NOISE: Final = 0.25
"""The share of lessons about a problem that is worded as nobody words it: see `_noised`."""

AGAIN: Final = 0.12
"""The share of lessons that show the last workflow's answer."""


@dataclass(frozen=True, slots=True)
class Case:
    """One problem with the ordinals that a workflow may use for it."""

    problem: Problem
    allowed: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """What the planner is asked."""
        return prompt_of(self.problem.prompt, self.allowed)


def prompt_of(question: str, allowed: Sequence[int]) -> str:
    """What the planner is asked at first."""
    return PLANNER.format(models=" ".join(map(str, allowed)), question=question)


def prompt_again(question: str, allowed: Sequence[int], reply: str) -> str:
    """What the planner is asked after `reply`, the answer of its last workflow."""
    return PLANNER_AGAIN.format(models=" ".join(map(str, allowed)), question=question, reply=reply)


def plan_text(workers: Sequence[int], tasks: Sequence[str]) -> str:
    """A workflow's text: one step for each task; every step but the first sees all that was replied before."""
    return WORKFLOW.format(
        models=", ".join(map(str, workers)),
        subtasks=", ".join(f'" {task}"' for task in tasks),
        access=", ".join('"all"' if place else "[]" for place in range(len(tasks))),
    )


NOTHING: Final = plan_text((), ())
"""Three empty lists: the last answer is good as it is."""


def tasks_of(problem: Problem) -> tuple[str, ...]:
    """The sub-tasks of the right workflow: those of a composite, or a simple problem as it stands."""
    whole = [step.task for step in problem.steps] or [problem.prompt]
    return tuple(task.lower().replace('"', "'") for task in whole)


def mask(rng: random.Random, places: Sequence[int], least: int, whole: float) -> tuple[int, ...]:
    """A random k-of-n pool: all with probability `whole`, else `least` to n - 1 of them; in their order."""
    n = len(places)
    if n <= least or rng.random() < whole:
        return tuple(places)
    return tuple(places[i] for i in sorted(rng.sample(range(n), rng.randint(least, n - 1))))


def cases(
    split: Split,
    shares: tuple[int, int, int],
    seed: int,
    n: int,
    *,
    skip: tuple[int, int, int] = (0, 0, 0),
    without: Sequence[int] = (),
    unseen_pairs: bool = False,
) -> list[Case]:
    """So many simple problems, composites of two and of three steps, in random order.

    All `n` workers may be used but those at the places `without`. `skip` so many problems of each first: others of the same seed.
    """
    simple, two, three = (a + b for a, b in zip(shares, skip, strict=True))
    found = problems(FAMILIES, split, simple, seed)[skip[0] :]
    found += composites(split, two, seed, unseen_pairs=unseen_pairs)[skip[1] :]
    found += composites(split, three, seed, steps=(3,), unseen_pairs=unseen_pairs)[skip[2] :]
    random.Random(f"cases/{split}/{seed}").shuffle(found)
    allowed = tuple(place for place in range(n) if place not in without)
    return [Case(problem, allowed) for problem in found]


def by_lot(those: Sequence[Case], times: tuple[int, int, int], seed: int) -> list[tuple[Case, str]]:
    """For each case so many workflows, by the number of its steps, with workers by lot, each with a mask of its own."""
    found = []
    for place, case in enumerate(those):
        tasks = tasks_of(case.problem)
        rng = random.Random(f"by lot/{seed}/{place}")
        for _ in range(times[len(tasks) - 1]):
            allowed = mask(rng, case.allowed, min(3, len(case.allowed)), 0.5)
            found.append(
                (replace(case, allowed=allowed), plan_text([rng.choice(allowed) for _ in tasks], tasks))
            )
    return found


def second_looks(
    found: Sequence[tuple[Case, str, str, bool]], shown: Callable[[str], str], rng: random.Random
) -> list[tuple[str, str]]:
    """Lessons in looking at an answer, from workflows that were played: case, text, answer, whether it was right.

    For every other problem: where the answer was right it stands; where another was wrong, what was right is written. `shown`
    is a reply as others see it.
    """
    by_problem: dict[str, list[tuple[Case, str, str, bool]]] = {}
    for one in found:
        by_problem.setdefault(one[0].problem.prompt, []).append(one)
    lessons = []
    for question, some in by_problem.items():
        right, wrong = [one for one in some if one[3]], [one for one in some if not one[3]]
        if right and rng.random() < 0.5:
            case, _, answer, _ = rng.choice(right)
            lessons.append((prompt_again(question, case.allowed, shown(answer)), NOTHING))
        if right and wrong and rng.random() < 0.5:
            case, text, _, _ = rng.choice(right)
            lessons.append((prompt_again(question, case.allowed, shown(rng.choice(wrong)[2])), text))
    return lessons


# --- the format ----------------------------------------------------------------------------------------------------


def lessons(seed: int, step: int, batch: int, n: int) -> list[tuple[str, str]]:
    """`batch` pairs of prompt and workflow over `n` workers: the format, the sub-tasks, who sees what. Whom to ask is by lot.

    Of ten, three are about simple problems, four about composites of two and three about composites of three steps. Equal
    arguments give equal lessons.
    """
    rng = random.Random(f"lessons/{seed}/{step}")
    at = seed * 1_000_003 + step
    simple, three = round(0.3 * batch), round(0.3 * batch)
    turn = step * simple % len(FAMILIES)
    found = problems(FAMILIES[turn:] + FAMILIES[:turn], "train", simple, at)
    found += composites("train", batch - simple - three, at) + composites("train", three, at, steps=(3,))
    return [_lesson(problem, n, rng) for problem in found]


def _lesson(problem: Problem, n: int, rng: random.Random) -> tuple[str, str]:
    question, tasks = problem.prompt, tasks_of(problem)
    if rng.random() < NOISE:
        question, tasks = _noised(problem, tasks, rng)
    allowed = mask(rng, range(n), 1, 0.4)
    written = plan_text([rng.choice(allowed) for _ in tasks], tasks)
    if rng.random() >= AGAIN:
        return prompt_of(question, allowed), written
    right = rng.random() < 0.5
    shown = problem.answer if right else wrong(problem, rng)
    return prompt_again(question, allowed, shown), NOTHING if right else written


def _noised(problem: Problem, tasks: Sequence[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """The problem with words by lot around it, or its orders joined by words and signs by lot; the sub-tasks it then has.

    So the planner copies what it does not know, and finds the orders by themselves rather than by a few joints.
    """
    if not problem.steps:
        text = f"{_lot(rng, 1, 2)} {tasks[0]}" if rng.random() < 0.5 else f"{tasks[0]} {_lot(rng, 1, 2)}"
        return text, (text,)
    opening = rng.choice(("", "", _lot(rng, 1, 2) + rng.choice((" ", ", ", ": "))))
    text = opening + tasks[0].rstrip(".")
    for task in tasks[1:]:
        between = rng.choice(("", _lot(rng, 1, 3) + rng.choice((" ", " ", ", ", ": "))))
        text += rng.choice((", ", "; ", ". ", " ", ", ")) + between + task.rstrip(".")
        text += rng.choice(("", "", "", " " + _lot(rng, 1, 1)))
    return text + rng.choice(("", ".", ".", ".")), tuple(tasks)


def _lot(rng: random.Random, least: int, most: int) -> str:
    """A few words by lot: such as the pool knows but no order holds, or such as nobody knows."""
    count = rng.randint(least, most)
    return " ".join(rng.choice(_BESIDE) if rng.random() < 0.4 else word(rng, 2, 8) for _ in range(count))


_ORDERS: Final = " ".join((*IT, *(text for w in WORDINGS.values() for text in (*w.does, *w.refers)))).split()
_BESIDE: Final = tuple(word for word in TEMPLATE_WORDS if word not in _ORDERS)
"""Template words that stand in no order."""
