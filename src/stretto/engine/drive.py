"""Drives one run's plan and its sub-plans: sends results back, runs forks side by side, keeps begun asks."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from stretto.engine.door import Course, Door
from stretto.engine.loops import Live, held, renamed
from stretto.engine.progress import Progress
from stretto.engine.shaped import doubts, repair
from stretto.errors import Diverged, PolicyError
from stretto.ledger.events import Arrived, Chose, Joined
from stretto.steps import Arrival, Ask, Begin, Choice, Emit, Fork, Next, Note, Option, Plan, Policy, Step
from stretto.types import Answer, Failure, Reply, Request

__all__ = ["STEPS", "Drive", "Returned", "advance", "close", "planned"]

STEPS = 10_000
"""Most steps of one plan: a plan that never ends is stopped here, whatever its limits."""


class Drive:
    """One run being driven. `emit` gets the pieces of the outermost tail ask, and nothing else; `progress` is told of steps."""

    def __init__(
        self, door: Door, course: Course, emit: Emit | None, progress: Progress | None = None
    ) -> None:
        self._door = door
        self._course = course
        self._emit = emit
        self._progress = progress

    def outermost(self, policy: Policy) -> Coroutine[Any, Any, Answer]:
        """The run's answer. Raises `PolicyError` when the plan breaks a rule, `Diverged` when it leaves its tape."""
        return self._drive(planned(policy, self._course.request), "", 0)

    async def _drive(self, plan: Plan, prefix: str, depth: int) -> Answer:
        begun: _Begun | None = None
        sent: Any = None
        refused: Failure | None = None
        ended = False
        progress = None if depth else self._progress
        try:
            for number in range(STEPS):
                at = f"{prefix}{number}"
                step = advance(plan, sent, at)
                if isinstance(step, Returned):
                    ended = True
                    answer = await self._tail(step.value, at, depth, refused)
                    if depth:
                        return answer
                    if self._course.misfits:
                        answer = await self._mended(answer, prefix, number)
                    return self._marked(answer) if answer.message.tool_calls else answer
                if isinstance(step, Ask):
                    if progress is not None and refused is None:
                        progress.asks(step)
                    sent = await self._ask(step, at, refused)
                    refused = refused or _limit(sent)
                    if progress is not None and refused is None:
                        progress.came(sent)
                elif isinstance(step, Fork):
                    refused = refused or self._too_wide(len(step.plans)) or self._too_deep(depth + 1)
                    sent = await self._fork(step, at, depth, refused)
                elif isinstance(step, Note):
                    self._note(step, at)
                    sent = None
                elif isinstance(step, Begin):
                    begun = begun or _Begun()
                    barred = refused or self._too_wide(begun.count + 1)
                    if progress is not None and barred is None:
                        progress.asks(step.ask)
                    begun.start(at, partial(self._ask, step.ask, at, barred))
                    sent = at
                elif isinstance(step, Next):
                    sent = await self._next(step, at, begun or _Begun())
                    refused = refused or (_limit(sent.reply) if sent is not None else None)
                    if progress is not None and sent is not None:
                        progress.came(sent.reply)
                elif isinstance(step, Live):
                    sent = await self._live(step.ask, at)
                    if sent.error is not None and self._ended(at):
                        return Answer.of(sent)
                else:
                    raise PolicyError(
                        f"at step {at} the plan yielded {type(step).__name__}, which is not a step"
                    )
            raise PolicyError(f"the plan at {prefix or 'the root'} made {STEPS} steps without an answer")
        finally:
            if not ended:
                close(plan)
            if begun is not None:
                unwanted = await begun.drop()
                self._course.missing = [at for at in self._course.missing if at not in unwanted]

    async def _ask(self, ask: Ask, at: str, refused: Failure | None) -> Reply:
        """After a refusal by a limit a plan may only return an answer: what it still asks is refused unseen."""
        if refused is not None:
            return self._door.refused(self._course, ask, at, refused)
        return self._checked(ask, await self._door.ask(self._course, ask, at))

    async def _live(self, ask: Ask, at: str) -> Reply:
        """An ask whose answer may be the run's: it streams, unless it has to be checked first."""
        course, emit = self._course, self._emit
        if self._progress is not None and at != "0":
            self._progress.asks(ask, live=True)
        if emit is not None:
            card = course.cards.get(ask.worker)
            if course.shape is not None and (card is None or "grammar" not in card.abilities):
                emit = None
            elif course.keeps_calls:
                emit = renamed(emit, course.run, at)
        return self._checked(ask, await self._door.ask(course, ask, at, emit, last=True))

    def _ended(self, at: str) -> bool:
        """Whether an ask that failed is the end of the run: the caller has seen a part of its answer, or the record says so."""
        tape = self._course.tape
        recorded = tape.finished if tape is not None and not self._course.recall else None
        return self._course.streamed or (recorded is not None and recorded.at == at)

    def _checked(self, ask: Ask, reply: Reply) -> Reply:
        """A reply to an ask that speaks, seen through the response format: one that does not fit is a failure."""
        course = self._course
        if course.shape is None or not ask.speaks:
            return reply
        reply = course.shape.checked(reply)
        if reply.error is not None and reply.error.kind == "misfit":
            course.misfits[reply.at] = reply
        return reply

    def _marked(self, answer: Answer) -> Answer:
        """An answer with tool calls; what is wrong with them stands in its `why`."""
        if answer.error is not None or not (told := doubts(self._course.request, answer.message)):
            return answer
        return replace(answer, why="; ".join(w for w in (answer.why, told) if w))

    async def _mended(self, answer: Answer, prefix: str, number: int) -> Answer:
        """The run's answer when an answer on the way did not fit the response format: if that is why there is none, its worker is
        asked once more, and told what does not fit.
        """
        course, failed = self._course, answer.error
        if failed is None or failed.kind != "misfit" or self._ended(answer.at):
            return answer
        number = max(number, int(answer.at)) if answer.at.isdigit() else number  # whom a last ask gave way to
        wrong = course.misfits.get(answer.at) or next(reversed(course.misfits.values()))
        ask = repair(course.request, wrong)
        what = f"ask {wrong.worker} to repair it"
        self._note(
            Note(Choice(what, (Option(what),), reason=failed.message, by="response format")),
            f"{prefix}{number + 1}",
        )
        if self._progress is not None:
            self._progress.repairs(ask)
        reply = self._checked(ask, await self._door.ask(course, ask, f"{prefix}{number + 2}", last=True))
        if reply.error is None:
            return Answer.of(reply, f"repaired once: {failed.message}")
        again = "and neither does its repair" if reply.error.kind == "misfit" else "and it was not repaired"
        return replace(
            answer,
            error=replace(
                failed, message=f"{failed.message}; {again} ({reply.error.kind}: {reply.error.message})"
            ),
        )

    async def _tail(self, last: Answer | Ask, at: str, depth: int, refused: Failure | None) -> Answer:
        if isinstance(last, Answer):
            return last
        course, outermost = self._course, depth == 0
        if refused is not None:
            reply = self._door.refused(course, last, at, refused)
        else:
            reply = await (self._live(last, at) if outermost else self._ask(last, at, None))
        failed, other = reply.error, last.otherwise
        shown = outermost and course.streamed
        if failed and isinstance(other, Ask) and not shown and failed.kind not in ("limit", "misfit"):
            return await self._tail(other, _after(at), depth, None)
        while isinstance(other, Ask):
            other = other.otherwise
        if failed is None or other is None or shown:
            return Answer.of(reply, last.reason if failed is None else "", last.more)
        why = f"{last.worker} as {last.role} gave no answer ({failed.kind}: {failed.message})"
        return replace(other, why="; ".join(w for w in (other.why, why) if w))

    def _too_wide(self, count: int) -> Failure | None:
        most = self._course.request.limits.fanout
        return Failure("limit", f"fanout: {count} side by side, at most {most}") if count > most else None

    def _too_deep(self, depth: int) -> Failure | None:
        most = self._course.request.limits.depth
        return Failure("limit", f"depth: forks are nested deeper than {most}") if depth > most else None

    # --- forks ---

    async def _fork(self, fork: Fork, at: str, depth: int, refused: Failure | None) -> tuple[Answer, ...]:
        course = self._course
        for plan in fork.plans:
            if not isinstance(plan, Ask | Generator):
                raise PolicyError(
                    f"at step {at} a branch is {type(plan).__name__}, neither a plan nor an ask"
                )
        if refused is not None:
            for plan in fork.plans:
                close(plan)
            return tuple(Answer(error=refused) for _ in fork.plans)
        joined = course.tape.joined.get(at) if course.tape and not course.recall else None
        wanted = range(len(fork.plans)) if joined is None else joined.arrived
        if joined is not None and len(joined.arrived) + len(joined.dropped) != len(fork.plans):
            raise Diverged(
                f"at step {at} the plan forks {len(fork.plans)} ways, which is not what the ledger holds there"
            )
        tasks = {
            k: asyncio.ensure_future(self._branch(fork.plans[k], f"{at}.{k}/", depth + 1)) for k in wanted
        }
        arrived: list[int] = []
        for k, task in tasks.items():
            task.add_done_callback(lambda t, k=k: arrived.append(k))  # type: ignore[misc]
        if depth == 0 and self._progress is not None:
            back = self._progress.forks(fork.plans)
            for task in tasks.values():
                task.add_done_callback(
                    lambda t: t.cancelled() or t.exception() or back(t.result().error is None)
                )
        try:
            await _enough(tasks, fork if joined is None else Fork(fork.plans))
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        for k, plan in enumerate(fork.plans):
            if k not in tasks:
                close(plan)
        answers = []
        for k in range(len(fork.plans)):
            if k not in tasks or tasks[k].cancelled():
                answers.append(Answer(error=Failure("dropped", "the fork ended without this branch")))
            else:
                answers.append(tasks[k].result())
        if joined is None and course.live:
            done = tuple(k for k in arrived if not tasks[k].cancelled())
            gone = tuple(k for k in range(len(fork.plans)) if k not in done)
            course.pending.append(
                Joined(run=course.run, time=self._door.now(), at=at, arrived=done, dropped=gone)
            )
        return tuple(answers)

    async def _branch(self, plan: Plan | Ask, prefix: str, depth: int) -> Answer:
        if isinstance(plan, Ask):
            return await self._tail(plan, f"{prefix}0", depth, None)
        return await self._drive(plan, prefix, depth)

    # --- choices and begun asks ---

    def _note(self, note: Note, at: str) -> None:
        course, choice = self._course, note.choice
        if course.live and (course.tape is None or at not in course.tape.chose):
            course.pending.append(
                Chose(
                    run=course.run,
                    time=self._door.now(),
                    at=at,
                    picked=choice.picked,
                    probability=choice.probability,
                    reason=choice.reason,
                    by=choice.by,
                    options=tuple((o.name, o.estimates, o.rejected) for o in choice.options),
                    content=choice.texts,
                )
            )

    async def _next(self, step: Next, at: str, begun: "_Begun") -> Arrival | None:
        course = self._course
        recorded = course.tape.arrived.get(at) if course.tape and not course.recall else None
        if recorded is not None:
            ticket = recorded.ticket
            if not ticket:
                return None
            return Arrival(ticket, await begun.fetch(ticket))
        if not course.live and course.recall is None:
            course.missing.append(at)
        ticket = await begun.first(step.within)
        if course.live:
            course.pending.append(Arrived(run=course.run, time=self._door.now(), at=at, ticket=ticket))
        return Arrival(ticket, await begun.fetch(ticket)) if ticket else None


