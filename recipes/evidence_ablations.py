"""What the parts of sequential evidence are worth, on train alone: everything cross-fitted, every variant refitted.

    python recipes/evidence_ablations.py zeroeval --data FOLDER --out RESULTS [--most N] [--only PART]

parts: the policy as it serves (`learn`'s shortlist, posterior and values, text of replies, options, slopes of tasks), and with a
part left out. sizes: shorter shortlists, searched anew, and the served one cut short. cold: the best single plays a worker with
0, 20, 50, 200 labels, in an exchangeable posterior and a reader that never saw it. removed: each worker of the shortlist gone,
the policy only masked, and solved again. families: worker-success estimators, cross-fitted, for all workers without gaps.

Score and cost of an item are means of two splits: other folds of estimators, reader and posterior, other halves of the values.
`worth`: score less the price of what was asked, in points, paired against the served form at the same price; and the mean over
`US`. `--most`: so many items of train, by chance. What is there already is not made again. Tables and picture:
`evidence_ablations_shown.py`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from evidence_ablations_shown import SHOWN, cell, told
from evidence_tables import SETS, loaded

from stretto.evaluation.controls import paired
from stretto.learning.evidence import success
from stretto.learning.evidence.assurance import moved
from stretto.learning.evidence.lattice import Lattice, Solved, Walk, solve, walk
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.reading import fit_reading, read_replies, reread
from stretto.learning.evidence.training import (
    LONGEST,
    PENALTIES,
    Learned,
    Matrix,
    learn,
    nats,
)
from stretto.policies.evidence.options import LOOKS
from stretto.policies.evidence.trees import Trees

LABELS = (0, 20, 50, 200)
US = (0.01, 0.03, 0.05, 0.1, 0.18, 0.3)
SPLITS = 2
PARTS = ("parts", "sizes", "removed", "cold", "families")


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

    def went(self, form: Form) -> Walk:
        """The mean of the splits."""
        found = mean_of([self.walked(form, split) for split in range(SPLITS)])
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


def router(study: Study) -> Walk:
    """The question alone: at each price the worker that promises most, of those that are always there."""
    data, found = study.data, study.found
    whole = np.flatnonzero(data.there.all(0))
    items, picked = np.arange(len(data.items)), []
    for u in US:
        worth = found.router[0][:, whole] - u / found.unit * data.costs[:, whole].mean(0)
        picked.append(whole[worth.argmax(1)])
    at = np.array(picked)
    shape = at.shape
    return Walk(data.scores[items, at], data.costs[items, at], np.ones(shape), np.zeros(shape))


def parts(study: Study) -> list[dict]:
    """Question, agreement, both; each part left out."""
    nothing = {"question": "nothing", "reading": "nothing", "lengths": False}
    trees = isinstance(study.found.posterior.form, Trees)
    forms = {
        "agreement alone": Form(**nothing),
        "question and agreement": Form(reading="nothing", lengths=False),
        "without the question": Form(question="nothing"),
        "without slopes of tasks": Form(question="no slopes"),
        "without tasks (words alone)": Form(question="words"),
        "without reply lengths": Form(lengths=False),
        "exchangeable workers": Form(identity=False),
        "linear posterior" if trees else "boosted trees as posterior": Form(trees=not trees),
        "without the standing rule": Form(standing=False),
        "values from scores alone": Form(values="score"),
        "values from chances alone": Form(values="chance"),
        "plain values" if study.found.rich else "rich values": Form(rich=not study.found.rich),
    }
    if study.read is not None:
        forms["without reading"] = Form(reading="nothing")
        if np.nanmax(np.abs(study.read[:, :, -len(LOOKS) :])) > 0:
            forms["without options"] = Form(reading="no options")
    if study.found.train.near is not None:
        forms["first ask without tasks"] = Form(near=False)
    if study.found.prompts.spread is None:
        del forms["without slopes of tasks"]
    if study.found.prompts.centres is None:
        del forms["without tasks (words alone)"]
    served = study.went(Form())
    check(study)
    rows = [
        row("as it serves", served, study),
        row("question alone (text router)", router(study), study, served),
    ]
    rows += [row(name, study.went(form), study, served) for name, form in forms.items()]
    return rows


def check(study: Study) -> None:
    """The lattice that is made here is the one that `learn` made."""
    mine, its = study.lattice(Form(), 0), study.found.train
    apart = float(np.abs(mine.first - its.first).max())
    print(f"largest difference to the lattice of learn: {apart:.2g}", flush=True)
    if apart > 1e-3:
        raise SystemExit("what is measured here is not what is served")


def sizes(study: Study) -> list[dict]:
    """Shorter shortlists: searched anew with their size, and the served one cut short."""
    served = study.went(Form())
    count = len(study.found.workers)
    rows = [row(f"as it serves ({count})", served, study)]
    for size in (3, 5):
        if size < count:
            found = learn(study.data, size=size)
            rows.append(
                row(
                    f"searched, {size}",
                    Study(study.data, found).went(Form()),
                    study,
                    served,
                )
            )
            rows[-1]["shortlist"] = found.workers
    for size in (2, 3, 5):
        if size < count:
            rows.append(
                row(
                    f"the first {size}",
                    study.went(Form(keep=tuple(range(size)))),
                    study,
                    served,
                )
            )
    return rows


def masked(solved: Solved, stay: Sequence[int]) -> Solved:
    """The values as they were solved for everybody, where only `stay` may be asked."""
    columns = [0, *(k + 1 for k in stay)]
    weights = {
        small: solved.weights[sum(1 << w for k, w in enumerate(stay) if small >> k & 1)][:, :, columns]
        for small in range(1 << len(stay))
    }
    return replace(solved, weights=weights, paid=solved.paid[list(stay)])


def removed(study: Study) -> list[dict]:
    """Each worker of the shortlist gone at test time."""
    served, rich, count = study.went(Form()), study.found.rich, len(study.found.workers)
    whole = [study.lattice(Form(), split) for split in range(SPLITS)]
    half = [success.folds(len(lattice.logits), 2, split) for split, lattice in enumerate(whole)]
    known = [
        [solve(lattice.only(which != number), study.per, rich=rich) for number in (0, 1)]
        for lattice, which in zip(whole, half, strict=True)
    ]
    rows = [row("nobody gone", served, study)]
    for gone, worker in enumerate(study.found.workers):
        stay = [k for k in range(count) if k != gone]
        ways: dict[str, list[Walk]] = {"masked": [], "solved again": []}
        for split in range(SPLITS):
            rest = whole[split].among(stay).judged()
            turn = iter([masked(one, stay) for one in known[split]])
            ways["masked"].append(halves(rest, split, lambda learnt, turn=turn: next(turn)))
            ways["solved again"].append(
                halves(rest, split, lambda learnt: solve(learnt, study.per, rich=rich))
            )
        rows += [row(f"{worker} gone, {way}", mean_of(w), study, served) for way, w in ways.items()]
    return rows


def cold(study: Study, draws: int = 2) -> list[dict]:
    """The best single as a newcomer: reader and posterior were not learned on it; values by chances, as nobody scored it."""
    found = study.found
    new = list(found.workers).index(found.pool[found.best])
    old = [k for k in range(len(found.workers)) if k != new]
    served = study.went(Form())
    rows = [
        row("all labels, as it serves", served, study),
        row(
            "all labels, exchangeable, values by chances",
            study.went(Form(identity=False, values="chance")),
            study,
            served,
        ),
        row("without the worker", study.went(Form(keep=tuple(old))), study, served),
    ]
    for labels in LABELS:
        walks = []
        for draw in range(draws if labels else 1):
            lattice = met(study, new, old, labels, draw)
            walks.append(
                halves(
                    lattice,
                    draw,
                    lambda learnt: solve(counted(learnt, "chance"), study.per, rich=found.rich),
                )
            )
        rows.append(row(f"{labels} labels", mean_of(walks), study, served))
    return rows


def met(study: Study, new: int, old: Sequence[int], labels: int, draw: int) -> Lattice:
    """What is believed where a newcomer is among the workers: only so many of its replies were ever scored."""
    few, fold = study.few, study.fold(draw % SPLITS)
    logits = study.logits("all", draw % SPLITS).copy()
    after = logits.copy()
    known = few.of(old)
    rng = np.random.default_rng(draw)
    trees = isinstance(study.found.posterior.form, Trees)
    kind = {
        "identity": False,
        "exclusive": study.found.posterior.exclusive,
        "trees": trees,
    }
    fits = []
    for f in range(5):
        at, other = fold == f, np.flatnonzero(fold != f)
        newcomer = success.Newcomer()
        if labels:
            some = rng.choice(other, min(labels, len(other)), replace=False)
            newcomer.fit(logits[some][:, old], few.scores[some][:, [new]])
        logits[at, new] = success.log_odds(newcomer.predict(logits[at][:, old])[:, 0])
    for f in range(5):
        at, other = fold == f, fold != f
        after[at] = logits[at]
        if study.read is not None:
            reading = fit_reading(
                logits[other][:, old],
                study.read[other][:, old],
                known.scores[other],
                rounds=160,
            )
            after[at] = reading.after(logits[at], study.read[at])
    read = study.read is not None
    seen = after if read else logits
    for f in range(5):
        other = fold != f
        parts_ = (
            known.classes,
            logits[:, old],
            known.scores,
            study.lengths[:, old],
            seen[:, old],
            known.there,
        )
        fits.append(fit_posterior(*(a[other] for a in parts_), **kind))
    moves = moved(logits, after if read else None, few.there, few.classes)
    said = few.classes, logits, few.scores, few.costs
    return Lattice.of(fits, fold, *said, study.lengths, seen, few.there, moves)


def auc(chance, right) -> float:
    """The mean over workers of how often a prompt that a worker gets right is told from one that it does not."""
    found = []
    for p, y in zip(chance.T, right.T, strict=True):
        good = y >= 0.5
        if 0 < good.sum() < len(good):
            _, place, count = np.unique(p, return_inverse=True, return_counts=True)
            rank = (np.cumsum(count) - (count - 1) / 2)[place]
            pairs = good.sum() * (~good).sum()
            found.append((rank[good].sum() - good.sum() * (good.sum() + 1) / 2) / pairs)
    return float(np.mean(found))


def loss(chance, right):
    """Log-loss of each item, the mean over the workers."""
    p = np.clip(chance, 1e-6, 1 - 1e-6)
    return -(right * np.log(p) + (1 - right) * np.log(1 - p)).mean(1)


def families(study: Study) -> list[dict]:
    """Log-loss and AUC of each family, cross-fitted, on the workers without gaps; as a router, its best one on each prompt."""
    found = study.found
    whole = np.flatnonzero(study.data.there.all(0))
    scores = study.data.of(whole).scores
    x, fold = found.prompts.matrix(study.data.items), study.fold(0)
    made = {
        "logistic, all penalised alike, c .01": lambda: success.Logistic(0.01),
        "means (no prompt)": success.Means,
        "nearest neighbours (40)": success.Nearest,
        "clusters (Avengers-Pro, 40)": success.Clusters,
        "matrix factorisation, rank 8": lambda: success.Factors(0.01, rank=8),
        "item response, rank 1": lambda: success.Factors(0.01, rank=1),
    }
    chances = {"as it serves": found.router[0][:, whole]}
    chances |= {name: success.cross_fitted(make, x, scores, fold) for name, make in made.items()}
    odds = success.log_odds(chances["as it serves"])
    for labels in LABELS:
        chances[f"probe profile, {labels} labels each"] = profile(scores, odds, fold, labels)
    usual = loss(chances["as it serves"], scores)
    rows = []
    for name, chance in chances.items():
        gap = paired(loss(chance, scores), usual)
        picked = scores[np.arange(len(x)), chance.argmax(1)]
        one = {
            "family": name,
            "nats": round(nats(chance, scores), 4),
            "against": [round(v, 4) for v in (gap.value, gap.low, gap.high)],
            "auc": round(auc(chance, scores), 3),
            "router": points(picked, study.base),
        }
        rows.append(one)
        print(one, flush=True)
    return rows


def profile(scores, odds, fold, labels: int):
    """Each worker as a newcomer with so many labels, foretold from what is known of the others."""
    out = np.zeros(scores.shape)
    rng = np.random.default_rng(0)
    for k in range(scores.shape[1]):
        others = np.delete(odds, k, axis=1)
        for f in range(5):
            at, other = fold == f, np.flatnonzero(fold != f)
            newcomer = success.Newcomer()
            if labels:
                some = rng.choice(other, min(labels, len(other)), replace=False)
                newcomer.fit(others[some], scores[some][:, [k]])
            out[at, k] = newcomer.predict(others[at])[:, 0]
    return out


def main() -> None:
    """The wanted parts of one set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--most", type=int, help="so many items of train, by chance")
    parser.add_argument("--only", choices=PARTS, action="append")
    given = parser.parse_args()
    begun = time.process_time()
    data = loaded(given.data, given.set)
    data = data.at(np.array([i.split == "train" for i in data.items]))
    if given.most and given.most < len(data.items):
        data = data.at(np.random.default_rng(0).permutation(len(data.items)) < given.most)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"ablations-{given.set}.json"
    body: dict = {
        "set": given.set,
        "split": "train, cross-fitted",
        "n": len(data.items),
    }
    if file.exists() and (known := json.loads(file.read_text()))["n"] == body["n"]:
        body = known
    todo = [part for part in given.only or PARTS if part not in body]
    if not todo:
        return
    study = Study(data, learn(data, size=given.size))
    body |= {"shortlist": study.found.workers, "told": study.found.told}
    body["form"] = "trees" if isinstance(study.found.posterior.form, Trees) else "linear"
    print(f"{given.set}: learned after {time.process_time() - begun:.0f} s", flush=True)
    made = {
        "parts": parts,
        "sizes": sizes,
        "removed": removed,
        "cold": cold,
        "families": families,
    }
    for part in todo:
        body[part] = made[part](study)
        seconds = time.process_time() - begun
        body["cpu_seconds"] = round(body.get("cpu_seconds", 0) + seconds, 1)
        print(f"{given.set} {part}: {seconds:.0f} s", flush=True)
        begun = time.process_time()
        file.write_text(json.dumps(body, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
