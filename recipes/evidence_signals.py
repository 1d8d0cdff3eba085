"""What two signals are worth: the texts of replies, and workers that were asked only part of the items.

    python recipes/evidence_signals.py mmlu_pro --data FOLDER --out RESULTS

Items of split train, cross-fitted; dev is not looked at. Four ways: neither, gaps (workers with gaps may be asked), texts, both.
Each is learned whole (shortlist, posterior, values), so a line has what `stretto train evidence` would have made of it. Writes
RESULTS/signals-SET.json.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from evidence_tables import SETS, loaded

from stretto.evaluation.controls import paired
from stretto.learning.evidence.training import PRICES, Matrix, learn

WAYS = {"neither": (False, False), "gaps": (True, False), "texts": (False, True), "both": (True, True)}
COSTS = (0.1, 0.2, 0.3, 0.35, 0.45, 0.7, 1.0)


def line(data: Matrix) -> dict:
    """What is learned of train alone: the frontier, and what foretells how well."""
    train = data.at(np.array([i.split == "train" for i in data.items]))
    found = learn(train)
    base, unit = train.scores[:, found.best], found.unit
    points = [
        (float(w.cost.mean() / unit), 100 * float((w.score - base).mean()), u, paired(w.score, base))
        for u, w in zip(PRICES, found.crossed, strict=True)
    ]
    by_cost = sorted(p[:2] for p in points)
    equal = min((p for p in points if p[1] >= 0), key=lambda p: p[0], default=None)
    costs, gains = zip(*by_cost, strict=True)
    return {
        "n": len(base),
        "shortlist": found.workers,
        "told": found.told,
        "equal": None if equal is None else round(equal[0], 3),
        "best at no more than its cost": round(
            max((g for c, g in by_cost if c <= 1), default=float("nan")), 2
        ),
        "at": {str(c): round(float(np.interp(c, costs, gains)), 2) for c in COSTS if c >= costs[0]},
        "prices": [
            {
                "u": u,
                "cost": round(c, 4),
                "gain": round(g, 2),
                "low": round(100 * p.low, 2),
                "high": round(100 * p.high, 2),
            }
            for c, g, u, p in points
        ],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--way", choices=sorted(WAYS), action="append")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / f"signals-{given.set}.json"
    lines = json.loads(file.read_text()) if file.exists() else {}
    for way in given.way or WAYS:
        gaps, texts = WAYS[way]
        lines[way] = line(loaded(given.data, given.set, gaps=gaps, texts=texts))
        file.write_text(json.dumps(lines, indent=1) + "\n")
        shown = lines[way]
        print(
            f"{given.set} {way}: equal x{shown['equal']}, best at x1 {shown['best at no more than its cost']:+.2f}, "
            f"{shown['at']}, {shown['told'].get('posterior nats')}, {', '.join(shown['shortlist'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
