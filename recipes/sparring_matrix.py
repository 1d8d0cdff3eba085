"""All figures of the sparring pool, from the shipped files through llama.cpp: what each model knows, alone and handed over, what
is lost on composites and under other wordings, whether errors go together, and how well wrong answers are noticed.

    python recipes/sparring_matrix.py [--n 500] [--trained DIR] [--docs docs]

With `--trained DIR` (the folder of `stretto sparring train`) it needs the `train` extra, too, and then llama.cpp's
greedy answers are compared with those of the framework that the models were trained in. Writes tables and pictures into OUT, and
with `--docs` into the page and the pictures of the documentation. Answers are kept in OUT: a second run asks only what is new.
"""

import argparse
import asyncio
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple
from pathlib import Path
from typing import Any

from sparring_asking import CHAINS, Book, Cells, World, best, chained, share, solved, thought
from sparring_pictures import heat_map, reliability_diagram

from stretto import __version__
from stretto.evaluation.intervals import Interval, clustered, wilson
from stretto.evaluation.together import Together, together
from stretto.evaluation.verification import (
    area,
    balanced_at,
    best_threshold,
    calibration_error,
    reliability,
)
from stretto.pool.http import HttpClient
from stretto.pool.local import LlamaRuntime
from stretto.pool.worker import Place, Worker, WorkerPool
from stretto.sparring import FAMILIES, Problem, entries, normalise
from stretto.sparring.problems import handovers, problems
from stretto.sparring.roles import judgements, thoughts, verifications, verifier_prompt
from stretto.sparring.wordings import TEMPLATE_WORDS


def shown(right: float, n: int) -> str:
    """A share of problems that hardly repeat a payload, with its 95 % Wilson interval."""
    return span(wilson(right, n)) if n else "-"


def span(found: Interval) -> str:
    """An estimate with its interval."""
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def short(found: Interval) -> str:
    """The same for wide tables; 0 for what is surely below one in fifty."""
    value, low, high = (f"{v:.2f}".replace("0.", ".", 1) for v in (found.value, found.low, found.high))
    return f"{value} ({low}-{high})" if found.high >= 0.02 else "0"


def payload(problem: Problem) -> tuple[str, ...]:
    """What a problem asks about: its words and numbers that are no part of a wording. Of a hand-over, those of the last reply.

    Small families have few of these (110 numbers to write in Roman), so that 500 problems ask many of them again.
    """
    asked = problem.prompt.rpartition("Given: ")[2]
    return (problem.family, *sorted(w for w in re.findall(r"\w+", asked.lower()) if w not in TEMPLATE_WORDS))


def rate(cells: Cells, model: str, families: Iterable[str]) -> Interval:
    """How often a model was right, with an interval over distinct payloads."""
    return clustered([(payload(p), float(right)) for f in families for p, _, right in cells[model, f]])


def oracle(cells: Cells, models: Sequence[str], families: Iterable[str]) -> Interval:
    """How often anybody was right."""
    rows = [row for f in families for row in zip(*(cells[m, f] for m in models), strict=True)]
    return clustered([(payload(row[0][0]), float(any(right for _, _, right in row))) for row in rows])


def number(value: float | None) -> str:
    """A figure or a dash."""
    return "-" if value is None else f"{value:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


# --- what each model knows ---------------------------------------------------------------------------------------


def matrix(cells: Cells, models: Sequence[str]) -> str:
    """Accuracy by family and model, and the per-problem oracle."""
    kinds = [*((family, [family]) for family in FAMILIES), ("**all**", FAMILIES)]
    rows = []
    for name, families in kinds:
        found = [*(rate(cells, m, families) for m in models), oracle(cells, models, families)]
        distinct = {payload(p) for f in families for p, _, _ in cells[models[0], f]}
        rows.append([name, str(len(distinct)), *map(short, found)])
    return table(["family", "distinct", *models, "oracle"], rows)


def lost(seen: Cells, unseen: Cells, world: World) -> str:
    """Each solver on its own families under wordings that it was trained on, and under others."""
    rows = []
    for model in world.solvers:
        a, b = (rate(cells, model, world.home(model)) for cells in (seen, unseen))
        rows.append([model, span(a), span(b), f"{b.value - a.value:+.3f}"])
    a, b = (oracle(cells, world.solvers, FAMILIES) for cells in (seen, unseen))
    rows.append(["oracle, all families", span(a), span(b), f"{b.value - a.value:+.3f}"])
    return table(["model, own families", "trained wordings", "held-out wordings", "difference"], rows)


