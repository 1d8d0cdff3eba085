"""Evaluation on the sparring problems: every worker, random choice, every policy and the oracle, on the same held-out items.

In process through the engine, or as a client of a running gateway: the same problems, the same grading, the same table.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stretto.engine.run import Engine
from stretto.errors import ConfigError
from stretto.evaluation.intervals import Interval, paired_difference, wilson
from stretto.evaluation.sets import problem_set, sets_named
from stretto.sparring.graders import grade
from stretto.sparring.problems import FAMILIES, Problem
from stretto.steps import Policy
from stretto.types import PICO, Message, Request, derive_seed, usd

__all__ = [
    "Contender",
    "Item",
    "Play",
    "Report",
    "by_engine",
    "by_url",
    "evaluate",
    "markdown",
    "save",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class Item:
    """One problem answered by one contender: score 0..1, money (pico-dollars), calls, seconds, error kind ("" if none)."""

    problem: str
    family: str
    score: float
    cost: int
    calls: int
    seconds: float
    served_by: str
    error: str = ""
    run: str = ""


Play = Callable[[str, Problem], Awaitable[Item]]
"""Lets the contender of a name answer a problem."""


@dataclass(frozen=True, slots=True)
class Contender:
    """What one name came to over all items; `gain` is the paired difference to the best single worker.

    `by_set` and `by_family` split the accuracy; the family of a composite is its chain, `sort-words+spell-backward`.
    """

    name: str
    kind: str
    accuracy: Interval
    gain: Interval
    usd_per_thousand: float
    calls: float
    p50_seconds: float
    p95_seconds: float
    errors: int
    by_set: Mapping[str, Interval]
    by_family: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole comparison. `best_single` was chosen on other items than those over which the gains are taken."""

    n: int
    seed: int
    sets: tuple[str, ...]
    families: tuple[str, ...]
    best_single: str
    best_single_chosen_on: str
    contenders: tuple[Contender, ...]
    seconds: float
    provenance: Mapping[str, Any]

    def as_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(asdict(self), indent=1)


def by_engine(engine: Engine, policies: Mapping[str, Policy], *, seed: int) -> Play:
    """Play in process; every call is in the ledger with purpose `evaluation`."""

    async def play(name: str, problem: Problem) -> Item:
        request = Request(
            messages=(Message("user", problem.prompt),),
            model=name,
            seed=derive_seed(seed, problem.id),
            params={"temperature": 0},
        )
        run = await engine.run(policies[name], request, name=name, purpose="evaluation")
        error = run.answer.error
        return Item(
            problem.id,
            problem.family,
            0.0 if error else grade(problem, run.answer.text),
            run.cost,
            run.calls,
            run.seconds,
            run.answer.worker,
            error.kind if error else "",
            run.id,
        )

    return play


def by_url(url: str, *, key: str = "", seed: int, timeout: float = 60.0) -> Play:
    """Play as a client of the gateway at `url` (its `/v1` root), over plain HTTP."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(
            f"--url {url}: an http:// address of a gateway is needed, such as http://127.0.0.1:8700/v1"
        )

    def ask(name: str, problem: Problem) -> Item:
        body = {
            "model": name,
            "messages": [{"role": "user", "content": problem.prompt}],
            "temperature": 0,
            "stretto": {"seed": derive_seed(seed, problem.id)},
        }
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
        begun = time.monotonic()
        try:
            connection.request(
                "POST", f"{parts.path.rstrip('/')}/chat/completions", json.dumps(body), headers
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            return Item(
                problem.id, problem.family, 0.0, 0, 0, time.monotonic() - begun, "", type(error).__name__
            )
        finally:
            connection.close()
        seconds = time.monotonic() - begun
        if response.status != 200:
            code = str(answer.get("error", {}).get("code") or response.status)
            return Item(problem.id, problem.family, 0.0, 0, 0, seconds, "", code)
        told = answer["stretto"]
        return Item(
            problem.id,
            problem.family,
            grade(problem, answer["choices"][0]["message"]["content"] or ""),
            round(told["cost_usd"] * PICO),
            told["calls"],
            seconds,
            told["served_by"],
            "",
            told["run_id"],
        )

    async def play(name: str, problem: Problem) -> Item:
        return await asyncio.to_thread(ask, name, problem)

    return play


async def evaluate(
    play: Play,
    workers: Sequence[str],
    policies: Sequence[str],
    *,
    n: int = 600,
    seed: int = 1,
    sets: Sequence[str] = ("simple",),
    families: Sequence[str] = FAMILIES,
    choosing: int = 200,
    concurrency: int = 4,
    provenance: Mapping[str, Any] | None = None,
    tick: Callable[[str], None] = lambda name: None,
) -> tuple[Report, dict[str, list[Item]]]:
    """Let every contender answer the same `n` held-out problems of `sets`, which take turns.

    The workers answer `choosing` calibration problems of the same sets first: the best single worker is chosen on those.
    Without a policy named `random`, that control is drawn by lot from the workers' answers. `tick(name)` is called once an item,
    for a progress bar. Returns the report and all items by contender. Raises `ConfigError` for a set that does not exist.
    """
    begun = time.monotonic()
    sets = sets_named(sets)
    asked = problem_set(sets, "test", n, seed, families)
    gate = asyncio.Semaphore(concurrency)

    async def one(name: str, problem: Problem) -> Item:
        async with gate:
            item = await play(name, problem)
        tick(name)
        return item

    async def over(name: str, those: Sequence[Problem]) -> list[Item]:
        return list(await asyncio.gather(*(one(name, problem) for problem in those)))

    apart = problem_set(sets, "calibration", choosing, seed, families)
    record = {name: sum(item.score for item in await over(name, apart)) for name in workers}
    best = max(workers, key=lambda name: record[name])
    items = {name: await over(name, asked) for name in (*workers, *policies)}
    baseline = [item.score for item in items[best]]
    kinds = [*((name, "worker") for name in workers), *((name, "policy") for name in policies)]
    if "random" not in items:
        items["random"] = _by_lot(items, workers, seed)
        kinds.insert(len(workers), ("random", "control"))
    rows = [_contender(name, kind, items[name], baseline, seed) for name, kind in kinds]
    rows.append(_contender("oracle", "bound", _oracle(items, workers), baseline, seed))
    report = Report(
        len(asked),
        seed,
        sets,
        tuple(families),
        best,
        f"{len(apart)} calibration problems of the same kind, of which it solved {record[best]:.0f}",
        tuple(rows),
        time.monotonic() - begun,
        dict(provenance or {}),
    )
    return report, items


def _by_lot(items: Mapping[str, Sequence[Item]], workers: Sequence[str], seed: int) -> list[Item]:
    """Per problem the answer of a worker drawn by lot, from the workers' own answers: what a random choice came to."""
    draws = zip(*(items[w] for w in workers), strict=True)
    return [random.Random(derive_seed(seed, answers[0].problem)).choice(answers) for answers in draws]


