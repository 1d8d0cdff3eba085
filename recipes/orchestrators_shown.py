"""From the answers of all contenders to the tables and pictures of docs/reference/orchestrators.md."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrators_pictures import bars, steps, trade
from sparring_matrix import fill, table

from stretto.evaluation.controls import paired
from stretto.evaluation.intervals import Interval, wilson
from stretto.evaluation.runner import Result
from stretto.evaluation.tasks import Item
from stretto.sparring import normalise
from stretto.types import usd

Answers = dict[str, tuple[str, list[tuple[Item, Result]]]]
"""By contender: what kind it is, and its answer to each item."""

Cells = dict[str, dict[str, list[Result]]]
"""By contender and set, the answers to held-out problems, in the order of the problems."""

SETS = ("simple", "composite", "pairs", "wordings")
PAPERS_OWN = 70.44
PAPER = {
    "no-scales": 67.85,
    "no-thinker": 68.69,
    "role-free": 67.02,
    "last": 64.66,
    "stage-1": 66.1,
    "random-search": 60.25,
    "reinforce": 36.95,
    "low-rank": 65.6,
    "block": 63.5,
}
"""The averages over four benchmarks that TRINITY's paper (arXiv 2512.04695) gives for its whole form and without a part."""
FEW = 3
"""Samples of the best single worker for as many calls as the Conductor makes for a composite; they cost more than it."""
TOLD = {
    "simple": "simple",
    "composite": "composites",
    "pairs": "unseen pairs",
    "wordings": "unseen wordings",
    "triples": "three skills",
}


