"""What each stage of a Conductor's training brings, how it looks again, and what a changed pool costs it: on held-out problems.

    python recipes/conductor_tables.py --trained conductor-1 [--without WORKER=DIR ...] [--n 500] [--out tables.md]

Workflows are greedy, over kept replies (asked of the real models where they are missing): live figures are those of
`recipes/orchestrators.py`. `--without` names a training that never saw a worker. Needs the `train` extra.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stretto.cli.local_pool import replies
from stretto.evaluation.intervals import paired_difference, wilson
from stretto.learning.conductor.data import Case, cases
from stretto.learning.conductor.model import SparringTongue
from stretto.learning.conductor.play import Played, alone
from stretto.learning.conductor.rounds import Table, greedy
from stretto.learning.conductor.training import load
from stretto.sparring import entries
from stretto.sparring.problems import problems
from stretto.types import PICO

STAGES = ("format", "filtered", "grpo", "sft", "again")


@dataclass(frozen=True, slots=True)
class Row:
    """One way to answer all cases: by case whether right, valid, with how many steps and worker calls, at what cost."""

    name: str
    right: list[bool]
    valid: list[bool]
    steps: list[int]
    calls: list[int]
    cost: list[int]


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--trained", type=Path, required=True)
    options.add_argument("--without", action="append", default=[], metavar="WORKER=DIR")
    options.add_argument(
        "--n", type=int, default=500, help="simple problems; as many composites of two, half as many of three"
    )
    options.add_argument("--seed", type=int, default=91)
    options.add_argument("--split", default="test", choices=["test", "calibration"])
    options.add_argument("--replies", type=Path, default=Path("replies.jsonl"))
    options.add_argument("--data", type=Path, default=Path("conductor-data"))
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    workers = tuple(entry.id for entry in entries() if entry.role == "solver")
    retrained = dict(pair.split("=", 1) for pair in given.without)
    with replies(given.replies, given.data) as book:
        table = Table(SparringTongue(), workers, book)
        text = tables(table, given, {worker: Path(folder) for worker, folder in retrained.items()})
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


def tables(table: Table, given: argparse.Namespace, retrained: Mapping[str, Path]) -> str:
    """All of them."""
    n, seed = given.n, given.seed
    mixed = cases(given.split, (n, n, n // 2), seed, len(table.workers))
    pairs = cases(given.split, (0, n, 0), seed, len(table.workers), unseen_pairs=True)
    worded = [
        Case(p, tuple(range(len(table.workers))))
        for p in problems(list(_families()), given.split, n, seed, unseen_wordings=True)
    ]
    model, saved = load(given.trained, "format")
    rows = []
    for stage in STAGES:
        model.load_state_dict(saved["kept"][stage])
        rows.append(row(stage, model, table, mixed))
    shipped = saved["found"]["shipped"]
    parts = [f"## By stage, n = {len(mixed)}", told(rows, mixed, against="grpo")]
    model.load_state_dict(saved["kept"]["again"])
    looks = [row(f"depth {depth}", model, table, mixed, depth) for depth in (0, 1, 2)]
    parts += [f"## Recursion, n = {len(mixed)}", told(looks, mixed, against="depth 0")]
    model.load_state_dict(saved["kept"][shipped])
    singles = single(table, mixed)
    whole = row("conductor", model, table, mixed)
    parts += [
        f"## Against workers alone, n = {len(mixed)}",
        told([whole, *singles], mixed, against=best(singles).name),
    ]
    for name, those in (("held-out pairs", pairs), ("held-out wordings, simple", worded)):
        held = row("conductor", model, table, those)
        parts += [
            f"## {name}, n = {len(those)}",
            told([held, *single(table, those)], those, against="conductor"),
        ]
    for worker, folder in retrained.items():
        parts.append(changed(table, mixed, worker, model, folder))
    return "\n\n".join(parts) + "\n"


def changed(table: Table, those: Sequence[Case], worker: str, model: Any, folder: Path) -> str:
    """A worker leaves, and a worker comes: the planner that was trained with it, and the one that was trained without."""
    place = table.workers.index(worker)
    less = [replace(case, allowed=tuple(o for o in case.allowed if o != place)) for case in those]
    other, _ = load(folder, "grpo")
    left = [row("masked", model, table, less), row("trained without it", other, table, less)]
    came = [row("trained with it", model, table, those), row("trained without it", other, table, those)]
    return "\n\n".join(
        (
            f"## {worker} leaves, n = {len(those)}",
            told(left, those, against="trained without it"),
            f"## {worker} comes, n = {len(those)}",
            told(came, those, against="trained with it"),
        )
    )


def row(name: str, model: Any, table: Table, those: Sequence[Case], depth: int = 0) -> Row:
    """What a planner's likeliest workflows come to."""
    rounds = greedy(model, table, those, depth=depth)
    last: list[Played] = [each[-1] for each in rounds]
    return Row(
        name,
        [one.right for one in last],
        [each[0].valid for each in rounds],
        [len(each[0].workers) for each in rounds],
        [sum(one.calls for one in each) for each in rounds],
        [sum(one.cost for one in each) for each in rounds],
    )


def single(table: Table, those: Sequence[Case]) -> list[Row]:
    """Each worker alone."""
    found = alone(those, table.replies, table.workers)
    said = [table.replies.get([(w, c.problem.prompt) for c in those]) for w in table.workers]
    return [
        Row(w, right, [True] * len(those), [1] * len(those), [1] * len(those), [one.cost for one in replied])
        for w, right, replied in zip(table.workers, found, said, strict=True)
    ]


def best(rows: Sequence[Row]) -> Row:
    """The one that is right most often on these very problems: an upper bound of a choice made beforehand."""
    return max(rows, key=lambda one: sum(one.right))


def told(rows: Sequence[Row], those: Sequence[Case], *, against: str) -> str:
    """A table with Wilson intervals, and the paired difference to one row."""
    base = next(one for one in rows if one.name == against)
    kinds = sorted({max(1, len(case.problem.steps)) for case in those})
    heads = [f"{kind} step{'s' if kind > 1 else ''}" for kind in kinds]
    lines = [
        f"| | right | given valid | {' | '.join(heads)} | steps taken | calls | USD / 1000 | against {against} |",
        "|---|" + "---|" * (len(kinds) + 6),
    ]
    for one in rows:
        places = [[i for i, c in enumerate(those) if max(1, len(c.problem.steps)) == kind] for kind in kinds]
        steps = " / ".join(f"{sum(one.steps[i] for i in part) / len(part):.2f}" for part in places)
        valid = [right for right, good in zip(one.right, one.valid, strict=True) if good]
        gain = paired_difference([float(r) for r in one.right], [float(r) for r in base.right])
        cells = [
            one.name,
            _span(one.right),
            _span(valid),
            *(_span([one.right[i] for i in part]) for part in places),
            steps,
            f"{sum(one.calls) / len(those):.2f}",
            f"{1000 * sum(one.cost) / len(those) / PICO:.4f}",
            "-" if one is base else f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(right: Sequence[bool]) -> str:
    if not right:
        return "-"
    found = wilson(sum(right), len(right))
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def _families() -> tuple[str, ...]:
    from stretto.sparring import FAMILIES

    return tuple(FAMILIES)


if __name__ == "__main__":
    main()
