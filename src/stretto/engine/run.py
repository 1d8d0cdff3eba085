"""Runs plans. A plan proposes; this drives it, through forks and begun asks, and every ask goes through the one door.

Replay and resume are the same drive with a tape: what the ledger holds is fed back, and only what it does not hold is asked.
"""

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from stretto.engine.budget import Budget
from stretto.engine.door import Course, Door
from stretto.engine.drive import STEPS, Drive, Returned, advance, close, planned
from stretto.engine.loops import LIFETIME, Live, Loops, Turn, outgoing
from stretto.engine.progress import Progress, Tell
from stretto.engine.reasked import difference
from stretto.engine.room import NOBODY, by_words, crowded, suspects, told
from stretto.engine.shaped import Shape
from stretto.engine.sieve import sieve, with_key
from stretto.engine.tape import Tape
from stretto.errors import (
    ContentNotKept,
    Diverged,
    LedgerError,
    NoCandidate,
    PolicyError,
    RunNotFound,
    StrettoError,
    TooLong,
    VersionChanged,
)
from stretto.ledger.events import Finished, Opened, Pooled, Resumed, Scored
from stretto.steps import (
    Accounts,
    Ask,
    Begin,
    Choice,
    Count,
    Emit,
    Fork,
    Note,
    Outlook,
    Plan,
    Policy,
    Pool,
    Quote,
    Span,
    States,
    Store,
    layers,
    spec,
    version,
)
from stretto.types import (
    NO_LIMITS,
    NO_USAGE,
    Answer,
    Card,
    Denied,
    Failure,
    Key,
    Limits,
    Request,
    Usage,
    derive_seed,
    new_run_id,
    record,
)

__all__ = ["Engine", "Preview", "Run"]


