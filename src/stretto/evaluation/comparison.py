"""From answers to figures: every policy beside every worker and every control, on the same items, with paired intervals.

Where the items have a split, the controls choose on `train` and everything is reported on `dev`. Else choosing is
cross-fitted: for each fifth of the items (of each task) the controls choose on the other four, so no item is judged by a choice
that it helped to make. Where the fifths choose different workers as the best single one, the best of these on all items is the
measure: the part on which a worker shines is missing where it is chosen, so a mixture of two that are close is worse than either.

Controls choose among the workers whose costs are known, if any are: money is half of the comparison.
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from stretto.evaluation import controls
from stretto.evaluation.controls import Compared, Control
from stretto.evaluation.intervals import Interval, wilson
from stretto.evaluation.runner import Result
from stretto.evaluation.stated import BINS, Honesty, honesty
from stretto.evaluation.tables import Table
from stretto.evaluation.tasks import Item
from stretto.evaluation.two_models import Between, between
from stretto.policies.answers import classes, said
from stretto.policies.calls import tools_of
from stretto.types import PICO, Message

__all__ = ["Bin", "Columns", "Comparison", "Row", "columns_of", "compare", "recorded_columns", "turned_of"]

_FOLDS: Final = 5
_MANY: Final = 20
"""Right on none of so many items: who is right one time in seven comes to that 5 times in 100."""
_MORE: Final = 1.05
"""Up to so many times its money is about the same."""
_FEWEST: Final = 2
_VERDICT: Final = re.compile(r"(\S+) (?:said (yes|no)\b|said neither|could not judge)")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the workers came to, items by workers: scores, costs (USD, nan: not known), and which answer each gave (-1: none).

    `samples` and `sample_classes` hold further answers by worker: arrays (items, samples), the first one being the column itself.
    """

    names: tuple[str, ...]
    scores: Any
    costs: Any
    classes: Any
    samples: Mapping[str, Any] = field(default_factory=dict)
    sample_classes: Mapping[str, Any] = field(default_factory=dict)
    guessed: Mapping[str, int] = field(default_factory=dict)
    """How many costs of a worker are not known and stand in as the mean of its known ones."""
    judged: tuple[str, ...] = ()
    """What is to be said of judges that graded."""
    doubts: tuple[str, ...] = ()
    """As for `Comparison`, of the workers."""

    def of(self, places: Sequence[int]) -> "Columns":
        """Some of the workers."""
        names = tuple(self.names[k] for k in places)
        samples, same = ({w: v[w] for w in names if w in v} for v in (self.samples, self.sample_classes))
        w = list(places)
        return replace(
            self,
            names=names,
            scores=self.scores[:, w],
            costs=self.costs[:, w],
            classes=self.classes[:, w],
            samples=samples,
            sample_classes=same,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """A contender or control in figures. `usd`: per 1,000 items; `compared` is against the best single worker.

    Of a policy: `policy` is its name without the dial, `dial` where it stood, `stated` how far the probabilities that it stated
    are from what came true (`None` where it stated none).
    """

    name: str
    kind: str
    usd: float
    compared: Compared
    verdict: str
    errors: int = 0
    by_task: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    equal_budget: tuple[str, Interval] | None = None
    """For about the same money: the best single worker as often as that buys, voting; and the paired difference to it."""
    policy: str = ""
    dial: float | None = None
    stated: Honesty | None = None
    budget: str = ""
    """Why there is no `equal_budget`: what the money of a policy buys of the best single worker."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with about the same stated probability: how many, the mean that was stated, how often they were right."""

    n: int
    stated: float
    right: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a report shows."""

    n: int
    best: str
    chosen_on: str
    rows: tuple[Row, ...]
    tasks: Mapping[str, int]
    calibration: Mapping[str, tuple[Bin, ...]]
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    """Who was right on none of many items: that may be the grader's doing; and how to look at it."""
    certified: Mapping[str, Any] | None = None
    """What the artefact that was named promises from the middle of the dial upwards (`policies.sequential.Evidence`)."""
    between: tuple[Between, ...] = ()
    """Policies that were asked for at several dials and moved between two workers: the published metrics of such routers."""

    @property
    def verdict(self) -> str:
        """What the intervals allow to say of the policies, in words."""
        policies = [r for r in self.rows if r.kind == "policy"]
        if not policies:
            return "No policy was compared."
        better = [r for r in policies if r.compared.difference.above_zero]
        worse = [r for r in policies if r.compared.difference.below_zero]
        cheaper = [r for r in policies if r not in better and r not in worse and "not more than" in r.verdict]
        told = []
        if better:
            told.append("Better than the best single worker: " + ", ".join(map(_at, better)) + ".")
        else:
            told.append("No gain shown: no policy's interval lies above that of the best single worker.")
        if cheaper:
            told.append(
                "Not more than one point worse than it, and cheaper: " + ", ".join(map(_at, cheaper)) + "."
            )
        if worse:
            told.append("Worse than it: " + ", ".join(map(_at, worse)) + ".")
        if len(policies) > 1:
            told.append(f"{len(policies)} policies were compared; the intervals are not widened for that.")
        return " ".join(told)


def _at(row: Row) -> str:
    return row.name if math.isnan(row.compared.cost) else f"{row.name} (x{row.compared.cost:.2f} the cost)"


def columns_of(
    items: Sequence[Item], results: Mapping[str, Sequence[Result]], *, last_line: bool = True
) -> Columns:
    """The columns of workers that were asked live, one list of results a worker. `NAME#2` is a further answer of NAME."""
    import numpy as np

    names = tuple(name for name in results if "#" not in name)
    values = {
        name: [
            said(Message("assistant", r.answer), last_line=last_line, tools=item.tools)
            for item, r in zip(items, found, strict=True)
        ]
        for name, found in results.items()
    }

    def numbered(several: Sequence[str]) -> Any:
        rows = []
        for at in range(len(items)):
            row = [values[name][at] for name in several]
            rows.append(classes([f"only {k}" if v is None else v for k, v in enumerate(row)]))
        return np.array(rows, dtype=np.int64).reshape(len(items), len(several))

    def scores(several: Sequence[str]) -> Any:
        return np.array([[r.score for r in results[name]] for name in several], dtype=np.float64).T

    costs = np.array([[r.cost / PICO for r in results[name]] for name in names], dtype=np.float64).T
    again = {name: [name, *(x for x in results if x.startswith(f"{name}#"))] for name in names}
    again = {name: several for name, several in again.items() if len(several) > 1}
    return Columns(
        names,
        scores(names),
        costs,
        numbered(names),
        {name: scores(several) for name, several in again.items()},
        {name: numbered(several) for name, several in again.items()},
        judged=_judged(items, results),
        doubts=_never({name: results[name] for name in names}),
    )


def _never(results: Mapping[str, Sequence[Result]]) -> tuple[str, ...]:
    """Whose answers were all graded as quite wrong, or all failed, on so many items that it is no accident."""
    told = []
    for name, found in results.items():
        answered = [r for r in found if not r.error]
        if len(found) < _MANY or any(r.score > 0 for r in found):
            continue
        if answered:
            told.append(
                f"{name} was right on none of {len(found)} items. It may be that bad; or the grader is the wrong one, or "
                "cannot read the form in which it answers. "
                f"Read some: `stretto eval audit FOLDER --contender {name}`."
            )
        else:
            first = " ".join(found[0].error.split())[:200]
            told.append(
                f"{name} answered none of {len(found)} items. The first failure: {first}. Mend that, and run the same "
                "command with --retry-errors."
            )
    return tuple(told)


def _judged(items: Sequence[Item], results: Mapping[str, Sequence[Result]]) -> tuple[str, ...]:
    """How often each judge said yes, no, or nothing: one that says the same of everything grades nothing."""
    found: dict[str, dict[str, int]] = {}
    for result in results.values():
        for item, one in zip(items, result, strict=True):
            if item.grader.startswith("judge ") and not one.error and (told := _VERDICT.match(one.why)):
                counts = found.setdefault(told[1], {"yes": 0, "no": 0, "nothing": 0})
                counts[told[2] if told[2] in counts else "nothing"] += 1
    notes = []
    for worker, counts in found.items():
        note = f"The judge {worker} said yes {counts['yes']} times, no {counts['no']} times"
        note += f", and gave no verdict {counts['nothing']} times, which counts as wrong" * bool(
            counts["nothing"]
        )
        if not counts["yes"] or not counts["no"]:
            note += ": it never said anything else, so it tells no good answers from bad ones"
        notes.append(f"{note}. It is an opinion: read some by `stretto eval audit`.")
    return tuple(notes)


def recorded_columns(table: Table) -> Columns:
    """The columns of a recorded table whose workers all know all items (`table.only(complete=True)`)."""
    import numpy as np

    offered = [tools_of(item.tools) for item in table.items]

    def numbered(row: Sequence[str | None], at: int) -> list[int]:
        found = [said(Message("assistant", text or ""), last_line=True, tools=offered[at]) for text in row]
        return classes([f"only {k}" if value is None else value for k, value in enumerate(found)])

    rows = [[table.said(i.id, w) for w in table.workers] for i in table.items]
    known = [[s for s in row if s is not None] for row in rows]
    scores = np.array([[s.score for s in row] for row in known])
    costs = np.array([[math.nan if s.cost is None else s.cost for s in row] for row in known])
    unknown = np.isnan(costs)
    guessed = {}
    for k, worker in enumerate(table.workers):
        if 0 < unknown[:, k].sum() < len(costs):
            guessed[worker] = int(unknown[:, k].sum())
            costs[unknown[:, k], k] = costs[~unknown[:, k], k].mean()
    numbers = np.array(
        [
            numbered([s.answer if s.answer is not None else s.text for s in row], at)
            for at, row in enumerate(known)
        ]
    )
    samples, same = {}, {}
    for worker in table.workers:
        least = min(table.samples(i.id, worker) for i in table.items)
        if least > 1:
            found = [[table.said(i.id, worker, k) for k in range(least)] for i in table.items]
            whole = [[s for s in row if s is not None] for row in found]
            samples[worker] = np.array([[s.score for s in row] for row in whole])
            same[worker] = np.array([numbered([s.answer for s in row], at) for at, row in enumerate(whole)])
    doubts = tuple(
        f"{name} is recorded with score 0 on all of {len(scores)} items. It may be that bad; or it was graded wrongly: "
        f"look at its `score` and `answer` in {table.name}."
        for k, name in enumerate(table.workers)
        if len(scores) >= _MANY and not (scores[:, k] > 0).any()
    )
    return Columns(table.workers, scores, costs, numbers, samples, same, guessed, doubts=doubts)


def compare(
    items: Sequence[Item],
    columns: Columns,
    policies: Mapping[str, Sequence[Result]],
    *,
    seed: int = 1,
    notes: Sequence[str] = (),
    single: tuple[str, str] | None = None,
    dial: float | None = None,
) -> Comparison:
    """The comparison of policies with workers and controls; `columns` has a row for every item, in their order.

    The results of a policy may be of some items only, as long as they cover the reported ones: of a split table, those of `dev`.
    `single`: the best single worker, where it is known from elsewhere, and from what. `dial`: of the policies that name none.
    """
    import numpy as np

    folds, chosen_on = _folds(items, seed)
    everybody, columns = columns, _priced(columns)
    order = np.argsort(np.concatenate([rows for _, rows in folds]), kind="stable")
    shown = np.concatenate([rows for _, rows in folds])[order]
    tasks = [item.task for item in items]
    found, picked = _all_controls(columns, tasks, folds, order, single[0] if single else "")
    if single is not None:
        chosen_on = f"{single[1]} (what else is chosen, on {chosen_on})"
    if len(set(picked)) > 1:
        votes = ", ".join(f"{name} {n} x" for name, n in _counted(picked).items())
        chosen_on += f"; these differ ({votes}), so it is the best of them on all"
        found["best single"], picked = _constant(columns, picked, shown, found["best single"])
    base = found["best single"]
    ids = [items[at].id for at in shown]
    kept = {name: _in_order(results, ids) for name, results in policies.items()}
    unknown = set(everybody.names) - set(columns.names)
    entries = [("policy", _as_control(name, results, unknown)) for name, results in kept.items()]
    entries += [("control", control) for control in found.values()]
    for k, name in enumerate(everybody.names):
        entries.append(("worker", Control(name, everybody.scores[shown, k], everybody.costs[shown, k])))
    labels = np.array([tasks[at] for at in shown])
    rows = []
    for (kind, control), against in zip(
        entries, controls.compare([c for _, c in entries], base, seed=seed), strict=True
    ):
        results = kept[control.name] if kind == "policy" else []
        even = _equal_budget(control, against, found, seed) if kind == "policy" else None
        policy, turned = turned_of(control.name) if kind == "policy" else ("", None)
        rows.append(
            Row(
                control.name,
                "bound" if control.bound else kind,
                1000 * float(np.mean(control.cost)),
                against,
                _told(control, against, base, picked),
                sum(1 for r in results if r.error),
                {task: float(control.score[labels == task].mean()) for task in sorted(set(labels.tolist()))},
                _counted(w for r in results for w in r.asked),
                even,
                policy,
                dial if policy and turned is None else turned,
                honesty(*_told_sure(results)),
                _bought(against, picked[0]) if kind == "policy" and even is None else "",
            )
        )
    return Comparison(
        len(shown),
        picked[0],
        chosen_on,
        tuple(rows),
        _counted(labels.tolist()),
        {name: bins for name, results in kept.items() if (bins := _calibration(results))},
        (*notes, *_notes(everybody, len(shown)), *_beyond(everybody, columns, folds, picked[0])),
        (*columns.doubts, *_never(kept)),
        between=between(kept, everybody.names, everybody.scores[shown], seed=seed),
    )


def turned_of(name: str) -> tuple[str, float | None]:
    """NAME@DIAL as name and dial; `None` where no number follows an "@", which may be part of a name."""
    base, at, dial = name.rpartition("@")
    try:
        return (base, float(dial)) if at and base else (name, None)
    except ValueError:
        return name, None


def _priced(columns: Columns) -> Columns:
    """The workers whose costs are known; all where none is."""
    known = [k for k, cost in enumerate(columns.costs.mean(0).tolist()) if not math.isnan(cost)]
    return columns.of(known) if known else columns


def _beyond(everybody: Columns, columns: Columns, folds: Sequence[tuple[Any, Any]], best: str) -> list[str]:
    """A note on workers without a price that were better than the measure where it was chosen."""
    import numpy as np

    rows = np.unique(np.concatenate([train for train, _ in folds]))
    mean = dict(zip(everybody.names, everybody.scores[rows].mean(0).tolist(), strict=True))
    dear = [name for name in everybody.names if name not in columns.names and mean[name] > mean[best]]
    if not dear:
        return []
    told = ", ".join(f"{name} ({100 * mean[name]:.1f})" for name in dear)
    mark = f"{best} ({100 * mean[best]:.1f})"
    return [
        f"Better than {mark} on the items that choose, but of unknown cost, and so not the measure: {told}."
    ]


def _constant(
    columns: Columns, picked: Sequence[str], rows: Any, mixed: Control
) -> tuple[Control, list[str]]:
    """The best of the picked workers on all items, in the place of their mixture."""
    best = max(
        dict.fromkeys(picked), key=lambda name: float(columns.scores[rows, columns.names.index(name)].mean())
    )
    k = columns.names.index(best)
    return Control(mixed.name, columns.scores[rows, k], columns.costs[rows, k]), [best] * len(picked)


def _equal_budget(
    control: Control, against: Compared, found: Mapping[str, Control], seed: int
) -> tuple[str, Interval] | None:
    """The same-model vote whose cost is nearest below that of a policy, where it was sampled that often."""
    within = [
        c for n, c in found.items() if n.startswith("panel ") and c.cost.mean() <= _MORE * control.cost.mean()
    ]
    if not within or math.isnan(against.cost):
        return None
    rival = max(within, key=lambda c: float(c.cost.mean()))
    return rival.name, controls.paired(control.score, rival.score, seed=seed)


def _bought(against: Compared, best: str) -> str:
    """What the money of a policy buys of the best single worker, where no vote of that can be had for comparison."""
    if math.isnan(against.cost):
        return ""
    told = f"its money buys {against.cost:.2f} samples of {best}"
    if against.cost < _FEWEST / _MORE:
        return f"{told}, and a vote takes two: compare with {best} alone"
    return f"{told}, of which no others are there; `--samples` takes more where models are asked"


def _told(control: Control, against: Compared, base: Control, picked: Sequence[str]) -> str:
    if control is base:
        return "the measure"
    if set(picked) == {control.name}:
        return "is the best single"
    return controls.verdict(against).partition(", at nan")[0]


def _in_order(results: Sequence[Result], ids: Sequence[str]) -> list[Result]:
    by_item = {r.item: r for r in results}
    return [by_item[id] for id in ids]


def _as_control(name: str, results: Sequence[Result], unknown: set[str]) -> Control:
    """The results of a policy. `unknown`: workers whose costs nobody knows; what asked one has none either."""
    import numpy as np

    score = np.array([r.score for r in results])
    cost = np.array([math.nan if unknown.intersection(r.asked) else r.cost / PICO for r in results])
    return Control(name, score, cost, float(np.mean([r.calls for r in results])))


def _all_controls(
    columns: Columns, tasks: Sequence[str], folds: Sequence[tuple[Any, Any]], order: Any, single: str
) -> tuple[dict[str, Control], list[str]]:
    """Every control that can be had on all folds, its items put in order; and the best single worker of each fold (`single`)."""
    import numpy as np

    parts: dict[str, list[Control]] = {}
    picked: list[str] = []
    for train, rows in folds:
        best = single or columns.names[int(columns.scores[train].mean(0).argmax())]
        for name, control in _controls(columns, tasks, train, rows, best).items():
            parts.setdefault(name, []).append(control)
        picked.append(best)
    whole = {
        name: Control(
            found[0].name,
            np.concatenate([c.score for c in found])[order],
            np.concatenate([c.cost for c in found])[order],
            found[0].calls,
            found[0].bound,
        )
        for name, found in parts.items()
        if len(found) == len(folds) and len({c.name for c in found}) == 1
    }
    return whole, picked


def _notes(columns: Columns, n: int) -> list[str]:
    told = list(columns.judged)
    if not columns.samples:
        told.append(
            "Each worker answered once: the oracle without luck, and resampling the best single, cannot be computed."
        )
    mean = columns.costs.mean(0)
    unpriced = [name for name, cost in zip(columns.names, mean.tolist(), strict=True) if math.isnan(cost)]
    if len(unpriced) == len(columns.names) or not columns.costs.any():
        told.append("No cost is known, so none is compared.")
    elif unpriced:
        told.append(f"No cost is known of {', '.join(unpriced)}: what asks them has none here either.")
    for name, count in columns.guessed.items():
        told.append(f"{count} costs of {name} are not known; the mean of its known ones stands in for each.")
    if n < 200:
        told.append(f"{n} items are few: differences under about {100 / math.sqrt(n):.0f} points are noise.")
    return told


def _folds(items: Sequence[Item], seed: int) -> tuple[list[tuple[Any, Any]], str]:
    import numpy as np

    train = np.array([at for at, item in enumerate(items) if item.split == "train"], dtype=np.int64)
    if len(train):
        dev = np.array([at for at, item in enumerate(items) if item.split != "train"], dtype=np.int64)
        return [(train, dev)], f"{len(train)} train items"
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda at: items[at].task)  # stable: every part has its share of every task
    count = min(_FOLDS, len(items))
    parts = [np.array(sorted(order[k::count]), dtype=np.int64) for k in range(count)]
    folds = [(np.concatenate([p for j, p in enumerate(parts) if j != k]), parts[k]) for k in range(count)]
    return folds, f"the other {count - 1} of {count} parts of the items, for each part"


