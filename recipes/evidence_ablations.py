"""What the parts of sequential evidence are worth, on train alone: everything cross-fitted, every variant refitted.

    python recipes/evidence_ablations.py zeroeval --data FOLDER --out RESULTS [--most N] [--only PART] [--splits 1]

parts: the policy as it serves (`learn`'s shortlist, posterior and values, text of replies, options, slopes of tasks), and with a
part left out. sizes: the shortlist cut short; it is found greedily, so its first workers are those that a short one would have.
removed: each worker of the shortlist gone, the policy only masked, and solved again. whole, cold: the best single plays a worker
with 0, 20, 50, 200 labels (`evidence_ablations_cold.py`). families: worker-success estimators, cross-fitted, for all workers
without gaps.

Score and cost of an item are means of the splits (`evidence_ablations_study.py`).
`worth`: score less the price of what was asked, in points, paired against the served form at the same price; and the mean over
`US`. `--most`: so many items of train, by chance; `--shortlist`: these workers, in this order, instead of `learn`'s search. What
is there already is not made again. Tables and picture: `evidence_ablations_shown.py`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from evidence_ablations_cold import LABELS, cold, whole
from evidence_ablations_study import US, Form, Study, halves, mean_of, points, row
from evidence_tables import SETS, ece, loaded

from stretto.evaluation.controls import paired
from stretto.learning.evidence import success
from stretto.learning.evidence.lattice import Lattice, Solved, Walk, solve
from stretto.learning.evidence.matrices import Matrix
from stretto.learning.evidence.training import learn, nats
from stretto.policies.evidence.options import LOOKS
from stretto.policies.evidence.trees import Trees

PARTS = ("parts", "sizes", "removed", "whole", "cold", "families")


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
    served = study.served
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
    """The served shortlist, and its first workers alone."""
    served, count = study.served, len(study.found.workers)
    rows = [row(f"as it serves ({count})", served, study)]
    for size in range(2, count):
        went = study.went(Form(keep=tuple(range(size))))
        rows.append(row(f"the first {size}", went, study, served))
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
    rich, count, splits = study.found.rich, len(study.found.workers), range(study.splits)
    lattices = [study.lattice(Form(), split) for split in splits]
    half = [success.folds(len(lattice.logits), 2, split) for split, lattice in enumerate(lattices)]
    known = [
        [solve(lattice.only(which != number), study.per, rich=rich) for number in (0, 1)]
        for lattice, which in zip(lattices, half, strict=True)
    ]

    def walked(lattice: Lattice, split: int, solved: Sequence[Solved]) -> Walk:
        turn = iter(solved)
        return halves(lattice, split, lambda learnt: next(turn))

    served = study.once(
        ("served",), lambda: mean_of([walked(lattices[split], split, known[split]) for split in splits])
    )
    rows = [row("nobody gone", served, study)]
    for gone, worker in enumerate(study.found.workers):
        stay = [k for k in range(count) if k != gone]
        ways: dict[str, list[Walk]] = {"masked": [], "solved again": []}
        for split in splits:
            rest = lattices[split].among(stay).judged()
            ways["masked"].append(walked(rest, split, [masked(one, stay) for one in known[split]]))
            ways["solved again"].append(
                halves(rest, split, lambda learnt: solve(learnt, study.per, rich=rich))
            )
        rows += [row(f"{worker} gone, {way}", mean_of(w), study, served) for way, w in ways.items()]
    return rows


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
    """Each family of worker-success estimators, cross-fitted, on the workers without gaps.

    Log-loss, and its difference to the family that serves; AUC; calibration error; and the mean worth over `US` of asking at each
    price the worker that it promises most of, against asking always the best single.
    """
    found = study.found
    whole = np.flatnonzero(study.data.there.all(0))
    some = study.data.of(whole)
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
    chances |= {name: success.cross_fitted(make, x, some.scores, fold) for name, make in made.items()}
    odds = success.log_odds(chances["as it serves"])
    for labels in LABELS:
        chances[f"probe profile, {labels} labels each"] = profile(some.scores, odds, fold, labels)
    usual = loss(chances["as it serves"], some.scores)
    rows = []
    for name, chance in chances.items():
        gap = paired(loss(chance, some.scores), usual)
        one = {
            "family": name,
            "nats": round(nats(chance, some.scores), 4),
            "against": [round(v, 4) for v in (gap.value, gap.low, gap.high)],
            "auc": round(auc(chance, some.scores), 3),
            "ece": round(ece(chance.ravel(), some.scores.ravel()), 4),
            "worth": points(*routed(study, some, chance)),
        }
        rows.append(one)
        print(one, flush=True)
    return rows


def routed(study: Study, some: Matrix, chance) -> tuple:
    """Of each item the mean worth over `US` of the worker that promises most, and of the best single worker."""
    unit, items = study.found.unit, np.arange(len(some.items))
    mine = np.zeros(len(items))
    for u in US:
        picked = (chance - u / unit * some.costs.mean(0)).argmax(1)
        mine += (some.scores[items, picked] - u / unit * some.costs[items, picked]) / len(US)
    single = study.base - np.mean(US) / unit * study.data.costs[:, study.found.best]
    return mine, single


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
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--shortlist", nargs="+", default=(), help="these workers, in this order")
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
    study = Study(data, learn(data, size=given.size, names=given.shortlist), given.splits)
    body |= {"shortlist": study.found.workers, "told": study.found.told}
    body["form"] = "trees" if isinstance(study.found.posterior.form, Trees) else "linear"
    print(f"{given.set}: learned after {time.process_time() - begun:.0f} s", flush=True)
    made = {
        "parts": parts,
        "sizes": sizes,
        "removed": removed,
        "whole": whole,
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