@record
class Run:
    """A settled run. `usage` and `cost` cover all its attempts, `served` the attempt that wrote the answer.

    `own` is the part of `seconds` in which no attempt was under way: the gateway's own share. `streamed`: pieces of the answer
    have been emitted live. `missing` (replay only): addresses that the record did not hold.
    """

    id: str
    answer: Answer
    usage: Usage
    served: Usage
    cost: int
    calls: int
    seconds: float
    own: float
    policy: str
    streamed: bool = False
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do first, and what it might take, found without calling anyone.

    `layers` are the types of what stands around the policy, from the outside in (`masked` leaves workers out, `outright` lets
    who is known to be right answer alone), and then its own.
    """

    layers: tuple[str, ...]
    version: str
    eligible: tuple[Card, ...]
    denied: tuple[Denied, ...]
    choices: tuple[Choice, ...]
    first: tuple[Ask, ...]
    outlook: Outlook
    limits: Limits

    @property
    def policy(self) -> str:
        """The type of the policy itself."""
        return self.layers[-1]

    @property
    def around(self) -> tuple[str, ...]:
        """The types of what stands around it."""
        return self.layers[:-1]


class Engine:
    """Executes plans of any policy over a pool, within limits, and records everything in a store.

    `limits` are the deployment's defaults, which a request may only tighten. `clock` gives Unix seconds for the record; all
    durations come from the event loop's monotonic clock. `process` names this process in the record. `states` is where tool loops
    are kept, for `lifetime` seconds after they were last used; without it callers see the workers' own tool-call ids, and no
    request continues another. Raises from its methods: `RequestError` for a request that cannot start, `LedgerUnavailable` when
    the record cannot be written, `RunError` for questions about recorded runs; a failed call never raises, it is
    `Run.answer.error`.
    """

    def __init__(
        self,
        pool: Pool,
        store: Store,
        accounts: Accounts | None = None,
        *,
        limits: Limits = NO_LIMITS,
        clock: Callable[[], float] = time.time,
        process: str = "",
        jitter: random.Random | None = None,
        states: States | None = None,
        lifetime: float = LIFETIME,
    ) -> None:
        self._pool = pool
        self._store = store
        self._limits = limits
        self._clock = clock
        self._process = process
        self._loops = None if states is None else Loops(states, lifetime, clock)
        self._door = Door(pool, store, accounts, clock, jitter or random.Random())
        self._cards: tuple[Card, ...] = ()
        self._cards_by_id: dict[str, Card] = {}
        self._pool_version = ""
        self._versions: dict[int, tuple[Policy, str]] = {}

    async def run(
        self,
        policy: Policy,
        request: Request,
        *,
        name: str = "",
        key: Key | None = None,
        purpose: str = "serve",
        emit: Emit | None = None,
        tell: Tell | None = None,
        run_id: str | None = None,
        beside: str = "",
    ) -> Run:
        """One request from arrival to settled answer. Returns after everything is recorded.

        `emit` receives the pieces of the outermost tail ask's answer as they come, never the end of it; `tell` lines about what
        is being done before. `beside` names the run that has served the same request. When the caller's task is cancelled, the
        whole call tree is, and what it consumed is recorded before `CancelledError` goes on.
        """
        run_id = run_id or new_run_id()
        begun = time.perf_counter()
        turns = None
        if any(m.tool_calls or m.thoughts for m in request.messages):
            request, turns = await self._recalled(request, key, name)
        asked = request
        short = await crowded(self._pool, request)
        request, denied = self._admitted(request, key, run_id, short)
        course = Course(run_id, request, self._budget(request), key, denied=denied, turns=turns)
        self._fit_out(course)
        self._note_pool(course)
        course.cards = self._by_id(request.pool)
        course.pending.append(
            Opened(
                run=course.run,
                time=self._clock(),
                model=request.model,
                policy=name or type(policy).__name__.lower(),
                version=self._version(policy),
                purpose=purpose,
                key=key.id if key else "",
                seed=request.seed or 0,
                limits=request.limits,
                pool=self._pool_version,
                denied=denied,
                beside=beside,
                secret=course.secret,
                content=asked,
            )
        )
        return await self._complete(course, policy, name, emit, begun, tell)

    def preview(self, policy: Policy, request: Request, *, key: Key | None = None) -> Preview:
        """A dry run: who may play, what would be chosen and asked first, and the outlook. Nothing is called or recorded.

        Raises `PolicyError` when the plan breaks before its first ask.
        """
        short = by_words(suspects(self._pool.cards(), request), request)
        request, denied = self._admitted(request, key, "", short)
        Shape.of(request)  # raises where a run would
        plan = planned(policy, request)
        try:
            choices, first = _opening(plan)
        finally:
            close(plan)

        def quotes(ask: Ask) -> Quote:
            return self._pool.quote(ask.bound(request, ""))

        outlook = _within(policy.outlook(request, quotes), request.limits)
        return Preview(
            layers(policy),
            self._version(policy),
            request.pool,
            denied,
            choices,
            first,
            outlook,
            request.limits,
        )

    async def count(self, policy: Policy, request: Request, *, key: Key | None = None) -> Count:
        """How many tokens the request puts in where its plan begins; with several first asks, the most. Nothing is recorded.

        Where the plan does not begin with plain asks, every worker that may be asked counts. Nobody else sees the text: raises
        `NoCandidate` where the plan would begin with none of them, otherwise as `preview` does.
        """
        request, denied = self._admitted(request, key, "")
        plan = planned(policy, request)
        try:
            _, first = _opening(plan)
        finally:
            close(plan)
        asks = {ask.worker: ask for ask in first if request.card(ask.worker) is not None}
        if first and not asks:
            out = {each.worker: each.reason for each in denied}
            told = "; ".join(f"{ask.worker}: {out.get(ask.worker, 'not in the pool')}" for ask in first)
            raise NoCandidate(f"no worker that would be asked may be used ({told})")
        asks = asks or {card.id: Ask(card.id, speaks=True) for card in request.pool}
        counts = await asyncio.gather(*(self._pool.count(ask.bound(request, "")) for ask in asks.values()))
        return Count(max(each.tokens for each in counts), all(each.exact for each in counts))

    async def replay(self, run_id: str, policy: Policy, *, name: str = "") -> Run:
        """The recorded run once more, without any call.

        Under the policy that was recorded every step is fed back by its address, and the answer is the recorded one (or
        `Diverged` is raised). Under another policy, asks are answered by what the record holds for the same worker and
        messages; `Run.missing` names the addresses for which it holds nothing. Nothing is written.
        """
        tape, request = self._recorded(run_id)
        opened = tape.opened
        assert opened is not None
        begun = time.perf_counter()
        same = self._version(policy) == opened.version
        budget = Budget(Limits(), 0.0) if same else self._budget(request)
        course = Course(
            run_id, request, budget, None, opened.secret, live=False, denied=opened.denied, tape=tape
        )
        course.cards = self._by_id(request.pool)
        self._fit_out(course)
        if same:
            course.usage, course.budget.spent, course.budget.calls = tape.usage, tape.spent, tape.calls
        else:
            course.recall = tape.recall(request)
        ended = tape.finished.error if same and tape.finished is not None else None
        if ended is not None and ended.kind == "cancelled":
            answer = Answer(error=ended)  # how the plan would have gone on is not on record
        else:
            answer = await self._answer(course, policy, None)
        return self._result(course, answer, name or opened.policy, begun)

    async def resume(
        self, run_id: str, policy: Policy, *, name: str = "", key: Key | None = None, emit: Emit | None = None
    ) -> Run:
        """Go on with a run that was cut: recorded replies are fed back, only what is missing is asked.

        Money and calls already spent count (an attempt whose outcome is unknown at what was reserved for it); the time limit
        starts anew. Raises `VersionChanged` when the policy is not the recorded one.
        """
        tape, request = self._recorded(run_id)
        opened = tape.opened
        assert opened is not None
        if self._version(policy) != opened.version:
            raise VersionChanged(
                f"run {run_id} was recorded under {opened.version}, the policy is {self._version(policy)} now: "
                "it can be replayed under the new one, not resumed"
            )
        begun = time.perf_counter()
        if tape.finished is not None and tape.finished.error is None:
            return await self.replay(run_id, policy, name=name)
        if key is not None and (key.require or key.exclude):
            require, exclude = with_key(request, key)
            request = replace(request, require=require, exclude=exclude)
        budget = self._budget(request, spent=tape.spent, calls=tape.calls)
        course = Course(
            run_id, request, budget, key, opened.secret, denied=opened.denied, tape=tape, usage=tape.usage
        )
        self._fit_out(course)
        _, course.turns = await self._recalled(request, key, name or opened.policy)
        then = {card.id for card in request.pool}
        usable, _ = sieve(self._pool.cards(), request)  # the plan sees the recorded pool, the door today's
        course.cards = {card.id: card for card in usable if card.id in then}
        course.pending.append(
            Resumed(run=run_id, time=self._clock(), process=self._process, secret=opened.secret)
        )
        return await self._complete(course, policy, name or opened.policy, emit, begun)

    async def score(
        self, run_id: str, score: float, *, by: str = "", comment: str = "", at: str = ""
    ) -> None:
        """Record feedback on a run. Raises `RunNotFound`."""
        self._store.events(run_id)
        event = Scored(run=run_id, time=self._clock(), score=score, by=by, at=at, content=comment or None)
        if (wait := self._store.append([event])) is not None:
            await wait

    # --- inside ---

    @staticmethod
    def _budget(request: Request, spent: int = 0, calls: int = 0) -> Budget:
        return Budget(request.limits, asyncio.get_running_loop().time(), spent=spent, calls=calls)

    def _admitted(
        self, request: Request, key: Key | None, run_id: str, short: Mapping[str, str] = NOBODY
    ) -> tuple[Request, tuple[Denied, ...]]:
        """The request with its pool and effective limits. `short`: who has not enough room for it, and why.

        Raises `NoCandidate` naming everyone who was denied, `TooLong` where room is what the last of them lack.
        """
        if key is not None and (key.require or key.exclude):
            require, exclude = with_key(request, key)
            request = replace(request, require=require, exclude=exclude)
        eligible, denied = sieve(self._pool.cards(), request, short)
        if not eligible and (why := told(denied, self._pool.cards())):
            raise TooLong(why)
        if not eligible:
            each = "; ".join(f"{d.worker}: {d.reason}" for d in denied) or "the pool is empty"
            raise NoCandidate(f"no worker satisfies this request ({each}); see `stretto pool list`")
        seed = derive_seed(None, run_id) if request.seed is None else request.seed
        return request.admitted(eligible, self._limits.tightened(request.limits), seed), denied

    def _by_id(self, cards: tuple[Card, ...]) -> dict[str, Card]:
        """Cards by worker id; the whole pool's once, since nearly every run may use all of it."""
        if cards is not self._cards:
            return {card.id: card for card in cards}
        return self._cards_by_id

    def _note_pool(self, course: Course) -> None:
        cards = self._pool.cards()
        if cards is not self._cards:
            digest = hashlib.sha256(json.dumps(spec(cards), sort_keys=True).encode()).hexdigest()[:16]
            if digest != self._pool_version:
                course.pending.append(Pooled(time=self._clock(), version=digest, cards=cards))
            self._cards, self._pool_version = cards, digest
            self._cards_by_id = {card.id: card for card in cards}

    def _forget_pool(self) -> None:
        """The record of the pool may have been lost with a run's; the next run notes it again."""
        self._cards, self._pool_version = (), ""

    def _version(self, policy: Policy) -> str:
        known = self._versions.get(id(policy))
        if known is not None and known[0] is policy:
            return known[1]
        if len(self._versions) > 256:
            self._versions.clear()
        found = version(policy)
        self._versions[id(policy)] = (policy, found)
        return found

    def _recorded(self, run_id: str) -> tuple[Tape, Request]:
        tape = Tape(self._store.events(run_id))
        opened = tape.opened
        if opened is None:
            raise RunNotFound
        if opened.content is None or not opened.secret:
            raise ContentNotKept
        out = {d.worker for d in opened.denied}
        cards = tuple(c for c in self._store.cards(opened.pool) if c.id not in out)
        return tape, opened.content.admitted(cards, opened.limits, opened.seed)

    def _fit_out(self, course: Course) -> None:
        """Make ready what the request's response format and tools need. Raises `RequestError` for a schema that is none."""
        course.shape = Shape.of(course.request)
        course.keeps_calls = self._loops is not None and bool(course.request.tools)

    async def _recalled(
        self, request: Request, key: Key | None, name: str
    ) -> tuple[Request, Mapping[str, Turn]]:
        """The request with the step that it continues, and what is known of the tool calls in its transcript."""
        if self._loops is None:
            return request, {}
        turns = await self._loops.turns(request.messages, key)
        if request.continues is None and (back := self._loops.continued(request.messages, turns, name)):
            request = replace(request, continues=back)
        return request, turns

    async def _complete(
        self,
        course: Course,
        policy: Policy,
        name: str,
        emit: Emit | None,
        begun: float,
        tell: Tell | None = None,
    ) -> Run:
        answer: Answer | None = None
        failure = Failure("cancelled", "the caller left")
        try:
            found = await self._answer(course, policy, emit, tell)
            keeps = course.keeps_calls and found.message.tool_calls and found.error is None
            if keeps and self._loops is not None:
                asked = difference(course.request.messages, course.worded.get(found.at, ()))
                await self._loops.keep(course.run, name, found, course.key, asked)
            answer = found
        except StrettoError as error:  # the accounts or the store failed, or the plan has left its tape
            failure = Failure("policy" if isinstance(error, Diverged) else "unavailable", str(error))
            raise
        finally:
            if answer is None:
                self._finish(course, Answer(error=failure), begun, "")
                self._leave(course)
        run = self._finish(course, answer, begun, name or type(policy).__name__.lower())
        try:
            if (wait := self._door.push(course)) is not None:
                await wait
        except LedgerError:
            self._forget_pool()
            raise
        return run

    async def _answer(
        self, course: Course, policy: Policy, emit: Emit | None, tell: Tell | None = None
    ) -> Answer:
        """What the plan comes to; a plan that breaks has an answer too, which says so."""
        progress = None if tell is None else Progress(tell)
        try:
            answer = await Drive(self._door, course, emit, progress).outermost(policy)
        except PolicyError as error:
            return Answer(error=Failure("policy", str(error)))
        failed = answer.error
        if failed is None or failed.kind != "denied" or answer.at:
            return answer
        why = told(course.denied, self._pool.cards())  # the plan found nobody: is room the reason?
        return replace(answer, error=Failure("too_long", f"{failed.message} ({why})")) if why else answer

    def _finish(self, course: Course, answer: Answer, begun: float, name: str) -> Run:
        """The end of the run, ready to be written."""
        run = self._result(course, answer, name, begun)
        source = course.replies.get(answer.at)
        course.pending.append(
            Finished(
                run=course.run,
                time=self._clock(),
                at=answer.at,
                worker=answer.worker,
                why=answer.why,
                finish=answer.finish,
                usage=run.usage,
                cost=run.cost,
                calls=run.calls,
                seconds=run.seconds,
                own=run.own,
                error=answer.error,
                key=course.key.id if course.key else "",
                content=None
                if answer.error is not None or (source is not None and source.message is answer.message)
                else answer.message,
            )
        )
        return run

    def _leave(self, course: Course) -> None:
        """Write the end of a run that broke off, at once, if it can be written: nobody waits for it."""
        if course.torn:
            self._forget_pool()
            return
        batch, course.pending = course.pending, []
        try:
            wait = self._store.append(batch)
        except LedgerError:
            self._forget_pool()
            return  # the intents are on disk: what has no outcome there stays charged as unknown
        if wait is not None:
            task = asyncio.ensure_future(_awaited(wait))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())

    def _result(self, course: Course, answer: Answer, name: str, begun: float) -> Run:
        seconds = time.perf_counter() - begun
        if course.keeps_calls and answer.message.tool_calls:
            answer = outgoing(course.run, answer)
        return Run(
            course.run,
            answer,
            course.usage,
            course.served.get(answer.at, NO_USAGE),
            course.budget.spent,
            course.budget.calls,
            seconds,
            max(0.0, seconds - course.busy),
            name,
            course.streamed,
            tuple(course.missing),
        )


def _opening(plan: Plan) -> tuple[tuple[Choice, ...], tuple[Ask, ...]]:
    """What a plan chooses before its first ask, and what it asks first."""
    choices: list[Choice] = []
    for number in range(STEPS):
        step = advance(plan, None, str(number))
        asked = (
            step.value if isinstance(step, Returned) else step.ask if isinstance(step, Begin | Live) else step
        )
        if isinstance(asked, Note):
            choices.append(asked.choice)
        elif isinstance(asked, Fork):
            return tuple(choices), tuple(p for p in asked.plans if isinstance(p, Ask))
        else:
            return tuple(choices), (asked,) if isinstance(asked, Ask) else ()
    raise PolicyError(f"the plan made {STEPS} steps without an ask")


async def _awaited(wait: Awaitable[None]) -> None:
    await wait


def _within(outlook: Outlook, limits: Limits) -> Outlook:
    """An outlook that never says more than the limits allow."""

    def cut(span: Span, most: float | None) -> Span:
        if most is None:
            return span
        return Span(min(span.least, most), min(span.expected, most), min(span.most, most))

    return Outlook(
        cut(outlook.calls, limits.calls), cut(outlook.usd, limits.usd), cut(outlook.seconds, limits.seconds)
    )
