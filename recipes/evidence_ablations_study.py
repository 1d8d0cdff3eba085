"""The policy as it serves, and variants of it, on the train items of a set: what `evidence_ablations.py` measures them by.

Score and cost of an item are means of so many splits, two unless told: other folds of estimators, reader and posterior, other
halves of the values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from evidence_ablations_shown import SHOWN, cell, told

from stretto.evaluation.controls import paired
from stretto.learning.evidence import success
from stretto.learning.evidence.assurance import moved
from stretto.learning.evidence.lattice import Lattice, Walk, solve, walk
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.reading import read_replies, reread
from stretto.learning.evidence.training import LONGEST, PENALTIES, Learned, Matrix, nats
from stretto.policies.evidence.options import LOOKS
from stretto.policies.evidence.trees import Trees

US = (0.01, 0.03, 0.05, 0.1, 0.18, 0.3)


@dataclass(frozen=True)
class Form:
    """The policy as it serves, or with something left out.

    `keep`: places in the shortlist. `question`: what is seen of a prompt ("all", "no slopes", "words", "nothing"). `reading`: of
    replies ("all", "no options", "nothing"). `trees`: the form of the posterior; `None`: as it serves. `values`: what an answer
    counts when they are solved ("half" score and half chance, "score", "chance"). `standing`: nobody is asked in vain. `near`:
    the first ask heeds how near the prompt is to each known task, if it does as it serves.
    """

    keep: tuple[int, ...] | None = None
    question: str = "all"
    reading: str = "all"
    lengths: bool = True
    identity: bool = True
    trees: bool | None = None
    values: str = "half"
    standing: bool = True
    near: bool = True
    rich: bool | None = None


@dataclass
class Study:
    """The train items of a set, what `learn` found on them, and what its variants share."""

    data: Matrix
    found: Learned
    splits: int = 2
    few: Matrix = field(init=False)
    read: Any = field(init=False, default=None)
    lengths: Any = field(init=False)
    known: dict = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.few = self.data.of([self.found.pool.index(w) for w in self.found.workers])
        if self.found.reading is not None:
            self.read = read_replies(self.few)
        mean, deviation = self.found.usual
        self.lengths = np.nan_to_num(np.clip((self.few.tokens - mean) / deviation, -LONGEST, LONGEST))

    @property
    def base(self) -> Any:
        """The score of the best single worker."""
        return self.data.scores[:, self.found.best]

    @property
    def per(self) -> list[float]:
        """The prices, in score a dollar."""
        return [u / self.found.unit for u in US]

    def once(self, key: tuple, make) -> Any:
        """What is dear is made once."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def fold(self, split: int) -> Any:
        """The five folds of a split."""
        return success.folds(len(self.data.items), 5, split)

    def logits(self, question: str, split: int) -> Any:
        """The log-odds of the shortlist's workers by what is seen of a prompt, cross-fitted."""
        return self.once(("logits", question, split), lambda: self._logits(question, split))

    def _logits(self, question: str, split: int) -> Any:
        fold, scores, found = self.fold(split), self.few.scores, self.found
        if question == "all" and split == 0:
            return success.log_odds(found.router[0][:, [found.pool.index(w) for w in found.workers]])
        if question == "nothing":
            return success.log_odds(
                success.cross_fitted(success.Means, np.zeros((len(fold), 1)), scores, fold)
            )
        prompts = found.prompts
        if question == "no slopes":
            prompts = replace(prompts, spread=None)
        elif question == "words":
            prompts = replace(prompts, tasks=(), centres=None, spread=None)
        x = self.once(("x", question), lambda: prompts.matrix(self.data.items))

        def chances(c: float, at_fold: Any) -> Any:
            return success.cross_fitted(lambda: success.Logistic(c, loose=prompts.loose), x, scores, at_fold)

        c = found.success.c
        if question != "all":  # with its own best penalty
            c = min(
                [p for p in PENALTIES if 0.1 < p / c < 10.1],
                key=lambda p: nats(chances(p, self.fold(0)), scores),
            )
        return success.log_odds(chances(c, fold))

    def after(self, form: Form, split: int) -> Any:
        """The log-odds of workers once their replies were read, cross-fitted; `None`: nothing is read."""
        if self.read is None or form.reading == "nothing":
            return None
        key = ("after", form.keep, form.question, form.reading, split)
        return self.once(key, lambda: self._after(form, split))

    def _after(self, form: Form, split: int) -> Any:
        read, logits, scores = (
            self.read,
            self.logits(form.question, split),
            self.few.scores,
        )
        if form.reading == "no options":
            read = read.copy()
            read[:, :, -len(LOOKS) :] = np.where(np.isnan(read[:, :, -len(LOOKS) :]), np.nan, 0.0)
        if form.keep is not None:
            read, logits, scores = (a[:, form.keep] for a in (read, logits, scores))
        reading, found = reread(logits, read, scores, self.fold(split))
        return None if reading is None else found

    def lattice(self, form: Form, split: int) -> Lattice:
        """What is believed of each subset, by posteriors that have not seen the item."""
        shared = replace(form, values="half", standing=True, near=True, rich=None)
        found = self.once(("lattice", shared, split), lambda: self._lattice(shared, split))
        near = self.found.train.near if form.near and form.question in ("all", "no slopes") else None
        return replace(found, near=near, standing=found.standing if form.standing else None)

    def _lattice(self, form: Form, split: int) -> Lattice:
        keep = list(range(len(self.found.workers))) if form.keep is None else list(form.keep)
        few, fold = self.few.of(keep), self.fold(split)
        logits, after = (
            self.logits(form.question, split)[:, keep],
            self.after(form, split),
        )
        long = self.lengths[:, keep] if form.lengths else np.zeros_like(logits)
        parts = (
            few.classes,
            logits,
            few.scores,
            long,
            logits if after is None else after,
            few.there,
        )
        trees = isinstance(self.found.posterior.form, Trees) if form.trees is None else form.trees
        kind = {
            "identity": form.identity,
            "exclusive": self.found.posterior.exclusive,
            "trees": trees,
        }
        fits = [fit_posterior(*(a[fold != f] for a in parts), **kind) for f in range(5)]
        moves = moved(logits, after, few.there, few.classes)
        said = few.classes, logits, few.scores, few.costs
        return Lattice.of(fits, fold, *said, long, after, few.there, moves)

    def walked(self, form: Form, split: int) -> Walk:
        """What the policy brings at `US`, its values solved on the other half."""
        rich = self.found.rich if form.rich is None else form.rich
        lattice = self.lattice(form, split)
        return halves(
            lattice,
            split,
            lambda learnt: solve(counted(learnt, form.values), self.per, rich=rich),
        )

    @property
    def served(self) -> Walk:
        """What the policy brings as it serves."""
        return self.once(("served",), lambda: self.went(Form()))

    def went(self, form: Form) -> Walk:
        """The mean of the splits."""
        found = mean_of([self.walked(form, split) for split in range(self.splits)])
        for key in [k for k in self.known if k[0] == "lattice" and k[1] != Form()]:
            del self.known[key]  # only the served one is used again
        return found


