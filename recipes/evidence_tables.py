"""The sequential evidence policy on recorded tables: cross-fitted over train, once on dev, beside its controls.

    python recipes/evidence_tables.py --data FOLDER --set mmlu_pro --out RESULTS.json [--size 7] [--no-text] [--exchangeable]

Every choice (best single, shortlist, price of a row) is made on train. Differences are to the best single worker on the same
items, with 95 % paired bootstrap intervals. Costs are relative to it. `--certify` instead runs the fixed-sequence test of
`learning.risk` over the prices on dev, with everything fitted on train.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from stretto.evaluation.tables import Table, read
from stretto.learning.evidence import PRICES, Learned, Matrix, cross_walk, learn, matrix, values
from stretto.learning.lattice import walk
from stretto.learning.risk import Certificate, certify

SETS = {
    "mmlu_pro": ("mmlu_pro", lambda item: True, lambda worker: True),
    "zeroeval": ("zeroeval_reasoning", lambda item: True, lambda worker: not worker.startswith("o1")),
    "reasoning_gym": ("reasoning_gym", lambda item: True, lambda worker: True),
    "reasoning_gym_easy": ("reasoning_gym", lambda item: item.dataset.endswith("easy"), lambda worker: True),
    "bfcl": ("bfcl_aug2024", lambda item: True, lambda worker: True),
    "routerbench": ("routerbench_subset", lambda item: True, lambda worker: True),
}


def priced(table: Table, share: float = 0.985) -> list[str]:
    """The workers that cover the items and whose calls were priced."""
    keep = []
    for worker in table.covering(share):
        said = [s for i in table.items if (s := table.said(i.id, worker)) is not None]
        if all(s.cost is not None for s in said):
            keep.append(worker)
    return keep


def bootstrap(difference: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of a mean."""
    rng = np.random.default_rng(seed)
    n = len(difference)
    means = [difference[rng.integers(0, n, n)].mean() for _ in range(draws)]
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def row(name: str, score, cost, calls, base_score, base_cost) -> dict:
    """One line of the results, in points and relative cost."""
    difference = 100 * (np.asarray(score) - base_score)
    low, high = bootstrap(difference)
    return {
        "policy": name,
        "n": len(difference),
        "score": round(100 * float(np.mean(score)), 2),
        "difference": round(float(difference.mean()), 2),
        "low": round(low, 2),
        "high": round(high, 2),
        "cost": round(float(np.mean(cost) / np.mean(base_cost)), 4),
        "calls": round(float(np.mean(calls)), 2),
    }


def known_task(train: Matrix, part: Matrix) -> np.ndarray:
    """The worker of each item of `part` that is best on its task in train."""
    best = {
        t: int(train.scores[[i.task == t for i in train.items]].mean(0).argmax())
        for t in {i.task for i in train.items}
    }
    overall = int(train.scores.mean(0).argmax())
    return np.array([best.get(i.task, overall) for i in part.items])


def vote(train: Matrix, part: Matrix, k: int) -> tuple:
    """Plain plurality of the k best of train; ties to the better one, whose reply is returned."""
    order = np.argsort(-train.scores.mean(0), kind="stable")[:k]
    numbers = part.classes[:, order]
    same = (numbers[:, :, None] == numbers[:, None, :]) & (numbers[:, :, None] >= 0)
    picked = order[(same.sum(2) - 1e-3 * np.arange(k)).argmax(1)]
    return part.scores[np.arange(len(numbers)), picked], part.costs[:, order].sum(1)


