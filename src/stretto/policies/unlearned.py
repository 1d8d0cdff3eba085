"""Unlearned: what `stretto` does with a pool that nobody has measured: one guess, and more money only where a check asks for it.

Of models that were measured elsewhere, or whose family was, repute says who is worth asking at the price that the dial means,
and whose second opinion is (`priors`). Else prices are all there is, and they say little: the dial picks where on their ladder to
begin. What can be seen of the answer decides whether that was enough.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from stretto.policies.checks import flaw
from stretto.policies.judging import STANDARD, Wordings, longest, verdict
from stretto.policies.outlooks import maybe, of_ask, then
from stretto.policies.priors import Second, believed, passed_over, priors, second, worths
from stretto.policies.route import blend
from stretto.policies.signals import confidence, same
from stretto.policies.situation import Situation, situation
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Quotes, Step, put
from stretto.types import Answer, Card, Failure, Reply, Request

__all__ = ["Unlearned"]

_MOST: Final = 3
_SHORT: Final = 80
"""Characters up to which a reply is a value that another one can equal."""


@dataclass(frozen=True, slots=True)
class Unlearned:
    """`workers` from cheap to dear. Where some are of repute, the one that is worth most at the dial's price begins, and who is
    dearer than another and believed to be right less often is passed over. Where none is, and for calls and images,
    the dial picks the first to ask (0 the cheapest, 1 the dearest, .5 the one midway).

    | the request | what checks the answer | a failed check |
    |---|---|---|
    | tools, or JSON by a response format | what can be seen (`checks.flaw`) | the next dearer worker answers |
    | something short | that, and how sure the worker was; else a second opinion of the cheapest other | a dearer one decides |
    | a text | up to dial .5 nothing: it streams; above, what can be seen, and `verifier` | the next dearer worker answers |

    At most three workers on the ladder answer. At dial 0 nothing is checked and the first worker streams. An answer that was
    checked and not bettered (a limit, a failure) goes out and says so. Of workers of repute the second opinion is of the one that
    is worth most, if any is worth its price, and where the two differ a third one decides.
    """

    CODE: ClassVar[str] = "2"
    workers: tuple[str, ...]
    verifier: str = ""
    threshold: float = 0.5
    verifier_tokens: int = 256
    wordings: Wordings = STANDARD

    def plan(self, request: Request) -> Plan:
        """A recorded choice of the first worker, and one for every check."""
        cards = self._cards(request)
        if not cards:
            names = ", ".join(self.workers) or "the pool"
            return Answer(error=Failure("denied", f"none of {names} may be used for this request"))
        seen = situation(request)
        start = _start(request, cards, seen)
        yield Note(self._first(request, start, seen))
        first = start.rungs[0]
        reason = f"{start.why} at dial {request.dial:g}: nothing is learned of this pool yet"
        if self._unchecked(request, seen) or (len(cards) == 1 and not self._checker(request, first, seen)):
            return Ask(first.id, speaks=True, reason=reason)
        return (yield from self._checked(request, start, seen, reason))

    def _cards(self, request: Request) -> list[Card]:
        return [card for name in self.workers if (card := request.card(name)) is not None]

    def _unchecked(self, request: Request, seen: Situation) -> bool:
        return request.dial <= 0 or (seen.form == "text" and request.dial <= 0.5)

    def _checker(self, request: Request, of: Card, seen: Situation) -> str:
        """Who verifies a text of `of`; "" where nobody else can."""
        return self.verifier if seen.form == "text" and self.verifier != of.id else ""

    def _first(self, request: Request, start: "_Start", seen: Situation) -> Choice:
        cards, picked = start.cards, start.rungs[0].id
        options = []
        for card in cards:
            told = {"prior": round(start.guess[card.id], 3)}
            why = f"dial {request.dial:g} begins elsewhere on the ladder of prices"
            if start.worth:
                told["worth"] = round(start.worth[card.id], 3)
                why = start.over.get(card.id, "worth less")
            options.append(Option(card.id, told, "" if card.id == picked else why))
        known = [f"{card.id} by {card.repute.on}" for card in cards if card.repute is not None]
        rest = ", ".join(known[:_NAMED]) + (f" and {len(known) - _NAMED} more" if len(known) > _NAMED else "")
        rests = f"the prior is from what others measured: {rest}" if known else _ONLY_PRICES
        reason = f"{start.why}; {rests}; the answer is taken to be {_FORMS[seen.form]} since {seen.why}"
        return Choice(picked, tuple(options), reason=reason, by="prior")

    def _checked(self, request: Request, start: "_Start", seen: Situation, reason: str) -> Plan:
        """Ask, check, and go on to the next dearer worker while a check fails."""
        said: list[Answer] = []
        for card, dearer in zip(start.rungs, [*start.rungs[1:], None], strict=True):
            reply = yield from self._ask(card, seen, reason)
            if reply.error is not None:
                if reply.error.kind == "limit" or dearer is None:
                    return _best(request, said, reply)
                why = f"{reply.error.kind}: {reply.error.message}"
                yield Note(_verdict(card, dearer, _Check(False, why)))
                reason = f"{card.id} gave no answer"
                continue
            answer = Answer.of(reply)
            if not said and start.worth and self._compares(request, seen, answer):
                return (yield from self._majority(request, start, seen, answer))
            found = yield from self._check(request, start.cards, card, seen, answer, said)
            said.append(answer)
            if dearer is not None or found.ok:
                yield Note(_verdict(card, dearer, found))
            if found.ok:
                return replace(answer, why=found.why)
            if dearer is None:
                return replace(_best(request, said), why=f"{found.why}; nobody dearer is left to ask")
            reason = f"{card.id} did not pass: {found.why}"
        raise AssertionError("the last rung returns")

    def _compares(self, request: Request, seen: Situation, answer: Answer) -> bool:
        """Whether only another opinion can tell more: it is short, looks right, and does not tell how sure the worker was."""
        short = seen.comparable and len(answer.text.strip()) <= _SHORT
        return short and not flaw(request, answer) and confidence(answer.logprobs) is None

    def _majority(self, request: Request, start: "_Start", seen: Situation, answer: Answer) -> Plan:
        """A second opinion if one is worth its price, a third where they differ; then two that agree, else the likeliest."""
        wanted = second(start.cards, start.guess, answer.worker, request.dial)
        yield Note(_opinion(answer.worker, wanted))
        if wanted is None:
            return replace(answer, why="no second opinion is worth its price")
        said = [answer]
        asking = (
            (wanted.worker, f"a second opinion on the answer of {answer.worker}"),
            (wanted.decides, "the first two differ"),
        )
        for worker, why in asking:
            card = next(card for card in start.cards if card.id == worker)
            reply = yield from self._ask(card, seen, why)
            if reply.error is not None:
                if reply.error.kind == "limit":
                    break
                continue
            new = Answer.of(reply)
            agreeing = next((old for old in said if same(old, new)), None)
            said.append(new)
            if agreeing is not None:
                return replace(agreeing, why=f"{agreeing.worker} and {worker} say the same")
        likeliest = max(said, key=lambda one: start.guess[one.worker])
        why = "no two say the same; it is the likeliest" if len(said) > 1 else "no second opinion came"
        return replace(likeliest, why=why)

    def _ask(self, card: Card, seen: Situation, reason: str) -> Generator[Step, Any, Reply]:
        tells = seen.comparable and "logprobs" in card.abilities
        return (
            yield from put(Ask(card.id, want="logprobs" if tells else "text", speaks=True, reason=reason))
        )

    def _check(
        self,
        request: Request,
        cards: Sequence[Card],
        card: Card,
        seen: Situation,
        answer: Answer,
        said: list[Answer],
    ) -> Generator[Step, Any, "_Check"]:
        """Whether an answer passes, and why. A second opinion that says something else is added to `said`."""
        if fault := flaw(request, answer):
            return _Check(False, fault)
        if seen.comparable and len(answer.text.strip()) <= _SHORT:
            if agreeing := [a.worker for a in said if same(a, answer)]:
                return _Check(True, f"{' and '.join(agreeing)} and {card.id} say the same")
            sure = confidence(answer.logprobs)
            if sure is not None:
                return _Check(sure >= self.threshold, f"its least certain token has probability {sure:.2f}")
            if said:
                return _Check(True, "several say different things; the dearest of them decides")
            return (yield from self._second(cards, card, seen, answer, said))
        if (checker := self._checker(request, card, seen)) and request.dial > 0.5:
            reply = yield from put(self._verifying(checker, request, answer))
            found = verdict(reply.text) if reply.error is None else None
            if found is None:
                return _Check(True, f"{checker} gave no verdict")
            return _Check(found, f"{checker} said {'yes' if found else 'no'}")
        return _Check(True, "nothing can be seen wrong with it")

    def _second(
        self, cards: Sequence[Card], card: Card, seen: Situation, answer: Answer, said: list[Answer]
    ) -> Generator[Step, Any, "_Check"]:
        """A second opinion of the cheapest other worker, which may not cost more than the first."""
        other = next((c for c in cards if c.id != card.id and blend(c) <= blend(card)), None)
        if other is None:
            return _Check(True, "nobody as cheap is there for a second opinion")
        reply = yield from self._ask(other, seen, f"a second opinion on the answer of {card.id}")
        if reply.error is not None:
            return _Check(True, f"no second opinion ({other.id}: {reply.error.kind})")
        second = Answer.of(reply)
        if same(answer, second):
            return _Check(True, f"{card.id} and {other.id} say the same")
        said.append(second)
        return _Check(False, f"{other.id} says something else")

    def _verifying(self, checker: str, request: Request, answer: Answer) -> Ask:
        return Ask(
            checker,
            self.wordings.verifying(request, answer),
            role="verifier",
            max_tokens=self.verifier_tokens,
            params={"temperature": 0},
            reason=f"checks the answer of {answer.worker or 'a worker'}",
        )

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The first worker for certain; checks and dearer workers at even odds, which is a guess."""
        cards = self._cards(request)
        if not cards:
            return Outlook()
        seen = situation(request)
        start = _start(request, cards, seen)
        first = start.rungs[0]
        total = of_ask(quotes(Ask(first.id, speaks=True)))
        checker = self._checker(request, first, seen) if request.dial > 0.5 else ""
        if self._unchecked(request, seen) or (len(cards) == 1 and not checker):
            return total
        chance, fails, wanted = 1.0, 0.5, None
        compared = seen.comparable and "logprobs" not in first.abilities
        if compared and start.worth:
            fails, wanted = 0.1, second(start.cards, start.guess, first.id, request.dial)
        if wanted is not None:
            total = then(total, of_ask(quotes(Ask(wanted.worker, speaks=True))))
            total = then(total, maybe(of_ask(quotes(Ask(wanted.decides, speaks=True))), 0.5))
        for card in start.rungs:
            if card is not first:
                chance *= fails
                total = then(total, maybe(of_ask(quotes(Ask(card.id, speaks=True))), chance))
            if checker:
                asks = (self._verifying(checker, request, a) for a in (Answer(), longest(self.wordings)))
                short, long = map(quotes, asks)
                total = then(total, maybe(of_ask(short, long), chance))
            elif (
                seen.comparable
                and "logprobs" not in card.abilities
                and not start.worth
                and card is not cards[0]
            ):
                total = then(total, maybe(of_ask(quotes(Ask(cards[0].id, speaks=True))), chance))
        return total


