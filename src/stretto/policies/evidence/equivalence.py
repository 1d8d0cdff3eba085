"""Whether free texts amount to the same: said by a comparer, and believed only as far as it can be trusted.

A comparer is an embedding worker (the cosine of the vectors of two replies, against a threshold) or a judge (yes or no, one
pair a call). It errs, and how often is known (`learning.evidence.comparing`). So what it says makes no classes of answers: it
makes some of the ways to divide the replies into equal ones likelier than others, and what is believed is the mean over these
ways. What a coin says makes none likelier, so it moves nothing, and it is not asked. Numpy only, imported late.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Final, Literal

from stretto.policies.embedding import StaticEmbedding, shipped
from stretto.policies.evidence.beliefs import Beliefs, Posterior
from stretto.policies.judging import COMPACT, STANDARD, Wordings, longest, verdict
from stretto.policies.outlooks import maybe, of_ask, then
from stretto.steps import Ask, Outlook, Quotes, Step, put
from stretto.types import Answer, Failure, Message, Request

__all__ = [
    "LONGEST",
    "NOBODY",
    "SHIPPED",
    "Compared",
    "Comparer",
    "Untaught",
    "divisions",
    "likely",
    "mean_over",
    "softly",
]

LONGEST: Final = 8000
"""So many characters of a reply are embedded: its end, where answers stand."""

SHIPPED: Final = "static"
"""The comparer that is no worker: the static embedding that comes with Stretto. It costs nothing and is not asked."""

_WORDINGS: Final = {"standard": STANDARD, "compact": COMPACT}

_WAYS: Final = 64
"""At most so many ways to divide the replies are followed. Five replies have 52."""


class Untaught(ValueError):
    """Somebody is to compare of whom nobody has learned how often he is wrong."""


@cache
def _static() -> StaticEmbedding:
    return shipped()


@dataclass(slots=True)
class Compared:
    """What has been found out in one run: of pairs of workers (as places, the lower first) whether a comparer called their
    replies the same; and the vectors of replies. `failed`: why the last ask of the comparer brought nothing.
    """

    same: dict[tuple[int, int], bool] = field(default_factory=dict)
    vectors: dict[int, Sequence[float]] = field(default_factory=dict)
    failed: Failure | None = None


@dataclass(frozen=True, slots=True)
class Comparer:
    """Who says whether two replies amount to the same, and how far to trust that.

    `by`: what `worker` (an id, or `SHIPPED`) is asked for. `sensitivity`: how often it says "the same" of two that are,
    `specificity`: how often it denies it of two that are not; both one half: nobody knows better than a coin. `collision`: how
    often two wrong replies are the same wrong one. `usd`: what comparing a reply with those before it cost where that was
    learned.
    """

    CODE: ClassVar[str] = "1"
    by: Literal["embedding", "judge"]
    worker: str
    sensitivity: float
    specificity: float
    collision: float = 0.2
    threshold: float = 0.0
    usd: float = 0.0
    wordings: Wordings = STANDARD
    tokens: int = 8

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Comparer":
        """From an artefact's data. Raises `ValueError` for rates that are none."""
        made = cls(
            data["by"],
            data["worker"],
            float(data["sensitivity"]),
            float(data["specificity"]),
            float(data["collision"]),
            float(data["threshold"]),
            float(data["usd"]),
            _WORDINGS[data["wordings"]],
        )
        rates = made.sensitivity, made.specificity, made.collision
        if made.by not in ("embedding", "judge") or not all(0 < rate < 1 for rate in rates):
            raise ValueError(f"no comparer: {made.by}, {rates}")
        return made

    @classmethod
    def chosen(cls, data: Mapping[str, Any] | None, same: str, worker: str) -> "Comparer | None":
        """The learned comparer (`data`); `None` where there is none, or `same` is `exact`. `worker`: its id, if that has changed.

        Raises `Untaught` where `same` names another way to compare than the learned one.
        """
        if same == "exact":
            return None
        found = cls.of(data) if data else None
        if same and (found is None or found.by != same):
            had = "no comparer" if found is None else f"{found.by} of {found.worker}"
            raise Untaught(
                f'"{same}" needs an error that was learned (`--compare`); the artefact knows {had}'
            )
        return replace(found, worker=worker) if found is not None and worker else found

    @property
    def data(self) -> dict[str, Any]:
        """As an artefact's data."""
        names = ("by", "worker", "sensitivity", "specificity", "collision", "threshold", "usd")
        told = "compact" if self.wordings == COMPACT else "standard"
        return {name: getattr(self, name) for name in names} | {"wordings": told}

    @property
    def informed(self) -> bool:
        """Whether it is known to know more than a coin."""
        return abs(self.sensitivity + self.specificity - 1) > 1e-9

    def weight(self, said_same: bool | Any, same: bool) -> Any:
        """The logarithm of the chance that it says this of two replies that are (not) the same."""
        yes = self.sensitivity if same else 1 - self.specificity
        return math.log(yes if said_same else 1 - yes)

    def alike(self, one: Sequence[float], other: Sequence[float]) -> bool:
        """Whether two vectors lie so near each other that it calls their texts the same."""
        dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
        size = math.sqrt(math.fsum(a * a for a in one) * math.fsum(b * b for b in other))
        return dot >= self.threshold * size if size else False

    def hear(
        self,
        request: Request,
        new: int,
        replies: Mapping[int, Answer],
        values: Mapping[int, str | None],
        known: Compared,
    ) -> Generator[Step, Any, None]:
        """Hold a new reply against those before it, where their `values` (`answers.said`) do not tell. Adds to `known`.

        Nobody is asked where that cannot teach anything. A failure of the comparer leaves the pairs open; where the request may
        not use it, it is not asked again.
        """
        others = [k for k in replies if k != new and _open(values[k], values[new])]
        if not others or not self.informed or values[new] == "":
            return
        if known.failed is not None and known.failed.kind == "denied":
            return
        if self.by == "embedding":
            yield from self._embed(replies, [*others, new], known)
            if new not in known.vectors:
                return
            for k in others:
                if k in known.vectors:
                    known.same[_pair(k, new)] = self.alike(known.vectors[k], known.vectors[new])
            return
        for k in others:
            reply = yield from put(self.asking(request, replies[k], replies[new]))
            if reply.error is not None:
                known.failed = reply.error
                if reply.error.kind in ("limit", "denied"):
                    return
            elif (found := verdict(reply.text)) is not None:
                known.same[_pair(k, new)] = found

    def _embed(
        self, replies: Mapping[int, Answer], which: Sequence[int], known: Compared
    ) -> Generator[Step, Any, None]:
        missing = [k for k in which if k not in known.vectors]
        texts = [replies[k].text[-LONGEST:] for k in missing]
        if self.worker == SHIPPED:
            known.vectors.update(
                (k, _static().vector(t).tolist()) for k, t in zip(missing, texts, strict=True)
            )
            return
        reply = yield from put(self.embedding(texts))
        if reply.error is not None or len(reply.embeddings) != len(missing):
            known.failed = reply.error
            return
        known.vectors.update(zip(missing, reply.embeddings, strict=True))

    def embedding(self, texts: Sequence[str]) -> Ask:
        """The ask for the vectors of some replies."""
        messages = tuple(Message("user", text) for text in texts)
        why = "whether free texts amount to the same"
        return Ask(self.worker, messages, role="embedder", want="embedding", reason=why)

    def asking(self, request: Request, one: Answer, other: Answer) -> Ask:
        """The question to a judge."""
        return Ask(
            self.worker,
            self.wordings.comparing(request, one, other),
            role="judge",
            max_tokens=self.tokens,
            params={"temperature": 0},
            reason="whether two free texts amount to the same",
        )

    def outlook(self, request: Request, count: int, quotes: Quotes) -> Outlook:
        """What it takes to compare up to `count` replies; even odds assumed that they need it."""
        if self.worker == SHIPPED or not self.informed or count < 2:
            return Outlook()
        if self.by == "embedding":
            text = longest(self.wordings).text[:LONGEST]
            asks = [(self.embedding(["x"]), self.embedding([text, text]))] + [
                (self.embedding(["x"]), self.embedding([text]))
            ] * (count - 2)
        else:
            long = longest(self.wordings)
            pair = self.asking(request, Answer(), Answer()), self.asking(request, long, long)
            asks = [pair] * (count * (count - 1) // 2)
        return maybe(then(*(of_ask(quotes(short), quotes(far)) for short, far in asks)), 0.5)


NOBODY: Final = Comparer("judge", "nobody", 0.5, 0.5)
"""Who compares where nobody does: each free text keeps its own chance, and is neither for nor against another."""


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _open(one: str | None, other: str | None) -> bool:
    """Whether the values of two replies leave open if they are the same."""
    return one != "" and other != "" and (one is None or other is None)


# --- what it comes to --------------------------------------------------------------------------------------------


def divisions(replies: int) -> Any:
    """Every way to divide so many replies into equal ones, a row each: for every reply the number of its part, from 0."""
    import numpy as np

    rows = np.zeros((1, 0), dtype=np.int64)
    for _ in range(replies):
        rows = _longer(rows)
    return rows


def _longer(rows: Any) -> Any:
    """The ways to put one more reply to a part that there is, or into one of its own."""
    import numpy as np

    parts = rows.max(1, initial=-1) + 1
    repeated = np.repeat(np.arange(len(rows)), parts + 1)
    joined = np.arange(len(repeated)) - np.repeat(np.cumsum(parts + 1) - (parts + 1), parts + 1)
    return np.concatenate([rows[repeated], joined[:, None]], axis=1)


def likely(rows: Any, odds: Any, collision: float) -> Any:
    """The logarithm of the chance of each division (up to a constant) before a comparer has said anything: ways x items.

    `odds` (items, replies): the log-odds of each reply to be right. Right ones are the same; wrong ones are by a Chinese
    restaurant process, in which two of them coincide with chance `collision`.
    """
    import numpy as np

    odds = np.clip(np.asarray(odds, dtype=np.float64), -8.0, 8.0)
    replies = rows.shape[1]
    alpha = 1.0 / collision - 1.0
    sizes = (rows[:, None, :] == np.arange(replies)[:, None]).sum(2)  # ways, parts
    whole = np.where(sizes > 0, math.log(alpha) + _factorial(sizes - 1), 0.0)
    rising = np.concatenate(
        [[0.0], np.cumsum(np.log(alpha + np.arange(replies)))]
    )  # of so many wrong replies
    wrong = whole.sum(1)
    total = np.repeat((wrong - rising[replies])[:, None], len(odds), axis=1)  # nobody is right
    for part in range(replies):
        inside = rows == part
        right = inside @ odds.T + (wrong - whole[:, part] - rising[replies - sizes[:, part]])[:, None]
        total = np.where((sizes[:, part] > 0)[:, None], np.logaddexp(total, right), total)
    return total


def _factorial(sizes: Any) -> Any:
    """The logarithm of n!, of small whole numbers; below 0 as of 0."""
    import numpy as np

    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 16)))])
    return table[np.maximum(sizes, 0)]


