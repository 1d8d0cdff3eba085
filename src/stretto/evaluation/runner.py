"""Lets contenders answer items through the one engine: side by side, within limits, and to be taken up again after a kill.

Every line of the results file is whole or dropped. A run is announced before it is asked (`begun`) and told when it is graded,
under a key made of everything that could change the answer. After a kill, what was told is not asked again; of what was only
begun, the ledger's record is resumed, so that a reply that had come is not paid twice.
"""

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from stretto.engine.run import Engine
from stretto.errors import ConfigError, StrettoError
from stretto.evaluation.graders import Judge
from stretto.evaluation.tasks import Item
from stretto.ledger.events import Answered, Chose, Finished
from stretto.policies.signals import confidence
from stretto.steps import Policy, Store, version
from stretto.types import PICO, Answer, Card, Limits, Request, derive_seed, new_run_id

__all__ = ["Asking", "Ceiling", "Contender", "Log", "Result", "fingerprint", "play"]

_SURE: Final = ("sure", "confidence", "success")
"""Names of estimates that are a stated probability of being right."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A name that answers: a worker alone, or a policy. `sample` > 0 is a further answer of the same, drawn anew.

    `dial` takes the place of the evaluation's own.
    """

    name: str
    policy: Policy
    kind: str = "policy"
    sample: int = 0
    dial: float | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """How every request is made. `limits` bound each request; `usd` (pico-dollars) bounds all of them together."""

    seed: int = 1
    dial: float = 0.5
    params: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    limits: Limits = Limits()
    usd: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One item answered by one contender. `cost` in pico-dollars, `asked` the workers in the order they answered.

    `sure`: the probability of being right that the policy stated last, if it stated one; `confidence`: that of the answer's least
    certain token, where it came with log-probabilities. `input` and `output` count tokens of all calls. `graded`: what a judge
    cost (pico-dollars), which is not part of `cost`.
    """

    item: str
    contender: str
    score: float
    why: str
    answer: str
    cost: int
    calls: int
    seconds: float
    served: str
    asked: tuple[str, ...] = ()
    sure: float | None = None
    error: str = ""
    run: str = ""
    confidence: float | None = None
    input: int = 0
    output: int = 0
    graded: int = 0


class Ceiling(StrettoError):
    """The money for the whole evaluation is spent; what was answered is kept, and a higher ceiling goes on from there."""


def fingerprint(
    item: Item, contender: Contender, asking: Asking, cards: Sequence[Card], settings: str = ""
) -> str:
    """A key that is equal exactly if item, contender, policy settings, request and pool are.

    `settings` is the policy's version where the caller has it already: a policy with large tables takes long to describe.
    """
    pool = [
        [
            c.id,
            c.price.input,
            c.price.output,
            sorted(c.labels.items()),
            sorted(c.abilities),
            c.context,
            c.max_output,
            *([] if c.repute is None else [asdict(c.repute)]),
        ]
        for c in sorted(cards, key=lambda c: c.id)
    ]
    messages = [[m.role, m.text, repr(m.extra)] for m in item.messages]
    made = [item.id, messages, item.reference, item.grader, list(item.tools)]
    dial = asking.dial if contender.dial is None else contender.dial
    asked = [asking.seed, dial, asking.params, asking.max_tokens, asdict(asking.limits)]
    text = json.dumps(
        [made, contender.name, settings or version(contender.policy), contender.sample, asked, pool],
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Log:
    """The append-only results file, held by one process at a time. Half a line, which a kill leaves, is cut off.

    Raises `ConfigError` if another process holds it, or if a line in it is none of ours.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise ConfigError(
                f"{file}: another evaluation is writing it; give this one another --out"
            ) from None
        self.done: dict[str, Result] = {}
        self.begun: dict[str, str] = {}
        self.used: set[str] = set()
        whole = file.read_bytes()
        kept = whole.rfind(b"\n") + 1
        if kept < len(whole):
            os.ftruncate(self._handle, kept)
        for number, line in enumerate(whole[:kept].decode("utf-8").split("\n")[:-1], 1):
            self._take(line, f"{file} line {number}")
        self._aside = self._put_aside()

    def _take(self, line: str, where: str) -> None:
        try:
            row = json.loads(line)
            key = row.pop("key")
            if "begun" in row:
                self.begun[key] = row["begun"]
            else:
                self.done[key] = Result(**row | {"asked": tuple(row["asked"])})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{where}: is no line of an evaluation; move the file away to begin anew"
            ) from None

    def _put_aside(self) -> dict[str, Result]:
        """What `settle` put aside, but for answers that failed; a line that is none of ours is passed over."""
        stale, found = self.file.with_suffix(".stale"), dict[str, Result]()
        for line in stale.read_text(encoding="utf-8", errors="replace").split("\n") if stale.exists() else ():
            try:
                row = json.loads(line)
                key = row.pop("key")
                result = Result(**row | {"asked": tuple(row["asked"])})
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if not result.error:
                found[key] = result
        return found

    def take_back(self, keys: Iterable[str]) -> None:
        """These are asked for: what was put aside of them holds again."""
        for key in keys:
            self.used.add(key)
            if key not in self.done and key in self._aside:
                self.end(key, self._aside[key])

    def begin(self, key: str, run: str) -> None:
        """Announce a run before it is asked."""
        self.begun[key] = run
        self._write({"key": key, "begun": run})

    def forget_errors(self) -> int:
        """Answers that are none are asked anew (in this process, until they are told again); returns how many there are."""
        failed = [key for key, result in self.done.items() if result.error]
        for key in failed:
            del self.done[key]
            self.begun.pop(key, None)
        return len(failed)

    def settle(self) -> int:
        """Put the answers that no `play` has asked for since this was opened aside, into `FILE.stale`; returns how many.

        They are other questions' answers: of prompts, policies, prices or options that have changed. Called at the end of an
        evaluation, so that what the file holds is that evaluation. They are taken back when they are asked for again.
        """
        stale = [key for key in self.done if key not in self.used]
        if not stale:
            return 0
        with self.file.with_suffix(".stale").open("a", encoding="utf-8") as aside:
            for key in stale:
                result = self.done.pop(key)
                aside.write(json.dumps({"key": key} | asdict(result), ensure_ascii=False) + "\n")
        partial = self.file.with_suffix(".partial")
        rows = ({"key": key} | asdict(result) for key, result in self.done.items())
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.write_text(text, encoding="utf-8", errors="replace")
        fresh = os.open(partial, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        fcntl.flock(fresh, fcntl.LOCK_EX)  # held before it has the name that others look for
        partial.replace(self.file)
        os.close(self._handle)
        self._handle = fresh
        return len(stale)

    def end(self, key: str, result: Result) -> None:
        """Tell what it came to."""
        self.done[key] = result
        self._write({"key": key} | asdict(result))

    def _write(self, row: Mapping[str, Any]) -> None:
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        while line:
            line = line[os.write(self._handle, line) :]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)


