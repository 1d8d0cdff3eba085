"""All figures of the sparring pool, from the shipped files through llama.cpp: what each model knows, alone and handed over, what
is lost on composites and under other wordings, whether errors go together, and how well wrong answers are noticed.

    python recipes/sparring_matrix.py [--n 500] [--trained DIR] [--docs docs]

Needs `stretto[eval]`; with `--trained DIR` (the folder of `stretto sparring train`) also the `train` extra, and then llama.cpp's
greedy answers are compared with those of the framework that the models were trained in. Writes tables and pictures into OUT, and
with `--docs` into the page and the pictures of the documentation. Answers are kept in OUT: a second run asks only what is new.
"""

import argparse
import asyncio
import json
import math
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from sparring_pictures import heat_map, reliability_diagram

from stretto.cli.progress import progress
from stretto.evaluation.intervals import wilson
from stretto.evaluation.together import Together, together
from stretto.evaluation.verification import (
    area,
    balanced_at,
    best_threshold,
    calibration_error,
    reliability,
)
from stretto.policies.signals import confidence
from stretto.pool.http import HttpClient
from stretto.pool.local import LlamaRuntime
from stretto.pool.worker import Place, Worker, WorkerPool
from stretto.sparring import FAMILIES, PoolEntry, Problem, entries, grade, normalise
from stretto.sparring.problems import Split, composites, handovers, problems
from stretto.sparring.roles import (
    handed_over,
    judgements,
    thinker_prompt,
    thoughts,
    verifications,
    verifier_prompt,
)
from stretto.sparring.wordings import DONE
from stretto.steps import Ask, Tally
from stretto.types import Message

