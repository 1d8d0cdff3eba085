"""The aim over five sets, "equal quality at <= 0.20x in geometric mean, no mean loss", from what `evidence_tables.py` wrote.

    python recipes/evidence_five.py --out RESULTS

It can be read in two ways. Every set for itself: each is served at the cheapest price where train is not below the best single
worker. Over the sets: what is won on one set may pay for what is lost on another; the cheapest prices (one a set, or that set's
best single worker) whose mean difference on train is at least 0 at the lower end of a one-sided 95 % interval; also with no set
more than `MARGIN` points below, and with one and the same price for all. Prices are chosen on train alone; costs are relative to
each set's best single worker, their mean geometric. Intervals: 95 % bootstrap over the items of each set. What choosing among so
many prices flatters is seen from halves: chosen on one half of every set's train items, measured on the other, `HALVES` times.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SETS = ("mmlu_pro", "zeroeval", "reasoning_gym", "bfcl", "routerbench")
ONE_SIDED = 1.6449
MARGIN = 1.0
HALVES = 20
DRAWS = 2000
SINGLE = -1
"""The place of staying with the best single worker: after all prices."""


@dataclass(frozen=True)
class Part:
    """Of one set and split, a row a price and a column an item: points against the best single worker, and relative cost.

    The last row is that worker itself.
    """

    points: Any
    cost: Any

    @classmethod
    def of(cls, score: Any, cost: Any, base_score: Any, base_cost: Any) -> "Part":
        """From scores and money, and the best single worker's."""
        points = 100.0 * np.vstack([score - base_score, np.zeros(len(base_score))])
        return cls(points, np.vstack([cost, base_cost]) / base_cost.mean())

    def at(self, which: Any) -> "Part":
        """Some of the items; costs stay relative to what the best single worker costs on these."""
        cost = self.cost[:, which]
        return Part(self.points[:, which], cost / cost[SINGLE].mean())


def chosen(parts: list[Part], *, bound: float = ONE_SIDED, least: float = -np.inf) -> tuple[int, ...]:
    """One price a set: the cheapest together whose mean difference, less `bound` standard errors, is at least 0.

    Sets' differences are independent. `least`: no set's own difference may be below. Nobody pays more than the best single costs.
    """
    open_ = [np.flatnonzero((p.points.mean(1) >= least) & (p.cost.mean(1) <= 1.0)) for p in parts]
    shapes = [[-1 if k == j else 1 for j in range(len(parts))] for k in range(len(parts))]
    mean = cost = variance = np.zeros(1)
    for part, at, shape in zip(parts, open_, shapes, strict=True):
        mean = mean + part.points[at].mean(1).reshape(shape)
        variance = variance + (part.points[at].var(1, ddof=1) / part.points.shape[1]).reshape(shape)
        cost = cost + np.log(part.cost[at].mean(1)).reshape(shape)
    best = np.where(mean - bound * np.sqrt(variance) >= 0, cost, np.inf).argmin()
    return tuple(int(at[k]) for at, k in zip(open_, np.unravel_index(best, cost.shape), strict=True))


def common(parts: list[Part], *, bound: float = ONE_SIDED) -> tuple[int, ...]:
    """The same where one price has to do for all sets."""
    rows = range(len(parts[0].points))
    found = []
    for k in rows:
        error = np.sqrt(sum(p.points[k].var(ddof=1) / p.points.shape[1] for p in parts))
        if sum(p.points[k].mean() for p in parts) - bound * error >= 0:
            found.append((cost_of(parts, [k] * len(parts)), k))
    return (min(found)[1],) * len(parts)


def each(parts: list[Part]) -> tuple[int, ...]:
    """Every set for itself: its cheapest price that is not below the best single worker."""
    out = []
    for part in parts:
        at = np.flatnonzero(part.points.mean(1) >= 0)
        out.append(int(at[part.cost[at].mean(1).argmin()]))
    return tuple(out)


