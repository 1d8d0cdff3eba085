"""A workflow that a model wrote, as checked data: steps, who does them, and who sees whose reply.

A planner writes three lists of equal length (`model_id`, `subtasks`, `access_list`), or the same as JSON. What it wrote is read
tolerantly (`parse`) and checked strictly (`check`); whatever is wrong is data, a `Fault`, whose message can be put to the
planner. Reading takes time in proportion to the text, runs nothing that stands in it, and never raises.

Everything here is pure, over plain values: the engine's plan and the rollouts of a training use the same functions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from stretto.policies.forms import Forms, Seen
from stretto.policies.lists import Lists, extract

__all__ = [
    "ITSELF",
    "STEPS",
    "Allowed",
    "Fault",
    "Workflow",
    "WorkflowStep",
    "check",
    "parse",
    "schema",
    "step_prompt",
    "waves",
    "written",
]

STEPS: Final = 5
"""Most steps of a workflow, unless a policy says less."""

ITSELF: Final = "(itself)"
"""The worker of a step that is a task for the planner again: a workflow of its own, one level down."""

FaultKind = Literal["missing", "lengths", "empty", "steps", "id", "ineligible", "text", "access", "forward"]


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """One step. `access`: the replies that its worker sees: of all earlier steps, or of those at these places (from 0)."""

    worker: str
    subtask: str
    access: Literal["all"] | tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps in their order; the reply of the last one is the answer. Without steps: the last answer stands as it is."""

    steps: tuple[WorkflowStep, ...] = ()

    def sees(self, place: int) -> tuple[int, ...]:
        """The places of the steps whose replies the step at `place` sees."""
        access = self.steps[place].access
        return tuple(range(place)) if access == "all" else access

    def needed(self) -> frozenset[int]:
        """The places of the steps that the last one rests on, itself included. Nobody would see what the others say."""
        found: set[int] = set()
        open_ = [len(self.steps) - 1] if self.steps else []
        while open_:
            place = open_.pop()
            if place not in found:
                found.add(place)
                open_ += self.sees(place)
        return frozenset(found)


class Fault(NamedTuple):
    """Why a planner's text is no workflow. `message` is one line, to be read by its author."""

    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a workflow may be made of. `workers`: who may do a step, by number; numbers below `count` that are not in it exist,
    but may not be used this time. `most` steps; `returns`: none at all is a workflow too.
    """

    workers: Mapping[int, str]
    count: int = 0
    most: int = STEPS
    returns: bool = False
    subtask_chars: int = 8_000
    names: Mapping[str, int] = field(default_factory=dict)

    def told(self) -> str:
        """The numbers that may be used, as a planner is told them."""
        return ", ".join(map(str, sorted(self.workers)))


def parse(text: str, allowed: Allowed) -> Workflow | Fault:
    """The workflow that stands last in a planner's text, or what is wrong with it."""
    lists = extract(text)
    if lists is None:
        return Fault(
            "missing",
            "no complete workflow was found; end with the three lists model_id, subtasks and access_list in brackets",
        )
    return check(lists, allowed)


def check(lists: Lists, allowed: Allowed) -> Workflow | Fault:
    """The workflow that three lists make, or the first thing that is wrong with them."""
    counts = [len(lists.models), len(lists.subtasks), len(lists.access)]
    if len(set(counts)) > 1:
        return Fault(
            "lengths",
            "the lists must be of equal length, but model_id has {}, subtasks {} and access_list {}".format(
                *counts
            ),
        )
    if not lists.models:
        return (
            Workflow()
            if allowed.returns
            else Fault("empty", "the lists are empty; at least one step is needed")
        )
    if counts[0] > allowed.most:
        return Fault("steps", f"there are {counts[0]} steps, at most {allowed.most} are allowed")
    steps = []
    for place, (model, subtask, access) in enumerate(zip(*lists, strict=True)):
        worker = _worker(model, place, allowed)
        if isinstance(worker, Fault):
            return worker
        if not isinstance(subtask, str) or not subtask.strip():
            return Fault("text", f"entry {place} of subtasks must be a text, not {_brief(subtask)}")
        if len(subtask) > allowed.subtask_chars:
            return Fault(
                "text",
                f"entry {place} of subtasks has {len(subtask)} characters, at most {allowed.subtask_chars} are allowed",
            )
        seen = _access(access, place)
        if isinstance(seen, Fault):
            return seen
        steps.append(WorkflowStep(worker, subtask.strip(), seen))
    return Workflow(tuple(steps))


