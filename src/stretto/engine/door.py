"""The one door: every model call of every policy goes through `Door.ask`.

check → reserve → record intent → attempt → settle → record outcome

An ask is one or more attempts. The attempt loop (retry, failover between endpoints, deadlines, retry budget) is here and
nowhere else, so each attempt has its own reservation, intent and settlement, and every ceiling holds for the whole call tree.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from stretto.engine.budget import Budget, RetryBudget, fitting
from stretto.engine.loops import Turn, addressed
from stretto.engine.shaped import Shape
from stretto.engine.sieve import forbidden, needs_of
from stretto.engine.tape import NOTHING_YET, Recall, Sums, Tape, fingerprint, not_recorded
from stretto.errors import LedgerError, LedgerUnavailable
from stretto.ledger.events import Answered, Asked, Event, Refused, Said
from stretto.steps import Accounts, Ask, Emit, Endpoint, Hold, Outcome, Pool, Quote, Store, Tally
from stretto.types import NO_USAGE, Card, Denied, Failure, Key, Message, Reply, Request, Usage, fresh_bytes

__all__ = ["Course", "Door"]

ATTEMPTS = 3
"""Most attempts of one ask (RELIABILITY.md P1)."""

_SILENT = Message("assistant", "")


@dataclass(slots=True)
class Course:
    """The state of one run while it is under way. `live=False` is a replay: nothing is called, nothing recorded.

    `torn`: the store has refused a part of its record, so nothing may follow. `served`: by address, the usage of the attempt that
    ended the ask. `turns`: what is known of tool calls in the transcript (`None`: it has none, nor sealed thoughts);
    `keeps_calls`: those of the answer go out under our ids; `worded`: what speaking steps were asked in words of their own.
    `shape`: what the answer must fit; `misfits`: those that did not.
    """

    run: str
    request: Request
    budget: Budget
    key: Key | None = None
    secret: str = field(default_factory=lambda: fresh_bytes(16).hex())
    live: bool = True
    tape: Tape | None = None
    recall: Recall | None = None
    cards: dict[str, Card] = field(default_factory=dict)
    asides: dict[str, Card] = field(default_factory=dict)
    denied: tuple[Denied, ...] = ()
    pending: list[Event] = field(default_factory=list)
    usage: Usage = NO_USAGE
    replies: dict[str, Reply] = field(default_factory=dict)
    served: dict[str, Usage] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    streamed: bool = False
    torn: bool = False
    turns: Mapping[str, Turn] | None = None
    keeps_calls: bool = False
    shape: Shape | None = None
    misfits: dict[str, Reply] = field(default_factory=dict)
    worded: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    under_way: int = 0
    busy_since: float = 0.0
    busy: float = 0.0

    def card(self, worker: str) -> Card:
        """The card of a worker that has passed the door's check."""
        return self.cards.get(worker) or self.asides[worker]

    def begin_call(self, now: float) -> None:
        """An attempt starts; time with at least one under way is upstream time, the rest the gateway's own."""
        if self.under_way == 0:
            self.busy_since = now
        self.under_way += 1

    def end_call(self, now: float) -> None:
        """An attempt has ended."""
        self.under_way -= 1
        if self.under_way == 0:
            self.busy += now - self.busy_since


