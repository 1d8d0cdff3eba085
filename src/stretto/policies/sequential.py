"""Sequential: buy answers one at a time, while the next one is expected to be worth its price; then return the best.

Or in two rounds, where waiting counts: a batch side by side, one decision, perhaps another batch. What a set of replies is
worth is learned offline (`learning.evidence.training`) and held as an artefact; the dial sets the price.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, ClassVar, Final

from stretto.artifacts import Artifact, unpacked
from stretto.policies.answers import classes, said
from stretto.policies.evidence.agreement import expected
from stretto.policies.evidence.asking import Asking, Heard, Replies
from stretto.policies.evidence.assurance import Assurance, Stated
from stretto.policies.evidence.beliefs import Beliefs, Posterior, bounded, view, views
from stretto.policies.evidence.embedded import Embedded
from stretto.policies.evidence.equivalence import NOBODY, Compared, Comparer, softly
from stretto.policies.evidence.features import TextFeatures
from stretto.policies.evidence.lengths import Lengths
from stretto.policies.evidence.odds import Odds, task_nearness
from stretto.policies.evidence.pools import Openings, Values, members
from stretto.policies.evidence.reading import MARKS, Asked, Reading, bare, marks, written
from stretto.policies.evidence.standing import Moves, Scene, barred
from stretto.policies.evidence.verification import Rates, Verifier, bought
from stretto.policies.exploring import Lot, draw
from stretto.policies.outlooks import of_ask, then
from stretto.policies.signals import confidence
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Plan, Quotes, Span, Step, Want, put
from stretto.types import Answer, Failure, Reply, Request

__all__ = ["EVIDENCE_SCHEMA", "Evidence", "Sequential", "task_nearness"]

EVIDENCE_SCHEMA: Final = "stretto.evidence/3"
_STOP: Final = "stop"
_VAIN: Final = "could not change the answer"


class Evidence:
    """What was learned, ready to use. Data of schema `EVIDENCE_SCHEMA`:

    `workers` (the shortlist), `text` (features; absent: the prompt does not count), `embedder` (the worker whose vectors of a
    prompt are its features instead), `centres` (of known tasks; may be absent), `spread` (of the counts within each; may be
    absent), `success` (weights, a column a worker), `posterior`, `usual` (mean and deviation of log reply tokens, a column a
    worker), `lengths` (`evidence.lengths.Lengths`; absent: the prompt says nothing of them), `agreement` (weights of
    `evidence.agreement`, a row a worker; may be absent), `assurance` (what it means how sure a worker was; absent: it does
    not count), `reading` (what the text of a reply means; absent: it does not count), `unread` (the posterior where there was
    no text to read; absent: the same), `gaps` (workers that were not always there when it was learned; may be absent),
    `moves` (`evidence.standing.Moves`; absent: what could not change the answer is bought, too), `stated`
    (`evidence.assurance.Stated`; absent: the posterior itself is said), `comparing` (who says whether free texts amount to
    the same, and how often that is wrong, `evidence.equivalence`; absent: nobody does), `verifying` (who says whether replies
    that cannot be compared are right, and how often that is wrong, `evidence.verification`; absent: nobody), `free` (true:
    learned from free texts that nobody compared, each a class of its own), `certified` (what `learning.evidence.risk` found:
    `u`, the highest price whose loss against `single` is bounded, or none, that `bound`, its relative `cost`, and the
    `reason`), `rich`, `last_line`, `paid` (what each worker costs, in calls of the best single one), `values`
    (`evidence.pools.Values`), `spent` (what the asks cost at each price, in such calls; may be absent), and from the lowest
    price to the highest `prices` [{`u`, `calls`, `rounds` {`first` (a subset), `added` (subsets), `weights`}}].
    """

    def __init__(self, artifact: Artifact, *, same: str = "", comparer: str = "", verifier: str = "") -> None:
        """`same`: `exact` leaves the comparer out, `embedding` or `judge` insist on it; `comparer`, `verifier`: other ids."""
        import numpy as np

        if artifact.schema != EVIDENCE_SCHEMA:
            raise ValueError(
                f"sequential needs an artefact of schema {EVIDENCE_SCHEMA}, not {artifact.schema}"
            )
        data = artifact.data
        self.name = f"evidence {artifact.hash}"
        self.workers: tuple[str, ...] = tuple(data["workers"])
        self.last_line: bool = data["last_line"]
        self.rich: bool = data["rich"]
        self.prices: Sequence[float] = [float(p["u"]) for p in data["prices"]]
        self.calls: Sequence[float] = [float(p["calls"]) for p in data["prices"]]
        self.posterior = Posterior.of(data["posterior"])
        self._text = TextFeatures.of(data["text"]) if data.get("text") else None
        self.embedder = Embedded.of(data["embedder"]) if data.get("embedder") else None
        centres, spread = (unpacked(data[name]) if data.get(name) else None for name in ("centres", "spread"))
        self._odds = Odds.of(unpacked(data["success"]), centres, spread)
        self.paid = np.array(data["paid"], dtype=np.float64)
        count = len(self.workers)
        tasks = len(centres) if centres is not None and data.get("nearness") else 0
        self._values = Values(data["values"], 1 + 2 * count + tasks, 14 + 2 * count * self.rich)
        self._heeds_tasks = tasks > 0
        self._usual = unpacked(data["usual"])
        self._spent: Sequence[float] = data.get("spent", ())
        self._lengths = Lengths.of(data["lengths"], self.workers) if data.get("lengths") else None
        self.assurance = Assurance.of(data["assurance"]) if data.get("assurance") else None
        self.reading = Reading.of(data["reading"]) if data.get("reading") else None
        self.gaps = frozenset(self.workers.index(w) for w in data.get("gaps", ()))
        self._unread = Posterior.of(data["unread"]) if data.get("unread") else self.posterior
        self._stated = Stated.of(data["stated"]) if data.get("stated") else None
        self.moves = Moves.of(data["moves"]) if data.get("moves") else None
        self._rounds = [Openings.of(p["rounds"]) for p in data["prices"]]
        self._agreement = unpacked(data["agreement"]) if data.get("agreement") else None
        self.certified: Mapping[str, Any] | None = data.get("certified")
        self._free = bool(data.get("free"))
        self.forms: tuple[str, ...] = tuple(data.get("forms", ()))
        self.comparer = Comparer.chosen(data.get("comparing"), same, comparer)
        self.verifier = Verifier.of(data.get("verifying"), verifier)
        self._given = ", ".join(given for given in (same, comparer, verifier) if given)

    def __repr__(self) -> str:
        return f"{self.name}, {self._given}" if self._given else self.name

    def logits(self, prompt: str, vector: Sequence[float] | None = None) -> Any:
        """The log-odds of each worker to be right, before anything is asked: one row. `vector`: the embedder's of the prompt."""
        return self.seen(prompt, vector)[0]

    def thrift(self, price: int) -> float:
        """How many times what an ask of the shortlist costs on average the asks cost that are really made at a price."""
        if not self._spent:
            return 1.0
        usual = self.calls[price] * float(self.paid.mean())
        return self._spent[price] / usual if usual else 1.0

    def quoting(self, request: Request, quotes: Quotes) -> Quotes:
        """Quotes of a request that expect of an answer the length that its prompt asks for, where that was learned."""
        if self._lengths is None or self._text is None:
            return quotes
        return self._lengths.quoting(request, quotes, self._text.vector(request.prompt))

    def seen(self, prompt: str, vector: Sequence[float] | None = None) -> tuple[Any, Any]:
        """The same, and how near the prompt is to each known task, one row; `None` where the first choice does not heed that."""
        import numpy as np

        if self.embedder is not None:
            x = self.embedder.features(vector)
        elif self._text is None:
            return self._odds.offsets[None], None
        else:
            x = self._text.vector(prompt)
        found, near = self._odds.seen(x)
        return np.minimum(np.maximum(found, -4.595), 5.293)[None], near[None] if self._heeds_tasks else None

    def rates(self, prompt: str, vector: Sequence[float] | None = None) -> Rates | None:
        """How far a verifier is to be trusted for a prompt, by the known task that it is most like; `None`: not asked there."""
        if self.verifier is None:
            return None
        if self.embedder is not None:
            return self.verifier.of_task(self._odds.nearest(self.embedder.features(vector)))
        return self.verifier.of_task(
            -1 if self._text is None else self._odds.nearest(self._text.vector(prompt))
        )

    def worths(
        self, price: int, mask: int, able: int, believed: Beliefs | None, logits: Any, near: Any = None
    ) -> Any:
        """The values of stopping (0) and of asking worker k (1 + k), after the workers of `mask` were asked.

        `able`: those, and who may be asked yet. What nobody of them can bring is not hoped for. `near`: as `seen` gives it, for
        the first choice.
        """
        if believed is None:
            return self._values.worths(able, price, mask, views(logits, near)[0])
        x = view(believed.first, believed.second, logits, rich=self.rich)[0]
        found = self._values.worths(able, price, mask, x)
        found[1:] = bounded(found[0], found[1:], believed.first[0], self.prices[price] * self.paid)
        return found

    def said(self, price: int, sure: float) -> float:
        """How often an answer is right that was stopped at so `sure` (the posterior)."""
        return sure if self._stated is None else self._stated.chance(sure, self.prices[price])

    def first(self, price: int, able: int, logits: Any, near: Any = None) -> int:
        """Of the subsets that two rounds may begin with, side by side, the worthiest one among `able`; 0: there is none."""
        return self._rounds[price].first(able, views(logits, near)[0])

    def additions(self, price: int, first: int, believed: Beliefs, logits: Any) -> dict[int, float]:
        """After the first of two rounds: what each subset that may be added is worth, nobody (0) among them."""
        return self._rounds[price].additions(
            first, view(believed.first, believed.second, logits, rich=self.rich)[0]
        )

    def compared(self, worker: int, before: Beliefs, heard: Mapping[int, Heard], logits: Any) -> list[Option]:
        """A reply held against those before it, for the drift monitor; and two that differed, held against this third one."""
        values = self.values(heard)
        mine = values.pop(worker)
        if self._agreement is None or mine is None or None in values.values():
            return []
        first, second = before.first.tolist()[0], before.second.tolist()[0]
        chance = expected(self._agreement[worker], first, second, float(logits[0, worker]))
        beside = self.workers[next(iter(values))] if len(values) == 1 else "several"
        told = [(f"{self.workers[worker]} with {beside}", mine in values.values(), chance)]
        if len(values) == 2 and len(set(values.values())) == 2 and second > 0:
            top = int(before.speaker[0])
            for k, value in values.items():
                share = (first if k == top else second) / (first + second)
                told.append((f"{self.workers[k]} with several", mine == value, chance * share))
        return [
            Option(name, {"agrees": float(same and mine != ""), "expected": round(e, 4)}, "heard")
            for name, same, e in told
        ]

    def values(self, heard: Mapping[int, Heard]) -> dict[int, str | None]:
        """What each reply comes to, `None` where that cannot be compared."""
        return {k: one.value for k, one in heard.items()}

    def held(self, known: Compared) -> list[Option]:
        """What a comparer has said of pairs of free texts."""
        return [
            Option(f"{self.workers[a]} with {self.workers[b]}", {"same": float(same)}, "free texts compared")
            for (a, b), same in known.same.items()
        ]

    def listener(
        self, prompt: str, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Callable[[int, Answer, int], Heard]:
        """What reads all that counts off a worker's reply of so many tokens; the prompt itself is read at the first.

        `tools`: what the request offers; calls are held against it.
        """
        asked = cache(partial(Asked.of, prompt))

        def hear(worker: int, answer: Answer, tokens: int) -> Heard:
            value = said(answer.message, last_line=self.last_line, tools=tools)
            told = confidence(answer.logprobs)
            long, read = 0.0, list[float]()
            if tokens:
                mean, deviation = self._usual[:, worker]
                long = min(4.0, max(-4.0, float((math.log1p(tokens) - mean) / deviation)))
            if self.reading is not None:
                message, text = answer.message, written(answer.message, last_line=self.last_line)
                nothing = bool(message.tool_calls) or bare(text, value, tools)
                read = [] if nothing else marks(asked(), text, value)
            return Heard(answer, value, long, math.nan if told is None else told, read)

        return hear

    def vain(self, now: Asking, picked: int) -> frozenset[int]:
        """Who could not change the answer (`evidence.standing`), where somebody (`picked`) is about to be asked."""
        import numpy as np

        likeliest = max(now.open, key=lambda k: float(now.logits[0, k]))
        scene = self.scene(now) if now.heard or picked != likeliest else None
        if scene is None:
            return frozenset()
        if scene.settled()[0]:
            return frozenset(now.open)
        if picked == likeliest:
            return frozenset()
        there = np.array([[k in now.open for k in range(len(self.workers))]])
        likely, paid = 1.0 / (1.0 + np.exp(-now.logits)), self.prices[now.price] * self.paid[None]
        found = barred(scene.foremost(there), likely, paid)[0, 0]
        return frozenset(k for k in now.open if found[k])

    def scene(self, now: Asking) -> Scene | None:
        """What has been said and who is left; `None`: nobody knows how far replies move, or one could stand for any answer."""
        if self.moves is None or (None in self.values(now.heard).values() and not self._free):
            return None
        import numpy as np

        found = now.replies or self._read({}, now.logits)
        left = np.array([[bool(now.able & ~now.mask & 1 << k) for k in range(len(self.workers))]])
        parts = found.posterior, self.moves, found.classes, found.odds, found.asked, left, found.lengths
        return Scene.after(*parts) if found.chance is None else Scene(*parts, found.chance)

    def believed(self, heard: Mapping[int, Heard], logits: Any, known: Compared | None = None) -> Beliefs:
        """What the replies of some workers amount to. `known`: what a comparer has said of those that are free text."""
        return self.weighed(heard, logits, known)[1]

    def weighed(
        self, heard: Mapping[int, Heard], logits: Any, known: Compared | None = None
    ) -> tuple[Replies, Beliefs]:
        """The same, with what the replies come to."""
        values, found = self.values(heard), self._read(heard, logits)
        comparer = self.comparer or (None if self._free else NOBODY)
        if comparer is not None and None in values.values():
            told = known or Compared()
            return found, softly(found.posterior, comparer, values, told, found.odds, found.lengths)
        chance = found.posterior.chances(found.classes, found.odds, found.asked, found.lengths)
        return replace(found, chance=chance), Beliefs.of(chance, found.classes, found.odds, found.asked)

    def _read(self, heard: Mapping[int, Heard], logits: Any) -> Replies:
        """What replies come to, but for the chances of their answers."""
        import numpy as np

        count = len(self.workers)
        values, asked, lengths = [""] * count, np.zeros((1, count), dtype=bool), np.zeros((1, count))
        sure = np.full((1, count), np.nan)
        for k, one in heard.items():
            values[k] = f"only {self.workers[k]}" if one.value is None else one.value
            asked[0, k], lengths[0, k], sure[0, k] = True, one.long, one.sure
        odds, posterior = logits, self._unread if heard else self.posterior
        if self.reading is not None and any(one.read for one in heard.values()):
            posterior = self.posterior
            read = np.full((1, count, len(MARKS)), np.nan)
            for k, one in heard.items():
                if one.read:
                    read[0, k] = one.read
            odds = self.reading.after(logits, read)
        if self.assurance is not None:
            odds = np.where(asked, self.assurance.after(odds, sure), odds)
        return Replies(posterior, np.array([classes(values)]), odds, asked, lengths, None)


_Part = Generator[Step, Any, None]


@dataclass(frozen=True, slots=True)
class Sequential:
    """Ask, weigh, and ask again or stop. Workers that the request may not use are passed over.

    The dial picks the price: 1 the lowest that was learned (the best answers), 0 the highest (the cheapest). With `price`
    (accuracy, of 1, that a call of the best single worker is worth) it is always the nearest learned one. A worker that fails is
    no evidence and is not asked again. What a limit refuses ends the asking. With chance `explore` the first to be asked is
    another than the one that is worth most. With `rounds` = 2 a batch is asked side by side, then perhaps a second one; that
    never explores, and goes on one at a time where the first batch is not to be had whole.

    Where one worker alone may be used, it answers. With `certified`, from the middle of the dial upwards nothing is served that
    was not shown to lose at most the margin against the best single worker (`Evidence.certified`): no higher price than that;
    and where none was certified, or in the middle itself where it costs more than that worker and is not surely better, that
    worker alone. A lower dial, or a `price`, asks for less and gets it.
    """

    CODE: ClassVar[str] = "8"
    evidence: Evidence
    price: float | None = None
    explore: float = 0.0
    rounds: int = 1
    certified: bool = True

    def plan(self, request: Request) -> Plan:
        """A recorded choice before every ask, with the worth of each option, and one for stopping."""
        known = self.evidence
        usable = [k for k, w in enumerate(known.workers) if request.card(w) is not None]
        if not usable:
            return Answer(
                error=Failure("denied", f"none of {', '.join(known.workers)} may be used for this request")
            )
        cards = {k: request.card(known.workers[k]) for k in usable} if known.assurance is not None else {}
        tell = frozenset(k for k, card in cards.items() if card is not None and "logprobs" in card.abilities)
        alone, why = self._alone(request, usable)
        verified = self._verified(request, usable)
        vector = None
        if known.embedder is not None and (alone < 0 or self.explore or verified >= 0):
            read = yield from known.embedder.read(request)
            if isinstance(read, Failure):
                return Answer(error=read)
            vector = read
        logits, near = known.seen(request.prompt, vector)
        now = Asking(
            self._price(request),
            logits,
            usable,
            known.listener(request.prompt, request.tools),
            tell,
            sum(1 << k for k in usable if k in known.gaps),
            near=near,
        )
        rates = known.rates(request.prompt, vector) if verified >= 0 else None
        if rates is not None:
            now.price = verified
            answer = yield from bought(request, known, rates, now, self.explore)
            if answer is not None:
                return answer
            now.price = self._price(request)
        elif alone >= 0 and not self.explore:
            return (yield from self._by_one(alone, why, now))
        done = False
        if self.rounds == 2:
            done = yield from self._two_rounds(request, now)
        if not done:
            yield from self._one_by_one(request, now)
        if now.believed is None:
            return now.failed or Answer(error=Failure("unavailable", "no worker answered"))
        (speaker,), (sure,) = now.believed.speaker.tolist(), now.believed.first.tolist()
        chance = known.said(now.price, sure)
        why = f"{chance:.2f} sure after {len(now.heard)} of {len(known.workers)}"
        if now.limited:
            why = f"{why}; a limit ended the asking: {now.limited}"
        worths = known.worths(now.price, now.mask, now.able, now.believed, now.logits)
        stopping = self._stopping(speaker, now, worths, chance, why)
        told = (*stopping.options, *now.compared, *known.held(now.same))
        yield Note(replace(stopping, options=told))
        return replace(now.heard[speaker].answer, why=why)

    def _alone(self, request: Request, usable: Sequence[int]) -> tuple[int, str]:
        """The worker that answers alone, if one does, and why."""
        known = self.evidence
        if len(usable) == 1:
            return usable[0], f"the only one of {len(known.workers)} that may be used"
        certificate = known.certified
        if not self._safe(request) or certificate is None:
            return -1, ""
        place = known.workers.index(certificate["single"])
        dear = request.dial <= 0.5 and certificate["cost"] >= 1 and certificate["bound"] >= 0
        if place not in usable or not (certificate["u"] is None or dear):
            return -1, ""
        return place, f"the best single worker: {certificate['reason']}"

    def _verified(self, request: Request, usable: Sequence[int]) -> int:
        """The price (a place) at which verdicts serve a request whose answers cannot be compared; -1: they do not."""
        known, verifier = self.evidence, self.evidence.verifier
        if verifier is None or self.rounds == 2 or len(usable) < 2 or request.card(verifier.worker) is None:
            return -1
        return verifier.price(self._price(request), known.prices, request.dial, safe=self._safe(request))

    def _by_one(self, worker: int, why: str, now: Asking) -> Plan:
        """Ask one worker, and the likeliest of the others only if it fails."""
        name = self.evidence.workers[worker]
        others = [Option(self.evidence.workers[k], rejected=why) for k in now.open if k != worker]
        yield Note(Choice(name, (Option(name), *others), reason=why, by=self.evidence.name))
        likeliest = max((k for k in now.open if k != worker), key=lambda k: now.logits[0, k], default=-1)
        otherwise = None if likeliest < 0 else self._ask(likeliest, f"{name} failed", now)
        return replace(self._ask(worker, why, now), otherwise=otherwise)

    def _one_by_one(self, request: Request, now: Asking) -> _Part:
        known = self.evidence
        while not now.limited:
            worths = known.worths(now.price, now.mask, now.able, now.believed, now.logits, now.near)
            options = [-1, *now.open] if now.heard else now.open
            picked = max(options, key=lambda k: float(worths[k + 1]), default=-1)
            if picked >= 0:
                now.vain = known.vain(now, picked)
                options = [k for k in options if k not in now.vain]
                picked = max(options, key=lambda k: float(worths[k + 1]), default=-1)
            if picked < 0:
                return
            lot = None
            if self.explore and not now.heard and now.failed is None:
                lot = self._lot(request, picked, now.open, worths)
                picked = known.workers.index(lot.picked)
            why = "exploring" if lot is not None and lot.explored else self._why(now.believed)
            yield Note(self._choice(picked, now, worths, why, lot))
            reply = yield from put(self._ask(picked, why, now))
            before = now.believed
            now.take(picked, Answer.of(reply), reply.usage.output)
            if reply.error is None:
                if before is not None:
                    now.compared += known.compared(picked, before, now.heard, now.logits)
                yield from self._hold(request, [picked], now)
                now.replies, now.believed = known.weighed(now.heard, now.logits, now.same)

    def _hold(self, request: Request, new: Sequence[int], now: Asking) -> _Part:
        """Let the comparer, if there is one, hold new replies that are free text against the others."""
        if (comparer := self.evidence.comparer) is None:
            return
        values = self.evidence.values(now.heard)
        for k in new:
            if k in now.heard and not now.limited:
                earlier = {j: now.heard[j].answer for j in now.heard if j not in new[new.index(k) + 1 :]}
                yield from comparer.hear(request, k, earlier, values, now.same)

    def _two_rounds(self, request: Request, now: Asking) -> Generator[Step, Any, bool]:
        """Whether they were gone through: the first batch answered whole, and the second was asked or not needed."""
        known = self.evidence
        first = known.first(now.price, sum(1 << k for k in now.open), now.logits, now.near)
        if not first:
            return False
        batch = members(first)
        names = " + ".join(known.workers[k] for k in batch)
        yield Note(Choice(names, (Option(names),), reason="the first round", by=known.name))
        yield from self._together(request, batch, "the first round", now)
        if now.mask != first or now.limited or now.believed is None:
            return False
        scene = known.scene(now) if now.open else None
        if scene is not None and scene.settled()[0]:
            now.vain = frozenset(now.open)
            return True
        worths = known.additions(now.price, first, now.believed, now.logits)
        possible = {m: w for m, w in worths.items() if set(members(m)) <= set(now.open)}
        added = max(possible, key=lambda m: possible[m])
        if not added:
            return True
        options = [
            Option(
                " + ".join(known.workers[k] for k in members(m)) or _STOP,
                {"worth": round(w, 4)},
                rejected,
            )
            for m, w in sorted(possible.items(), key=lambda pair: -pair[1])[:8]
            for rejected in ["" if m == added else "worth less"]
        ]
        why = self._why(now.believed)
        yield Note(Choice(options[0].name, tuple(options), reason=why, by=known.name))
        yield from self._together(request, members(added), why, now)
        return True

    def _together(self, request: Request, batch: Sequence[int], why: str, now: Asking) -> _Part:
        """Ask some workers side by side and weigh what comes."""
        plans = tuple(_one(self._ask(k, why, now)) for k in batch)
        answers: tuple[Answer, ...] = yield Fork(plans)
        for k, answer in zip(batch, answers, strict=True):
            now.take(k, replace(answer, more={}), int(answer.more.get("tokens", 0)))
        if now.heard:
            yield from self._hold(request, batch, now)
            now.replies, now.believed = self.evidence.weighed(now.heard, now.logits, now.same)

    def _ask(self, worker: int, why: str, now: Asking) -> Ask:
        want: Want = "logprobs" if worker in now.tell else "text"
        return Ask(self.evidence.workers[worker], want=want, speaks=True, reason=why)

    def _price(self, request: Request) -> int:
        prices = self.evidence.prices
        if (wanted := self.price) is not None:
            return min(range(len(prices)), key=lambda place: abs(prices[place] - wanted))
        last = len(prices) - 1
        place = min(last, max(0, round((1 - request.dial) * last)))
        safe = self.evidence.certified if self._safe(request) else None
        if safe is None or safe["u"] is None:
            return place
        return min(place, max(k for k, u in enumerate(prices) if u <= safe["u"] * (1 + 1e-9)))

    def _safe(self, request: Request) -> bool:
        """Whether the request is to have what was certified."""
        return self.certified and self.price is None and request.dial >= 0.5

    def _why(self, believed: Beliefs | None) -> str:
        return "the first to ask" if believed is None else f"only {float(believed.first[0]):.2f} sure so far"

    def _lot(self, request: Request, best: int, open_: Sequence[int], worths: Any) -> Lot:
        """Who is asked first, by lot."""
        workers = self.evidence.workers
        return draw(request, workers[best], {workers[k]: float(worths[k + 1]) for k in open_}, self.explore)

    def _choice(self, picked: int, now: Asking, worths: Any, why: str, lot: Lot | None) -> Choice:
        workers = self.evidence.workers
        options = []
        for k in now.open:
            success = 1 / (1 + math.exp(-float(now.logits[0, k])))
            numbers = {"success": round(success, 4), "worth": round(float(worths[k + 1]), 4)}
            passed = _less(worths[k + 1], worths[picked + 1]) if k not in now.vain else _VAIN
            if lot is not None:
                numbers["probability"] = lot.chances.get(workers[k], 0.0)
                passed = "not drawn" if lot.explored else passed
            options.append(Option(workers[k], numbers, "" if k == picked else passed))
        if now.believed is not None:
            sure = {"sure": round(float(now.believed.first[0]), 4), "worth": round(float(worths[0]), 4)}
            options.append(Option(_STOP, sure, _less(worths[0], worths[picked + 1])))
        chance = 1.0 if lot is None else lot.chances[lot.picked]
        return Choice(workers[picked], tuple(options), chance, why, self.evidence.name)

    def _stopping(self, speaker: int, now: Asking, worths: Any, chance: float, why: str) -> Choice:
        workers = self.evidence.workers
        options = tuple(
            Option(
                f"ask {workers[k]}",
                {"worth": round(float(w), 4)},
                _VAIN if k in now.vain else _less(w, worths[0]),
            )
            for k, w in ((k, worths[k + 1]) for k in now.open)
        )
        stop = Option(
            f"{_STOP}: {workers[speaker]}", {"sure": round(chance, 4), "worth": round(float(worths[0]), 4)}
        )
        return Choice(stop.name, (stop, *options), reason=why, by=self.evidence.name)

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One call at least, all of the shortlist at most; as many, and as dear ones, as on the training items in the middle."""
        price = self._price(request)
        usable = [k for k, w in enumerate(self.evidence.workers) if request.card(w) is not None]
        cards = [self.evidence.workers[k] for k in usable]
        if not cards:
            return Outlook()
        answering = self.evidence.quoting(request, quotes)
        alone, _ = self._alone(request, usable)
        verifier, verified = self.evidence.verifier, self._verified(request, usable)
        if alone >= 0 and not self.explore and verified < 0:
            return of_ask(answering(Ask(self.evidence.workers[alone], speaks=True)))
        each = [of_ask(answering(Ask(w, speaks=True))) for w in cards]
        calls = min(self.evidence.calls[price], len(cards))
        share = calls / len(cards)

        def span(parts: Sequence[Span]) -> Span:
            return Span(
                min(p.least for p in parts),
                share * sum(p.expected for p in parts),
                sum(p.most for p in parts),
            )

        usd = span([e.usd for e in each])
        asking = Outlook(
            Span(1, calls, sum(e.calls.most for e in each)),
            replace(usd, expected=self.evidence.thrift(price) * usd.expected),
            span([e.seconds for e in each]),
        )
        comparer, embedder = self.evidence.comparer, self.evidence.embedder
        if verifier is not None and verified >= 0:
            asking = then(asking, verifier.outlook(request, verified, len(cards), quotes))
        if embedder is not None:
            asking = then(embedder.outlook(request, quotes), asking)
        return asking if comparer is None else then(asking, comparer.outlook(request, len(cards), quotes))


def _one(ask: Ask) -> Plan:
    """An ask as a branch that also tells how long the reply is."""
    reply: Reply = yield from put(ask)
    return Answer.of(reply, more={"tokens": reply.usage.output})


def _less(worth: float, best: float) -> str:
    """Why an option was passed over."""
    return f"worth {float(worth):.3f} < {float(best):.3f}"
