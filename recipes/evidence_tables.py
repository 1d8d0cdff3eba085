"""The sequential evidence policy on recorded tables: cross-fitted over train, once on dev, beside its controls.

    python recipes/evidence_tables.py mmlu_pro --data FOLDER --out RESULTS
    python recipes/evidence_tables.py summary --out RESULTS        # the geometric mean over what is there; pictures anew

Writes RESULTS/SET.json, RESULTS/SET.npz (item by item, for `evidence_five.py`), RESULTS/SET.svg and RESULTS/summary.json. Every
choice (best single, shortlist, form of the posterior, a row's price) is made on train. Differences are to the best single worker
of train on the same items, in points, with 95 % paired bootstrap intervals; costs are relative to it. Rows named "chosen" have
the price that train chose: "equal quality" the cheapest whose cross-fitted score is not below it, "equal cost" the best
score that costs no more. `zeroeval_o1` has o1-mini, whose cost was not recorded: ASSUMED is ten times that of
claude-3-5-sonnet-20241022; `share` is how often it is asked.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from stretto.evaluation.controls import Control, known_task, paired, plain_vote
from stretto.evaluation.tables import Table, read
from stretto.learning.evidence.assurance import stated
from stretto.learning.evidence.lattice import Lattice, Walk, walk
from stretto.learning.evidence.risk import certify
from stretto.learning.evidence.rounds import solve_rounds, walk_rounds
from stretto.learning.evidence.training import PRICES, Learned, Matrix, cross_rounds, learn, matrix, values

O1 = "o1-mini-2024-09-12"
SONNET = "claude-3-5-sonnet-20241022"
SETS = {
    "mmlu_pro": ("mmlu_pro", lambda item: True, lambda worker: True),
    "zeroeval": ("zeroeval_reasoning", lambda item: True, lambda worker: not worker.startswith("o1")),
    "zeroeval_o1": (
        "zeroeval_reasoning",
        lambda item: True,
        lambda worker: worker != "o1-preview-2024-09-12",
    ),
    "reasoning_gym": ("reasoning_gym", lambda item: True, lambda worker: True),
    "reasoning_gym_easy": ("reasoning_gym", lambda item: item.dataset.endswith("easy"), lambda worker: True),
    "bfcl": ("bfcl_aug2024", lambda item: True, lambda worker: True),
    "routerbench": ("routerbench_subset", lambda item: True, lambda worker: True),
}
SHOWN = (0.0005, 0.01, 0.03, 0.05, 0.08, 0.1, 0.13, 0.18, 0.25, 0.4, 1.0)
BINS = 10


def loaded(folder: Path, name: str, *, gaps: bool = True, texts: bool = True) -> Matrix:
    """A set as a matrix: the workers whose calls were priced, those that cover the items first, then those with gaps.

    A gap is "not there": nobody is asked where nothing was recorded. Best single and the controls are of covering workers only.
    """
    sub, keep, worker = SETS[name]
    table = read(folder / sub, texts=texts).only(keep)
    if name == "reasoning_gym_easy":
        table = table.unrolled()
    names = [
        w
        for w in table.covering(0.97 if "gym" in name else 0.985)
        if worker(w) and ((name == "zeroeval_o1" and w == O1) or priced(table, w))
    ]
    late = [w for w in table.partly() if gaps and w not in names and worker(w) and priced(table, w)]
    data = matrix(table, names, gaps=late)
    for k in range(len(names), len(data.workers)):
        tasks = {i.task for i, there in zip(data.items, data.there[:, k], strict=True) if there}
        print(
            f"with gaps: {data.workers[k]}, {100 * data.there[:, k].mean():.0f} % of the items, {len(tasks)} tasks"
        )
    if name == "zeroeval_o1":
        data.costs[:, names.index(O1)] = 10 * data.costs[:, names.index(SONNET)].mean()
    return data


def priced(table: Table, worker: str) -> bool:
    """Whether every call of a worker has a cost."""
    return all((s := table.said(i.id, worker)) is None or s.cost is not None for i in table.items)


def ece(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error in ten equal bins."""
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, sure - right, BINS)
    return float(np.abs(gaps).sum() / len(sure))


def calibrated(sure: np.ndarray, draws: int = 1000, seed: int = 0) -> float:
    """The 95th percentile of the error that a perfectly calibrated posterior of these chances would show."""
    rng = np.random.default_rng(seed)
    return float(
        np.percentile([ece(sure, (rng.random(len(sure)) < sure).astype(float)) for _ in range(draws)], 95)
    )