def lost_by_family(seen: Cells, unseen: Cells, chosen: Mapping[str, str]) -> str:
    """By family, the solver that is best on calibration problems under both kinds of wordings."""
    rows = [
        [f, chosen[f], *(span(rate(cells, chosen[f], [f])) for cells in (seen, unseen))] for f in FAMILIES
    ]
    return table(["family", "best model", "trained wordings", "held-out wordings"], rows)


# --- composites --------------------------------------------------------------------------------------------------


async def composite_table(world: World, first: Mapping[str, str], later: Mapping[str, str]) -> str:
    """Composites asked whole, in two or three steps, and step by step as the thinker has it."""
    chosen_on = await solved(
        world, CHAINS["two skills"]("calibration", 300, world.seed), world.solvers, "composites"
    )
    every = sorted({family for _, family in chosen_on})
    single = best(chosen_on, world.solvers, every)
    rows = []
    for name, make in CHAINS.items():
        asked = make("test", 2 * world.n if name != "three skills" else world.n, world.seed)
        whole = await solved(world, asked, world.solvers, name)
        kinds = sorted({p.family for p in asked})
        anyone = sum(
            any(r)
            for f in kinds
            for r in zip(*([x[2] for x in whole[m, f]] for m in world.solvers), strict=True)
        )
        done, begun = await chained(world, asked, first, later)
        planned, exact = await thought(world, asked, first, later)
        counts = (share(whole, single, kinds)[0], anyone, begun, done, exact, planned)
        rows.append([f"{name} (n = {len(asked)})", *(shown(count, len(asked)) for count in counts)])
    head = (
        "problems",
        f"whole: best single ({single})",
        "whole: anyone",
        "first step right",
        "best hand-over",
    )
    return table([*head, "thinker: every sub-problem right", "thinker, best hand-over"], rows)


# --- errors that go together -------------------------------------------------------------------------------------


def pairs_of(world: World, known: Cells) -> dict[tuple[str, str], list[str]]:
    """Pairs of solvers with the families that both were trained on and know: half of the calibration problems or more."""
    found = {}
    for place, a in enumerate(world.solvers):
        for b in world.solvers[place + 1 :]:
            both = []
            for family in FAMILIES:
                if family in world.home(a) and family in world.home(b):
                    (ra, n), (rb, _) = share(known, a, [family]), share(known, b, [family])
                    if min(ra, rb) >= n / 2:
                        both.append(family)
            if both:
                found[a, b] = both
    return found


def compared(cells: Cells, a: str, b: str, families: Iterable[str]) -> Together:
    """Two models on the families that both know."""

    def outcomes(family: str) -> list[tuple[tuple[bool, str], tuple[bool, str]]]:
        both = zip(cells[a, family], cells[b, family], strict=True)
        return [((x[2], normalise(x[1].text)), (y[2], normalise(y[1].text))) for x, y in both]

    return together(outcomes(family) for family in families)


def error_tables(world: World, cells: Cells, known: Cells) -> tuple[str, str, dict[tuple[str, str], float]]:
    """Errors by pair of models, pooled within families; by family for the two vendors' specialists; and each phi by family."""
    found, rows, detail = pairs_of(world, known), [], []
    figures: dict[tuple[str, str], float] = {}
    for (a, b), families in found.items():
        rows.append([f"{a}, {b}", str(len(families)), *_pair_row(compared(cells, a, b, families))])
        for family in families:
            each = compared(cells, a, b, [family])
            if each.phi is not None and min(each.a_wrong, each.b_wrong) >= 5:
                figures[family, f"{a}, {b}"] = each.phi
            if not a.startswith("general") and not b.startswith("general"):
                detail.append([family, f"{a}, {b}", *_pair_row(each)])
    head = (
        "n",
        "wrong",
        "both wrong",
        "if independent",
        "phi",
        "same wrong answer",
        "second right where first is wrong",
    )
    first = table(["models", "families", *head], rows)
    order = {family: place for place, family in enumerate(FAMILIES)}
    return first, table(["family", "models", *head], sorted(detail, key=lambda row: order[row[0]])), figures


def _pair_row(found: Together) -> list[str]:
    rescued = found.rescued
    return [
        str(found.n),
        f"{found.a_wrong}, {found.b_wrong}",
        str(found.both_wrong),
        f"{found.expected:.1f}",
        number(found.phi),
        f"{found.same_wrong} of {found.both_wrong}",
        "-" if rescued is None else shown(found.a_wrong - found.both_wrong, found.a_wrong),
    ]