class Door:
    """Executes asks. One per engine; `course` says for which run."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        accounts: Accounts | None,
        clock: Callable[[], float],
        jitter: random.Random,
    ) -> None:
        self._pool = pool
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._jitter = jitter
        self._retries = RetryBudget()

    async def ask(
        self, course: Course, ask: Ask, at: str, emit: Emit | None = None, last: bool = False
    ) -> Reply:
        """Execute one ask of a run: from the tape if it is there, else by attempts. `last`: the run ends with it.

        Failures come back as `reply.error`. Raises `Diverged`, `LedgerUnavailable`.
        """
        bound = ask.bound(course.request, at)
        if ask.messages is not None and ask.speaks and course.keeps_calls:
            course.worded[at] = ask.messages
        if course.tape is not None and (reply := self._recorded(course, ask, bound, at)) is not None:
            course.replies[at] = reply
            return reply
        error = self._check(course, bound)
        if course.turns is not None or ask.messages is not None:
            bound = addressed(bound, course.turns or {})
        if error is None:
            reply = await self._attempts(course, ask, bound, at, emit, last)
        else:
            reply = self._refuse(course, bound, at, error)
        course.replies[at] = reply
        return reply

    def now(self) -> float:
        """Unix seconds, for the record."""
        return self._clock()

    def push(self, course: Course) -> Awaitable[None] | None:
        """Hand what is pending to the store. `None`: it is as durable as the store promises; otherwise that is to be awaited."""
        batch, course.pending = course.pending, []
        try:
            wait = self._store.append(batch) if batch else None
        except LedgerError:
            course.torn = True
            raise
        return None if wait is None else _durable(course, wait)

    def refused(self, course: Course, ask: Ask, at: str, error: Failure) -> Reply:
        """Refuse an ask for a reason found outside the door (an earlier refusal, depth, fan-out); recorded like any other."""
        bound = ask.bound(course.request, at)
        if course.tape is not None and (reply := self._recorded(course, ask, bound, at)) is not None:
            return reply
        return self._refuse(course, bound, at, error)

    # --- replay ---

    def _recorded(self, course: Course, ask: Ask, bound: Ask, at: str) -> Reply | None:
        assert course.tape is not None
        if course.recall is not None:
            reply = course.recall.take(bound)
            if reply is not None:
                course.usage += reply.usage
                course.served[at] = reply.usage
                course.budget.settle(0, reply.cost)
                course.budget.calls += reply.attempts
                return replace(reply, at=at, left=course.budget.left(asyncio.get_running_loop().time()))
        else:
            reply = course.tape.reply(ask, at, course.secret)
            if reply is not None:
                course.served[at] = course.tape.served.get(at, Usage())
                return reply
            if not course.live and (reply := course.tape.abandoned.get(at)) is not None:
                return reply
        if course.live:
            return None
        course.missing.append(at)
        return not_recorded(ask, at)

    # --- check ---

    def _check(self, course: Course, bound: Ask) -> Failure | None:
        card = course.cards.get(bound.worker)
        if card is None:
            out = next((each for each in course.denied if each.worker == bound.worker), None)
            if out is not None and out.too_long:
                return Failure("too_long", f"{bound.worker}: {out.reason}")
            if out is not None and out.unable and self._may_judge(course, bound):
                return None
            why = f": {out.reason}" if out is not None else ""
            return Failure("denied", f"worker {bound.worker!r} is not among those this request may use{why}")
        ability = "text" if bound.want == "logprobs" else bound.want
        if ability not in card.abilities:
            return Failure("denied", f"worker {bound.worker!r} cannot do {ability}")
        return None

    def _may_judge(self, course: Course, bound: Ask) -> bool:
        """Whether a worker that lacks an ability for the answer can do all that this ask takes, which is not the answer.

        So a text-only judge or verifier serves a request with tools, a schema or pictures, as long as it is shown none.
        """
        card = next((each for each in self._pool.cards() if each.id == bound.worker), None)
        if card is None or bound.speaks or not needs_of(bound) <= card.abilities:
            return False
        course.asides[card.id] = card
        return True

    def _refuse(
        self, course: Course, bound: Ask, at: str, error: Failure, sums: Sums = NOTHING_YET, attempts: int = 0
    ) -> Reply:
        """The reply to an ask that goes no further; `sums` and `attempts` are of the attempts that were made before."""
        left = course.budget.left(asyncio.get_running_loop().time())
        if course.live:
            course.pending.append(
                Refused(
                    run=course.run,
                    time=self._clock(),
                    at=at,
                    worker=bound.worker,
                    role=bound.role,
                    error=error,
                    left=left,
                )
            )
        usage, cost, seconds = sums
        return Reply(
            worker=bound.worker,
            at=at,
            usage=usage,
            cost=cost,
            seconds=seconds,
            attempts=attempts,
            left=left,
            error=error,
        )

    def _place(self, course: Course, bound: Ask, tried: set[str]) -> Endpoint | Failure:
        """The endpoint to try: allowed by the request's constraints, not cooling down, an untried one first."""
        ready = self._pool.candidates(bound)
        request = course.request
        allowed = ready.endpoints
        if request.require or request.exclude:
            labels = course.card(bound.worker).labels
            allowed = tuple(
                e
                for e in allowed
                if not forbidden({**labels, **e.labels}, bound.worker, request.require, request.exclude)
            )
            if ready.endpoints and not allowed:
                return Failure("denied", f"no endpoint of {bound.worker} satisfies the request's constraints")
        for endpoint in allowed:
            if endpoint.name not in tried:
                return endpoint
        if allowed:
            return allowed[0]
        why = ready.reason or f"no endpoint of {bound.worker} can be reached"
        return Failure(ready.kind, why, retry_after=ready.retry_after)

    # --- reserve ---

    def _quoted(self, course: Course, bound: Ask, now: float) -> tuple[Ask, Quote] | Failure:
        """The price of an ask that the ceilings allow; may lower an open output cap to fit what they or the key have left."""
        budget, key, proposed = course.budget, course.key, bound
        quote = self._pool.quote(bound)
        error = budget.refuse(quote, now)
        if error is not None and bound.max_tokens is None and quote.priced:
            price = course.card(bound.worker).price.output
            if (fits := budget.fitting(quote, price)) is not None:
                bound = bound.capped(fits)
                quote = self._pool.quote(bound)
                error = budget.refuse(quote, now)
        if error is not None:
            return error
        if proposed.max_tokens is None and key is not None and key.metered and self._accounts is not None:
            left = self._accounts.left(key)
            if left is not None and left < quote.worst and quote.priced:
                price = course.card(bound.worker).price.output
                if (fits := fitting(quote, price, left)) is not None:
                    bound = bound.capped(fits)
                    quote = self._pool.quote(bound)
        if bound.max_tokens is None and (budget.limits.usd is not None or (key is not None and key.metered)):
            bound = bound.capped(quote.max_tokens)  # what is reserved for is also what may be written
        return bound, quote

    async def _reserve(self, course: Course, key: Key, bound: Ask, quote: Quote) -> Hold | Failure:
        """Set the worst case aside from the key's ceiling, where what this process has leased does not suffice."""
        assert self._accounts is not None
        if not quote.priced:
            return Failure("limit", f"this key has a ceiling, and the price of {bound.worker} is not known")
        try:
            return await self._accounts.reserve(key, quote.worst, course.budget.deadline)
        except (asyncio.CancelledError, LedgerUnavailable):
            course.budget.withdraw(quote.worst)
            raise

    # --- attempt ---

    async def _attempts(
        self, course: Course, ask: Ask, bound: Ask, at: str, emit: Emit | None, last: bool
    ) -> Reply:
        loop = asyncio.get_running_loop()
        tape = course.tape
        number = 0 if tape is None else tape.attempts.get(at, 0)
        usage, cost, taken = NOTHING_YET if tape is None else tape.sums.get(at, NOTHING_YET)
        tries = 0
        tried: set[str] = set()
        failed: Failure | None = None
        while True:
            now = loop.time()
            place = self._place(course, bound, tried)
            if isinstance(place, Failure):
                return self._refuse(course, bound, at, failed or place, (usage, cost, taken), number)
            quoted = self._quoted(course, bound, now)
            if isinstance(quoted, Failure):
                return self._refuse(course, bound, at, failed or quoted, (usage, cost, taken), number)
            capped, quote = quoted
            course.budget.hold(quote.worst)
            hold: Hold | None = None
            if (key := course.key) is not None and key.metered and self._accounts is not None:
                hold = self._accounts.try_reserve(key, quote.worst) if quote.priced else None
                if hold is None:
                    got = await self._reserve(course, key, capped, quote)
                    if isinstance(got, Failure):
                        course.budget.withdraw(quote.worst)
                        return self._refuse(course, bound, at, failed or got, (usage, cost, taken), number)
                    hold = got
            number, tries = number + 1, tries + 1
            tried.add(place.name)
            if tries == 1:
                self._retries.earn(bound.worker, now)
            attempt = _Attempt(course, ask, capped, at, number, place, quote, hold)
            await self._intend(attempt)
            outcome, spent, seconds = await self._try(attempt, emit)
            usage += outcome.usage
            cost += spent
            taken += seconds
            failed = outcome.error
            again = self._again(course, outcome, attempt, tries, loop.time())
            reply = Reply(
                outcome.message,
                outcome.finish,
                bound.worker,
                at,
                usage,
                cost,
                taken,
                number,
                course.budget.left(loop.time()),
                outcome.error,
                outcome.logprobs,
                outcome.embeddings,
                outcome.state,
            )
            self._conclude(attempt, outcome, spent, seconds, reply, final=not again)
            ends = last and not again  # then this outcome is written together with the run's end
            if not ends and (wait := self.push(course)) is not None:
                await wait
            if not again:
                return reply
            await self._back_off(course, tried, bound, outcome, tries)

    async def _intend(self, attempt: "_Attempt") -> None:
        course, bound, place = attempt.course, attempt.bound, attempt.place
        key, labels = course.key, course.card(bound.worker).labels
        course.pending.append(
            Asked(
                run=course.run,
                time=self._clock(),
                at=attempt.at,
                attempt=attempt.number,
                worker=bound.worker,
                endpoint=place.name,
                role=bound.role,
                reason=bound.reason,
                labels={**labels, **place.labels} if place.labels else labels,
                want=bound.want,
                max_tokens=bound.max_tokens,
                reserved=attempt.quote.worst,
                key=key.id if key else "",
                slab=attempt.hold.slab if attempt.hold else "",
                fingerprint=fingerprint(attempt.ask, course.secret),
                content=attempt.ask.messages,
            )
        )
        try:
            if (wait := self.push(course)) is not None:
                await wait
        except asyncio.CancelledError:
            self._cancelled(attempt, 0.0)
            raise
        except LedgerError:
            self._release(attempt)
            raise

    def _release(self, attempt: "_Attempt", cost: int = 0) -> None:
        attempt.course.budget.settle(attempt.quote.worst, cost)
        if attempt.hold is not None and self._accounts is not None:
            self._accounts.settle(attempt.hold, cost)

    async def _try(self, attempt: "_Attempt", emit: Emit | None) -> tuple[Outcome, int, float]:
        """Make the attempt and settle it. What ends it from outside (the caller leaves, or can be written to no more) is recorded
        and charged with what came until then.
        """
        course, bound = attempt.course, attempt.bound
        started = time.perf_counter()
        price = course.card(bound.worker).price
        course.begin_call(started)
        outcome: Outcome | None = None
        try:
            outcome = await self._pool.attempt(
                bound, attempt.place, deadline=course.budget.deadline, tally=attempt.tally, emit=emit
            )
        finally:
            now = time.perf_counter()
            course.end_call(now)
            if outcome is None:
                self._cancelled(attempt, now - started)
        cost = price.of(outcome.usage) if outcome.billed is None else outcome.billed
        self._release(attempt, cost)
        return outcome, cost, now - started

    def _cancelled(self, attempt: "_Attempt", seconds: float) -> None:
        error = Failure("cancelled", "the caller left, or did not need it any more")
        outcome = Outcome(_SILENT, "", attempt.tally.usage, error)
        cost = attempt.course.card(attempt.bound.worker).price.of(outcome.usage)
        self._release(attempt, cost)
        reply = Reply(worker=attempt.bound.worker, at=attempt.at, error=error, usage=outcome.usage, cost=cost)
        self._conclude(attempt, outcome, cost, seconds, reply, final=True)

    def _conclude(
        self, attempt: "_Attempt", outcome: Outcome, cost: int, seconds: float, reply: Reply, *, final: bool
    ) -> None:
        course = attempt.course
        course.usage += outcome.usage
        if final:
            course.served[attempt.at] = outcome.usage
        course.streamed = course.streamed or attempt.tally.emitted
        course.pending.append(
            Answered(
                run=course.run,
                time=self._clock(),
                at=attempt.at,
                attempt=attempt.number,
                worker=attempt.bound.worker,
                usage=outcome.usage,
                cost=cost,
                seconds=seconds,
                first_byte=outcome.first_byte,
                finish=outcome.finish,
                model=outcome.model,
                dropped=outcome.dropped,
                error=outcome.error,
                final=final,
                left=reply.left,
                key=course.key.id if course.key else "",
                slab=attempt.hold.slab if attempt.hold else "",
                content=None
                if outcome.error is not None and not outcome.message.content
                else Said(outcome.message, outcome.logprobs, outcome.embeddings, outcome.state),
            )
        )

    def _again(self, course: Course, outcome: Outcome, attempt: "_Attempt", tries: int, now: float) -> bool:
        """Whether another attempt is worth making: safe, allowed, in time, and within the retry budget."""
        if outcome.error is None or not outcome.retryable or attempt.tally.emitted or tries >= ATTEMPTS:
            return False
        deadline = course.budget.deadline
        if deadline is not None and now >= deadline:
            return False
        if not self._pool.candidates(attempt.bound).endpoints:
            return False
        return self._retries.spend(attempt.bound.worker, now)

    async def _back_off(
        self, course: Course, tried: set[str], bound: Ask, outcome: Outcome, tries: int
    ) -> None:
        """Another endpoint is tried at once; the same one after a jittered pause (full jitter, 50 ms doubling), which ends with
        the run's time.
        """
        if any(e.name not in tried for e in self._pool.candidates(bound).endpoints):
            return
        pause = self._jitter.uniform(0, 0.05 * 2**tries)
        if outcome.error is not None and outcome.error.retry_after is not None:
            pause = max(pause, min(outcome.error.retry_after, 1.0))
        deadline = course.budget.deadline
        if deadline is not None:
            pause = max(0.0, min(pause, deadline - asyncio.get_running_loop().time()))
        await asyncio.sleep(pause)


async def _durable(course: Course, wait: Awaitable[None]) -> None:
    try:
        await wait
    except LedgerError:
        course.torn = True
        raise


@dataclass(slots=True)
class _Attempt:
    """One try on its way: what the plan proposed (`ask`), what is really asked (`bound`), where, and the money held for it."""

    course: Course
    ask: Ask
    bound: Ask
    at: str
    number: int
    place: Endpoint
    quote: Quote
    hold: Hold | None
    tally: Tally = field(default_factory=Tally)