CHAINS: dict[str, Callable[[Split, int, int], list[Problem]]] = {
    "two skills": lambda split, n, seed: composites(split, n, seed),
    "three skills": lambda split, n, seed: composites(split, n, seed, steps=(3,)),
    "held-out pairs": lambda split, n, seed: composites(split, n, seed, unseen_pairs=True),
    "held-out forms": lambda split, n, seed: composites(split, n, seed, unseen_wordings=True),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, the probability of its least certain token, and that of its first."""

    text: str
    sure: float
    first: float

    @property
    def value(self) -> str:
        """What is handed on: the part after the last ` = `."""
        return self.text.rpartition(" = ")[2].strip()


class Book:
    """Every model's greedy replies to prompts, asked once and kept in one file a model."""

    def __init__(self, pool: WorkerPool, models: Sequence[PoolEntry], folder: Path, width: int) -> None:
        self._pool, self._width = pool, width
        self._files = {e.id: folder / f"{e.id}-{e.sha256[:12]}.jsonl" for e in models}
        self._known: dict[str, dict[str, Reply]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in self._files.items():
            lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else ()
            self._known[name] = {row[0]: Reply(*row[1:]) for row in map(json.loads, lines)}

    async def ask(self, model: str, prompts: Iterable[str]) -> list[Reply]:
        """The replies to `prompts`, in order."""
        return (await self.ask_all({model: list(prompts)}))[model]

    async def ask_all(self, wanted: Mapping[str, Sequence[str]], what: str = "asking") -> dict[str, list[Reply]]:
        """The replies of several models, each to its own prompts, all models at a time."""
        new = {m: [p for p in dict.fromkeys(prompts) if p not in self._known[m]] for m, prompts in wanted.items()}
        if total := sum(map(len, new.values())):
            with progress(total, what) as tick:
                await asyncio.gather(*(self._fetch(model, prompts, tick) for model, prompts in new.items()))
        return {model: [self._known[model][p] for p in prompts] for model, prompts in wanted.items()}

    async def _fetch(self, model: str, prompts: Sequence[str], tick: Callable[[str], None]) -> None:
        waiting = iter(prompts)
        with self._files[model].open("a", encoding="utf-8") as kept:

            async def worker() -> None:
                for prompt in waiting:
                    reply = self._known[model][prompt] = await self._once(model, prompt)
                    kept.write(json.dumps([prompt, reply.text, reply.sure, reply.first]) + "\n")
                    tick(model)

            await asyncio.gather(*(worker() for _ in range(self._width)))

    async def _once(self, model: str, prompt: str) -> Reply:
        ask = Ask(
            model, (Message("user", prompt),), want="logprobs", max_tokens=128, params={"temperature": 0}
        )
        endpoint = self._pool.candidates(ask).endpoints[0]
        came = await self._pool.attempt(ask, endpoint, deadline=None, tally=Tally(), emit=None)
        if came.error is not None and came.error.kind != "empty":
            raise SystemExit(f"{model}: {came.error.message}")
        first = math.exp(came.logprobs[0].logprob) if came.logprobs else 0.0
        return Reply(came.message.text, confidence(came.logprobs) or 0.0, first)


@dataclass(frozen=True, slots=True)
class World:
    """What is measured, and how much of it."""

    book: Book
    models: tuple[PoolEntry, ...]
    n: int
    seed: int

    @property
    def solvers(self) -> list[str]:
        """The models that solve problems."""
        return [e.id for e in self.models if e.role == "solver"]

    def of_role(self, role: str) -> str:
        """The model of a role."""
        return next(e.id for e in self.models if e.role == role)

    def home(self, model: str) -> tuple[str, ...]:
        """The families that a model was trained on."""
        return next(e.families for e in self.models if e.id == model)


Cells = dict[tuple[str, str], list[tuple[Problem, Reply, bool]]]
"""By model and family: problems, replies, and whether those were right. The problems of a family are the same for all models."""


async def solved(world: World, asked: Sequence[Problem], models: Sequence[str], what: str) -> Cells:
    """All `models` on all problems."""
    replies = await world.book.ask_all({m: [p.prompt for p in asked] for m in models}, what)
    cells: Cells = {}
    for model in models:
        for problem, reply in zip(asked, replies[model], strict=True):
            right = grade(problem, reply.text) == 1.0
            cells.setdefault((model, problem.family), []).append((problem, reply, right))
    return cells


def share(cells: Cells, model: str, families: Iterable[str]) -> tuple[int, int]:
    """How many were right, of how many."""
    found = [right for family in families for _, _, right in cells.get((model, family), ())]
    return sum(found), len(found)


def best(cells: Cells, models: Sequence[str], families: Sequence[str]) -> str:
    """The model with most right answers."""
    return max(models, key=lambda m: share(cells, m, families)[0])


def shown(right: float, n: int) -> str:
    """A share with its 95 % Wilson interval."""
    if not n:
        return "-"
    found = wilson(right, n)
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


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
    rows, totals = [], {name: [0, 0] for name in (*models, "oracle")}
    for family in FAMILIES:
        columns = {m: [right for _, _, right in cells[m, family]] for m in models}
        columns["oracle"] = [any(row) for row in zip(*columns.values(), strict=True)]
        for name, column in columns.items():
            totals[name][0] += sum(column)
            totals[name][1] += len(column)
        rows.append([family, *(shown(sum(column), len(column)) for column in columns.values())])
    rows.append(["**all**", *(shown(*total) for total in totals.values())])
    return table(["family", *totals], rows)


def lost(seen: Cells, unseen: Cells, solvers: Sequence[str], world: World) -> str:
    """Each solver on its own families under wordings that it was trained on, and under others."""
    rows = []
    for model in solvers:
        a, b = share(seen, model, world.home(model)), share(unseen, model, world.home(model))
        rows.append([model, shown(*a), shown(*b), f"{b[0] / b[1] - a[0] / a[1]:+.3f}"])
    oracle = []
    for cells in (seen, unseen):
        found = [any(r) for f in FAMILIES for r in zip(*([x[2] for x in cells[m, f]] for m in solvers), strict=True)]
        oracle.append((sum(found), len(found)))
    (a, b) = oracle
    rows.append(["oracle, all families", shown(*a), shown(*b), f"{b[0] / b[1] - a[0] / a[1]:+.3f}"])
    return table(["model, own families", "trained wordings", "held-out wordings", "difference"], rows)


def lost_by_family(seen: Cells, unseen: Cells, chosen: Mapping[str, str]) -> str:
    """By family, the solver that is best on calibration problems under both kinds of wordings."""
    rows = [
        [family, chosen[family], shown(*share(seen, chosen[family], [family])), shown(*share(unseen, chosen[family], [family]))]
        for family in FAMILIES
    ]
    return table(["family", "best model", "trained wordings", "held-out wordings"], rows)


# --- composites --------------------------------------------------------------------------------------------------


async def chained(
    world: World, asked: Sequence[Problem], first: Mapping[str, str], later: Mapping[str, str]
) -> tuple[int, int]:
    """The right sub-problems given to the best solver of each, every reply handed to the next: how many ended right, and how many
    of the first steps did."""
    replies: list[str] = [""] * len(asked)
    begun = 0
    for step in range(max(len(p.steps) for p in asked)):
        turn: dict[str, list[int]] = {}
        for place, problem in enumerate(asked):
            if step < len(problem.steps):
                who = (later if step else first)[problem.steps[step].family]
                turn.setdefault(who, []).append(place)
        prompts = {
            who: [
                handed_over(asked[i].steps[step].task, [replies[i]]) if step else asked[i].steps[0].task for i in places
            ]
            for who, places in turn.items()
        }
        came = await world.book.ask_all(prompts, f"step {step + 1}")
        for who, places in turn.items():
            for place, reply in zip(places, came[who], strict=True):
                replies[place] = reply.value
        if not step:
            begun = sum(normalise(r) == p.steps[0].answer for r, p in zip(replies, asked, strict=True))
    return sum(grade(p, r) == 1.0 for p, r in zip(asked, replies, strict=True)), begun


async def thought(
    world: World, asked: Sequence[Problem], first: Mapping[str, str], later: Mapping[str, str]
) -> tuple[int, int]:
    """The same with sub-problems that the thinker writes, until it says it is done: how many ended right, and how many had every
    sub-problem right. Each goes to the best solver of the skill that is due."""
    thinker = world.of_role("thinker")
    tasks, replies = [""] * len(asked), [""] * len(asked)
    exact, under_way = [True] * len(asked), list(range(len(asked)))
    for step in range(max(len(p.steps) for p in asked) + 1):
        prompts = [thinker_prompt(asked[i].prompt, tasks[i], replies[i]) for i in under_way]
        said = [reply.text.strip() for reply in await world.book.ask(thinker, prompts)]
        turn: dict[str, list[int]] = {}
        for place, text in zip(under_way, said, strict=True):
            due = asked[place].steps[step:]
            exact[place] &= text == (due[0].task.lower() if due else DONE)
            if text != DONE:
                tasks[place] = text
                family = (due or asked[place].steps)[0].family
                turn.setdefault((later if step else first)[family], []).append(place)
        under_way = [place for places in turn.values() for place in places]
        asks = {
            who: [handed_over(tasks[i], [replies[i]]) if step else tasks[i] for i in places] for who, places in turn.items()
        }
        came = await world.book.ask_all(asks, f"thinker's step {step + 1}")
        for who, places in turn.items():
            for place, reply in zip(places, came[who], strict=True):
                replies[place] = reply.value
    return sum(grade(p, r) == 1.0 for p, r in zip(asked, replies, strict=True)), sum(exact)


async def composite_table(world: World, first: Mapping[str, str], later: Mapping[str, str]) -> str:
    """Composites asked whole, in two or three steps, and step by step as the thinker has it."""
    chosen_on = await solved(world, CHAINS["two skills"]("calibration", 300, world.seed), world.solvers, "composites")
    every = sorted({family for _, family in chosen_on})
    single = best(chosen_on, world.solvers, every)
    rows = []
    for name, make in CHAINS.items():
        asked = make("test", 2 * world.n if name != "three skills" else world.n, world.seed)
        whole = await solved(world, asked, world.solvers, name)
        kinds = sorted({p.family for p in asked})
        anyone = sum(
            any(r) for f in kinds for r in zip(*([x[2] for x in whole[m, f]] for m in world.solvers), strict=True)
        )
        done, begun = await chained(world, asked, first, later)
        planned, exact = await thought(world, asked, first, later)
        counts = (share(whole, single, kinds)[0], anyone, begun, done, exact, planned)
        rows.append([f"{name} (n = {len(asked)})", *(shown(count, len(asked)) for count in counts)])
    head = ("problems", f"whole: best single ({single})", "whole: anyone", "first step right", "best hand-over")
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
    head = ("n", "wrong", "both wrong", "if independent", "phi", "same wrong answer", "second right where first is wrong")
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


def signal(cells: Cells, model: str, families: Iterable[str], most: int | None = None) -> list[tuple[float, bool]]:
    """How sure a model was, and whether it was right."""
    return [(reply.sure, right) for family in families for _, reply, right in cells[model, family][:most]]


def confidence_table(world: World, cells: Cells, known: Cells) -> str:
    """By model: its least certain token's probability as a signal, on everything and on its own families."""
    rows = []
    for model in world.solvers:
        cut, _ = best_threshold(signal(known, model, FAMILIES))
        everything = signal(cells, model, FAMILIES)
        home = world.home(model)
        at_home = signal(cells, model, home)
        cuts = {f: best_threshold(signal(known, model, [f]))[0] for f in home}
        own = best_threshold(signal(known, model, home))[0]
        per_family = [(1.0 if sure >= cuts[f] else 0.0, right) for f in home for sure, right in signal(cells, model, [f])]
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
        ["model", "AUC, all families", "threshold", "balanced accuracy", "wrong on own families", "AUC there"]
        + ["balanced accuracy there, one threshold", "a threshold a family", "ECE there"],
        rows,
    )


async def checked(world: World, cells: Cells, most: int) -> dict[tuple[str, str], list[tuple[float, bool]]]:
    """By model and family: how sure the checker is that a real reply is right, and whether it is."""
    asked = {key: [(p, r, right) for p, r, right in cells[key][:most]] for key in cells if key[0] in world.solvers}
    prompts = {key: [verifier_prompt(p.prompt, r.value) for p, r, _ in part] for key, part in asked.items()}
    replies = iter(await world.book.ask(world.of_role("checker"), [p for part in prompts.values() for p in part]))
    found = {}
    for key, part in asked.items():
        said = [(right, next(replies)) for _, _, right in part]
        found[key] = [(r.first if r.text.strip() == "yes" else 1 - r.first, right) for right, r in said]
    return found


def verification_table(
    world: World, cells: Cells, known: Cells, verdicts: Mapping[tuple[str, str], list[tuple[float, bool]]], most: int
) -> str:
    """By family, on the same real replies of the models that were trained on it: their own confidence, and the checker."""
    rows = []
    everything: dict[str, list[tuple[float, bool]]] = {"own": [], "own cut": [], "checker": []}
    for family in FAMILIES:
        trained = [m for m in world.solvers if family in world.home(m)]
        own = [pair for m in trained for pair in signal(cells, m, [family], most)]
        cut = []
        for m in trained:
            least = best_threshold(signal(known, m, [family]))[0]
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
    return [str(len(right)), str(len(wrong)), *map(number, figures), shown(sum(right), len(right)), shown(sum(wrong), len(wrong))]


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
            asked = {"thinker": thoughts, "checker": verifications}[entry.role]("test", len(asked), world.seed)
        prompts = [p.prompt for p in asked]
        replies = await world.book.ask(entry.id, prompts)
        answers = greedy(load(entry.id, trained), prompts)
        same = sum(decode(tokens).strip() == r.text.strip() for tokens, r in zip(answers, replies, strict=True))
        totals = [totals[0] + same, totals[1] + len(asked)]
        rows.append([entry.id, f"{same} of {len(asked)}"])
    return table(["model", "same greedy answer"], [*rows, ["**all**", f"{totals[0]} of {totals[1]}"]])


# --- everything --------------------------------------------------------------------------------------------------


def asked_early():
    n, seed = 500, 2026
    return problems(FAMILIES, "test", n * len(FAMILIES), seed)


async def measure(world: World, images: Path, trained: Path | None) -> dict[str, str]:
    """Every table by its name; draws the pictures."""
    names, n, seed = [e.id for e in world.models], world.n, world.seed
    simple = await solved(world, problems(FAMILIES, "test", n * len(FAMILIES), seed), names, "simple")
    known = await solved(world, problems(FAMILIES, "calibration", 200 * len(FAMILIES), seed), world.solvers, "calibration")
    handed = await solved(world, handovers(FAMILIES, "test", max(8, n // 2) * len(FAMILIES), seed), world.solvers, "hand-overs")
    later_known = await solved(world, handovers(FAMILIES, "calibration", 60 * len(FAMILIES), seed), world.solvers, "hand-overs")
    unseen = await solved(
        world, problems(FAMILIES, "test", max(8, n // 5) * len(FAMILIES), seed, unseen_wordings=True), world.solvers, "wordings"
    )
    first = {f: best(known, world.solvers, [f]) for f in FAMILIES}
    later = {f: best(later_known, world.solvers, [f]) for f in FAMILIES}
    single = best(known, world.solvers, FAMILIES)
    figures = {
        "matrix": f"n = {n} a cell, best single on calibration problems: {single}\n\n{matrix(simple, names)}",
        "handovers": f"n = {max(8, n // 2)} a cell\n\n{matrix(handed, world.solvers)}",
        "wordings": f"{lost(simple, unseen, world.solvers, world)}\n\n{lost_by_family(simple, unseen, first)}",
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
    accuracy = {(f, m): statistics.fmean(r for _, _, r in simple[m, f]) for m in names for f in FAMILIES}
    heat_map(images / "sparring-matrix.svg", FAMILIES, names, accuracy, "Share of problems solved")
    pairs = list(dict.fromkeys(pair for _, pair in phis))
    heat_map(
        images / "sparring-errors.svg",
        [f for f in FAMILIES if any(f == family for family, _ in phis)],
        pairs,
        phis,
        "Correlation of errors (phi); 0: independent",
        low=-1,
        colours="RdBu_r",
    )
    lines = {m: reliability(signal(simple, m, world.home(m))) for m in world.solvers}
    told = {m: reliability([p for f in world.home(m) for p in verdicts[m, f]]) for m in world.solvers}
    reliability_diagram(
        images / "sparring-reliability.svg",
        {"the models' own confidence, own families": lines, "the checker on their replies": told},
        ("probability of the least certain token", "probability of yes"),
    )
    pooled = [p for m in world.solvers for p in signal(simple, m, world.home(m))]
    by_checker = [p for m in world.solvers for f in world.home(m) for p in verdicts[m, f]]
    figures["calibration"] = table(
        ["signal, replies on own families", "n", "ECE"],
        [
            ["probability of the least certain token", str(len(pooled)), f"{calibration_error(pooled):.3f}"],
            ["the checker's probability of yes", str(len(by_checker)), f"{calibration_error(by_checker):.3f}"],
        ],
    )
    return figures


def fill(page: Path, figures: Mapping[str, str]) -> None:
    """Put each table where the page has `<!-- NAME -->` ... `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, figure in figures.items():
        block = f"<!-- {name} -->\n{figure}\n<!-- end -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


async def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=500, help="problems a cell")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--pool", type=Path, help="a folder with pool.toml, in place of the shipped one")
    parser.add_argument("--trained", type=Path, help="where the models were trained, to compare greedy answers")
    parser.add_argument("--out", type=Path, default=Path("sparring-figures"))
    parser.add_argument("--docs", type=Path, help="the folder of the documentation, to write page and pictures there")
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
        figures = await measure(World(book, models, args.n, args.seed), images, args.trained)
    text = "\n\n".join(f"## {name}\n\n{figure}" for name, figure in figures.items())
    (args.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    if args.docs:
        fill(args.docs / "reference" / "sparring.md", figures)


if __name__ == "__main__":
    asyncio.run(main())
