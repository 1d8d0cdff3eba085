"""What a worker's price says of its answers, on recorded outcomes: the figures in `stretto.policies.priors`.

    python recipes/prior_from_price.py DIR [DIR ...]        # folders with items and outcomes

Of every set: the slope of the log-odds of being right over ten times the cost of an answer, what is left over, and how often the
dearer of two workers was the better one.
"""

import sys
from pathlib import Path

import numpy as np

from stretto.evaluation import tables


def level(table: tables.Table, worker: str) -> tuple[float, float] | None:
    """Mean score and mean cost of a worker on the train items; `None` where too little is known."""
    said = [one for i in table.items if i.split == "train" and (one := table.said(i.id, worker)) is not None]
    costs = [one.cost for one in said if one.cost]
    if len(said) < 100 or len(costs) < 50:
        return None
    return float(np.mean([one.score for one in said])), float(np.mean(costs))


def main(folders: list[str]) -> None:
    """One line a set, then how often the dearer one was better."""
    pairs: dict[str, list[bool]] = {"up to 3 x": [], "3 to 30 x": [], "more": []}
    slopes = []
    for folder in folders:
        table = tables.read(Path(folder))
        known = [found for w in table.workers if (found := level(table, w))]
        if len(known) < 3:
            print(f"{table.name}: {len(known)} workers with known costs: left out")
            continue
        right = np.clip([r for r, _ in known], 0.01, 0.99)
        odds, price = np.log(right / (1 - right)), np.log10([c for _, c in known])
        slope, level_at_one = np.polyfit(price, odds, 1)
        slopes.append(slope)
        rest = odds - level_at_one - slope * price
        print(
            f"{table.name}: {len(known)} workers, {slope:+.2f} log-odds for ten times the cost, {rest.std():.2f} left over"
        )
        for a in range(len(known)):
            for b in range(len(known)):
                gap = price[b] - price[a]
                if gap > 0:
                    kind = "up to 3 x" if gap < 0.5 else "3 to 30 x" if gap < 1.5 else "more"
                    pairs[kind].append(bool(right[b] > right[a]))
    print(f"mean slope {np.mean(slopes):.2f}")
    for kind, better in pairs.items():
        print(f"dearer by {kind}: the dearer one was better in {np.mean(better):.2f} of {len(better)} pairs")


if __name__ == "__main__":
    main(sys.argv[1:])
