"""The table of `policies.route` from recorded outcomes: how each kind of task is worded, and who is right at it how often.

Beside that perhaps an estimator that reads the prompt (`evidence.routing`), which then tells whom to ask.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stretto import __version__
from stretto.artifacts import Artifact
from stretto.errors import ConfigError
from stretto.evaluation.tables import Item, Table
from stretto.learning.promotion import item_mark
from stretto.policies import route
from stretto.policies.route import TABLE_SCHEMA, features

if TYPE_CHECKING:
    from stretto.evaluation.intervals import Interval
    from stretto.learning.evidence.routing import Family, Quality

__all__ = ["Studied", "Study", "of_table", "study"]

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
        "tokens": _tokens(part),
    }
    provenance = {
        "learned_by": "stretto train route",
        "stretto": __version__,
        "table": table.name,
        "items": len(part.items),
        "learned_from": " ".join(sorted({item_mark(item.prompt) for item in part.items})),
    }
    return Artifact(TABLE_SCHEMA, provenance, data)


def _tokens(table: Table) -> dict[str, float]:
    """How many tokens the replies of each worker had on average, where that is known."""
    found = {}
    for worker in table.workers:
        said = [
            one.output for i in table.items if (one := table.said(i.id, worker)) and one.output is not None
        ]
        if said:
            found[worker] = round(sum(said) / len(said), 1)
    return found


@dataclass(frozen=True, slots=True)
class Studied:
    """What one estimator is worth, cross-fitted. `told`: what was chosen within its family. `lead`: what asking by it brings more
    than asking by the table of tasks, as `route` weighs score and money, mean over the dials, paired.
    """

    by: str
    told: str
    quality: "Quality"
    lead: "Interval | None" = None


@dataclass(frozen=True, slots=True)
class Study:
    """What was compared, the table of tasks first; which of them serves; who is the best single worker, of those that nearly all
    items were put to, and its mean score.

    `few`: workers with too few outcomes for an estimator, and how many.
    """

    rows: tuple[Studied, ...]
    by: str
    single: str
    score: float
    few: dict[str, int]


def study(
    table: Table,
    by: "Sequence[Family]",
    workers: Sequence[str] = (),
    *,
    seed: int = 0,
    tick: Callable[[str], None] = lambda family: None,
) -> tuple[Artifact, Study]:
    """The table with the estimator of `by` that foretells best, by the mean log-loss of items that it has not seen.

    Of several, none if asking by the table of tasks surely brings more. Raises `ConfigError` where there is too little to learn.
    """
    import numpy as np

    from stretto.evaluation.controls import paired
    from stretto.learning.evidence import routing
    from stretto.learning.evidence.lengths import lengths_data
    from stretto.learning.evidence.prompts import Prompts
    from stretto.learning.evidence.success import folds

    made = of_table(table, workers)
    part = table.only(lambda item: item.split == "train", workers or None)
    items = [item for item in part.items if any(part.samples(item.id, w) for w in part.workers)]
    counts = {w: sum(part.samples(item.id, w) > 0 for item in items) for w in part.workers}
    names = [w for w in part.workers if counts[w] >= routing.LEAST]
    if len(names) < 2:
        raise ConfigError(
            f"{table.name}: an estimator needs {routing.LEAST} outcomes of at least two workers on items of split train; there "
            f"are {', '.join(f'{w} ({n})' for w, n in counts.items())}. The table of tasks (--by table) can do with less"
        )
    items = [item for item in items if any(part.samples(item.id, w) for w in names)]
    scores, costs, tokens = _matrices(part, items, names)
    prompts = Prompts.learned(items)
    x = prompts.matrix(items)
    plain = routing.quality(_by_tasks(part, items, names, folds(len(items), seed=seed), tick), scores, costs)
    rows, found = [Studied("table", "", plain)], {}
    for one in routing.candidates(by, prompts, x, scores, seed=seed, tick=tick):
        quality = routing.quality(one.chance, scores, costs)
        rows.append(Studied(one.by, one.told, quality, paired(quality.worth, plain.worth)))
        found[one.by] = one
    if not found:
        raise ConfigError(
            f"{table.name}: with {len(names)} workers there is nothing that factors could share"
        )
    best = min(rows[1:], key=lambda row: row.quality.nats)
    surely_worse = len(by) > 1 and best.lead is not None and best.lead.high < 0
    means, share = np.nanmean(scores, 0), (~np.isnan(scores)).mean(0)
    # who knows only some items may know the easy ones
    top = int(np.where(share >= min(0.985, share.max()), means, -1.0).argmax())
    said = Study(
        tuple(rows),
        "table" if surely_worse else best.by,
        names[top],
        float(means[top]),
        {w: n for w, n in counts.items() if w not in names},
    )
    if said.by == "table":
        return made, said
    success = routing.data_of(found[best.by], prompts, names)
    if lengths := lengths_data(x[:, : x.shape[1] - prompts.loose], tokens):
        success["lengths"] = lengths
    return replace(made, data={**made.data, "success": success}), said


def _matrices(table: Table, items: Sequence[Item], workers: Sequence[str]) -> tuple[Any, Any, Any]:
    """Scores, costs and tokens of replies (items, workers), `nan` where they are not known."""
    import numpy as np

    scores, costs, tokens = (np.full((len(items), len(workers)), np.nan) for _ in range(3))
    for row, item in enumerate(items):
        for k, worker in enumerate(workers):
            if (one := table.said(item.id, worker)) is not None:
                scores[row, k] = one.score
                costs[row, k] = np.nan if one.cost is None else one.cost
                tokens[row, k] = np.nan if one.output is None else one.output
    return scores, costs, tokens


def _by_tasks(
    table: Table, items: Sequence[Item], workers: Sequence[str], fold: Any, tick: Callable[[str], None]
) -> Any:
    """Chances (items, workers) by the table of tasks, each by one that was learned without the item."""
    import numpy as np

    out = np.full((len(items), len(workers)), 0.5)
    place = {item.id: int(f) for item, f in zip(items, fold, strict=True)}
    for f in range(int(fold.max()) + 1):
        one = route.Table(of_table(table.only(partial(_outside, place, f)), workers))
        for row, item in enumerate(items):
            if place[item.id] == f:
                chances = one.judged(item.prompt).chances
                out[row] = [chances[w].right if w in chances else 0.5 for w in workers]
        tick("table")
    return np.clip(out, 0.01, 0.995)


def _outside(place: dict[str, int], fold: int, item: Item) -> bool:
    return place.get(item.id) != fold