def _controls(
    columns: Columns, tasks: Sequence[str], train: Any, rows: Any, worker: str
) -> dict[str, Control]:
    """The controls on some rows, with everything that is chosen chosen on others."""
    import numpy as np

    past, scores, costs, numbers = (
        columns.scores[train],
        columns.scores[rows],
        columns.costs[rows],
        columns.classes[rows],
    )
    best = columns.names.index(worker)
    found = {
        "best single": Control("best single, chosen before", scores[:, best], costs[:, best]),
        "random": controls.random_worker(scores, costs),
    }
    if len(set(tasks)) > 1:
        found["known task"] = controls.known_task(
            past, [tasks[t] for t in train], scores, costs, [tasks[t] for t in rows]
        )
    for k in (3, 5):
        if len(columns.names) >= k:
            found[f"vote {k}"] = controls.plain_vote(past, numbers, scores, costs, k)
    again = {name: values[rows] for name, values in columns.samples.items()}
    if worker in again:
        paid = np.repeat(costs[:, [columns.names.index(worker)]], again[worker].shape[1], 1)
        for n in range(2, again[worker].shape[1] + 1):
            args = (columns.sample_classes[worker][rows][:, :n], again[worker][:, :n], paid[:, :n])
            found[f"panel {n}"] = controls.resampled(*args, panel=True)
        found["best of n"] = controls.resampled(*args, panel=False)
    found["oracle"] = controls.naive_oracle(scores, costs)
    least = min((again[w].shape[1] if w in again else 1) for w in columns.names)
    if least > 1:
        stacked = np.stack([again[w][:, :least] for w in columns.names], 1)
        fair = controls.resampled_oracle(stacked, costs)
        assert fair is not None
        found["fair oracle"] = fair
    return found


def _counted(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _told_sure(results: Sequence[Result]) -> tuple[list[float], list[float]]:
    """The probabilities that were stated, and the scores that came of it."""
    told = [(r.sure, r.score) for r in results if r.sure is not None]
    return [p for p, _ in told], [s for _, s in told]


def _calibration(results: Sequence[Result]) -> tuple[Bin, ...]:
    """Ten bins by stated probability; nothing where a policy states none."""
    told = list(zip(*_told_sure(results), strict=True))
    bins = []
    for k in range(BINS):
        inside = [(p, s) for p, s in told if min(BINS - 1, int(p * BINS)) == k]
        if inside:
            n = len(inside)
            bins.append(Bin(n, sum(p for p, _ in inside) / n, wilson(sum(s for _, s in inside), n)))
    return tuple(bins)
