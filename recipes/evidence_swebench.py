"""swebench_bash_only in cross-validation: what a policy that sees only the question can do, and a SIMULATED verifier.

    python recipes/evidence_swebench.py --data FOLDER --out RESULTS

Five folds over all items that are here; everything is chosen on four and counted on the fifth. The first part is real: recorded
outcomes and costs. In the second part outcomes and costs are real and THE VERIFIER IS NOT: it accepts a right patch with
chance `sens` and a wrong one with chance 1 - `spec`, independently of everything, for nothing. Chains of up to four of eight
workers stop at the first accepted patch, else return the last one. Its figures are expectations over the verifier's chances.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from stretto.evaluation.controls import paired
from stretto.evaluation.tables import read
from stretto.learning.evidence.success import Clusters, Logistic, Nearest, folds
from stretto.learning.evidence.training import Prompts, matrix

VERIFIERS = ((1.0, 1.0), (0.95, 0.95), (0.9, 0.9), (0.9, 0.8), (0.8, 0.8), (0.95, 0.5), (0.7, 0.7))
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
"""Points of 1 that the cost of one call of the best single is worth."""
WORKERS, LONGEST = 8, 4


def chain(order: tuple[int, ...], scores, costs, sens: float, spec: float):
    """Expected score and cost of each item."""
    left, score, cost = np.ones(len(scores)), np.zeros(len(scores)), np.zeros(len(scores))
    for place, k in enumerate(order):
        cost += left * costs[:, k]
        accepts = scores[:, k] * sens + (1 - scores[:, k]) * (1 - spec)
        if place == len(order) - 1:
            score += left * scores[:, k]
        else:
            score += left * scores[:, k] * sens
            left = left * (1 - accepts)
    return score, cost


def told(name: str, score, cost, base) -> dict:
    """A line."""
    gap = paired(score, base[0])
    row = {"policy": name, "n": len(score), "score": round(100 * float(score.mean()), 2)}
    row |= {"usd": round(1000 * float(cost.mean()), 1), "cost": round(float(cost.mean() / base[1].mean()), 3)}
    return row | {"difference": [round(100 * x, 2) for x in (gap.value, gap.low, gap.high)]}


def question_side(data, fold) -> list[dict]:
    """Best single of the other folds, known repository, and routers from the text."""
    n = len(data.items)
    rows = np.arange(n)
    tasks = np.array([i.task for i in data.items])
    picked = {
        name: np.zeros(n, dtype=int)
        for name in ("best single", "known repository", "logistic", "nearest", "clusters")
    }
    cheap = {f"logistic u={u}": np.zeros(n, dtype=int) for u in (0.02, 0.1)}
    for f in range(5):
        at, other = fold == f, fold != f
        past, price = data.scores[other], data.costs[other].mean(0)
        best = int(past.mean(0).argmax())
        picked["best single"][at] = best
        for task in set(tasks[at]):
            same = tasks[other] == task
            of_task = (past[same].sum(0) + 20 * past.mean(0)) / (same.sum() + 20)
            picked["known repository"][at & (tasks == task)] = int(of_task.argmax())
        train = [i for i, keep in zip(data.items, other, strict=True) if keep]
        prompts = Prompts.learned(train, 32, tasks=False)
        x, z = (
            prompts.matrix(train),
            prompts.matrix([i for i, keep in zip(data.items, at, strict=True) if keep]),
        )
        for name, make in (
            ("logistic", Logistic(0.003)),
            ("nearest", Nearest(40, 40)),
            ("clusters", Clusters(8)),
        ):
            chance = make.fit(x, past).predict(z)
            picked[name][at] = chance.argmax(1)
            if name == "logistic":
                for label in cheap:
                    u = float(label.partition("=")[2])
                    cheap[label][at] = (chance - u * price / price[best]).argmax(1)
    picked |= cheap
    base = tuple(a[rows, picked["best single"]] for a in (data.scores, data.costs))
    return [told(name, data.scores[rows, p], data.costs[rows, p], base) for name, p in picked.items()]


def simulated(data, fold) -> list[dict]:
    """The curve of each verifier, chains chosen on the other folds."""
    n = len(data.items)
    found = []
    base_score, base_cost = np.zeros(n), np.zeros(n)
    results = {(v, w): (np.zeros(n), np.zeros(n)) for v in VERIFIERS for w in WEIGHTS}
    for f in range(5):
        at, other = fold == f, fold != f
        mean, cost = data.scores[other].mean(0), data.costs[other].mean(0)
        best = int(mean.argmax())
        base_score[at], base_cost[at] = data.scores[at, best], data.costs[at, best]
        few = [best, *[int(k) for k in np.argsort(-(mean - 0.15 * np.log(cost / cost[best]))) if k != best]][
            :WORKERS
        ]
        orders = [o for size in range(1, LONGEST + 1) for o in itertools.permutations(few, size)]
        for verifier in VERIFIERS:
            brings = np.array(
                [
                    [p.mean() for p in chain(o, data.scores[other], data.costs[other], *verifier)]
                    for o in orders
                ]
            )
            for weight in WEIGHTS:
                order = orders[int((brings[:, 0] - weight * brings[:, 1] / cost[best]).argmax())]
                score, paid = chain(order, data.scores[at], data.costs[at], *verifier)
                results[verifier, weight][0][at], results[verifier, weight][1][at] = score, paid
    for (verifier, weight), (score, paid) in results.items():
        row = told(
            f"SIMULATED verifier {verifier[0]}/{verifier[1]}, weight {weight}",
            score,
            paid,
            (base_score, base_cost),
        )
        found.append(row | {"verifier": verifier, "weight": weight})
    return found


def picture(rows: list[dict], base: dict) -> str:
    """Score against relative cost, a line a verifier."""
    wide, high, left, right, low, top = 620, 360, 48, 130, 310, 34
    shown = [r for r in rows if r["cost"] <= 4]
    floor, roof = min(r["score"] for r in shown) - 1, max(r["score"] for r in shown) + 1
    least = min(r["cost"] for r in shown) * 0.9

    def at(cost: float, score: float) -> tuple[float, float]:
        x = left + np.log(cost / least) / np.log(4 / least) * (wide - left - right)
        return x, low - (score - floor) / (roof - floor) * (low - top)

    def text(x: float, y: float, what: str, more: str = "") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{what}</text>'

    title = f"SIMULATED verifier over real outcomes (5-fold, n {base['n']}): score by cost"
    marks = [text(left, 20, title, 'font-size="13"')]
    for score in range(int(floor) // 5 * 5 + 5, int(roof) + 1, 5):
        y = at(1, score)[1]
        marks.append(f'<path d="M{left},{y:.0f} H{wide - right}" stroke="#8884"/>')
        marks.append(text(left - 6, y + 4, str(score), 'text-anchor="end"'))
    for cost in (0.1, 0.2, 0.5, 1, 2, 4):
        if cost >= least:
            marks.append(text(at(cost, floor)[0], low + 16, f"x{cost:g}", 'text-anchor="middle"'))
    colours = ("#1f6feb", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#0a7ea4", "#57606a")
    marks.append(text(wide - 120, top, "sens / spec", 'font-size="11"'))
    for number, (colour, verifier) in enumerate(zip(colours, VERIFIERS, strict=True)):
        line = sorted((r["cost"], r["score"]) for r in shown if tuple(r["verifier"]) == verifier)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*p) for p in line))
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        told_ = f"{verifier[0]:g} / {verifier[1]:g}"
        marks.append(text(wide - 120, top + 18 * number + 20, told_, f'fill="{colour}"'))
    x, y = at(1, base["score"])
    marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#b7791f"/>')
    marks.append(text(x + 8, y + 14, "best single", 'fill="#b7791f"'))
    axis = "cost relative to the best single (logarithmic)"
    marks.append(text(wide / 2, low + 36, axis, 'text-anchor="middle"'))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-family="sans-serif" font-size="12"'
    back = f'<rect width="{wide}" height="{high}" fill="white"/>'
    return f'{head} role="img" aria-label="Simulated verifier">{back}{"".join(marks)}</svg>\n'


def main() -> None:
    """Both parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    table = read(given.data / "swebench_bash_only")
    data = matrix(table, table.covering())
    fold = folds(len(data.items))
    real, made_up = question_side(data, fold), simulated(data, fold)
    given.out.mkdir(parents=True, exist_ok=True)
    body = {"question side": real, "SIMULATED verifier": made_up}
    (given.out / "swebench.json").write_text(json.dumps(body, indent=1) + "\n")
    (given.out / "swebench-simulated.svg").write_text(picture(made_up, real[0]))
    for r in real + made_up:
        gap, low, high = r["difference"]
        line = f"{r['policy']:44s} {r['score']:6.2f} @{r['usd']:<7.0f} x{r['cost']:<6.3f}"
        print(f"{line} {gap:+.2f} [{low:+.2f}, {high:+.2f}] n {r['n']}")


if __name__ == "__main__":
    main()
