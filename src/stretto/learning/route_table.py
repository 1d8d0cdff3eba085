"""The table of `policies.route` from recorded outcomes: how each kind of task is worded, and who is right at it how often."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from stretto import __version__
from stretto.artifacts import Artifact
from stretto.errors import ConfigError
from stretto.evaluation.tables import Table
from stretto.policies.route import TABLE_SCHEMA, features

__all__ = ["of_table"]

_ONE: Final = "all"
"""The kind of task where the items name none."""

_MOST: Final = 8000
"""So many words are kept, the commonest first."""


def of_table(table: Table, workers: Sequence[str] = ()) -> Artifact:
    """Learned from the items of split `train` that anybody answered. Raises `ConfigError` if there are none, or a worker is not
    known.
    """
    part = table.only(lambda item: item.split == "train", workers or None)
    if not part.items:
        raise ConfigError(f"{table.name}: no item is of split train")
    whole = part
    part = whole.only(lambda item: any(whole.samples(item.id, w) for w in whole.workers))
    if not part.items:
        raise ConfigError(f"{table.name}: no item of split train has an outcome of {', '.join(part.workers)}")
    prompts: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    records: dict[str, dict[str, list[float]]] = {}
    for item in part.items:
        task = item.task or _ONE
        sizes[task] += 1
        prompts.setdefault(task, Counter()).update(set(features(item.prompt)))
        record = records.setdefault(task, {})
        for worker in part.workers:
            if (one := part.said(item.id, worker)) is not None:
                entry = record.setdefault(worker, [0.0, 0])
                entry[0] += one.score
                entry[1] += 1
    total: Counter[str] = sum(prompts.values(), Counter())
    # a word of few prompts is payload, not wording
    kept = sorted(w for w, n in total.most_common(_MOST) if n >= max(3, len(part.items) // 1000))
    sums = {task: sum(count[w] for w in kept) + 0.5 * len(kept) + 0.5 for task, count in prompts.items()}
    data = {
        "tasks": {
            task: {"prior": sizes[task] / len(part.items), "workers": records[task]} for task in sorted(sizes)
        },
        "words": {
            w: {t: round(math.log((prompts[t][w] + 0.5) / sums[t]), 4) for t in sums if prompts[t][w]}
            for w in kept
        },
        "unseen": {t: round(math.log(0.5 / sums[t]), 4) for t in sums},
    }
    provenance = {"learned_by": "stretto train route", "stretto": __version__, "table": table.name}
    return Artifact(TABLE_SCHEMA, provenance | {"items": len(part.items)}, data)