# --- who notices a wrong answer ----------------------------------------------------------------------------------


def signal(
    cells: Cells, model: str, families: Iterable[str], most: int | None = None
) -> list[tuple[float, bool]]:
    """How sure a model was, and whether it was right."""
    return [(reply.sure, right) for family in families for _, reply, right in cells[model, family][:most]]


def cut_of(world: World, known: Cells, model: str, family: str) -> float:
    """The threshold for a model's answers of a family: the family's own where calibration holds ten right and ten wrong answers,
    else that over all of the model's families. Where a model hardly errs, its few errors tell nothing about the threshold."""
    answers = signal(known, model, [family])
    right = sum(good for _, good in answers)
    enough = min(right, len(answers) - right) >= 10
    return best_threshold(answers if enough else signal(known, model, world.home(model)))[0]


def confidence_table(world: World, cells: Cells, known: Cells) -> str:
    """By model: its least certain token's probability as a signal, on everything and on its own families."""
    rows = []
    for model in world.solvers:
        cut, _ = best_threshold(signal(known, model, FAMILIES))
        everything = signal(cells, model, FAMILIES)
        home = world.home(model)
        at_home = signal(cells, model, home)
        own = best_threshold(signal(known, model, home))[0]
        cuts = {f: cut_of(world, known, model, f) for f in home}
        per_family = [
            (1.0 if sure >= cuts[f] else 0.0, right)
            for f in home
            for sure, right in signal(cells, model, [f])
        ]
        rows.append(
            [
                model,
                number(area(everything)),
                f"{cut:.3f}",
                number(balanced_at(everything, cut)),
                f"{sum(not r for _, r in at_home)} of {len(at_home)}",
                number(area(at_home)),
                number(balanced_at(at_home, own)),
                number(balanced_at(per_family, 0.5)),
                f"{calibration_error(at_home):.3f}",
            ]
        )
    return table(
        (
            *(
                "model",
                "AUC, all families",
                "threshold",
                "balanced accuracy",
                "wrong on own families",
                "AUC there",
            ),
            *("balanced accuracy there, one threshold", "a threshold a family", "ECE there"),
        ),
        rows,
    )


async def checked(world: World, cells: Cells, most: int) -> dict[tuple[str, str], list[tuple[float, bool]]]:
    """By solver and family that it was trained on: how sure the checker is that a real reply is right, and whether it is."""
    keys = [(model, family) for model in world.solvers for family in world.home(model)]
    asked = {key: cells[key][:most] for key in keys}
    prompts = {key: [verifier_prompt(p.prompt, r.value) for p, r, _ in part] for key, part in asked.items()}
    replies = iter(
        await world.book.ask(world.of_role("checker"), [p for part in prompts.values() for p in part])
    )
    found = {}
    for key, part in asked.items():
        said = [(right, next(replies)) for _, _, right in part]
        found[key] = [(r.first if r.text.strip() == "yes" else 1 - r.first, right) for right, r in said]
    return found


def verification_table(
    world: World,
    cells: Cells,
    known: Cells,
    verdicts: Mapping[tuple[str, str], list[tuple[float, bool]]],
    most: int,
) -> str:
    """By family, on the same real replies of the models that were trained on it: their own confidence, and the checker."""
    rows = []
    everything: dict[str, list[tuple[float, bool]]] = {"own": [], "own cut": [], "checker": []}
    for family in FAMILIES:
        trained = [m for m in world.solvers if family in world.home(m)]
        own = [pair for m in trained for pair in signal(cells, m, [family], most)]
        cut = []
        for m in trained:
            least = cut_of(world, known, m, family)
            cut += [(float(sure >= least), right) for sure, right in signal(cells, m, [family], most)]
        told = [pair for m in trained for pair in verdicts[m, family]]
        for key, part in (("own", own), ("own cut", cut), ("checker", told)):
            everything[key] += part
        rows.append([family, *_verification_row(own, cut, told)])
    rows.append(["**all**", *_verification_row(*everything.values())])
    head = ("right", "wrong", "confidence: AUC", "confidence: balanced accuracy", "checker: AUC")
    return table(["family", *head, "checker: balanced accuracy", "sensitivity", "specificity"], rows)