class Split:
    """One side of the split: its items, its lattice, and the rows that are collected of it."""

    def __init__(
        self, name: str, train: Matrix, part: Matrix, lattice: Lattice, chance, found: Learned
    ) -> None:
        self.base = part.scores[:, found.best], part.costs[:, found.best]
        self.best = part.workers[found.best]
        whole = np.flatnonzero(train.there.all(0) & part.there.all(0))  # who has gaps is no control
        self.name, self.part, self.lattice, self.found = name, part.of(whole), lattice, found
        self.chance = chance[:, whole]
        self.rows: list[dict] = []
        self.controls(train.of(whole))

    def add(self, name: str, score, cost, calls=1.0, **more) -> None:
        """One line."""
        gap = paired(score, self.base[0])
        row = {"policy": name, "n": len(score), "score": round(100 * float(np.mean(score)), 2)}
        row |= {
            k: round(100 * v, 2)
            for k, v in zip(("difference", "low", "high"), (gap.value, gap.low, gap.high), strict=True)
        }
        row |= {
            "cost": round(float(np.mean(cost) / self.base[1].mean()), 4),
            "calls": round(float(np.mean(calls)), 2),
        }
        self.rows.append(row | more)

    def controls(self, train: Matrix) -> None:
        """Everything that the policy has to beat."""
        part, found, items = self.part, self.found, np.arange(len(self.part.items))
        self.add(f"best single {self.best}", *self.base)
        self.add("known task", *self.known_task(train))
        for u in (0.0, 0.05, 0.1, 0.18):
            picked = (self.chance - u / found.unit * train.costs.mean(0)).argmax(1)
            self.add(f"text router u={u}", part.scores[items, picked], part.costs[items, picked])
        for k in (3, 5):
            vote = plain_vote(train.scores, part.classes, part.scores, part.costs, k)
            self.add(f"plain vote of {k}", vote.score, vote.cost, k)
        full = self.lattice.score[-1]
        self.add("stack of the shortlist", full, self.lattice.costs.sum(1), len(found.workers))
        self.add("oracle (not reachable)", part.scores.max(1), self.base[1])

    def known_task(self, train: Matrix) -> tuple:
        """The best worker of each task; on train chosen on the other folds."""
        tasks = [np.array([i.task for i in m.items]) for m in (train, self.part)]
        if self.name != "train":
            one: Control = known_task(train.scores, tasks[0], self.part.scores, self.part.costs, tasks[1])
            return one.score, one.cost
        score, cost = np.zeros(len(self.part.items)), np.zeros(len(self.part.items))
        for f in range(5):
            at, other = self.found.fold == f, self.found.fold != f
            one = known_task(
                train.scores[other], tasks[0][other], train.scores[at], train.costs[at], tasks[0][at]
            )
            score[at], cost[at] = one.score, one.cost
        return score, cost

    def walked(self, name: str, went: Walk, share) -> None:
        """A line for each price."""
        for u, one, used in zip(PRICES, went, share, strict=True):
            limits = {"ece": round(ece(one.sure, one.score), 4), "ece95": round(calibrated(one.sure), 4)}
            more = {"u": u, "share": round(float(used.mean()), 4)} if used is not None else {"u": u}
            self.add(f"{name} u={u}", one.score, one.cost, one.calls, **more, **limits)

    def row(self, name: str) -> dict:
        """A line by its name."""
        return next(r for r in self.rows if r["policy"] == name)


def walks(found: Learned, lattice: Lattice, cross: bool) -> tuple[Walk, Walk]:
    """One by one, with its chances as they are stated, and in two rounds, at every price."""
    per, rich = [u / found.unit for u in PRICES], found.rich
    if cross:
        return replace(found.crossed, sure=found.said), cross_rounds(lattice, per, rich=rich)
    one = stated(found.stated, walk(values(found), lattice), PRICES)
    return one, walk_rounds(solve_rounds(found.train, per, rich=rich), lattice, rich=rich)


def shares(found: Learned, lattice: Lattice, worker: str) -> list:
    """How often a worker is asked, of each item at each price (values of all of train)."""
    if worker not in found.workers:
        return [None] * len(PRICES)
    place = found.workers.index(worker)
    counted = np.zeros_like(lattice.costs)
    counted[:, place] = 1.0
    return list(walk(values(found), replace(lattice, costs=counted)).cost)


