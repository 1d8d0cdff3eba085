"""What the parts of sequential evidence are worth, on train alone: everything cross-fitted, every variant refitted.

    python recipes/evidence_ablations.py zeroeval --data FOLDER --out RESULTS [--size 7] [--only parts|cold|removed|families]

parts: question alone (text router), agreement alone (no text, no lengths), both; exchangeable workers; sizes of the shortlist.
cold: the best single plays a worker with 0, 20, 50, 200 labels, in an exchangeable posterior that never saw it (full vote of the
shortlist, mean of 5 draws). removed: each worker of the shortlist gone, the policy only masked, and solved again.
families: log-loss of the families of worker-success estimators behind one protocol, cross-fitted, for all workers.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from evidence_tables import SETS, loaded

from stretto.evaluation.controls import paired
from stretto.learning import success
from stretto.learning.evidence import PRICES, Learned, Matrix, Prompts, cross_walk, learn, nats
from stretto.learning.lattice import NEVER, Solved, Walk, solve, walk
from stretto.learning.posterior import fit_posterior
from stretto.policies.beliefs import Beliefs

LABELS = (0, 20, 50, 200)
US = (0.01, 0.05, 0.1, 0.18)


def line(name: str, score, cost, base, unit: float, **more) -> dict:
    """A row, printed as it comes."""
    gap = paired(score, base)
    row = {
        "variant": name,
        "n": len(score),
        "difference": [round(100 * x, 2) for x in (gap.value, gap.low, gap.high)],
    }
    row |= {"cost": round(float(np.mean(cost)) / unit, 3)} | more
    told = f"{row['difference'][0]:+.2f} [{row['difference'][1]:+.2f}, {row['difference'][2]:+.2f}]"
    print(f"{name:58s} {told} x{row['cost']:.3f} n {row['n']}", flush=True)
    return row


def priced(name: str, went: Walk, base, unit: float) -> list[dict]:
    """A row a price."""
    return [line(f"{name}, u={u}", w.score, w.cost, base, unit, u=u) for u, w in zip(US, went, strict=True)]


def parts(data: Matrix, train: Matrix, full: Learned, size: int) -> list[dict]:
    """Question, agreement, both; identity; the size of the shortlist (its first workers)."""
    base, unit = train.scores[:, full.best], full.unit
    per = [u / unit for u in US]
    rows = []
    items = np.arange(len(base))
    for u in US:
        picked = (full.router[0] - u / unit * train.costs.mean(0)).argmax(1)
        score, cost = train.scores[items, picked], train.costs[items, picked]
        rows.append(line(f"question alone (text router), u={u}", score, cost, base, unit, u=u))
    variants = {
        "both (as served)": full,
        "agreement alone": learn(data, names=full.workers, text=False),
        "both, exchangeable workers": learn(data, names=full.workers, identity=False),
    }
    for smaller in (3, 5):
        if smaller < size:
            variants[f"both, the first {smaller} of the shortlist"] = learn(
                data, names=full.workers[:smaller]
            )
    for name, found in variants.items():
        rows += priced(name, cross_walk(found.train, per, rich=found.rich), base, unit)
    return rows


def barred(solved: Solved, worker: int) -> Solved:
    """The same values, but this worker is never chosen."""
    weights = {}
    for mask, known in solved.weights.items():
        known = known.copy()
        known[:, :, worker + 1] = 0.0
        known[:, 0, worker + 1] = NEVER
        weights[mask] = known
    return Solved(weights, solved.rich, solved.prices)


def halves(found: Learned, gone: int | None, *, again: bool) -> Walk:
    """Cross-fitted, without a worker: masked in the values of everybody, or with values solved for the others."""
    per = [u / found.unit for u in US]
    half = success.folds(len(found.train.logits), 2, 0)
    stay = [k for k in range(len(found.workers)) if k != gone]
    parts_ = [np.zeros((len(US), len(half))) for _ in range(4)]
    for number in (0, 1):
        learnt, tested = found.train.only(half != number), found.train.only(half == number)
        if again:
            went = walk(solve(learnt.among(stay), per, rich=found.rich), tested.among(stay))
        else:
            solved = solve(learnt, per, rich=found.rich)
            went = walk(solved if gone is None else barred(solved, gone), tested)
        for whole, part in zip(parts_, (went.score, went.cost, went.calls, went.sure), strict=True):
            whole[:, half == number] = part
    return Walk(*parts_)


def removed(train: Matrix, found: Learned) -> list[dict]:
    """Each worker of the shortlist gone at test time."""
    base = train.scores[:, found.best]
    rows = priced("nobody gone", halves(found, None, again=False), base, found.unit)
    for gone, worker in enumerate(found.workers):
        rows += priced(f"{worker} gone, masked", halves(found, gone, again=False), base, found.unit)
        rows += priced(f"{worker} gone, solved again", halves(found, gone, again=True), base, found.unit)
    return rows


def cold(train: Matrix, found: Learned, draws: int = 5) -> list[dict]:
    """The best single as a newcomer: the score of the whole shortlist's answer."""
    chosen = [found.pool.index(w) for w in found.workers]
    few, logits = train.of(chosen), success.log_odds(found.router[0][:, chosen])
    new = list(found.workers).index(found.pool[found.best])
    old = [k for k in range(len(chosen)) if k != new]
    rng = np.random.default_rng(0)
    base = train.scores[:, found.best]

    def stack(labels: int | None, with_new: bool = True, identity: bool = False) -> np.ndarray:
        score = np.zeros(len(base))
        for f in range(5):
            at, other = np.flatnonzero(found.fold == f), np.flatnonzero(found.fold != f)
            known = few if labels is None and with_new else few.of(old)
            odds = logits if labels is None and with_new else logits[:, old]
            form = {"identity": identity, "exclusive": found.posterior.exclusive}
            fit = fit_posterior(known.classes[other], odds[other], known.scores[other], **form)
            if not with_new:
                part, seen = few.of(old), logits[at][:, old]
            else:
                part, seen = few, logits[at].copy()
                if labels is not None:
                    newcomer = success.Newcomer()
                    if labels:
                        some = rng.choice(other, labels, replace=False)
                        newcomer.fit(logits[some][:, old], few.scores[some][:, [new]])
                    seen[:, new] = success.log_odds(newcomer.predict(logits[at][:, old])[:, 0])
            asked = np.ones(part.classes[at].shape, dtype=bool)
            said = Beliefs.after(fit, part.classes[at], seen, asked)
            score[at] = part.scores[at, said.speaker]
        return score

    cost, unit = few.costs.sum(1), found.unit
    rows = [line("without the worker", stack(None, with_new=False), few.costs[:, old].sum(1), base, unit)]
    for labels in LABELS:
        mean = np.mean([stack(labels) for _ in range(draws if labels else 1)], axis=0)
        rows.append(line(f"{labels} labels", mean, cost, base, unit))
    rows.append(line("all labels, exchangeable", stack(None), cost, base, unit))
    rows.append(line("all labels, with identity", stack(None, identity=True), cost, base, unit))
    return rows