def study(data: Matrix, found: Learned, prices=PRICES, rich: bool = False) -> dict:
    """All rows of one set: `train` cross-fitted, `dev` with everything fitted on train."""
    is_train = np.array([i.split == "train" for i in data.items])
    train = data.at(is_train)
    out = {}
    for split, part, lattice, chance in (
        ("train", train, found.train, found.router[0]),
        ("dev", data.at(~is_train), found.dev, found.router[1]),
    ):
        items = np.arange(len(part.items))
        base = part.scores[:, found.best], part.costs[:, found.best]
        ones = np.ones(len(items))
        rows = [row(f"best single {data.workers[found.best]}", *base, ones, *base)]
        task = known_task(train, part)
        rows.append(row("known task", part.scores[items, task], part.costs[items, task], ones, *base))
        for u in prices:
            picked = (chance - u / found.unit * train.costs.mean(0)).argmax(1)
            rows.append(
                row(f"text router u={u}", part.scores[items, picked], part.costs[items, picked], ones, *base)
            )
        for k in (3, 5):
            score, cost = vote(train, part, k)
            rows.append(row(f"plain vote of {k} best", score, cost, k * ones, *base))
        full = lattice.score[-1]
        rows.append(
            row("stack of the shortlist", full, lattice.costs.sum(1), len(found.workers) * ones, *base)
        )
        for u in prices:
            went = (
                cross_walk(lattice, u / found.unit, rich=rich)
                if split == "train"
                else walk(values(found, u, rich=rich), lattice)
            )
            rows.append(row(f"sequential u={u}", went.score, went.cost, went.calls, *base))
        rows.append(row("oracle (not reachable)", part.scores.max(1), base[1], ones, *base))
        out[split] = rows
    return out


def certified(data: Matrix, found: Learned, rich: bool = False) -> Certificate:
    """The price that dev certifies: with 95 % the loss against the best single of train is at most 1 point."""
    dev = data.at(np.array([i.split == "dev" for i in data.items]))
    walks = []
    for u in PRICES:
        went = walk(values(found, u, rich=rich), found.dev)
        walks.append((u, went.score, went.cost))
    return certify(walks, dev.scores[:, found.best], dev.costs[:, found.best])


def main() -> None:
    """Run one set and write its rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--certify", action="store_true")
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--no-text", action="store_true")
    parser.add_argument("--exchangeable", action="store_true")
    parser.add_argument("--rich", action="store_true")
    parser.add_argument("--prices", type=float, nargs="+", default=PRICES)
    parser.add_argument("--c", type=float, default=0.01)
    given = parser.parse_args()
    if not (given.out or given.certify):
        parser.error("--out FILE, or --certify")
    begun = time.process_time()

    def say(what: str) -> None:
        print(f"{time.process_time() - begun:7.1f} s  {what}", flush=True)

    folder, keep, worker = SETS[given.set]
    table = read(given.data / folder).only(keep)
    if given.set == "reasoning_gym_easy":
        table = table.unrolled()
    names = [w for w in priced(table, 0.97 if "gym" in given.set else 0.985) if worker(w)]
    data = matrix(table, names)
    say(f"{len(data.items)} items, {len(names)} workers")
    found = learn(
        data, size=given.size, identity=not given.exchangeable, text=not given.no_text, c=given.c, say=say
    )
    if given.certify:
        test = certified(data, found, given.rich)
        print(f"{given.set}: n {len(found.dev.logits)}, u {test.u}: {test.reason}")
        for u, mean, bound in test.tested:
            print(f"  u {u}: {100 * mean:+.2f}, loss at most {100 * bound:.2f} points with 95 %")
        return
    rows = study(data, found, given.prices, rich=given.rich)
    say("measured")
    body = {"set": given.set, "options": vars(given) | {"data": "", "out": ""}, "shortlist": found.workers}
    body |= {"exclusive": found.posterior.exclusive, "cpu_seconds": round(time.process_time() - begun, 1)}
    given.out.write_text(json.dumps(body | {"rows": rows}, indent=1) + "\n")
    for split, lines in rows.items():
        print(f"\n{split}")
        for r in lines:
            print(f"{r['policy']:44s} {r['score']:6.2f} x{r['cost']:<7.3f} {r['difference']:+6.2f} "
                  f"[{r['low']:+.2f}, {r['high']:+.2f}] calls {r['calls']:.1f} n {r['n']}")  # fmt: skip


if __name__ == "__main__":
    main()
