"""Small recorded tables, made here: the real ones stay out of the repository."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

from stretto.evaluation.tables import Item, Said, Table

PRICES = {"cheap": 0.001, "middle": 0.004, "dear": 0.02}
SKILLS = {"cheap": (0.85, 0.4), "middle": (0.5, 0.8), "dear": (0.9, 0.88)}
LIKE = {"cheap": (0.8, 0.7), "middle": (0.75, 0.8), "dear": (0.8, 0.8)}
"""Workers of whom none stands out."""


def made(n: int = 240, seed: int = 1, skill: Mapping[str, tuple[float, float]] = SKILLS) -> Table:
    """Three workers on two kinds of task with letters for answers: `cheap` is good at sums, `middle` at words, `dear` at both."""
    rng = random.Random(seed)
    items, said = [], {w: {} for w in skill}
    for number in range(n):
        kind = number % 2
        words = "add the numbers total" if kind == 0 else "name the word meaning"
        right = rng.choice("ABCD")
        items.append(
            Item(
                f"i{number}",
                f"{words} {number} {rng.choice(['red', 'green', 'blue'])}",
                "made",
                ("sums", "words")[kind],
                right,
                "dev" if number % 6 == 5 else "train",
            )
        )
        hard = rng.random() < 0.15
        for worker, chance in skill.items():
            good = rng.random() < chance[kind] * (0.4 if hard else 1.0)
            answer = right if good else rng.choice([x for x in "ABCD" if x != right])
            said[worker][f"i{number}"] = (Said(float(good), PRICES[worker], 20, 5, 1.0, answer, None),)
    return Table("made", items, said)


def write(folder: Path, table: Table) -> Path:
    """The table as a folder of JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.jsonl").open("w") as out:
        for i in table.items:
            row = {"item_id": i.id, "prompt": i.prompt, "dataset": i.dataset, "task": i.task}
            out.write(json.dumps(row | {"reference": i.reference, "split": i.split}) + "\n")
    with (folder / "outcomes.jsonl").open("w") as out:
        for worker in table.workers:
            for i in table.items:
                if (s := table.said(i.id, worker)) is not None:
                    row = {"item_id": i.id, "model": worker, "score": s.score, "cost_usd": s.cost}
                    row |= {"prompt_tokens": s.input, "completion_tokens": s.output, "answer": s.answer}
                    out.write(json.dumps(row) + "\n")
    return folder
