"""What a verifier is worth where replies cannot be compared: a SIMULATED one, over recorded outcomes and costs of real models.

    OMP_NUM_THREADS=1 python recipes/evidence_verifier.py DATA --out FILE.json [--set swebench_bash_only] [--items 1000]

Outcomes and costs are real and THE VERIFIER IS NOT: it accepts a right reply with chance `sens` and a wrong one with chance
1 - `spec`, for so many calls of the best single worker. Everything else is as `train evidence --verify` does it: 300 of its
verdicts are looked at, its error is estimated from these, and what the policy believes goes by the estimate; then it meets the
verdicts themselves. Answers are not looked at (swebench has none; of zeroeval and mmlu_pro they are left out), so no reply can be
compared. Cross-fitted over `train`; dev is not read.
"""

import argparse
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stretto.evaluation.tables import read
from stretto.learning.evidence.lattice import Walk
from stretto.learning.evidence.training import Learned, Matrix, artefact, learn, matrix
from stretto.learning.evidence.verifying import error, replies_of, taught
from stretto.policies.judging import STANDARD

SETS = {
    "swebench_bash_only": (),
    "zeroeval_reasoning": (
        "claude-3-5-sonnet-20241022",
        "gpt-4o-mini-2024-07-18",
        "deepseek-v2.5-0908",
        "gemini-1.5-flash",
        "Meta-Llama-3.1-70B-Instruct",
    ),
    "mmlu_pro": (
        "gpt-4o-2024-05-13(apr-may-2024 run)",
        "gemini-1.5-pro-002",
        "gemini-1.5-flash-002",
        "Meta-Llama-3_1-70B-Instruct",
        "jamba-1.5-large",
    ),
}
VERIFIERS = (
    *((*rates, 0.02, 0.0) for rates in ((0.95, 0.95), (0.9, 0.8), (0.7, 0.7), (0.95, 0.5), (0.6, 0.6))),
    *((0.9, 0.8, paid, 0.0) for paid in (0.1, 0.5, 2.0)),
    *((0.95, 0.95, 0.02, blind) for blind in (0.2, 0.5)),
    (0.5, 0.5, 0.02, 0.0),
    (0.24, 0.79, 0.02, 0.0),
)
"""Sensitivity, specificity, price in calls of the best single worker, and the share of prompts to whose replies it says yes
whatever they are: errors that go together, which the policy does not know. The last two: a coin, and the sparring pool's checker.
"""

PRICES = (0.003, 0.01, 0.03, 0.05, 0.1, 0.25)
CHECKS = 300


def matrix_of(folder: Path, name: str, most: int) -> Matrix:
    """The train items, each reply an answer of its own."""
    table = read(folder / name)
    data = matrix(table, SETS[name] or table.covering())
    train = np.flatnonzero([i.split == "train" for i in data.items])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kept = np.zeros(len(data.items), dtype=bool)
    kept[rng.permutation(train)[:most]] = True
    data = data.at(kept)
    classes = np.tile(np.arange(len(data.workers)), (len(data.items), 1))
    return replace(data, classes=classes, confidence=None, texts=None)


def interval(values: Any, seed: int = 0) -> list[float]:
    """A mean with 95 % by bootstrap over items, in points."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)]
    return [round(100 * float(v), 2) for v in (values.mean(), *np.quantile(means, (0.025, 0.975)))]


def ece(sure: Any, score: Any) -> float:
    """How far chance and score lie apart, over ten bins."""
    edges = np.quantile(sure, np.linspace(0, 1, 11))
    place = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, 9)
    return round(float(sum(abs((sure - score)[place == b].sum()) for b in range(10)) / len(sure)), 4)


def shown(learned: Learned, went: Walk, base: tuple[Any, Any]) -> list[dict[str, Any]]:
    """Against the best single worker, and in worth against doing without verdicts."""
    rows = []
    for place, u in enumerate(PRICES):
        per, old = u / learned.unit, learned.crossed
        worth = went.score[place] - per * went.cost[place] - (old.score[place] - per * old.cost[place])
        rows.append(
            {
                "u": u,
                "score": round(100 * float(went.score[place].mean()), 2),
                "against best single": interval(went.score[place] - base[0]),
                "cost": round(float(went.cost[place].mean() / base[1].mean()), 3),
                "calls": round(float(went.calls[place].mean()), 2),
                "worth against no verdicts": interval(worth),
                "ece": ece(went.sure[place], went.score[place]),
            }
        )
    return rows


def of_set(folder: Path, name: str, most: int) -> dict[str, Any]:
    """Every verifier on one set."""
    data = matrix_of(folder, name, most)
    values = np.full(data.scores.shape, -2)
    learned = learn(data, size=5, prices=PRICES)
    made = artefact(learned, {})
    base = data.scores[:, learned.best], data.costs[:, learned.best]
    found: dict[str, Any] = {"items": len(data.items), "shortlist": list(learned.workers)}
    found["best single"] = [data.workers[learned.best], round(100 * float(base[0].mean()), 2)]
    found["no verdicts"] = shown(learned, learned.crossed, base)
    print(name, json.dumps(found), flush=True)
    sample = replies_of(data, values, CHECKS, "a verifier")
    for sens, spec, paid, blind in VERIFIERS:
        rng = np.random.default_rng(5)
        yes = rng.random(data.scores.shape) < np.where(data.scores >= 0.5, sens, 1 - spec)
        yes |= rng.random((len(yes), 1)) < blind
        judged = error({place: bool(yes[place]) for place in sample}, data)
        told = {place: bool(yes[place]) for place in np.ndindex(*yes.shape)}
        _, went, verifier = taught(
            made,
            learned,
            data,
            judged,
            told,
            worker="a verifier",
            usd=paid * learned.unit,
            wordings=STANDARD,
            free=np.ones(len(data.items), dtype=bool),
        )
        row = {"estimated": [round(r, 3) for r in judged.rates], "edge": judged.told["edge_interval"]}
        row |= {"spread": verifier.spread, "serves": list(verifier.serves), "checks": list(verifier.checks)}
        row |= {"certified": verifier.certified, "prices": shown(learned, went, base)}
        label = f"SIMULATED {sens}/{spec} at {paid} calls" + (f", blind to {blind}" if blind else "")
        found[label] = row
        print(name, label, json.dumps(row), flush=True)
    return found


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="sets", action="append", choices=list(SETS))
    parser.add_argument("--items", type=int, default=1000)
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.sets or SETS:
        found[name] = of_set(given.data, name, given.items)
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