async def play(
    engine: Engine,
    store: Store,
    cards: Sequence[Card],
    items: Sequence[Item],
    contenders: Sequence[Contender],
    log: Log,
    asking: Asking = Asking(),
    *,
    concurrency: int = 4,
    tick: Callable[[str], None] = lambda name: None,
) -> dict[str, list[Result]]:
    """Every item answered by every contender, in the order of the items; what `log` holds already is taken from there.

    Raises `Ceiling` when `asking.usd` is reached (never passed): what had been answered then is in the log. `tick(name)` is
    called once an item and contender.
    """
    table = _Table(engine, store, log, asking, concurrency)
    settings = {c.name: version(c.policy) for c in contenders}
    jobs = [(c, i, fingerprint(i, c, asking, cards, settings[c.name])) for c in contenders for i in items]
    log.take_back(key for _, _, key in jobs)
    table.spent = sum(r.cost + r.graded for r in map(log.done.get, sorted(log.used)) if r is not None)
    queue = iter(jobs)

    async def work(queue: Iterator[tuple[Contender, Item, str]]) -> None:
        for contender, item, key in queue:
            if key not in log.done:
                await table.ask(contender, item, key)
            tick(contender.name)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(queue))
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    found: dict[str, list[Result]] = {c.name: [] for c in contenders}
    for contender, _, key in jobs:
        found[contender.name].append(log.done[key])
    return found