def _worker(model: Any, place: int, allowed: Allowed) -> str | Fault:
    number = _number(model, allowed.names)
    if number is None:
        return Fault(
            "id",
            f"entry {place} of model_id must be one of the numbers {allowed.told()}, not {_brief(model)}",
        )
    if (worker := allowed.workers.get(number)) is not None:
        return worker
    if 0 <= number < allowed.count:
        return Fault(
            "ineligible",
            f"entry {place} of model_id is {number}, which may not be used for this task; use {allowed.told()}",
        )
    return Fault("id", f"entry {place} of model_id is {number}, but the models are {allowed.told()}")


def _number(model: Any, names: Mapping[str, int]) -> int | None:
    """A model's number, which may be written as a text: `2`, `Model 2`, or a name that is known."""
    if isinstance(model, bool) or not isinstance(model, int | str):
        return None
    if isinstance(model, int):
        return model
    said = model.strip(" `*\"'").casefold()
    if said in names:
        return names[said]
    for word in ("model", "agent", "worker"):
        said = said.removeprefix(word)
    said = said.strip(" _#:")
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 6 else None


def _access(value: Any, place: int) -> Literal["all"] | tuple[int, ...] | Fault:
    wrong = Fault(
        "access",
        f'entry {place} of access_list must be "all", [] or a list of earlier entries, not {_brief(value)}',
    )
    entries = value if isinstance(value, list) else [value]
    words = [each.strip(" `*\"'").casefold() if isinstance(each, str) else each for each in entries]
    if words == ["all"]:
        return "all"
    if len(words) == 1 and words[0] in ("", "none", None) and words[0] is not False:
        return ()
    found: set[int] = set()
    for word in words:
        number = _number(word, {})
        if number is None or number < 0:
            return wrong
        if number >= place:
            return Fault(
                "forward",
                f"entry {place} of access_list names step {number}, which does not come before it; steps count from 0",
            )
        found.add(number)
    return tuple(sorted(found))


def _brief(value: Any) -> str:
    """A wrong value as a message may show it."""
    text = ascii(value) if isinstance(value, str) else "a list" if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


# --- writing one -------------------------------------------------------------------------------------------------


def written(workflow: Workflow, numbers: Mapping[str, int]) -> str:
    """The three lists that say a workflow: what a planner is taught to write. `numbers`: those of the workers."""
    models = ", ".join(str(numbers[step.worker]) for step in workflow.steps)
    subtasks = ", ".join(json.dumps(step.subtask, ensure_ascii=False) for step in workflow.steps)
    access = ", ".join(
        '"all"' if step.access == "all" else json.dumps(list(step.access)) for step in workflow.steps
    )
    return f"model_id = [{models}]\nsubtasks = [{subtasks}]\naccess_list = [{access}]"


def schema(allowed: Allowed) -> dict[str, Any]:
    """The same as a JSON Schema, for planners that can be held to one: `steps`, each with the three entries."""
    step = {
        "type": "object",
        "properties": {
            "model_id": {"type": "integer", "enum": sorted(allowed.workers)},
            "subtask": {"type": "string"},
            "access_list": {
                "anyOf": [
                    {"type": "string", "enum": ["all"]},
                    {"type": "array", "items": {"type": "integer"}},
                ]
            },
        },
        "required": ["model_id", "subtask", "access_list"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "steps": {"type": "array", "items": step}},
        "required": ["reasoning", "steps"],
        "additionalProperties": False,
    }


# --- carrying one out --------------------------------------------------------------------------------------------


def waves(workflow: Workflow) -> tuple[tuple[int, ...], ...]:
    """The steps to be asked, in rounds: those of one round see nothing of each other. The last step is the last round alone.

    Steps whose reply nobody sees on the way to the answer are left out.
    """
    needed = workflow.needed()
    level: dict[int, int] = {}
    for place in sorted(needed):
        level[place] = 1 + max((level[seen] for seen in workflow.sees(place)), default=-1)
    rounds: list[list[int]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for place, number in level.items():
        rounds[number].append(place)
    return tuple(tuple(each) for each in rounds)


def step_prompt(
    question: str,
    workflow: Workflow,
    place: int,
    replies: Mapping[int, str],
    forms: Forms,
    before: Sequence[Seen] = (),
) -> str:
    """What the worker of the step at `place` is told. `replies`: of the steps that have answered, by place.

    A step that sees all earlier ones also sees `before`, what an earlier workflow for the same task came to.
    """
    step = workflow.steps[place]
    first = len(before) + 1
    seen = [
        Seen(first + other, workflow.steps[other].subtask, replies[other])
        for other in workflow.sees(place)
        if other in replies
    ]
    if step.access == "all":
        seen = [*before, *seen]
    return forms.working(question, seen, step.subtask, last=place == len(workflow.steps) - 1)
