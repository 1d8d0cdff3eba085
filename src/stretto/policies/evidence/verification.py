"""A verifier's verdicts as evidence where replies cannot be compared: bought like replies, while they are worth their price.

A verifier is a worker that is shown one reply and says yes or no. It errs, and how often is known for each kind of task
(`learning.evidence.verifying`), so a verdict moves the chance of a reply as far as that lets it: of a coin not at all, and a coin
is not asked. Whether a verdict is bought, and what is done after a yes and after a no, `evidence.prospects` reckons out.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stretto.policies.evidence.asking import Asking
from stretto.policies.evidence.pools import NEVER
from stretto.policies.evidence.prospects import ACCEPTED, HEARD, MOST, OPEN, REJECTED, Prospects
from stretto.policies.exploring import draw
from stretto.policies.judging import COMPACT, STANDARD, Wordings, longest, verdict
from stretto.policies.outlooks import maybe, of_ask, then
from stretto.steps import Ask, Choice, Note, Option, Outlook, Quotes, Step, Want, put
from stretto.types import Answer, Failure, Request

if TYPE_CHECKING:
    from stretto.policies.sequential import Evidence

__all__ = ["TOKENS", "Rates", "Verifier", "bought", "lift"]

_WORDINGS: Final = {"standard": STANDARD, "compact": COMPACT}

TOKENS: Final = 256
"""So much a verifier may write: one that thinks before its yes or no must get that far."""

Rates = tuple[float, float]
"""Sensitivity (how often a right reply is accepted) and specificity (how often a wrong one is rejected)."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who says whether a reply is right, how far to trust that, and where it pays.

    `rates` of all tasks together; `tasks`: of each known task (a place of the artefact's `centres`), `None` where its answers can
    be compared. `spread`: the deviation of the hidden hardness of prompts (`evidence.prospects`). `paid`: what a verdict costs,
    in calls of the best single worker, and `usd` where that was learned. `serves`: at which prices of the dial it was shown to
    pay. `calls`, `checks`: replies and verdicts that a request took there. `certified` as for `sequential.Evidence`, with it.
    """

    CODE: ClassVar[str] = "1"
    worker: str
    rates: Rates
    tasks: tuple[Rates | None, ...] = ()
    spread: float = 0.0
    paid: float = 0.0
    usd: float = 0.0
    serves: tuple[bool, ...] = ()
    calls: tuple[float, ...] = ()
    checks: tuple[float, ...] = ()
    certified: Mapping[str, Any] | None = None
    wordings: Wordings = STANDARD
    tokens: int = TOKENS

    @classmethod
    def of(cls, data: Mapping[str, Any] | None, worker: str = "") -> "Verifier | None":
        """From an artefact's data, `None` where there is none. `worker`: its id, if that has changed.

        Raises `ValueError` for rates that are none.
        """
        if not data:
            return None
        made = cls(
            worker or data["worker"],
            _pair(data["rates"]),
            tuple(None if of is None else _pair(of) for of in data["tasks"]),
            float(data["spread"]),
            float(data["paid"]),
            float(data["usd"]),
            tuple(data["serves"]),
            tuple(data["calls"]),
            tuple(data["checks"]),
            data["certified"],
            _WORDINGS[data["wordings"]],
        )
        if not all(0 < rate < 1 for pair in (made.rates, *made.tasks) if pair for rate in pair):
            raise ValueError(f"no verifier: {made.rates}, {made.tasks}")
        return made

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        names = ("worker", "spread", "paid", "usd", "certified")
        lists = {name: list(getattr(self, name)) for name in ("rates", "serves", "calls", "checks")}
        tasks = [None if pair is None else list(pair) for pair in self.tasks]
        told = "compact" if self.wordings == COMPACT else "standard"
        return {n: getattr(self, n) for n in names} | lists | {"tasks": tasks, "wordings": told}

    @property
    def informed(self) -> bool:
        """Whether it is known to know more than a coin."""
        return sum(self.rates) > 1 + 1e-9

    def of_task(self, task: int) -> Rates | None:
        """Its rates for a known task (-1: for none in particular); `None`: answers can be compared there."""
        return self.tasks[task] if 0 <= task < len(self.tasks) else self.rates

    def price(self, price: int, prices: Sequence[float], dial: float, *, safe: bool) -> int:
        """The price that serves with verdicts where `price` (a place) would without; -1: it does not serve there.

        `safe`: the request is to have what was certified.
        """
        if safe and (found := self.certified) is not None:
            dear = dial <= 0.5 and found["cost"] >= 1 and (found["bound"] or 0) >= 0
            if found["u"] is None or dear:
                return -1
            price = min(price, max(k for k, u in enumerate(prices) if u <= found["u"] * (1 + 1e-9)))
        return price if self.informed and self.serves[price] else -1

    def asking(self, request: Request, answer: Answer, author: str = "") -> Ask:
        """The question whether an answer is right."""
        return Ask(
            self.worker,
            self.wordings.verifying(request, answer),
            role="verifier",
            max_tokens=self.tokens,
            params={"temperature": 0},
            reason=f"whether the reply of {author} is right",
        )

    def outlook(self, request: Request, price: int, replies: int, quotes: Quotes) -> Outlook:
        """What its verdicts take, of at most `replies` of them."""
        short, far = (quotes(self.asking(request, a)) for a in (Answer(), longest(self.wordings)))
        each = of_ask(short, far)
        return maybe(then(*[each] * replies), min(1.0, self.checks[price] / max(1, replies)))


def _pair(of: Sequence[float]) -> Rates:
    return float(of[0]), float(of[1])


@dataclass(slots=True)
class _Known:
    """What is known in one run, a row as for `Prospects.of`; `failed`: why the verifier brought nothing."""

    state: Any
    lift: Any
    shown: Any
    failed: Failure | None = None

    @property
    def limited(self) -> str:
        """What a limit said, if one refused a verdict."""
        return self.failed.message if self.failed is not None and self.failed.kind == "limit" else ""


_Part = Generator[Step, Any, "Answer | None"]


def bought(request: Request, known: "Evidence", rates: Rates, now: Asking, explore: float) -> _Part:
    """Ask, have replies verified, or stop, whichever is worth most. `None`: nobody answered, a reply could be compared, or the
    shortlist is too long to reckon with. Then `now` holds what was heard, and it goes on without verdicts.
    """
    import numpy as np

    verifier = known.verifier
    assert verifier is not None
    count = len(known.workers)
    if count > MOST:
        return None
    others = np.array([[w != verifier.worker for w in known.workers]])
    mine = _Known(np.full((1, count), OPEN), np.ones((1, count)), others)
    while True:
        seen = _prospects(known, verifier, rates, now, mine)
        worths = seen.worths()[0]
        stopped = now.limited or mine.limited
        first = 0 if now.heard else 1
        picked = 0 if stopped else first + int(worths[first:].argmax())
        if picked == 0 or worths[picked] == NEVER:
            break
        choice = _choice(known, verifier, seen, worths, picked, now)
        if explore and not now.heard and now.failed is None:
            choice = _by_lot(request, choice, explore)
            picked = 1 + known.workers.index(choice.picked)
        yield Note(choice)
        if picked > count:
            yield from _verify(request, verifier, picked - 1 - count, known, now, mine)
        elif (yield from _hear(known, picked - 1, choice.reason, now, mine)):
            return None
    if not now.heard:
        return None
    speaker = int(np.where(mine.state[0] > OPEN, seen.sure[0], -1.0).argmax())
    verdicts = int((mine.state > HEARD).sum())
    why = f"{seen.sure[0, speaker]:.2f} sure after {len(now.heard)} of {count}, {verdicts} verified"
    if stopped:
        why = f"{why}; a limit ended the asking: {stopped}"
    yield Note(replace(_choice(known, verifier, seen, worths, 0, now, speaker), reason=why))
    return replace(now.heard[speaker].answer, why=why)


def _by_lot(request: Request, choice: Choice, explore: float) -> Choice:
    """Who is asked first, by lot."""
    lot = draw(request, choice.picked, {o.name: o.estimates["worth"] for o in choice.options}, explore)
    options = tuple(
        Option(
            o.name,
            {**o.estimates, "probability": lot.chances.get(o.name, 0.0)},
            "" if o.name == lot.picked else "not drawn" if lot.explored else o.rejected,
        )
        for o in choice.options
    )
    why = "exploring" if lot.explored else choice.reason
    return replace(
        choice, picked=lot.picked, options=options, probability=lot.chances[lot.picked], reason=why
    )


def _prospects(known: "Evidence", verifier: Verifier, rates: Rates, now: Asking, mine: _Known) -> Prospects:
    import numpy as np

    able = np.array([[k in now.open for k in range(len(known.workers))]])
    u = known.prices[now.price]
    return Prospects.of(
        now.logits,
        mine.state,
        mine.lift,
        able,
        mine.shown,
        u * known.paid,
        u * verifier.paid,
        np.array([rates]),
        verifier.spread,
    )


def _hear(known: "Evidence", worker: int, why: str, now: Asking, mine: _Known) -> Generator[Step, Any, bool]:
    """Ask a worker. Whether its reply is one that can be compared."""
    want: Want = "logprobs" if worker in now.tell else "text"
    reply = yield from put(Ask(known.workers[worker], want=want, speaks=True, reason=why))
    now.take(worker, Answer.of(reply), reply.usage.output)
    if reply.error is not None:
        return False
    now.replies, now.believed = known.weighed(now.heard, now.logits, now.same)
    heard = {worker: now.heard[worker]}
    alone = float(known.believed(heard, now.logits, now.same).first[0])
    mine.state[0, worker] = HEARD
    mine.lift[0, worker] = lift(alone, now.logits[0, worker])
    return bool(known.values(heard)[worker])


def lift(alone: Any, odds: Any) -> Any:
    """How much likelier a right reply looks like this one than a wrong one: of the chance by itself, and the log-odds before."""
    import numpy as np

    alone = np.minimum(alone, 0.999)
    return alone / (1 - alone) * np.exp(-odds)


def _verify(
    request: Request, verifier: Verifier, worker: int, known: "Evidence", now: Asking, mine: _Known
) -> Generator[Step, Any, None]:
    """One verdict. What is neither yes nor no, or fails, leaves the reply as it was; who may not be asked is not asked again."""
    answer = now.heard[worker].answer
    reply = yield from put(verifier.asking(request, answer, known.workers[worker]))
    mine.shown[0, worker] = False
    if reply.error is not None:
        mine.failed = reply.error
        if reply.error.kind in ("limit", "denied"):
            mine.shown[:] = False
    elif (said := verdict(reply.text)) is not None:
        mine.state[0, worker] = ACCEPTED if said else REJECTED


def _choice(
    known: "Evidence",
    verifier: Verifier,
    seen: Prospects,
    worths: Any,
    picked: int,
    now: Asking,
    speaker: int = -1,
) -> Choice:
    """Every option with its numbers: whom to ask, what to have verified, and to stop."""
    count, best = len(known.workers), float(worths[picked])
    sure = seen.sure[0].tolist()

    def option(place: int, name: str, numbers: Mapping[str, float]) -> Option:
        worth = float(worths[place])
        told = {key: round(number, 4) for key, number in (*numbers.items(), ("worth", worth))}
        return Option(name, told, "" if place == picked else f"worth {worth:.3f} < {best:.3f}")

    options = {
        1 + k: option(1 + k, known.workers[k] if picked else f"ask {known.workers[k]}", {"success": sure[k]})
        for k in now.open
    }
    for k in now.heard:
        if worths[1 + count + k] != NEVER:
            yes, no = seen.after(k)
            accepted = float(seen.accepts(k)[0])
            numbers = {"sure": sure[k], "accepted": accepted, "then": yes, "else": no}
            name = f"{known.workers[k]} verified by {verifier.worker}"
            options[1 + count + k] = option(1 + count + k, name, numbers)
    if now.heard:
        top = max(sure[k] for k in now.heard)
        name = "stop" if speaker < 0 else f"stop: {known.workers[speaker]}"
        options[0] = option(0, name, {"sure": top})
    first = options.pop(picked)
    why = "the first to ask" if not now.heard else f"only {max(sure[k] for k in now.heard):.2f} sure so far"
    return Choice(first.name, (first, *options.values()), reason=why, by=known.name)