Rule = Callable[[list[Part]], tuple[int, ...]]
RULES: dict[str, Rule] = {
    "every set for itself at least equal": each,
    "mean over the sets, a price a set": chosen,
    f"the same, no set more than {MARGIN:.0f} point below": lambda parts: chosen(parts, least=-MARGIN),
    "mean over the sets, one price for all": common,
}


def cost_of(parts: list[Part], places: Any) -> float:
    """The geometric mean over the sets."""
    return float(np.exp(np.mean([np.log(p.cost[k].mean()) for p, k in zip(parts, places, strict=True)])))


def mean_of(parts: list[Part], places: Any, seed: int = 0) -> tuple[float, float, float]:
    """The mean over the sets of the difference to the best single worker, and its 95 % bootstrap interval."""
    rng, draws = np.random.default_rng(seed), np.zeros(DRAWS)
    for part, k in zip(parts, places, strict=True):
        values, counts = np.unique(part.points[k], return_counts=True)
        draws += rng.multinomial(counts.sum(), counts / counts.sum(), DRAWS) @ values / counts.sum()
    low, high = np.percentile(draws / len(parts), [2.5, 97.5])
    value = np.mean([p.points[k].mean() for p, k in zip(parts, places, strict=True)])
    return float(value), float(low), float(high)


def halved(parts: list[Part], rule: Rule) -> tuple[float, float]:
    """What a rule brings on the half of the items that it did not see: mean difference, and cost."""
    rng, found = np.random.default_rng(0), []
    for _ in range(HALVES):
        sides = [rng.permutation(p.points.shape[1]) % 2 == 0 for p in parts]
        for flip in (False, True):
            seen = [p.at(s ^ flip) for p, s in zip(parts, sides, strict=True)]
            rest = [p.at(~(s ^ flip)) for p, s in zip(parts, sides, strict=True)]
            places = rule(seen)
            mean = np.mean([p.points[k].mean() for p, k in zip(rest, places, strict=True)])
            found.append((mean, np.log(cost_of(rest, places))))
    mean, cost = np.mean(found, 0)
    return float(mean), float(np.exp(cost))


def loaded(out: Path) -> tuple[list[float], dict[str, list[Part]]]:
    """The prices, and each split's parts, set by set."""
    parts: dict[str, list[Part]] = {"train": [], "dev": []}
    prices: list[float] = []
    for name in SETS:
        with np.load(out / f"{name}.npz") as found:
            prices = [float(u) for u in found["prices"]]
            for split, into in parts.items():
                into.append(
                    Part.of(*(found[f"{split} {what}"] for what in ("score", "cost", "base", "base cost")))
                )
    return prices, parts


def shown(mean: tuple[float, float, float], cost: float) -> str:
    """A cell."""
    return f"{mean[0]:+.2f} [{mean[1]:+.2f}, {mean[2]:+.2f}] x{cost:.3f}"


def main() -> None:
    """The table of the page, and what each set has in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    prices, parts = loaded(given.out)
    train, dev = parts["train"], parts["dev"]
    lines = ["| rule | train | chosen on a half, measured on the other | dev, once |", "|---|---|---|---|"]
    sets, kept = [], {}
    for name, rule in RULES.items():
        places = rule(train)
        half = halved(train, rule)
        cells = [shown(mean_of(p, places), cost_of(p, places)) for p in (train, dev)]
        lines.append(f"| {name} | {cells[0]} | {half[0]:+.2f} x{half[1]:.3f} | {cells[1]} |")
        told = []
        for set_, part, other, k in zip(SETS, train, dev, places, strict=True):
            u = "best single" if k == len(prices) else f"u {prices[k]:g}"
            one = (f"{p.points[k].mean():+.2f} x{p.cost[k].mean():.3f}" for p in (part, other))
            told.append(f"{set_} {u} {next(one)} (dev {next(one)})")
        sets.append(f"* {name}: {', '.join(told)}.")
        kept[name] = {
            "prices": [None if k == len(prices) else prices[k] for k in places],
            "train": [*mean_of(train, places), cost_of(train, places)],
            "halves": half,
            "dev": [*mean_of(dev, places), cost_of(dev, places)],
        }
    print("\n".join([*lines, "", *sets]))
    (given.out / "five.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