class _Begun:
    """The asks a plan has begun and not yet fetched, in the order in which they come back."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Future[Reply]] = {}
        self._back: list[str] = []

    @property
    def count(self) -> int:
        """How many have been begun and not fetched."""
        return len(self._tasks)

    def start(self, ticket: str, asking: Callable[[], Awaitable[Reply]]) -> None:
        self._tasks[ticket] = asyncio.ensure_future(self._noted(ticket, asking))

    async def _noted(self, ticket: str, asking: Callable[[], Awaitable[Reply]]) -> Reply:
        try:
            return await asking()
        finally:
            self._back.append(ticket)

    async def first(self, within: float | None) -> str:
        """The ticket of the one that came back first; "" when none did within the time, or none is under way."""
        if not self._back and self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within, return_when=asyncio.FIRST_COMPLETED)
        return self._back[0] if self._back else ""

    async def fetch(self, ticket: str) -> Reply:
        task = self._tasks.pop(ticket, None)
        if task is None:
            raise Diverged(
                f"the ledger holds that the ask begun at {ticket} came back here; the plan began none"
            )
        reply = await task
        self._back.remove(ticket)
        return reply

    async def drop(self) -> set[str]:
        """Cancel what was never fetched; returns its tickets."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return set(self._tasks)


class Returned:
    """The end of a plan: what it returned."""

    __slots__ = ("value",)

    def __init__(self, value: Answer | Ask) -> None:
        self.value = value