def _oracle(items: Mapping[str, Sequence[Item]], workers: Sequence[str]) -> list[Item]:
    """Per problem the cheapest worker that was right, else the cheapest: what perfect foresight would do. No policy can."""
    chosen = []
    for answers in zip(*(items[w] for w in workers), strict=True):
        right = [i for i in answers if i.score >= 1.0]
        chosen.append(min(right or answers, key=lambda i: i.cost))
    return chosen


def _contender(
    name: str, kind: str, items: Sequence[Item], baseline: Sequence[float], seed: int
) -> Contender:
    scores = [i.score for i in items]
    times = sorted(i.seconds for i in items)
    families = sorted({i.family for i in items})
    sets: dict[str, list[float]] = {}
    for item in items:
        sets.setdefault(item.problem.partition("/")[0], []).append(item.score)
    return Contender(
        name,
        kind,
        wilson(sum(scores), len(scores)),
        paired_difference(scores, baseline, seed=seed),
        1000 * usd(sum(i.cost for i in items)) / len(items),
        statistics.fmean(i.calls for i in items),
        times[len(times) // 2],
        times[min(len(times) - 1, int(0.95 * len(times)))],
        sum(1 for i in items if i.error),
        {name: wilson(sum(each), len(each)) for name, each in sets.items()},
        {f: statistics.fmean(i.score for i in items if i.family == f) for f in families},
    )


def markdown(report: Report) -> str:
    """The comparison as a Markdown table, with a verdict that is read off the intervals."""
    lines = [
        f"{report.n} held-out problems ({', '.join(report.sets)}), seed {report.seed}; intervals are 95 %. "
        f"Best single worker: `{report.best_single}`, chosen on {report.best_single_chosen_on}.",
        "",
        "| contender | accuracy | against best single (paired) | USD / 1000 | calls | p50 ms | p95 ms | errors |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for c in report.contenders:
        a, g = c.accuracy, c.gain
        gain = "-" if c.name == report.best_single else f"{g.value:+.3f} [{g.low:+.3f}, {g.high:+.3f}]"
        lines.append(
            f"| {c.name} ({c.kind}) | {a.value:.3f} [{a.low:.3f}, {a.high:.3f}] | {gain} | {c.usd_per_thousand:.4f} "
            f"| {c.calls:.2f} | {1000 * c.p50_seconds:.0f} | {1000 * c.p95_seconds:.0f} | {c.errors} |"
        )
    if len(report.sets) > 1:
        lines += ["", f"| contender | {' | '.join(report.sets)} |", f"|---|{'---|' * len(report.sets)}"]
        for c in report.contenders:
            cells = (
                f"{a.value:.3f} [{a.low:.3f}, {a.high:.3f}]" for a in (c.by_set[name] for name in report.sets)
            )
            lines.append(f"| {c.name} | {' | '.join(cells)} |")
    lines += ["", verdict(report), ""]
    return "\n".join(lines)


def verdict(report: Report) -> str:
    """What the intervals allow to say."""
    better = [c for c in report.contenders if c.kind == "policy" and c.gain.above_zero]
    worse = [c for c in report.contenders if c.kind == "policy" and c.gain.below_zero]
    told = []
    if better:
        told.append(f"Better than the best single worker: {', '.join(c.name for c in better)}.")
    else:
        told.append("No gain shown: no policy's interval lies above zero.")
    if worse:
        told.append(f"Worse than it: {', '.join(c.name for c in worse)}.")
    return " ".join(told)


def save(report: Report, items: Mapping[str, Sequence[Item]], folder: Path) -> None:
    """Write `summary.json`, `table.md` and `items.jsonl` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(report.as_json() + "\n", encoding="utf-8")
    (folder / "table.md").write_text(markdown(report), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as out:
        for name, answers in items.items():
            for item in answers:
                out.write(json.dumps({"contender": name, **asdict(item)}) + "\n")
