"""RouteLLM's threshold and FrugalGPT's cascade beside the free sequential form, on the same workers and items.

    OMP_NUM_THREADS=1 python recipes/evidence_special.py --data FOLDER [--set zeroeval_reasoning] [--out RESULTS]

On `train`, cross-fitted, as `stretto train evidence` prints it with `--by-question`, with `--chain`, and without either. Worth is
the score less the price of what was asked, in points, paired over the items, the mean over six prices.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from stretto.evaluation.controls import paired
from stretto.evaluation.tables import read
from stretto.learning.evidence.special import apart, by_question, in_order, lattice_of
from stretto.learning.evidence.training import PRICES, Learned, learn, matrix

CHAINS: Final = {
    "zeroeval_reasoning": ("gpt-4o-mini-2024-07-18", "deepseek-v2.5-0908", "claude-3-5-sonnet-20240620"),
    "mmlu_pro": ("gemini-1.5-flash-002", "gemini-1.5-pro-002", "gpt-4o-2024-05-13(apr-may-2024 run)"),
}
"""From cheap to dear; the last is the best single worker of its set."""

AT: Final = (0.01, 0.03, 0.05, 0.1, 0.18, 0.32)
"""Prices that worth is the mean over."""


def forms(data: Any) -> dict[str, Learned]:
    """The three forms, and the two special ones of the cheapest and the dearest worker alone."""
    names = data.workers
    pair = data.of([0, len(names) - 1])
    limited = {"by question": by_question, "chain": in_order}
    found = {"free": learn(data, names=names)}
    for name, solver in limited.items():
        for part, label in ((data, ""), (pair, " of two")):
            seen = apart(part) if solver is by_question else part
            believing = partial(lattice_of, solver)
            found[name + label] = learn(seen, names=part.workers, lattice_of=believing)
    found["free of two"] = learn(pair, names=pair.workers)
    return found


def told(found: dict[str, Learned]) -> list[dict[str, Any]]:
    """Of each form score and relative cost at each price of `AT`, the cheapest that is as good as the best single, and worth."""
    rows = []
    places = [PRICES.index(u) for u in AT]
    free = found["free"]

    def worth(one: Learned) -> Any:
        paid = np.array(AT)[:, None] * one.crossed.cost[places] / free.unit
        return (one.crossed.score[places] - paid).mean(0)

    base = free.train.score[1 << free.workers.index(free.pool[free.best])]
    for name, one in found.items():
        score, cost = one.crossed.score.mean(1), one.crossed.cost.mean(1) / free.unit
        gap = paired(worth(one), worth(free))
        even = [k for k in range(len(PRICES)) if score[k] >= base.mean()]
        row: dict[str, Any] = {"form": name, "workers": list(one.workers)}
        row["at"] = {
            u: [round(100 * float(score[k] - base.mean()), 2), round(float(cost[k]), 3)]
            for u, k in zip(AT, places, strict=True)
        }
        row["as good from"] = round(float(min(cost[k] for k in even)), 3) if even else None
        row["most"] = round(100 * float(score.max() - base.mean()), 2)
        row["worth to the free form"] = [round(100 * v, 2) for v in (gap.value, gap.low, gap.high)]
        rows.append(row)
    return rows


def main() -> None:
    """One set or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=sorted(CHAINS), action="append")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    for name in given.set or CHAINS:
        data = matrix(read(given.data / name, texts=True), CHAINS[name])
        rows = told(forms(data))
        for row in rows:
            print(name, json.dumps(row), flush=True)
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            (given.out / f"special_{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