def _after(at: str) -> str:
    """The address after this one in the same plan."""
    branch, slash, number = at.rpartition("/")
    return f"{branch}{slash}{int(number) + 1}"


def _limit(reply: Reply) -> Failure | None:
    """The refusal by a limit that a reply is, if it is one."""
    return reply.error if reply.error is not None and reply.error.kind == "limit" else None


# --- the boundary to policy code: whatever it raises becomes a `PolicyError` ---


def planned(policy: Policy, request: Request) -> Plan:
    """A policy's plan, ready to be advanced; that of a request that continues a step begins with the worker of that step."""
    try:
        if request.continues is not None:
            admit = getattr(policy, "admitted", None)  # of a policy that does without some workers
            return held(request if admit is None else admit(request), policy.plan)
        plan = policy.plan(request)
    except Exception as error:
        raise PolicyError(f"the plan could not be started: {type(error).__name__}: {error}") from error
    if not isinstance(plan, Generator):
        raise PolicyError(
            f"`plan` of {type(policy).__name__} is no generator: it gave {type(plan).__name__}; let it yield its steps"
        )
    return plan


def close(plan: Plan | Ask) -> None:
    """Let a plan clean up. What it raises now, or still wants, has come too late to matter."""
    if not isinstance(plan, Ask):
        with suppress(Exception):
            plan.close()


_LAST = (Answer, Ask)  # `Answer | Ask` would be made anew at each call


def advance(plan: Plan, sent: Any, at: str) -> Step | Returned:
    """One resumption of a plan."""
    try:
        return plan.send(sent)
    except StopIteration as stop:
        if isinstance(stop.value, _LAST):
            return Returned(stop.value)
        raise PolicyError(
            f"the plan ended at step {at} with {type(stop.value).__name__}; it must return an Answer or an Ask"
        ) from None
    except Exception as error:
        raise PolicyError(f"the plan failed at step {at}: {type(error).__name__}: {error}") from error


async def _enough(tasks: dict[int, "asyncio.Task[Answer]"], fork: Fork) -> None:
    """Wait until the fork's quorum has answered without error, its time has passed, or all are done."""
    loop = asyncio.get_running_loop()
    until = None if fork.within is None else loop.time() + fork.within
    waiting = set(tasks.values())
    good = 0
    while waiting:
        timeout = None if until is None else max(0.0, until - loop.time())
        done, waiting = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return
        for task in done:
            if (
                task.result().error is None
            ):  # a broken plan raises here, and the fork's other branches are cancelled
                good += 1
        if fork.quorum is not None and good >= fork.quorum:
            return