def chosen(train: Split, kind: str) -> dict[str, str]:
    """The rows that train chooses for a wish: the cheapest of equal quality, and the best of equal cost."""
    rows = [r for r in train.rows if r["policy"].startswith(f"{kind} u=")]
    equal = [r for r in rows if r["difference"] >= 0]
    cheap = [r for r in rows if r["cost"] <= 1]
    out = {}
    if equal:
        out["equal quality"] = min(equal, key=lambda r: r["cost"])["policy"]
    if cheap:
        out["equal cost"] = max(cheap, key=lambda r: r["score"])["policy"]
    return out


def study(data: Matrix, found: Learned) -> tuple[dict, dict[str, np.ndarray]]:
    """All rows of one set; and score and cost, asked one by one, of every price and item, and the best single worker's."""
    is_train = np.array([i.split == "train" for i in data.items])
    train, dev = data.at(is_train), data.at(~is_train)
    splits = [
        Split("train", train, train, found.train, found.router[0], found),
        Split("dev", train, dev, found.dev, found.router[1], found),
    ]
    certificates = {}
    items = {"prices": np.array(PRICES)}
    for split in splits:
        one, two = walks(found, split.lattice, split.name == "train")
        items |= {f"{split.name} score": one.score, f"{split.name} cost": one.cost}
        items |= {f"{split.name} base": split.base[0], f"{split.name} base cost": split.base[1]}
        split.walked("sequential", one, shares(found, split.lattice, O1))
        split.walked("two rounds", two, [None] * len(PRICES))
        each = [(u, w.score, w.cost) for u, w in zip(PRICES, one, strict=True)]
        test = certify(each, *split.base, tasks=[i.task for i in split.part.items])
        certificates[split.name] = {"u": test.u, "told": test.reason, "n": len(split.base[0])}
    picks = {kind: chosen(splits[0], kind) for kind in ("sequential", "two rounds")}
    body = {
        "shortlist": found.workers,
        "exclusive": found.posterior.exclusive,
        "rich": found.rich,
        "chosen between": found.told,
        "picks": picks,
        "certified": certificates,
        "rows": {s.name: s.rows for s in splits},
        "chosen": {
            s.name: {f"{k}, {wish}": s.row(name) for k, p in picks.items() for wish, name in p.items()}
            for s in splits
        },
    }
    return body, items


def shown(body: dict) -> None:
    """The rows as text."""
    for split, rows in body["rows"].items():
        print(f"\n{split}")
        for r in rows:
            if "u" not in r or r["u"] in SHOWN:
                told = f" ECE {r['ece']:.3f} ({r['ece95']:.3f})" if "ece" in r else ""
                told += f" o1-mini {r['share']:.2f}" if "share" in r else ""
                print(
                    f"{r['policy']:44s} {r['score']:6.2f} x{r['cost']:<7.3f} {r['difference']:+6.2f} "
                    f"[{r['low']:+.2f}, {r['high']:+.2f}] calls {r['calls']:.1f} n {r['n']}{told}"
                )
        print("certified:", body["certified"][split])
    print("picks:", body["picks"])


def summary(out: Path) -> None:
    """Over the sets that are there: the relative cost of equal quality as train chose it, and what that brought on dev."""
    lines = {}
    for file in sorted(out.glob("*.json")):
        body = json.loads(file.read_text())
        if file.stem == "summary" or "chosen" not in body:
            continue
        lines[file.stem] = {split: body["chosen"][split] for split in ("train", "dev")}
        lines[file.stem] |= {"certified": body["certified"], "best": body["rows"]["train"][0]}
    means = {}
    five = [s for s in ("mmlu_pro", "zeroeval", "reasoning_gym", "bfcl", "routerbench") if s in lines]
    for kind in ("sequential", "two rounds") if five else ():
        for split in ("train", "dev"):
            found = [lines[s][split].get(f"{kind}, equal quality") for s in five]
            costs = [
                r["cost"] if r else 1.0 for r in found
            ]  # nothing of equal quality: best single stays, at its cost
            gaps = [r["difference"] if r else 0.0 for r in found]
            means[f"{kind}, {split}"] = {
                "sets": five,
                "cost, geometric mean": round(math.exp(float(np.mean(np.log(costs)))), 3),
                "difference, mean": round(float(np.mean(gaps)), 2),
            }
    (out / "summary.json").write_text(
        json.dumps({"equal quality over sets": means, "sets": lines}, indent=1) + "\n"
    )
    print(json.dumps(means, indent=1))


