"""Sequential: buy answers one at a time, while the next one is expected to be worth its price; then return the best.

What a set of replies is worth is learned offline (`learning.evidence`) and held as an artefact; the dial sets the price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from stretto.artifacts import Artifact, unpacked
from stretto.policies.answers import classes, said
from stretto.policies.beliefs import Beliefs, Posterior, view, views
from stretto.policies.exploring import Lot, draw
from stretto.policies.features import TextFeatures
from stretto.policies.outlooks import of_ask
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Quotes, Span, put
from stretto.types import Answer, Failure, Reply, Request

__all__ = ["EVIDENCE_SCHEMA", "Evidence", "Sequential", "task_nearness"]

EVIDENCE_SCHEMA: Final = "stretto.evidence/1"
_STOP: Final = "stop"


def task_nearness(x: Any, centres: Any) -> Any:
    """How near each prompt (a row) is to each known task: a softmax over squared distances, times three."""
    import numpy as np

    distance = ((x**2).sum(1)[:, None] + (centres**2).sum(1)[None] - 2 * x @ centres.T) / x.shape[1]
    near = np.exp(-6.0 * (distance - distance.min(1, keepdims=True)))
    return 3.0 * near / near.sum(1, keepdims=True)


@dataclass(frozen=True, slots=True)
class _Odds:
    """Log-odds of the workers from a prompt's features and `task_nearness`, with one product for both."""

    weights: Any
    offsets: Any
    tasks: Any

    @classmethod
    def of(cls, success: Any, centres: Any) -> "_Odds":
        """`success`: a constant, a weight a feature and, where there are centres, a weight a task; a column a worker."""
        import numpy as np

        constant, rest = success[0].astype(np.float64), success[1:].astype(np.float64)
        if centres is None:
            return cls(rest, constant, None)
        wide = centres.astype(np.float64)
        size = wide.shape[1]
        # of the squared distance, the prompt's own square is the same for all tasks and falls out of the softmax
        return cls(
            np.ascontiguousarray(np.hstack([rest[:size], 12.0 / size * wide.T])),
            np.concatenate([constant, -6.0 / size * (wide**2).sum(1)]),
            rest[size:],
        )

    def after(self, x: Any) -> Any:
        """The log-odds of each worker for a prompt with features `x`."""
        import numpy as np

        seen = x @ self.weights + self.offsets
        if self.tasks is None:
            return seen
        workers = self.tasks.shape[1]
        near = np.exp(seen[workers:] - seen[workers:].max())
        return seen[:workers] + (near * (3.0 / near.sum())) @ self.tasks


class Evidence:
    """What was learned, ready to use. Data of schema `EVIDENCE_SCHEMA`:

    `workers` (the shortlist), `text` (features; absent: the prompt does not count), `centres` (of known tasks; may be
    absent), `success` (weights, a column a worker), `posterior`, `rich`, `last_line`, `prices` [{`u`, `calls`,
    `start` (regressors, 1 + workers), `values` (subset, regressors, 1 + workers)}] from the lowest to the highest price.
    """

    def __init__(self, artifact: Artifact) -> None:
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
        self._odds = _Odds.of(
            unpacked(data["success"]), unpacked(data["centres"]) if data.get("centres") else None
        )
        self._start = [unpacked(p["start"]) for p in data["prices"]]
        self._values = [unpacked(p["values"]) for p in data["prices"]]

    def __repr__(self) -> str:
        return self.name

    def logits(self, prompt: str) -> Any:
        """The log-odds of each worker to be right, before anything is asked: one row."""
        import numpy as np

        if self._text is None:
            return self._odds.offsets[None]
        return np.minimum(np.maximum(self._odds.after(self._text.vector(prompt)), -4.595), 5.293)[None]

    def worths(self, price: int, mask: int, believed: Beliefs | None, logits: Any) -> Any:
        """The values of stopping (0) and of asking worker k (1 + k), after the workers of `mask` were asked."""
        if believed is None:
            return (views(logits) @ self._start[price])[0]
        x = view(believed.first, believed.second, logits, rich=self.rich)
        return (x @ self._values[price][mask])[0]