def show(answers: Answers, trained: Path, out: Path, docs: Path | None) -> None:
    """Write `tables.md`, `figures.json` and the pictures into `out`, and, with `docs`, into the documentation."""
    cells = by_set(answers)
    workers = [name for name, (kind, _) in answers.items() if kind == "worker"]
    single = chosen(answers, workers)
    controls(cells, single, workers)
    images = docs / "images" if docs else out
    main = [n for n in _order(cells, answers) if _main(n, answers)]
    figures = {
        "mix": everything(cells, main, single),
        "against": duels(cells, single),
        "seeds": seeds(cells),
        "plans": difficulty(cells, main),
        "turns": longer(cells, answers),
        "ablations": ablations(cells, answers, single),
        "pool": changes(cells, answers),
        "depth": depths(cells, answers),
        "dominated": dominated(cells, answers),
    }
    figures = {name: text for name, text in figures.items() if text}
    pictures(cells, main, single, images)
    for kind in ("trinity", "conductor"):
        curve = trained / f"{kind}-1" / "learning-curve.svg"
        if curve.exists():
            images.mkdir(parents=True, exist_ok=True)
            shutil.copy(curve, images / f"orchestrators-{kind}-training.svg")
    text = "\n\n".join(f"## {name}\n\n{figure}" for name, figure in figures.items())
    (out / "tables.md").write_text(text + "\n", encoding="utf-8")
    data = (
        json.dumps(summary(cells, single), indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n"
    )
    (out / "figures.json").write_text(data, encoding="utf-8")
    print(text)
    if docs:
        (docs / "reference" / "orchestrators.json").write_text(data, encoding="utf-8")
        fill(docs / "reference" / "orchestrators.md", figures)


# --- what is compared --------------------------------------------------------------------------------------------


def by_set(answers: Answers) -> Cells:
    """The answers to held-out problems."""
    cells: Cells = {}
    for name, (_, rows) in answers.items():
        cells[name] = {}
        for item, result in rows:
            if item.split == "dev":
                cells[name].setdefault(item.task, []).append(result)
    return cells


def chosen(answers: Answers, workers: Sequence[str]) -> dict[str, str]:
    """By set, the worker that was right most often on that set's calibration problems; `mix`: on those of all four."""
    right: dict[str, dict[str, float]] = {}
    for name in workers:
        for item, result in answers[name][1]:
            if item.split == "train":
                for kind in (item.task, *(["mix"] if item.task in SETS else [])):
                    count = right.setdefault(kind, dict.fromkeys(workers, 0.0))
                    count[name] += result.score
    return {kind: max(workers, key=lambda name: count[name]) for kind, count in right.items()}


def controls(cells: Cells, single: Mapping[str, str], workers: Sequence[str]) -> None:
    """Add what can be reckoned from the workers' own answers: the best single of each set, the oracle, and its samples."""
    cells["best single"] = {kind: cells[single[kind]][kind] for kind in cells[workers[0]] if kind in single}
    cells["oracle"] = {
        kind: [
            max(rows, key=lambda r: (r.score, -r.cost))
            for rows in zip(*(cells[w][kind] for w in workers), strict=True)
        ]
        for kind in cells[workers[0]]
    }
    drawn = [name for name in cells if " sample " in name]
    for worker in dict.fromkeys(name.partition(" sample ")[0] for name in drawn):
        _resampled(cells, worker, [name for name in drawn if name.startswith(f"{worker} sample ")])
    for name in drawn:
        del cells[name]


def _resampled(cells: Cells, worker: str, drawn: Sequence[str]) -> None:
    """Add what several samples of a worker come to: by vote of all and of the first `FEW`, the last, and by a perfect judge."""

    def add(names: Sequence[str], how: str, pick: Callable[[Sequence[Result]], Result]) -> None:
        kinds = [kind for kind in cells[names[0]] if all(kind in cells[name] for name in names)]
        cells[f"{worker} x {len(names)}, {how}"] = {
            kind: [_summed(rows, pick(rows)) for rows in zip(*(cells[n][kind] for n in names), strict=True)]
            for kind in kinds
        }

    if FEW < len(drawn) < 2 * FEW:
        add(drawn[:FEW], "vote", _vote)
    add(drawn, "vote", _vote)
    add(drawn, "last", lambda rows: rows[-1])
    add(drawn, "perfect judge", lambda rows: max(rows, key=lambda r: r.score))


def _vote(rows: Sequence[Result]) -> Result:
    """The answer that most samples gave, the first of equals; every sample is paid for."""
    said = [normalise(row.answer) for row in rows]
    counts = Counter(said)
    return rows[max(range(len(rows)), key=lambda at: (counts[said[at]], -at))]


def _summed(rows: Sequence[Result], picked: Result) -> Result:
    from dataclasses import replace

    return replace(picked, cost=sum(r.cost for r in rows), calls=sum(r.calls for r in rows))


def _main(name: str, answers: Answers) -> bool:
    """Whether a contender stands in the main table."""
    kind = answers[name][0] if name in answers else "control"
    return kind in ("worker", "policy", "control") or name in ("trinity-random-search", "trinity-stage-1")


def _order(cells: Cells, answers: Answers) -> list[str]:
    ranks = {"worker": 0, "control": 1, "policy": 2}
    last = {"oracle": 9}
    kinds = {name: answers[name][0] if name in answers else "control" for name in cells}
    return sorted(cells, key=lambda n: (last.get(n, ranks.get(kinds[n], 1)), list(cells).index(n)))


# --- tables ------------------------------------------------------------------------------------------------------


def span(found: Interval, sign: str = "") -> str:
    """An estimate with its interval."""
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def rate(rows: Sequence[Result]) -> Interval:
    """How often the answer was right."""
    return wilson(sum(row.score for row in rows), len(rows))


def rates(cells: Cells, name: str) -> list[str]:
    """How often a contender was right, by set; a dash where it was not asked."""
    return [span(rate(cells[name][kind])) if kind in cells[name] else "-" for kind in SETS]


def gain(a: Sequence[Result], b: Sequence[Result]) -> Interval:
    """The paired difference over the problems that both were asked."""
    other = {row.item: row.score for row in b}
    pairs = [(row.score, other[row.item]) for row in a if row.item in other]
    return paired([x for x, _ in pairs], [y for _, y in pairs], seed=1)


def gains(cells: Cells, a: str, b: str) -> list[str]:
    """The paired differences of two contenders by set; a dash where not both were asked."""
    return [
        span(gain(cells[a][kind], cells[b][kind]), "+")
        if kind in cells[a] and kind in cells.get(b, {})
        else "-"
        for kind in SETS
    ]


def everything(cells: Cells, names: Sequence[str], single: Mapping[str, str]) -> str:
    """Every contender on every set, with what it costs and how many calls it takes."""
    rows = []
    for name in names:
        found = cells[name]
        sets = rates(cells, name)
        every = [row for kind in SETS for row in found.get(kind, ())]
        if not every:
            continue
        cost = 1000 * usd(sum(r.cost for r in every)) / len(every)
        errors = sum(1 for r in every if r.error)
        rows.append([name, *sets, f"{cost:.3f}", f"{fmean(r.calls for r in every):.2f}", str(errors)])
    n = {kind: len(cells[names[0]][kind]) for kind in SETS if kind in cells[names[0]]}
    best = ", ".join(f"{TOLD[kind]}: `{single[kind]}`" for kind in SETS if kind in single)
    told = ", ".join(f"{TOLD[kind]} {count}" for kind, count in n.items())
    head = ["contender", *(TOLD[kind] for kind in SETS), "USD / 1000", "calls", "errors"]
    return f"Problems: {told}. Best single worker, chosen on 200 calibration problems of each set: {best}.\n\n{table(head, rows)}"


def duels(cells: Cells, single: Mapping[str, str]) -> str:
    """The paired differences that the claims rest on."""
    drawn = [name for name in cells if name.endswith((", vote", ", last"))]
    against = [
        "best single",
        *drawn,
        "route",
        "cascade",
        "fuse",
        "trinity-random-routing",
        "trinity-random-search",
    ]
    rows = []
    for name in ("trinity-1", "conductor-1", "ultra-1", "trinity", "conductor", "stretto-ultra", "route"):
        others = (
            against
            if name.endswith("-1")
            else ["best single", "route", "cascade", f"{name.removeprefix('stretto-')}-1"]
        )
        others = [*others, "trinity-stage-1"] if name == "trinity-1" else others
        others = [*others, "trinity-1"] if name == "conductor-1" else others
        others = [*others, "trinity-1", "conductor-1"] if name == "ultra-1" else others
        others = [*others, "conductor"] if name == "stretto-ultra" else others
        for other in others if name != "route" else ["best single"]:
            if name in cells and other in cells:
                rows.append([f"{name} - {other}", *gains(cells, name, other)])
    return table(["difference (paired)", *(TOLD[kind] for kind in SETS)], rows) if rows else ""


def seeds(cells: Cells) -> str:
    """The main results over their seeds."""
    rows = []
    for kind in ("trinity", "conductor"):
        names = [name for name in (f"{kind}-1", f"{kind}-2", f"{kind}-3") if name in cells]
        for name in names:
            rows.append([name, *rates(cells, name), span_gain(cells, name)])
        if len(names) > 1:
            means = [
                [rate(cells[n][s]).value for n in names] for s in SETS if all(s in cells[n] for n in names)
            ]
            told = [f"{fmean(each):.3f} ({min(each):.3f}-{max(each):.3f})" for each in means]
            told += ["-"] * (len(SETS) - len(told))
            rows.append([f"**{kind}**, mean (least-most)", *told, ""])
    head = ["seed", *(TOLD[s] for s in SETS), "all these, to best single (paired)"]
    return table(head, rows) if rows else ""


def span_gain(cells: Cells, name: str, other: str = "best single") -> str:
    """The paired difference over all sets that both were asked together; a dash without the other."""
    if other not in cells:
        return "-"
    kinds = [kind for kind in SETS if kind in cells[name] and kind in cells[other]]
    a, b = ([row for kind in kinds for row in cells[who][kind]] for who in (name, other))
    return span(gain(a, b), "+")


def difficulty(cells: Cells, names: Sequence[str]) -> str:
    """Calls a problem by how many skills it needs."""
    rows = []
    for name in names:
        kinds = [kind for kind in ("simple", "composite", "triples") if kind in cells[name]]
        if len(kinds) == 3 and fmean(r.calls for r in cells[name]["simple"]) > 1:
            found = [cells[name][kind] for kind in kinds]
            rows.append(
                [
                    name,
                    *(f"{fmean(r.calls for r in each):.2f}" for each in found),
                    *(span(rate(e)) for e in found),
                ]
            )
    head = [
        "contender",
        *(f"calls, {k}" for k in ("one skill", "two", "three")),
        *(f"right, {k}" for k in ("one skill", "two", "three")),
    ]
    return table(head, rows) if rows else ""


def ablations(cells: Cells, answers: Answers, single: Mapping[str, str]) -> str:
    """What training left out, beside the whole at the same budget."""
    rows = []
    for name in [n for n in cells if n in answers and answers[n][0] == "ablation"]:
        if "-less-" in name or "-added-" in name:
            continue
        whole = "trinity-reduced" if name.startswith("trinity-reduced-") else f"{name.partition('-')[0]}-1"
        told = next(
            (value for what, value in PAPER.items() if name.startswith("trinity") and name.endswith(what)), 0
        )
        paper = f"{told:.1f} ({told - PAPERS_OWN:+.1f})" if told else "-"
        rows.append([name, *rates(cells, name)[:2], whole, *gains(cells, name, whole)[:2], paper])
    head = [
        "variant",
        "simple",
        "composites",
        "against",
        "difference, simple",
        "difference, composites",
        "the paper",
    ]
    return table(head, rows) if rows else ""


def changes(cells: Cells, answers: Answers) -> str:
    """The trained orchestrators in a pool that lacks a worker, beside those trained for that pool; and those given a new one."""
    rows = []
    for name in [n for n in cells if n in answers and answers[n][0] == "pool"]:
        kind, _, worker = name.partition("-1 without ")
        whole, again, added = f"{kind}-1", f"{kind}-less-{worker}", f"{kind}-added-{worker}"
        rows.append([name, *rates(cells, name)[:2], span_gain(cells, name, whole)])
        if again in cells:
            rows.append([again, *rates(cells, again)[:2], span_gain(cells, again, whole)])
            lost = span_gain(cells, name, again)
            rows.append(["masked against retrained", *gains(cells, name, again)[:2], lost])
        if added in cells:
            rows.append([added, *rates(cells, added)[:2], span_gain(cells, added, whole)])
            lost = span_gain(cells, added, again) if again in cells else "-"
            rows.append(["added against left out", *gains(cells, added, again)[:2], lost])
    head = ["contender", "simple", "composites", "both, to the whole pool (paired)"]
    return table(head, rows) if rows else ""


def longer(cells: Cells, answers: Answers) -> str:
    """Problems of three skills, with more turns than were trained with."""
    rows = []
    for name in [n for n in cells if n in answers and answers[n][0] == "turns"]:
        found = cells[name]["triples"]
        first = next(n for n in cells if n in answers and answers[n][0] == "turns")
        more = "-" if name == first else span(gain(found, cells[first]["triples"]), "+")
        cost = 1000 * usd(sum(r.cost for r in found)) / len(found)
        rows.append([name, span(rate(found)), more, f"{fmean(r.calls for r in found):.2f}", f"{cost:.3f}"])
    head = ["contender", "right, three skills", "gain (paired)", "calls", "USD / 1000"]
    return table(head, rows) if rows else ""


def depths(cells: Cells, answers: Answers) -> str:
    """Recursion: what another round gains, and costs."""
    names = [n for n in cells if n in answers and answers[n][0] == "depth"]
    rows = []
    for name in names:
        kinds = [kind for kind in ("simple", "composite") if kind in cells[name]]
        every = [row for kind in kinds for row in cells[name][kind]]
        gains = [span(gain(cells[name][kind], cells[names[0]][kind]), "+") for kind in kinds]
        cost = 1000 * usd(sum(r.cost for r in every)) / len(every)
        rows.append(
            [
                name,
                *(span(rate(cells[name][k])) for k in kinds),
                *gains,
                f"{cost:.3f}",
                f"{fmean(r.calls for r in every):.2f}",
            ]
        )
    head = ["depth", "simple", "composites", "gain, simple", "gain, composites", "USD / 1000", "calls"]
    return table(head, rows) if rows else ""


def dominated(cells: Cells, answers: Answers) -> str:
    """The pool in which one model is best at everything."""
    names = [n for n in cells if n in answers and answers[n][0] == "dominated"]
    workers = [n for n in names if not n.startswith(("trinity", "conductor", "stretto"))]
    if not workers:
        return ""
    right = {n: sum(result.score for item, result in answers[n][1] if item.split == "train") for n in workers}
    best = max(workers, key=lambda n: right[n])
    rows = [
        [
            n,
            span(rate(cells[n]["simple"])),
            "-" if n == best else span(gain(cells[n]["simple"], cells[best]["simple"]), "+"),
        ]
        for n in names
    ]
    return table(["contender", "right", f"to {best} (paired)"], rows)


def summary(cells: Cells, single: Mapping[str, str]) -> dict[str, Any]:
    """All figures as data: by contender and set, share right with interval, difference to the best single, cost, calls."""
    found: dict[str, Any] = {"best single": dict(single)}
    for name, sets in cells.items():
        for kind, rows in sets.items():
            row: dict[str, Any] = {"n": len(rows), "right": asdict(rate(rows))}
            base = cells["best single"].get(kind)
            if base is not None and {r.item for r in rows} <= {r.item for r in base}:
                row["gain"] = asdict(gain(rows, base))
            row["usd per 1000"] = round(1000 * usd(sum(r.cost for r in rows)) / len(rows), 6)
            row["calls"] = round(fmean(r.calls for r in rows), 4)
            row["errors"] = sum(1 for r in rows if r.error)
            found.setdefault(name, {})[kind] = row
    return found


def pictures(cells: Cells, names: Sequence[str], single: Mapping[str, str], images: Path) -> None:
    """Bars with intervals by set; cost against quality; calls by difficulty."""
    drawn = [
        n
        for n in ("best single", *names)
        if n in cells and n not in set(single.values()) and n not in _WORKERS
    ]
    drawn = list(dict.fromkeys(drawn))
    shown = {n: {TOLD[k]: rate(cells[n][k]) for k in SETS if k in cells[n]} for n in drawn}
    bars(images / "orchestrators-sets.svg", shown, [TOLD[k] for k in SETS])
    points = {}
    for name in [*drawn, *[n for n in names if n.startswith("general-")]]:
        every = [row for kind in SETS for row in cells[name].get(kind, ())]
        if every and all(kind in cells[name] for kind in SETS):
            points[name] = (1000 * usd(sum(r.cost for r in every)) / len(every), rate(every))
    trade(images / "orchestrators-cost.svg", points, "bound" if "oracle" in points else "")
    calls = {
        n: {
            k: fmean(r.calls for r in cells[n][k])
            for k in ("simple", "composite", "triples")
            if k in cells[n]
        }
        for n in drawn
    }
    steps(
        images / "orchestrators-steps.svg",
        {n: c for n, c in calls.items() if len(c) == 3 and c["simple"] > 1},
    )


_WORKERS = (
    "string-north",
    "number-north",
    "list-north",
    "words-south",
    "digits-south",
    "general-small",
    "general-large",
)
