"""What the parts of sequential evidence are worth, on train alone: everything cross-fitted, every variant refitted.

    python recipes/evidence_ablations.py zeroeval --data FOLDER --out RESULTS [--most N] [--only parts|cold|removed|families]
    python recipes/evidence_ablations.py page --out RESULTS        # the tables of what is there, as Markdown

parts: question alone (text router), agreement alone (no text), both; exchangeable workers; sizes of the shortlist.
cold: the best single plays a worker with 0, 20, 50, 200 labels, in an exchangeable posterior that never saw it (full vote of the
shortlist, mean of 5 draws). removed: each worker of the shortlist gone, the policy only masked, and solved again.
families: the families of worker-success estimators behind one protocol, cross-fitted, for all workers.
`--most`: so many items of train, by chance. `worth`: score less the price of what was asked, against the served form, paired.
What is there already is not made again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from evidence_tables import SETS, loaded

from stretto.evaluation.controls import paired
from stretto.learning.evidence import success
from stretto.learning.evidence.lattice import NEVER, Solved, Walk, solve, walk
from stretto.learning.evidence.posterior import fit_posterior
from stretto.learning.evidence.training import Learned, Matrix, Prompts, cross_walk, learn, nats, shortlist
from stretto.policies.evidence.beliefs import Beliefs

LABELS = (0, 20, 50, 200)
US = (0.01, 0.05, 0.1, 0.18)
SHOWN = (0.05, 0.1)


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


def points(a, b) -> list[float]:
    """A paired difference in points, with its interval."""
    gap = paired(a, b)
    return [round(100 * x, 2) for x in (gap.value, gap.low, gap.high)]


def priced(name: str, went: Walk, base, unit: float, served: Walk | None = None) -> list[dict]:
    """A row a price; `served` is what its worth is held against."""
    rows = []
    for k, (u, w) in enumerate(zip(US, went, strict=True)):
        more: dict = {"u": u, "calls": round(float(w.calls.mean()), 2)}
        if served is not None:
            mine, other = (x.score[k] - u / unit * x.cost[k] for x in (went, served))
            more["worth"] = points(mine, other)
        rows.append(line(f"{name}, u={u}", w.score, w.cost, base, unit, **more))
    return rows


def parts(data: Matrix, train: Matrix, full: Learned) -> list[dict]:
    """Question, agreement, both; identity; the size of the shortlist (its first workers)."""
    base, unit = train.scores[:, full.best], full.unit
    per = [u / unit for u in US]
    served = cross_walk(full.train, per, rich=full.rich)
    rows = []
    items = np.arange(len(base))
    for u in US:
        picked = (full.router[0] - u / unit * train.costs.mean(0)).argmax(1)
        score, cost = train.scores[items, picked], train.costs[items, picked]
        mine = score - u / unit * cost
        k = US.index(u)
        worth = points(mine, served.score[k] - u / unit * served.cost[k])
        rows.append(line(f"question alone (text router), u={u}", score, cost, base, unit, u=u, worth=worth))
    variants = {
        "agreement alone": {"names": full.workers, "text": False},
        "both, exchangeable workers": {"names": full.workers, "identity": False},
    }
    for few in (2, 3, 4):
        if few < len(full.workers):
            variants[f"both, the first {few} of the shortlist"] = {"names": full.workers[:few]}
    for many in (5, 7):
        if many != len(full.workers):
            names = [
                data.workers[k] for k in shortlist(train, success.log_odds(full.router[0]), many, full.best)
            ]
            variants[f"both, a shortlist of {many}"] = {"names": names}
    rows += priced("both (as served)", served, base, unit)
    for name, how in variants.items():
        found = learn(data.of([data.workers.index(w) for w in how["names"]]), **how)
        rows += priced(name, cross_walk(found.train, per, rich=found.rich), base, unit, served)
    return rows


def barred(solved: Solved, worker: int) -> Solved:
    """The same values, but this worker is never chosen."""
    weights = {}
    for mask, known in solved.weights.items():
        known = known.copy()
        known[:, :, worker + 1] = 0.0
        known[:, 0, worker + 1] = NEVER
        weights[mask] = known
    return replace(solved, weights=weights)


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
    whole = halves(found, None, again=False)
    rows = priced("nobody gone", whole, base, found.unit)
    for gone, worker in enumerate(found.workers):
        masked = halves(found, gone, again=False)
        solved = halves(found, gone, again=True)
        rows += priced(f"{worker} gone, masked", masked, base, found.unit, whole)
        rows += priced(f"{worker} gone, solved again", solved, base, found.unit, whole)
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
                        some = rng.choice(other, min(labels, len(other)), replace=False)
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


def families(train: Matrix) -> list[dict]:
    """Log-loss and AUC of each family, cross-fitted; as a router, the best worker by it against the best single."""
    x = Prompts.learned(train.items).matrix(train.items)
    fold = success.folds(len(x))
    base = train.scores[:, int(train.scores.mean(0).argmax())]
    made = {
        "logistic, c .003": lambda: success.Logistic(0.003),
        "logistic, c .01": lambda: success.Logistic(0.01),
        "logistic, c .1": lambda: success.Logistic(0.1),
        "means (no prompt)": success.Means,
        "nearest neighbours (40)": success.Nearest,
        "clusters (Avengers-Pro, 40)": success.Clusters,
        "matrix factorisation, rank 8": lambda: success.Factors(0.01, rank=8),
        "item response, rank 1": lambda: success.Factors(0.01, rank=1),
    }
    chances = {name: success.cross_fitted(make, x, train.scores, fold) for name, make in made.items()}
    odds = success.log_odds(chances["logistic, c .01"])
    for labels in (0, 20, 50, 200):
        chances[f"probe profile, {labels} labels each"] = profile(train, odds, fold, labels)
    usual = loss(chances["logistic, c .01"], train.scores)
    rows = []
    for name, chance in chances.items():
        gap = paired(loss(chance, train.scores), usual)
        picked = train.scores[np.arange(len(x)), chance.argmax(1)]
        row = {
            "family": name,
            "nats": round(nats(chance, train.scores), 4),
            "against logistic": [round(v, 4) for v in (gap.value, gap.low, gap.high)],
            "auc": round(auc(chance, train.scores), 3),
            "router": points(picked, base),
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def profile(train: Matrix, odds, fold, labels: int):
    """Each worker as a newcomer with so many labels, foretold from what is known of the others."""
    out = np.zeros(train.scores.shape)
    rng = np.random.default_rng(0)
    for k in range(train.scores.shape[1]):
        others = np.delete(odds, k, axis=1)
        for f in range(5):
            at, other = fold == f, np.flatnonzero(fold != f)
            newcomer = success.Newcomer()
            if labels:
                some = rng.choice(other, min(labels, len(other)), replace=False)
                newcomer.fit(others[some], train.scores[some][:, [k]])
            out[at, k] = newcomer.predict(others[at])[:, 0]
    return out


def told(pair: list[float], digits: int = 2) -> str:
    """A difference and its interval."""
    value, low, high = pair
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def page(out: Path) -> None:
    """The tables of what is there."""
    bodies = {
        f.stem.removeprefix("ablations-"): json.loads(f.read_text())
        for f in sorted(out.glob("ablations-*.json"))
    }
    for name, body in bodies.items():
        if "shortlist" in body:
            print(f"### {name}: the parts (train, cross-fitted, n {body['n']:,})\n")
            print(f"Shortlist: {', '.join(body['shortlist'])}.\n")
        for part in ("parts", "removed"):
            if part in body:
                one(body[part], part)
        if "cold" in body:
            print("| cold start | points | cost |\n|---|---|--:|")
            print(
                "\n".join(
                    f"| {r['variant']} | {told(r['difference'])} | x{r['cost']:.2f} |" for r in body["cold"]
                )
            )
            print()
    having = {name: {r["family"]: r for r in b["families"]} for name, b in bodies.items() if "families" in b}
    if having:
        print("| family | " + " | ".join(f"{name}, n {bodies[name]['n']:,}" for name in having) + " |")
        print("|---|" + "---|" * len(having))
        for family in next(iter(having.values())):
            cells = []
            for rows in having.values():
                r = rows[family]
                cells.append(
                    f"{r['nats']:.4f}, {told(r['against logistic'], 4)}; {r['auc']:.3f}; {told(r['router'])}"
                )
            print(f"| {family} | {' | '.join(cells)} |")


def one(rows: list[dict], title: str) -> None:
    """A variant a line, at two prices: points against the best single, cost, and what it is worth against the served form."""
    print(f"| {title} | " + " | | ".join(f"u = {u} | worth" for u in SHOWN).replace(" | | ", " | ") + " |")
    print(f"|---|{'---|' * 2 * len(SHOWN)}")
    grouped: dict[str, list[str]] = {}
    for r in rows:
        if r["u"] in SHOWN:
            cells = grouped.setdefault(r["variant"].rsplit(", u=", 1)[0], [])
            cells += [f"{told(r['difference'])} x{r['cost']:.2f}", told(r["worth"]) if "worth" in r else ""]
    print("\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in grouped.items()) + "\n")


def main() -> None:
    """The wanted parts of one set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=[*SETS, "page"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--most", type=int, help="so many items of train, by chance")
    parser.add_argument("--only", choices=("parts", "cold", "removed", "families"), action="append")
    given = parser.parse_args()
    if given.set == "page":
        page(given.out)
        return
    if given.data is None:
        parser.error("--data FOLDER")
    begun = time.process_time()
    data = loaded(given.data, given.set, gaps=False, texts=False)
    data = data.at(np.array([i.split == "train" for i in data.items]))
    if given.most and given.most < len(data.items):
        data = data.at(np.random.default_rng(0).permutation(len(data.items)) < given.most)
    wanted = given.only or ["parts", "cold", "removed", "families"]
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"ablations-{given.set}.json"
    body: dict = {"set": given.set, "split": "train, cross-fitted", "n": len(data.items)}
    if file.exists() and (known := json.loads(file.read_text()))["n"] == body["n"]:
        body = known
    todo = [part for part in wanted if part not in body]
    if {"parts", "cold", "removed"} & set(todo):
        full = learn(data, size=given.size)
        body |= {"shortlist": full.workers, "posterior": full.told.get("posterior nats")}
    for part in todo:
        body[part] = {
            "parts": lambda: parts(data, data, full),
            "cold": lambda: cold(data, full),
            "removed": lambda: removed(data, full),
            "families": lambda: families(data),
        }[part]()
        body["cpu_seconds"] = round(body.get("cpu_seconds", 0) + time.process_time() - begun, 1)
        begun = time.process_time()
        file.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