class _Table:
    """What the runs of one evaluation share: the money that is spent, and the part of it that open runs may spend."""

    def __init__(self, engine: Engine, store: Store, log: Log, asking: Asking, concurrency: int) -> None:
        self.engine, self.store, self.log, self.asking = engine, store, log, asking
        self.concurrency = concurrency
        self.spent = 0
        self.held: dict[str, int] = {}

    async def ask(self, contender: Contender, item: Item, key: str) -> None:
        limits, bounded = self._limits(key)
        asking = self.asking
        request = Request(
            messages=item.messages,
            model=contender.name,
            tools=item.tools,
            seed=derive_seed(asking.seed, item.id, contender.sample),
            dial=asking.dial if contender.dial is None else contender.dial,
            params=asking.params,
            max_tokens=asking.max_tokens,
            limits=limits,
        )
        try:
            answer, run = await self._answer(contender, request, key)
            result = await self._result(contender, item, answer, run, limits.usd if bounded else None)
        finally:
            self.held.pop(key, None)
        self.spent += result.cost + result.graded
        if bounded and "limit" in (result.error, result.why.rpartition(" could not judge: ")[2]):
            raise Ceiling(
                f"the evaluation may spend no more: {self.spent / PICO:.6f} of {(asking.usd or 0) / PICO:g} USD are spent, and "
                "the next answers might take more than the rest; run the same command with a higher --limit-usd to go on"
            )
        self.log.end(key, result)

    def _limits(self, key: str) -> tuple[Limits, bool]:
        """The request's own limits, or what is left for everybody, shared by those who may ask at once."""
        own = self.asking.limits
        if self.asking.usd is None:
            return own, False
        free = max(1, self.concurrency - len(self.held))
        left = max(0, self.asking.usd - self.spent - sum(self.held.values())) // free
        self.held[key] = left
        if own.usd is not None and own.usd <= left:
            return own, False
        return replace(own, usd=left), True

    async def _answer(self, contender: Contender, request: Request, key: str) -> tuple[Answer, str]:
        if (run := self.log.begun.get(key)) is not None:
            try:
                resumed = await self.engine.resume(run, contender.policy, name=contender.name)
                return resumed.answer, run
            except StrettoError:
                pass  # it was never recorded, or its content was not kept: then it is asked anew
        run = new_run_id()
        self.log.begin(key, run)
        done = await self.engine.run(
            contender.policy, request, name=contender.name, purpose="evaluation", run_id=run
        )
        return done.answer, run

    async def _result(
        self, contender: Contender, item: Item, answer: Answer, run: str, most: int | None
    ) -> Result:
        """The graded answer. A judge may spend what is left of `most`, which the answer and its grading may cost together."""
        events = self.store.events(run)
        told = next(e for e in reversed(events) if isinstance(e, Finished))
        check = item.check
        if isinstance(check, Judge) and most is not None:
            check = check.within(Limits(usd=max(0, most - told.cost)))
        grade = await check(answer, item.reference)
        await self.engine.score(run, grade.score, by="evaluation", comment=grade.why)
        text = answer.text
        if answer.message.tool_calls:
            calls = [{"name": c.name, "arguments": c.arguments} for c in answer.message.tool_calls]
            text = "\n".join(filter(None, [text, json.dumps(calls, ensure_ascii=False)]))
        return Result(
            item.id,
            contender.name,
            grade.score,
            grade.why,
            text,
            told.cost,
            told.calls,
            told.seconds,
            answer.worker,
            tuple(e.worker for e in events if isinstance(e, Answered)),
            _sure(events),
            answer.error.kind if answer.error is not None else "",
            run,
            confidence(answer.logprobs),
            sum(e.usage.input for e in events if isinstance(e, Answered)),
            sum(e.usage.output for e in events if isinstance(e, Answered)),
            grade.cost,
        )


def _sure(events: Sequence[Any]) -> float | None:
    """The probability of being right that stands beside what was picked last."""
    last = next((e for e in reversed(events) if isinstance(e, Chose)), None)
    if last is None:
        return None
    for name, estimates, _ in last.options:
        if name == last.picked:
            return next((estimates[k] for k in _SURE if k in estimates and 0 <= estimates[k] <= 1), None)
    return None
