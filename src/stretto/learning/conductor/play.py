"""Workflows of a planner played over kept replies: what each is worth, without an engine.

The very code that serves reads the workflows and words the steps (`policies.workflow`, `policies.forms`), so that what is learned
here is what is served; at the end of a training it is confirmed live. Many workflows are played in lockstep: first steps
together, then second steps, since the replies are asked in batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stretto.learning.conductor.data import Case
from stretto.learning.replies import Pair, Said
from stretto.policies.forms import GIVEN, Forms, Seen
from stretto.policies.workflow import Allowed, Fault, Workflow, parse, step_prompt, waves
from stretto.sparring.graders import grade

__all__ = ["Book", "Played", "alone", "play", "reward"]


class Book(Protocol):
    """Where replies come from; `learning.replies.Replies` is one."""

    def get(self, pairs: Sequence[Pair]) -> list[Said]:
        """The replies to `(worker, prompt)`, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one workflow. `fault` names what was wrong with its text; `calls` and `cost` (pico-dollars) its steps'."""

    right: bool
    answer: str
    workers: tuple[int, ...] = ()
    fault: str = ""
    calls: int = 0
    cost: int = 0
    empty: bool = False
    """Whether it was three empty lists: the earlier answer stands."""

    @property
    def valid(self) -> bool:
        """Whether the text was a workflow that may be run."""
        return not self.fault


def reward(played: Played, price: float = 0.0) -> float:
    """0 for no workflow, 0.5 for a wrong answer, 1 for a right one, less `price` for each micro-dollar of its steps."""
    if not played.valid:
        return 0.0
    return (1.0 if played.right else 0.5) - price * played.cost / 1e6


def play(
    cases: Sequence[Case],
    texts: Sequence[str],
    replies: Book,
    workers: Sequence[str],
    *,
    forms: Forms = GIVEN,
    most: int = 5,
    earlier: Sequence[str | None] | None = None,
) -> list[Played]:
    """Play the workflow `texts[i]` for `cases[i]`; `workers` are in the order of the ordinals.

    `earlier` are the answers of the rounds before: where there is one, three empty lists mean that it stands.
    """
    before = list(earlier or [None] * len(cases))
    plans = [
        parse(text, _allowed(case, workers, most, returns=shown is not None))
        for case, text, shown in zip(cases, texts, before, strict=True)
    ]
    said: list[dict[int, Said]] = [{} for _ in cases]
    rounds = [waves(plan) if isinstance(plan, Workflow) else () for plan in plans]
    for turn in range(max(map(len, rounds), default=0)):
        places = [(i, place) for i, wave in enumerate(rounds) if turn < len(wave) for place in wave[turn]]
        pairs = [_asked(cases[i], plans[i], place, said[i], forms, before[i]) for i, place in places]
        for (i, place), reply in zip(places, replies.get(pairs), strict=True):
            said[i][place] = reply
    return [
        _played(case, plan, replied, workers, shown)
        for case, plan, replied, shown in zip(cases, plans, said, before, strict=True)
    ]


def _allowed(case: Case, workers: Sequence[str], most: int, *, returns: bool) -> Allowed:
    return Allowed({o: workers[o] for o in case.allowed}, len(workers), most, returns)


def _asked(
    case: Case, plan: Workflow | Fault, place: int, said: Mapping[int, Said], forms: Forms, shown: str | None
) -> Pair:
    assert isinstance(plan, Workflow)
    question = case.problem.prompt
    replies = {other: reply.text for other, reply in said.items()}
    earlier = [] if shown is None else [Seen(1, question, shown)]
    return plan.steps[place].worker, step_prompt(question, plan, place, replies, forms, earlier)


def _played(
    case: Case, plan: Workflow | Fault, said: Mapping[int, Said], workers: Sequence[str], shown: str | None
) -> Played:
    if isinstance(plan, Fault):
        return Played(False, "", fault=plan.kind)
    if not plan.steps:
        answer = shown or ""
        return Played(bool(grade(case.problem, answer)), answer, empty=True)
    answer = said[len(plan.steps) - 1].text
    return Played(
        bool(grade(case.problem, answer)),
        answer,
        tuple(workers.index(step.worker) for step in plan.steps),
        calls=len(said),
        cost=sum(reply.cost for reply in said.values()),
    )


def alone(cases: Sequence[Case], replies: Book, workers: Sequence[str]) -> list[list[bool]]:
    """Whether each worker, asked the whole problem alone, is right: a list over the cases for each worker."""
    pairs = [(worker, case.problem.prompt) for worker in workers for case in cases]
    said = replies.get(pairs)
    graded = [
        bool(grade(case.problem, s.text)) for case, s in zip([*cases] * len(workers), said, strict=True)
    ]
    return [graded[i * len(cases) : (i + 1) * len(cases)] for i in range(len(workers))]
