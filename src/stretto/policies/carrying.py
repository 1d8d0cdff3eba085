"""Carrying out a workflow as a plan: independent steps side by side, everyone isolated but for what its access list shows.

A step that fails is given to the next best worker, and left out if that fails too; the last step is the one that speaks.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stretto.policies.forms import Forms, Seen, put_to
from stretto.policies.panel.members import because
from stretto.policies.settle import only, settle
from stretto.policies.signals import confidence
from stretto.policies.transcript import flat
from stretto.policies.workflow import ITSELF, Workflow, step_prompt, waves
from stretto.steps import Ask, Choice, Fork, Note, Option, Plan, Step, Want, put
from stretto.types import Answer, Failure, Message, Request

__all__ = ["LEAST_OUTPUT", "Around", "Carrying", "Spare", "sees", "single", "surety"]

LEAST_OUTPUT: Final = 64
"""Output tokens that a step must at least be able to pay for."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a workflow: levels of recursion that are left, forks above, what an earlier workflow came to."""

    left: int = 0
    forks: int = 0
    before: tuple[Seen, ...] = ()
    best: Answer | None = None


@dataclass(frozen=True, slots=True)
class Carrying:
    """One workflow for one request. `ranked`: who may stand in for a worker that fails, the best for a text first.

    With `doubt` a worker that is less sure of its reply than that (`signals.confidence`) is not alone: the best other one for
    this step is asked the same, and the surer reply stands. Then the last step cannot stream, since it is checked too.
    `steady`: the last step too is asked at `temperature` where the caller names none.

    `spare`: calls that the steps themselves do not need, for such second replies. `purse`: money (pico-dollars) for one ask; it
    lowers the output cap, since what is set aside for one step is not there for the others. `None`: no limit.

    `inner` makes the plan of a step that is a workflow of its own: of its request, the levels left and the forks above it.
    """

    request: Request
    workflow: Workflow
    around: Around
    forms: Forms
    ranked: Callable[[str], Sequence[str]]
    inner: Callable[[Request, int, int], Plan]
    step_tokens: int | None = None
    temperature: float = 0.2
    want: Want = "text"
    doubt: float = 0.0
    steady: bool = False
    spare: int | None = None
    purse: int | None = None

    def plan(self) -> Plan:
        """Round after round; the last step is the last ask."""
        spare = Spare(self.spare)
        replies: dict[int, str] = {}
        least = 1.0
        latest: Answer | None = None
        lost: list[str] = []
        limits = self.request.limits
        width = max(1, limits.fanout) if self.around.forks < limits.depth else 1
        for round_ in waves(self.workflow)[:-1]:
            for first in range(0, len(round_), width):
                places = round_[first : first + width]
                answers = yield from self._side_by_side(places, dict(replies))
                for place, answer in zip(places, answers, strict=True):
                    if answer.error is not None and answer.error.kind != "limit":
                        answer = yield from self._again(place, replies, answer)
                    answer = yield from self._sure(place, replies, answer, spare)
                    if answer.error is None:
                        replies[place], latest = answer.text, answer
                        least = min(least, confidence(answer.logprobs) or least)
                    elif answer.error.kind == "limit":
                        return self._cut(place, answer.error, latest)
                    else:
                        lost.append(f"step {place + 1} gave no answer ({answer.error.kind})")
        return (yield from self._last(replies, latest, lost, least, spare))

    def _side_by_side(
        self, places: Sequence[int], replies: Mapping[int, str]
    ) -> Generator[Step, Any, Sequence[Answer]]:
        steps = tuple(self._step(place, replies, forked=len(places) > 1) for place in places)
        if len(steps) > 1:
            answers: tuple[Answer, ...] = yield Fork(steps)
            return answers
        (step,) = steps
        if isinstance(step, Ask):
            return (Answer.of((yield from put(step))),)
        return ((yield from settle(step)),)

    def _step(
        self, place: int, replies: Mapping[int, str], *, worker: str = "", forked: bool = False
    ) -> Ask | Plan:
        """One step: an ask, or a workflow of its own. Only the last one speaks to the caller and holds its tools."""
        request, workflow = self.request, self.workflow
        worker = worker or workflow.steps[place].worker
        last = place == len(workflow.steps) - 1
        text = step_prompt(request.prompt, workflow, place, replies, self.forms, self.around.before)
        why = f"step {place + 1} of {len(workflow.steps)}{sees(workflow, place)}"
        if worker == ITSELF:
            messages = put_to(request, text, tools=last)
            inner = replace(request if last else self._quiet(), messages=messages)
            return self.inner(inner, self.around.left - 1, self.around.forks + forked)
        if last:
            messages = put_to(request, text, tools=True)
            own = self.steady and "temperature" not in request.params
            params = {"temperature": self.temperature} if own else {}
            return Ask(
                worker, messages, role="worker", reason=why, want=self.want, speaks=True, params=params
            )
        messages = put_to(request, text, tools=False)
        return Ask(
            worker,
            messages,
            role="worker",
            reason=why,
            max_tokens=self._cap(worker, messages),
            params={"temperature": request.params.get("temperature", self.temperature)},
            seed="step",
            want=self.want,
        )

    def _cap(self, worker: str, messages: Sequence[Message]) -> int | None:
        """The most tokens of a step within the workflow: the usual cap, or what its part of the money pays for."""
        card = self.request.card(worker)
        if self.purse is None or card is None or not card.price.output:
            return self.step_tokens
        given = sum(len(message.text.encode()) for message in messages) * card.price.input
        paid = max(LEAST_OUTPUT, (self.purse - given) // card.price.output)
        return paid if self.step_tokens is None else min(paid, self.step_tokens)

    def _quiet(self) -> Request:
        """The request for a workflow whose answer is for other steps: without what concerns the caller's own."""
        return replace(
            self.request,
            messages=flat(self.request.messages),
            tools=(),
            tool_choice=None,
            response_format=None,
            max_tokens=self.step_tokens,
        )

    def _again(self, place: int, replies: Mapping[int, str], failed: Answer) -> Generator[Step, Any, Answer]:
        """A step that failed, given to the next best worker."""
        worker = self.workflow.steps[place].worker
        other = self._other(place, worker)
        if not other or failed.error is None:
            return failed
        lost = Option(worker, rejected=f"{failed.error.kind}: {failed.error.message}")
        yield Note(Choice(other, (lost, Option(other)), reason=f"step {place + 1} failed", by="workflow"))
        step = self._step(place, replies, worker=other)
        assert isinstance(step, Ask)
        return Answer.of((yield from put(step)))

    def _other(self, place: int, *without: str) -> str:
        """The best other worker for a step's sub-task, or ""."""
        ranked = self.ranked(self.workflow.steps[place].subtask)
        return next((each for each in ranked if each not in without), "")

    def _sure(
        self, place: int, replies: Mapping[int, str], answer: Answer, spare: "Spare"
    ) -> Generator[Step, Any, Answer]:
        """The reply of a step, or that of another worker where its own one doubts it and the other is surer."""
        sure = confidence(answer.logprobs) if answer.error is None and self.doubt else None
        if sure is None or sure >= self.doubt:
            return answer
        other = self._other(place, answer.worker)
        step = self._step(place, replies, worker=other) if other else None
        if not isinstance(step, Ask) or not spare.taken():
            return answer
        reply = yield from put(replace(step, reason=f"{step.reason}; {answer.worker} was {sure:.2f} sure"))
        surer = confidence(reply.logprobs) if reply.error is None else None
        if surer is None:
            return answer
        kept, lost = (answer.worker, other) if sure >= surer else (other, answer.worker)
        options = (
            Option(kept, {"sure": max(sure, surer)}),
            Option(lost, {"sure": min(sure, surer)}, "less sure"),
        )
        reason = f"step {place + 1}: two replies, the surer one stands"
        yield Note(Choice(kept, options, reason=reason, by="confidence"))
        return answer if kept == answer.worker else Answer.of(reply, f"{kept} was surer than {lost}")

    def _last(
        self,
        replies: Mapping[int, str],
        latest: Answer | None,
        lost: Sequence[str],
        least: float,
        spare: "Spare",
    ) -> Plan:
        """The step that speaks. If it fails, the best single worker answers; after a limit, the best so far stands."""
        count = len(self.workflow.steps)
        step = self._step(count - 1, replies)
        if not isinstance(step, Ask):
            return (yield from step)
        so_far = self._so_far(latest, f"step {count} gave no answer")
        other = next((each for each in self.ranked(self.request.prompt) if each != step.worker), None)
        chain: Answer | Ask | None = so_far
        if self.around.best is None and other is not None:
            alone = single(other, self.want, f"the last step failed: {other} answers alone")
            chain = replace(alone, otherwise=so_far)
        last = replace(step, reason="; ".join((step.reason, *lost)), otherwise=chain, more=self._told(least))
        if not self.doubt:
            return last
        answer = yield from settle(only(last))
        if answer.worker != last.worker:
            return answer
        return replace((yield from self._sure(count - 1, replies, answer, spare)), more=last.more)

    def _told(self, least: float) -> Mapping[str, Any]:
        """The workflow as the caller may see it, beside the answer; how sure its least sure step was, but for the last."""
        return {
            **({"earlier_steps_sure": round(least, 4)} if self.want == "logprobs" else {}),
            "workflow": [
                {
                    "step": n + 1,
                    "worker": step.worker,
                    "subtask": step.subtask,
                    "sees": [seen + 1 for seen in self.workflow.sees(n)],
                }
                for n, step in enumerate(self.workflow.steps)
            ],
        }

    def _so_far(self, latest: Answer | None, why: str) -> Answer | None:
        """What there is when no more may be asked. What was not written for a response format does not go out as if it were."""
        if self.around.best is not None:
            return because(self.around.best, f"{why}; the answer of the workflow before stands")
        if latest is None or self.request.response_format is not None:
            return None
        return because(latest, f"{why}; what an earlier step said stands")

    def _cut(self, place: int, error: Failure, latest: Answer | None) -> Answer:
        found = self._so_far(latest, f"a limit ended the workflow before step {place + 1} ({error.message})")
        return found if found is not None else Answer(error=error)


class Spare:
    """Calls that may be taken without taking them from a step; `None`: as many as one likes."""

    __slots__ = ("_left",)

    def __init__(self, left: int | None) -> None:
        self._left = left

    def taken(self) -> bool:
        """Whether there was one."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


def surety(answer: Answer) -> float | None:
    """How sure the least sure step of the workflow was that an answer came of; `None` where its last worker does not tell."""
    sure = confidence(answer.logprobs)
    return None if sure is None else min(sure, float(answer.more.get("earlier_steps_sure", 1.0)))


def single(worker: str, want: Want, reason: str) -> Ask:
    """One worker answers the request alone."""
    return Ask(worker, speaks=True, want=want, reason=reason)


def sees(workflow: Workflow, place: int) -> str:
    """Whose replies a step sees, in words; "" for nobody's."""
    seen = [str(other + 1) for other in workflow.sees(place)]
    if not seen:
        return ""
    return f", sees step{'' if len(seen) == 1 else 's'} {', '.join(seen)}"
