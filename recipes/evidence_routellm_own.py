"""RouteLLM's MMLU with labels of the pair itself on 1,500 other questions, as its published routers had them.

    OMP_NUM_THREADS=1 python recipes/evidence_routellm_own.py --data FOLDER [--labels 1500] [--draws 5] [--out RESULTS]

The routers behind the published figures for MMLU were trained on preferences and about 1,500 labelled questions of MMLU's
validation part. Here that many public questions are drawn by lot (those with the same beginning stay together), the sequential
policy is learned from what the two models made of them, in the form that asks one worker by the question (`stretto train evidence
--by-question`), and all other public questions are measured. Nothing is chosen on those: the settings are those of the command.
"""

import argparse
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stretto.evaluation.tables import Item, Table, read
from stretto.evaluation.two_models import uncertain
from stretto.learning.evidence.special import apart, by_question, lattice_of
from stretto.learning.evidence.training import learn, matrix, values

STRONG, WEAK = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"


def drawn(items: tuple[Item, ...], labels: int, seed: int) -> set[str]:
    """About so many items by lot, whole groups that begin alike."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(re.sub(r"\W+", "", item.prompt).casefold()[:50], []).append(item.id)
    names = sorted(groups)
    found: set[str] = set()
    for k in np.random.default_rng(seed).permutation(len(names)):
        if len(found) >= labels:
            break
        found.update(groups[names[k]])
    return found


def gains(table: Table, known: set[str]) -> tuple[Any, Any]:
    """Of all items that are not `known` how much the strong one is expected to gain; and the scores of weak and strong."""
    items = tuple(replace(i, split="train" if i.id in known else "dev") for i in table.items)
    said = {w: {i.id: (one,) for i in items if (one := table.said(i.id, w))} for w in (WEAK, STRONG)}
    data = apart(matrix(Table(table.name, items, said), (WEAK, STRONG)))
    learned = learn(data, names=data.workers, lattice_of=partial(lattice_of, by_question))
    assert learned.dev is not None
    weights = values(learned, [0.0]).weights[0][0]
    gain = learned.dev.seen(0, learned.rich) @ (weights[:, 2] - weights[:, 1])
    return gain, data.at(np.array([i.split == "dev" for i in data.items])).scores


def main() -> None:
    """A row a draw, and their mean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=1500)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = read(given.data / "routellm_eval")
    table = table.only(lambda item: item.dataset == "mmlu" and not item.more.get("contaminated"))
    rows = []
    for seed in range(given.draws):
        known = drawn(table.items, given.labels, seed)
        gain, scores = gains(table, known)
        found = uncertain(gain, scores[:, 0], scores[:, 1])
        row = {"labels": len(known), "n": len(gain)}
        for name, one in (("apgr", found.apgr), ("cpt50", found.cpt50), ("cpt80", found.cpt80)):
            row[name] = [round(v, 3) for v in (one.value, one.low, one.high)]
        rows.append(row)
        print(json.dumps(row), flush=True)
    for name in ("apgr", "cpt50", "cpt80"):
        print(f"{name} mean of {len(rows)} draws: {np.mean([row[name][0] for row in rows]):.3f}")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "routellm_own.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