@dataclass(frozen=True, slots=True)
class Sequential:
    """Ask, weigh, and ask again or stop. Workers that the request may not use are passed over.

    The dial picks the price: 1 the lowest that was learned (the best answers), 0 the highest (the cheapest). With `price`
    (accuracy, of 1, that a call of the best single worker is worth) it is always the nearest learned one. A worker that fails is
    no evidence and is not asked again. What a limit refuses ends the asking. With chance `explore` the first to be asked is
    another than the one that is worth most.
    """

    CODE: ClassVar[str] = "2"
    evidence: Evidence
    price: float | None = None
    explore: float = 0.0

    def plan(self, request: Request) -> Plan:
        """A recorded choice before every ask, with the worth of each option, and one for stopping."""
        import numpy as np

        known = self.evidence
        price = self._price(request)
        usable = [k for k, w in enumerate(known.workers) if request.card(w) is not None]
        if not usable:
            return Answer(
                error=Failure("denied", f"none of {', '.join(known.workers)} may be used for this request")
            )
        logits = known.logits(request.prompt)
        replies: dict[int, Reply] = {}
        believed: Beliefs | None = None
        last: Reply | None = None
        while True:
            mask = sum(1 << k for k in replies)
            worths = known.worths(price, mask, believed, logits)
            open_ = [k for k in usable if k not in replies]
            picked = max([-1, *open_] if replies else open_, key=lambda k: float(worths[k + 1]), default=-1)
            if picked < 0:
                break
            lot = (
                self._lot(request, picked, open_, worths)
                if self.explore and not replies and last is None
                else None
            )
            if lot is not None:
                picked = known.workers.index(lot.picked)
            why = "exploring" if lot is not None and lot.explored else self._why(believed)
            yield Note(self._choice(picked, open_, worths, believed, logits, why, lot))
            reply = yield from put(Ask(known.workers[picked], speaks=True, reason=why))
            if reply.error is not None:
                last = reply
                usable.remove(picked)
                if reply.error.kind == "limit":
                    break
                continue
            replies[picked] = reply
            numbers, asked = self._classes(replies)
            believed = Beliefs.after(known.posterior, numbers, logits, asked)
        if believed is None:
            return (
                Answer.of(last)
                if last is not None
                else Answer(error=Failure("unavailable", "no worker answered"))
            )
        speaker = int(np.asarray(believed.speaker)[0])
        chance = float(believed.first[0])
        why = f"{chance:.2f} sure after {len(replies)} of {len(known.workers)}"
        if last is not None and last.error is not None and last.error.kind == "limit":
            why = f"{why}; a limit ended the asking: {last.error.message}"
        yield Note(self._stopping(speaker, open_, worths, chance, why))
        return Answer.of(replies[speaker], why)

    def _price(self, request: Request) -> int:
        prices = self.evidence.prices
        if (wanted := self.price) is not None:
            return min(range(len(prices)), key=lambda place: abs(prices[place] - wanted))
        last = len(prices) - 1
        return min(last, max(0, round((1 - request.dial) * last)))

    def _classes(self, replies: Mapping[int, Reply]) -> tuple[Any, Any]:
        import numpy as np

        workers = self.evidence.workers
        values = [""] * len(workers)
        for k, reply in replies.items():
            value = said(reply.message, last_line=self.evidence.last_line)
            values[k] = f"only {workers[k]}" if value is None else value
        return np.array([classes(values)]), np.array([[k in replies for k in range(len(workers))]])

    def _why(self, believed: Beliefs | None) -> str:
        return "the first to ask" if believed is None else f"only {float(believed.first[0]):.2f} sure so far"

    def _lot(self, request: Request, best: int, open_: Sequence[int], worths: Any) -> Lot:
        """Who is asked first, by lot."""
        workers = self.evidence.workers
        return draw(request, workers[best], {workers[k]: float(worths[k + 1]) for k in open_}, self.explore)

    def _choice(
        self,
        picked: int,
        open_: Sequence[int],
        worths: Any,
        believed: Beliefs | None,
        logits: Any,
        why: str,
        lot: Lot | None,
    ) -> Choice:
        import math

        workers = self.evidence.workers
        options = []
        for k in open_:
            success = 1 / (1 + math.exp(-float(logits[0, k])))
            numbers = {"success": round(success, 4), "worth": round(float(worths[k + 1]), 4)}
            if lot is not None:
                numbers["probability"] = lot.chances.get(workers[k], 0.0)
            passed = "not drawn" if lot is not None and lot.explored else "worth less"
            options.append(Option(workers[k], numbers, "" if k == picked else passed))
        if believed is not None:
            sure = {"sure": round(float(believed.first[0]), 4), "worth": round(float(worths[0]), 4)}
            options.append(Option(_STOP, sure, "worth less"))
        chance = 1.0 if lot is None else lot.chances[lot.picked]
        return Choice(workers[picked], tuple(options), chance, why, self.evidence.name)

    def _stopping(self, speaker: int, open_: Sequence[int], worths: Any, chance: float, why: str) -> Choice:
        workers = self.evidence.workers
        options = tuple(
            Option(f"ask {workers[k]}", {"worth": round(float(worths[k + 1]), 4)}, "worth less")
            for k in open_
        )
        stop = Option(
            f"{_STOP}: {workers[speaker]}", {"sure": round(chance, 4), "worth": round(float(worths[0]), 4)}
        )
        return Choice(stop.name, (stop, *options), reason=why, by=self.evidence.name)

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """One call at least, all of the shortlist at most; as many as it took on the training items in the middle."""
        price = self._price(request)
        cards = [w for w in self.evidence.workers if request.card(w) is not None]
        if not cards:
            return Outlook()
        each = [of_ask(quotes(Ask(w, speaks=True))) for w in cards]
        calls = min(self.evidence.calls[price], len(cards))
        share = calls / len(cards)

        def span(parts: Sequence[Span]) -> Span:
            return Span(
                min(p.least for p in parts),
                share * sum(p.expected for p in parts),
                sum(p.most for p in parts),
            )

        return Outlook(
            Span(1, calls, sum(e.calls.most for e in each)),
            span([e.usd for e in each]),
            span([e.seconds for e in each]),
        )