def _ways(
    comparer: Comparer, places: Sequence[int], values: Mapping[int, str | None], odds: Any, known: Compared
) -> tuple[Any, Any]:
    """The likely ways to divide the replies of some workers, and the chance of each."""
    import numpy as np

    rows, weight = np.zeros((1, 0), dtype=np.int64), np.zeros(1)
    for at, new in enumerate(places):
        before = rows.max(1, initial=-1) + 2
        rows, weight = _longer(rows), np.repeat(weight, before)
        for earlier in range(at):
            k = places[earlier]
            equal = rows[:, earlier] == rows[:, at]
            if not _open(values[k], values[new]):
                weight = weight + np.where(equal == (values[k] == values[new]), 0.0, -np.inf)
            elif (found := known.same.get(_pair(k, new))) is not None:
                yes, no = comparer.weight(found, True), comparer.weight(found, False)
                weight = weight + np.where(equal, yes, no)
        if len(rows) > _WAYS:
            order = np.argsort(-(weight + likely(rows, odds[:, places[: at + 1]], comparer.collision)[:, 0]))
            rows, weight = rows[order[:_WAYS]], weight[order[:_WAYS]]
    total = weight + likely(rows, odds[:, list(places)], comparer.collision)[:, 0]
    kept = total > total.max() - 30
    chance = np.exp(total[kept] - total.max())
    return rows[kept], chance / chance.sum()