def _verification_row(
    own: list[tuple[float, bool]], cut: list[tuple[float, bool]], told: list[tuple[float, bool]]
) -> list[str]:
    right = [value >= 0.5 for value, good in told if good]
    wrong = [value < 0.5 for value, good in told if not good]
    figures = (area(own), balanced_at(cut, 0.5), area(told), balanced_at(told, 0.5))
    return [
        str(len(right)),
        str(len(wrong)),
        *map(number, figures),
        shown(sum(right), len(right)),
        shown(sum(wrong), len(wrong)),
    ]


async def role_table(world: World) -> str:
    """The thinker and the checker on problems made for their roles."""
    n = 2 * world.n
    rows = []
    for name, model, asked in (
        ("next sub-problem", "thinker", thoughts("test", n, world.seed)),
        ("next sub-problem, held-out pairs", "thinker", thoughts("test", n, world.seed, unseen_pairs=True)),
        ("yes or no on made-up errors", "checker", verifications("test", n, world.seed)),
        ("which of two or three", "checker", judgements("test", n, world.seed)),
    ):
        who = world.of_role(model)
        replies = await world.book.ask(who, [p.prompt for p in asked])
        right = sum(reply.text.strip() == p.answer for p, reply in zip(asked, replies, strict=True))
        rows.append([name, who, shown(right, n)])
    return table(["problem", "model", "right"], rows)


# --- the same as in training? ------------------------------------------------------------------------------------


async def agreement(world: World, trained: Path) -> str:
    """How often llama.cpp's greedy answer is that of the framework that the model was trained in."""
    from stretto.learning.sparring import greedy, load
    from stretto.sparring.vocabulary import decode

    rows, totals = [], [0, 0]
    for entry in world.models:
        asked = problems(FAMILIES, "test", 8 * len(FAMILIES), world.seed)
        if entry.role != "solver":
            asked = {"thinker": thoughts, "checker": verifications}[entry.role](
                "test", len(asked), world.seed
            )
        prompts = [p.prompt for p in asked]
        replies = await world.book.ask(entry.id, prompts)
        answers = greedy(load(entry.id, trained), prompts)
        same = sum(
            decode(tokens).strip() == r.text.strip() for tokens, r in zip(answers, replies, strict=True)
        )
        totals = [totals[0] + same, totals[1] + len(asked)]
        rows.append([entry.id, f"{same} of {len(asked)}"])
    return table(["model", "same greedy answer"], [*rows, ["**all**", f"{totals[0]} of {totals[1]}"]])


# --- everything --------------------------------------------------------------------------------------------------