def picture(body: dict, title: str) -> str:
    """Difference against cost on train (cross-fitted) and dev, one by one and in two rounds, with the controls."""
    wide, high, left, low, top = 620, 380, 52, 330, 30
    everyone = [
        r
        for rows in body["rows"].values()
        for r in rows
        if 0 < r["cost"] <= 4 and "oracle" not in r["policy"]
    ]
    floor = max(-12.0, min(r["difference"] for r in everyone) - 0.5)
    roof = max(r["difference"] for r in everyone) + 0.7
    least = min(r["cost"] for r in everyone)

    def at(r: dict) -> tuple[float, float]:
        x = left + (math.log(r["cost"] / least) / math.log(4 / least)) * (wide - left - 20)
        return x, low - (max(r["difference"], floor) - floor) / (roof - floor) * (low - top)

    marks = [
        f'<text x="{left}" y="18" font-size="14">{title}: points against the best single, by relative cost</text>'
    ]
    for points in range(math.ceil(floor / 2) * 2, math.floor(roof) + 1, 2):
        y = low - (points - floor) / (roof - floor) * (low - top)
        marks.append(
            f'<path d="M{left},{y:.0f} H{wide - 20}" stroke="#8884" stroke-width="{2 if points == 0 else 1}"/>'
        )
        marks.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{points:+d}</text>')
    for cost in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4):
        if cost >= least:
            x = at({"cost": cost, "difference": floor})[0]
            marks.append(f'<text x="{x:.0f}" y="{low + 16}" text-anchor="middle">x{cost:g}</text>')
    looks = {
        ("train", "sequential"): "#1f6feb",
        ("train", "two rounds"): "#8250df",
        ("dev", "sequential"): "#1a7f37",
    }
    for number, ((split, kind), colour) in enumerate(looks.items()):
        rows = [r for r in body["rows"][split] if r["policy"].startswith(f"{kind} u=") and r["cost"] <= 4]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, rows))
        dash = ' stroke-dasharray="5 3"' if split == "dev" else ""
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        n = rows[0]["n"]
        told = f"{kind}, {split}{' cross-fitted' if split == 'train' else ''} (n {n})"
        marks.append(
            f'<text x="{wide - 24}" y="{low - 44 + 16 * number}" text-anchor="end" fill="{colour}">{told}</text>'
        )
    for r in body["rows"]["train"]:
        if "u" not in r and r["cost"] <= 4 and "oracle" not in r["policy"] and "router" not in r["policy"]:
            x, y = at(r)
            name, down = ("best single", 15) if r["policy"].startswith("best") else (r["policy"], -5)
            marks.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#b7791f"><title>{r["policy"]}</title></circle>'
            )
            side = f'x="{x + 6:.0f}"' if x < wide - 110 else f'x="{x - 7:.0f}" text-anchor="end"'
            marks.append(f'<text {side} y="{y + down:.0f}" fill="#b7791f" font-size="11">{name}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12"'
    back = f'<rect width="{wide}" height="{high}" fill="white"/>'
    axis = f'<text x="{wide / 2}" y="{low + 36}" text-anchor="middle">cost relative to the best single (logarithmic)</text>'
    return f'{head} role="img" aria-label="{title}">{back}{"".join(marks)}{axis}</svg>\n'


def main() -> None:
    """Run one set and write its rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=[*SETS, "summary"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=7)
    given = parser.parse_args()
    if given.set == "summary":
        summary(given.out)
        for file in given.out.glob("*.svg"):
            file.write_text(picture(json.loads(file.with_suffix(".json").read_text()), file.stem))
        return
    if given.data is None:
        parser.error("--data FOLDER")
    begun = time.process_time()

    def say(what: str) -> None:
        print(f"{time.process_time() - begun:7.1f} s  {what}", flush=True)

    data = loaded(given.data, given.set)
    say(f"{len(data.items)} items, {len(data.workers)} workers")
    found = learn(data, size=given.size, say=say)
    rows, items = study(data, found)
    body = {"set": given.set, "size": given.size} | rows
    body |= {"cpu_seconds": round(time.process_time() - begun, 1)}
    given.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(given.out / f"{given.set}.npz", **items)
    (given.out / f"{given.set}.json").write_text(json.dumps(body, indent=1) + "\n")
    (given.out / f"{given.set}.svg").write_text(picture(body, given.set))
    shown(body)
    summary(given.out)


if __name__ == "__main__":
    main()
