"""Tries shipped priors on recorded outcomes: `stretto` without an artefact, with figures that were learned without the set.

    python recipes/profile_priors_tried.py --data DIR --set mmlu_pro --out OUT [-n 2000] [--without-models]

The train items of the set are played through the one engine, as `stretto eval --recorded` does: `stretto` at five dials with the
figures (`repute`), with none (`prices`: the form before), and every worker alone. `--without-models`: what is on record of the
set's very models is forgotten, so that families and prices have to do. One JSON: means, relative cost, paired intervals.
"""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from profile_priors import SETS, artefact, cells_of, facts_of

from stretto.artifacts import Artifact
from stretto.catalog import Catalog
from stretto.config import Settings
from stretto.engine.run import Engine
from stretto.evaluation import tables
from stretto.evaluation.recorded import RecordedPool
from stretto.evaluation.runner import Asking, Contender, Log, play
from stretto.evaluation.tasks import recorded_items
from stretto.ledger.memory import MemoryStore
from stretto.pool.repute import Repute, stem

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)


def without_models(repute: Artifact, models: set[str]) -> Artifact:
    """What is left where nobody has measured these models: their families, which remember them a little."""
    left = {m: v for m, v in repute.data["models"].items() if m not in models}
    return replace(repute, data={**repute.data, "models": left})


def interval(gain: np.ndarray, seed: int = 1) -> list[float]:
    """The mean of paired differences, and 95 % of 2,000 bootstrap means, in points."""
    rng = np.random.default_rng(seed)
    drawn = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [round(100 * float(v), 2) for v in (gain.mean(), low, high)]


async def tried(table: tables.Table, repute: Repute | None, log: Log) -> dict[float, list]:
    """What `stretto` came to at each dial, an outcome an item."""
    believe = (lambda model, price: None) if repute is None else repute.of
    pool, store = RecordedPool(table, repute=believe), MemoryStore()
    policy = Catalog(pool.cards(), Settings()).resolve("stretto")
    items = [replace(item, split="") for item in recorded_items(table)]
    name = "prices" if repute is None else "repute"
    dials = [Contender(f"{name}@{dial:g}", policy, dial=dial) for dial in DIALS]
    found = await play(Engine(pool, store), store, pool.cards(), items, dials, log, Asking(), concurrency=1)
    return {dial: found[f"{name}@{dial:g}"] for dial in DIALS}


def main() -> None:
    """Learn without the set (one that is not learned from: with all), play, tell."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--set", required=True)
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("-n", type=int, default=2000, help="train items, drawn by lot (seed 1)")
    asked.add_argument("--without-models", action="store_true")
    given = asked.parse_args()
    sets = [name for name in SETS if name != given.set]
    read = [tables.read(given.data / name) for name in sets]
    learned = artefact([cell for table in read for cell in cells_of(table)], facts_of(read), sets)
    whole = tables.read(given.data / given.set)
    known = whole.only(lambda item: item.split == "train", workers=whole.covering(), complete=True)
    lot = np.random.default_rng(1).permutation(len(known.items))[: given.n]
    ids = {known.items[k].id for k in lot}
    table = known.only(lambda item: item.id in ids)
    if given.without_models:
        learned = without_models(learned, {stem(worker) for worker in table.workers})
    repute = Repute(learned)
    pool = RecordedPool(table, repute=repute.of)
    score = {w: np.array([table.said(i.id, w).score for i in table.items]) for w in table.workers}
    cost = {w: np.array([table.said(i.id, w).cost or 0.0 for i in table.items]) for w in table.workers}
    paid = [card.id for card in pool.cards() if card.priced]
    best = max(paid, key=lambda w: score[w].mean())
    unit = cost[best].mean()
    rows = {
        "best single": best,
        "cheapest": min(paid, key=lambda w: cost[w].mean()),
        "dearest": max(paid, key=lambda w: cost[w].mean()),
    }
    told = {
        "set": given.set,
        "n": len(table.items),
        "workers": len(table.workers),
        "measured": sum(c.repute is not None and c.repute.measured for c in pool.cards()),
        "kin": sum(c.repute is not None and not c.repute.measured for c in pool.cards()),
        "alone": {
            name: [w, round(100 * float(score[w].mean()), 2), round(float(cost[w].mean() / unit), 4)]
            for name, w in rows.items()
        }
        | {
            "random": [
                "",
                round(100 * float(np.mean([score[w].mean() for w in paid])), 2),
                round(float(np.mean([cost[w].mean() for w in paid]) / unit), 4),
            ]
        },
    }
    log = Log(given.out.with_suffix(".jsonl"))
    order = {item.id: k for k, item in enumerate(table.items)}
    arrays = {}
    for name, believe in (("prices", None), ("repute", repute)):
        for dial, results in asyncio.run(tried(table, believe, log)).items():
            right, spent, calls = np.zeros(len(order)), np.zeros(len(order)), np.zeros(len(order))
            for one in results:
                k = order[one.item]
                right[k], spent[k], calls[k] = one.score, one.cost / 1e12, one.calls
            arrays[name, dial] = right, spent
            first = max(
                {r.asked[0] for r in results if r.asked}, key=[r.asked[0] for r in results if r.asked].count
            )
            told[f"{name}@{dial:g}"] = {
                "first": first,
                "score": round(100 * float(right.mean()), 2),
                "cost": round(float(spent.mean() / unit), 4),
                "calls": round(float(calls.mean()), 2),
                "to best": interval(right - score[best]),
            }
    for dial in DIALS:
        told[f"repute@{dial:g}"]["to prices"] = interval(
            arrays["repute", dial][0] - arrays["prices", dial][0]
        )
    given.out.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=None))


if __name__ == "__main__":
    main()