_NAMED: Final = 3
_ONLY_PRICES: Final = "the prior is from prices alone, which say little"
_FORMS: Final = {"calls": "a call or a text", "object": "JSON", "value": "short", "text": "a text"}


def _place(dial: float, count: int) -> int:
    """Where on a ladder of `count` workers a dial stands; of two, the cheaper one up to the middle."""
    return min(count - 1, max(0, int(dial * (count - 1) + 0.499999)))


def _where(place: int, count: int) -> str:
    if count == 1:
        return "the only worker"
    return (
        "the cheapest worker"
        if place == 0
        else "the dearest worker"
        if place == count - 1
        else "a worker midway"
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """Who of `cards` is asked, one after the other, while checks fail (`rungs`), and `why` the first. `guess`: how likely each is
    right; `worth`, `over`: what each is worth, and why some are passed over (empty where only prices are known).
    """

    cards: Sequence[Card]
    rungs: Sequence[Card]
    guess: Mapping[str, float]
    worth: Mapping[str, float]
    over: Mapping[str, str]
    why: str


def _start(request: Request, cards: list[Card], seen: Situation) -> _Start:
    if seen.unlike_texts():  # repute was won without tools and images
        cards = [replace(card, repute=None) for card in cards]
    guess = priors(cards)
    if not believed(cards):
        place = _place(request.dial, len(cards))
        return _Start(cards, cards[place : place + _MOST], guess, {}, {}, _where(place, len(cards)))
    over = passed_over(cards, guess)
    worth = worths(cards, guess, request.dial)
    first = max(cards, key=lambda card: (card.id not in over, worth[card.id]))
    dearer = [card for card in cards[cards.index(first) + 1 :] if card.id not in over]
    rest = sorted((card for card in cards if card not in (first, *dearer)), key=lambda card: -worth[card.id])
    rungs = (first, *dearer, *rest)[
        :_MOST
    ]  # the others are there for the case that nobody dearer is, or answers
    return _Start(cards, rungs, guess, worth, over, "worth most by what is believed of it")


@dataclass(frozen=True, slots=True)
class _Check:
    """Whether an answer passed, and why."""

    ok: bool
    why: str


def _best(request: Request, said: Sequence[Answer], reply: Reply | None = None) -> Answer:
    """The last answer without a visible flaw, else the last one; where nobody has said anything, what `reply` brought."""
    if not said:
        return Answer.of(reply or Reply())
    best = next((a for a in reversed(said) if not flaw(request, a)), said[-1])
    if reply is None or reply.error is None:
        return best
    return replace(
        best, why=f"not accepted, but {reply.worker or 'a dearer one'} gave nothing: {reply.error.message}"
    )


def _verdict(card: Card, dearer: Card | None, found: _Check) -> Choice:
    accept = f"accept {card.id}"
    options = [Option(accept, rejected="" if found.ok else found.why)]
    if dearer is not None:
        options.append(Option(f"ask {dearer.id}", rejected="the answer stands" if found.ok else ""))
    picked = accept if found.ok or dearer is None else f"ask {dearer.id}"
    return Choice(picked, tuple(options), reason=found.why, by="checks")


def _opinion(first: str, wanted: Second | None) -> Choice:
    accept = f"accept {first}"
    if wanted is None:
        return Choice(accept, (Option(accept),), reason="no second opinion is worth its price", by="prior")
    ask = f"ask {wanted.worker}"
    told = {"worth": round(wanted.worth, 4)}
    reason = f"a second opinion; {wanted.decides} decides where the two differ"
    return Choice(
        ask, (Option(ask, told), Option(accept, {"worth": 0.0}, "worth less")), reason=reason, by="prior"
    )