def counted(lattice: Lattice, values: str) -> Lattice:
    """What `solve`, which counts an answer half by its score and half by its chance, has to see to count it otherwise."""
    if values == "score":
        return replace(lattice, score=2 * lattice.score - lattice.first)
    return replace(lattice, score=lattice.first) if values == "chance" else lattice


def halves(lattice: Lattice, split: int, solved) -> Walk:
    """Two halves, each walked by what was solved on the other."""
    half = success.folds(len(lattice.logits), 2, split)
    whole = [np.zeros((len(US), len(half))) for _ in range(4)]
    for number in (0, 1):
        at = half == number
        part = walk(solved(lattice.only(~at)), lattice.only(at))
        for into, each in zip(whole, (part.score, part.cost, part.calls, part.sure), strict=True):
            into[:, at] = each
    return Walk(*whole)


def mean_of(walks: Sequence[Walk]) -> Walk:
    """Item by item."""
    return Walk(
        *(np.mean([getattr(w, name) for w in walks], axis=0) for name in ("score", "cost", "calls", "sure"))
    )


def points(a, b) -> list[float]:
    """A paired difference in points, with its interval."""
    gap = paired(a, b)
    return [round(100 * x, 2) for x in (gap.value, gap.low, gap.high)]


def worths(went: Walk, unit: float) -> Any:
    """Score less the price of what was asked, a row a price."""
    return went.score - np.array(US)[:, None] / unit * went.cost


def row(name: str, went: Walk, study: Study, served: Walk | None = None) -> dict:
    """A variant at every price, and what it is worth against `served`; printed as it comes."""
    unit = study.found.unit
    out: dict = {"variant": name, "n": went.score.shape[1], "prices": {}}
    for k, u in enumerate(US):
        one = {
            "difference": points(went.score[k], study.base),
            "cost": float(went.cost[k].mean() / unit),
        }
        if served is not None:
            one["worth"] = points(worths(went, unit)[k], worths(served, unit)[k])
        out["prices"][str(u)] = one | {"calls": round(float(went.calls[k].mean()), 2)}
    if served is not None:
        out["worth"] = points(worths(went, unit).mean(0), worths(served, unit).mean(0))
    shown = [out["prices"][str(u)] for u in SHOWN]
    print(
        f"{name:52s}",
        *(cell(one) for one in shown),
        "worth",
        told(out.get("worth")),
        flush=True,
    )
    return out