def softly(
    posterior: Posterior,
    comparer: Comparer,
    values: Mapping[int, str | None],
    known: Compared,
    odds: Any,
    lengths: Any = None,
) -> Beliefs:
    """What replies are worth where not all can be compared by their `values` (by worker, as places): the mean over the ways to
    divide them into equal ones, each as likely as the odds of the workers and the comparer's verdicts make it.

    `odds`, `lengths`: one row, as for `Beliefs.after`. Where all values tell, it is the same as that.
    """
    import numpy as np

    count = odds.shape[1]
    asked = np.zeros(count, dtype=bool)
    asked[list(values)] = True
    places = [k for k in values if values[k] != ""]
    rows, chance = _ways(comparer, places, values, odds, known)
    classes = np.full((len(rows), count), -1)
    classes[:, places] = rows
    wide = (len(rows), count)
    long = None if lengths is None else np.broadcast_to(lengths, wide)
    found = posterior.chances(classes, np.broadcast_to(odds, wide), np.broadcast_to(asked, wide), long)
    return mean_over(found[:, None], classes[:, None], chance[:, None], odds, asked[None])


def mean_over(found: Any, classes: Any, chance: Any, odds: Any, asked: Any) -> Beliefs:
    """Beliefs of items from those of each way to divide their replies: the mean of the chances to be right.

    `found` (ways, items, candidates): the chances in that way; `classes` (ways, items, workers): who gives which candidate, -1
    for none; `chance` (ways, items): how likely the way is; `odds`, `asked` (items, workers) as for `Beliefs.after`.
    """
    import numpy as np

    own = np.take_along_axis(found, np.maximum(classes, 0), axis=2)
    each = np.where(asked, (chance[:, :, None] * np.where(classes >= 0, own, 0.0)).sum(0), -1.0)
    top = each >= each.max(1, keepdims=True) - 1e-12
    speaker = np.where(top, odds, -np.inf).argmax(1)
    rows = np.arange(len(speaker))
    mine = classes[:, rows, speaker]
    others = np.where((np.arange(found.shape[2]) == mine[:, :, None]), 0.0, found).max(2)
    return Beliefs(speaker, speaker, np.maximum(each[rows, speaker], 0.0), (chance * others).sum(0))