async def measure(world: World, images: Path, trained: Path | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Every table by its name, and what is kept as data; draws the pictures."""
    names, n, seed, all_of = [e.id for e in world.models], world.n, world.seed, len(FAMILIES)
    some, few = max(8, n // 2), max(8, n // 5)
    simple = await solved(world, problems(FAMILIES, "test", n * all_of, seed), names, "simple")
    known = await solved(
        world, problems(FAMILIES, "calibration", few * 2 * all_of, seed), world.solvers, "calibration"
    )
    handed = await solved(
        world, handovers(FAMILIES, "test", some * all_of, seed), world.solvers, "hand-overs"
    )
    handed_known = await solved(
        world, handovers(FAMILIES, "calibration", few * all_of, seed), world.solvers, "hand-overs"
    )
    worded = problems(FAMILIES, "test", few * all_of, seed, unseen_wordings=True)
    unseen = await solved(world, worded, world.solvers, "wordings")
    first = {f: best(known, world.solvers, [f]) for f in FAMILIES}
    later = {f: best(handed_known, world.solvers, [f]) for f in FAMILIES}
    single = best(known, world.solvers, FAMILIES)
    figures = {
        "matrix": f"n = {n} a cell, best single on calibration problems: {single}\n\n{matrix(simple, names)}",
        "handovers": f"n = {some} a cell\n\n{matrix(handed, world.solvers)}",
        "wordings": f"{lost(simple, unseen, world)}\n\n{lost_by_family(simple, unseen, first)}",
        "composites": await composite_table(world, first, later),
        "roles": await role_table(world),
        "confidence": confidence_table(world, simple, known),
    }
    most = max(8, 2 * n // 5)
    verdicts = await checked(world, simple, most)
    figures["verification"] = verification_table(world, simple, known, verdicts, most)
    figures["errors"], figures["errors-vendors"], phis = error_tables(world, simple, known)
    if trained:
        figures["agreement"] = await agreement(world, trained)
    figures["calibration"] = pictures(world, images, simple, phis, verdicts)
    data = {
        "stretto": __version__,
        "seed": seed,
        "models": {e.id: e.sha256 for e in world.models},
        "best_single": single,
        "first": first,
        "later": later,
        "cells": {
            name: {f: {m: [round(v, 4) for v in astuple(rate(cells, m, [f]))] for m in who} for f in FAMILIES}
            for name, cells, who in (
                ("simple", simple, names),
                ("handovers", handed, world.solvers),
                ("wordings", unseen, world.solvers),
            )
        },
    }
    return figures, data


def pictures(
    world: World,
    images: Path,
    simple: Cells,
    phis: Mapping[tuple[str, str], float],
    verdicts: Mapping[tuple[str, str], list[tuple[float, bool]]],
) -> str:
    """Draw the three pictures; the table of how honest the two signals are."""
    names = [e.id for e in world.models]
    accuracy = {(f, m): rate(simple, m, [f]).value for m in names for f in FAMILIES}
    heat_map(images / "sparring-matrix.svg", FAMILIES, names, accuracy, "Share of problems solved")
    known = [f for f in FAMILIES if any(f == family for family, _ in phis)]
    pairs = list(dict.fromkeys(pair for _, pair in phis))
    heat_map(
        images / "sparring-errors.svg", known, pairs, phis, "Correlation of errors (phi); 0: independent"
    )
    sure = {m: signal(simple, m, world.home(m)) for m in world.solvers}
    told = {m: [p for f in world.home(m) for p in verdicts[m, f]] for m in world.solvers}
    reliability_diagram(
        images / "sparring-reliability.svg",
        {
            "own confidence, own families": {m: reliability(part) for m, part in sure.items()},
            "the checker on the same replies": {m: reliability(part) for m, part in told.items()},
        },
        ("probability of the least certain token", "probability of yes"),
    )
    rows = []
    for name, by_model in (
        ("probability of the least certain token", sure),
        ("the checker's probability of yes", told),
    ):
        pooled = [pair for part in by_model.values() for pair in part]
        rows.append([name, str(len(pooled)), f"{calibration_error(pooled):.3f}"])
    return table(["signal, replies on own families", "n", "ECE"], rows)


def fill(page: Path, figures: Mapping[str, str]) -> None:
    """Put each table where the page has `<!-- NAME -->` ... `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, figure in figures.items():
        before, mark, after = text.partition(f"<!-- {name} -->\n")
        if not mark:
            raise SystemExit(f"{page} has no place for {name}: <!-- {name} --> and <!-- end -->")
        text = f"{before}{mark}\n{figure}\n\n<!-- end -->{after.partition('<!-- end -->')[2]}"
    page.write_text(text, encoding="utf-8")


async def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=500, help="problems a cell")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--pool", type=Path, help="a folder with pool.toml, in place of the shipped one")
    parser.add_argument(
        "--trained", type=Path, help="where the models were trained, to compare greedy answers"
    )
    parser.add_argument("--out", type=Path, default=Path("sparring-figures"))
    parser.add_argument(
        "--docs", type=Path, help="the folder of the documentation, to write page and pictures there"
    )
    parser.add_argument("--width", type=int, default=8, help="prompts that each model answers at a time")
    args = parser.parse_args()
    models = entries(args.pool)
    images = args.docs / "images" if args.docs else args.out
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        transport, local = HttpClient(), LlamaRuntime(Path(folder), slots=args.width)
        stack.push_async_callback(transport.close)
        stack.push_async_callback(local.close)
        workers = [
            Worker(e.id, e.id, (Place(f"{e.id}/local", gguf=e.path),), e.card, dense=True) for e in models
        ]
        book = Book(WorkerPool(workers, transport, local=local), models, args.out / "answers", args.width)
        figures, data = await measure(World(book, models, args.n, args.seed), images, args.trained)
    text = "\n\n".join(f"## {name}\n\n{figure}" for name, figure in figures.items())
    (args.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    summary = json.dumps(data, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n"
    (args.out / "summary.json").write_text(summary, encoding="utf-8")
    print(text)
    if args.docs:
        (args.docs / "reference" / "sparring.json").write_text(summary, encoding="utf-8")
        fill(args.docs / "reference" / "sparring.md", figures)


if __name__ == "__main__":
    asyncio.run(main())