def families(train: Matrix) -> list[dict]:
    """Log-loss of each family, cross-fitted."""
    x = Prompts.learned(train.items).matrix(train.items)
    fold = success.folds(len(x))
    made = {
        "means (no prompt)": success.Means,
        "logistic, c .003": lambda: success.Logistic(0.003),
        "logistic, c .01": lambda: success.Logistic(0.01),
        "nearest neighbours (40)": success.Nearest,
        "clusters (Avengers-Pro, 40)": success.Clusters,
        "matrix factorisation, rank 8": lambda: success.Factors(0.01, rank=8),
        "item response, rank 1": lambda: success.Factors(0.01, rank=1),
    }
    rows = []
    for name, make in made.items():
        chance = success.cross_fitted(make, x, train.scores, fold)
        picked = train.scores[np.arange(len(x)), chance.argmax(1)].mean()
        rows.append(
            {
                "family": name,
                "nats": round(nats(chance, train.scores), 4),
                "router": round(100 * float(picked), 2),
            }
        )
        print(rows[-1], flush=True)
    profile = np.zeros(train.scores.shape)
    rng = np.random.default_rng(0)
    full = success.cross_fitted(lambda: success.Logistic(0.01), x, train.scores, fold)
    odds = success.log_odds(full)
    for k in range(train.scores.shape[1]):
        others = np.delete(odds, k, axis=1)
        for f in range(5):
            at, other = fold == f, np.flatnonzero(fold != f)
            some = rng.choice(other, min(200, len(other)), replace=False)
            fit = success.Newcomer().fit(others[some], train.scores[some][:, [k]])
            profile[at, k] = fit.predict(others[at])[:, 0]
    rows.append({"family": "probe profile, 200 labels each", "nats": round(nats(profile, train.scores), 4)})
    print(rows[-1], flush=True)
    return rows


def main() -> None:
    """The wanted parts of one set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--only", choices=("parts", "cold", "removed", "families"), action="append")
    given = parser.parse_args()
    begun = time.process_time()
    data = loaded(given.data, given.set)
    train = data.at(np.array([i.split == "train" for i in data.items]))
    wanted = given.only or ["parts", "cold", "removed", "families"]
    body: dict = {"set": given.set, "split": "train, cross-fitted", "n": len(train.items)}
    if wanted != ["families"]:
        full = learn(data, size=given.size)
        body |= {
            "shortlist": full.workers,
            "prices": len(PRICES),
            "posterior": full.told.get("posterior nats"),
        }
        if "parts" in wanted:
            body["parts"] = parts(data, train, full, given.size)
        if "cold" in wanted:
            body["cold"] = cold(train, full)
        if "removed" in wanted:
            body["removed"] = removed(train, full)
    if "families" in wanted:
        body["families"] = families(train)
    body["cpu_seconds"] = round(time.process_time() - begun, 1)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"ablations-{given.set}.json").write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
