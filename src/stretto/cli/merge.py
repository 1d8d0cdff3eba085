"""`stretto merge`: two or three models of one architecture become one, by evolution of how much of each goes where."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, settings_of, writable
from stretto.cli.progress import progress
from stretto.cli.terminal import dump, table
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.evaluation.intervals import Interval
    from stretto.evaluation.sparring import Item, Play
    from stretto.learning.merging import Plan, Score, Search, Space
    from stretto.sparring import Problem

__all__ = ["merge"]

MEAN = "uniform mean"
MERGED = "merged"
LONGEST = 128
"""Tokens of an answer: no right one is longer, and a mixture that learned nothing never ends."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A model to merge. `base` is the recipe at which its training began, "" where nobody knows."""

    name: str
    path: Path
    families: tuple[str, ...]
    base: str


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked, by whom, how often."""

    families: tuple[str, ...]
    seed: int
    items: int
    test: int
    concurrency: int

    @property
    def confirming(self) -> int:
        """Calibration problems on which the finalists are compared: twice as many as the search has, and others."""
        return 2 * self.items

    def problems(self, split: Any, n: int, shift: int) -> "list[Problem]":
        from stretto.sparring.problems import problems

        return problems(self.families, split, n, 1000 * self.seed + shift)


@click.command(
    epilog="""\b
Examples:
  stretto merge string-north list-north --out north.gguf
  stretto merge mine.gguf yours.gguf --base start.gguf --out ours.gguf
  stretto merge words-south digits-south --evaluations 300 --seed 2 --out south.gguf
Then, in stretto.toml:
  [[worker]]
  id = "north"
  path = "north.gguf"
"""
)
@click.argument("workers", nargs=-1, required=True, metavar="WORKER WORKER [WORKER]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The merged model, a GGUF file.",
)
@click.option(
    "--base",
    help="The model at which all began, a worker or a GGUF file: then differences to it are added (task arithmetic).",
)
@click.option(
    "--evaluations", type=click.IntRange(10), default=200, show_default=True, help="Mixtures that are scored."
)
@click.option(
    "--sigma",
    type=click.FloatRange(0.001, 10),
    help="The first step of the search; default 0.3, with --base 0.2.",
)
@click.option(
    "--start",
    default="best",
    show_default=True,
    help="Where it begins: mean, sum (with --base), a worker, best.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the search and of all problems.")
@click.option(
    "--items",
    type=click.IntRange(8, 2000),
    default=200,
    show_default=True,
    help="Problems a mixture is scored on.",
)
@click.option(
    "--test", type=click.IntRange(8), default=1000, show_default=True, help="Held-out problems at the end."
)
@click.option(
    "--family",
    "families",
    multiple=True,
    help="Problems of this family; default: those the workers were made for.",
)
@click.option(
    "--across-bases", is_flag=True, help="Merge models that are known to have begun at different places."
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the log, the report and the picture go; default OUT without .gguf and with .merge.",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=16, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@folder_options
def merge(
    workers: tuple[str, ...],
    out: Path,
    base: str | None,
    evaluations: int,
    sigma: float | None,
    start: str,
    seed: int,
    items: int,
    test: int,
    families: tuple[str, ...],
    across_bases: bool,
    work: Path | None,
    concurrency: int,
    as_json: bool,
    config: Path | None,
    data: Path | None,
) -> None:
    """Merge two or three models into one, without training: evolve how much of each goes into each block.

    WORKER is a sparring model, a worker with a `path`, or a GGUF file. All need one architecture, one shape and one vocabulary,
    with weights in F16 or F32, and should come from one base: models that were trained from different starts, or for long, hardly
    ever mix, whatever the shares.

    The search (CMA-ES) scores each mixture on calibration problems, by serving it with llama.cpp. It can be stopped at any time,
    even by kill -9: the same command goes on. At the end the mixture, the parents, base and plain mean answer the same held-out
    problems; the table says what was gained, with 95 % intervals, or that nothing was.
    """
    try:
        from stretto.learning.merging import Plan, read_model, space_of
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"merging needs {error.name}, which is not installed: pip install 'stretto[evolve]'"
        ) from None
    folder = work or out.with_suffix(".merge")
    writable(out)
    writable(folder / "report.json", option="--work" if work else "--out")
    sources = [_source(name, config, data) for name in workers]
    ground = _source(base, config, data) if base else None
    _one_base([*sources, *([ground] if ground else [])], across_bases)
    space = space_of(
        [read_model(s.path, s.name) for s in sources],
        read_model(ground.path, ground.name) if ground else None,
    )
    job = _Job(_families(sources, families), seed, items, test, concurrency)
    step = (0.2 if base else 0.3) if sigma is None else sigma
    plan = Plan(
        evaluations, step, seed, start, f"{items} of {', '.join(job.families)}; then {job.confirming}"
    )
    report = asyncio.run(_merge(space, plan, job, out, folder))
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if as_json:
        dump(report)
    else:
        _show(report, out, folder)


# --- which models ------------------------------------------------------------------------------------------------


def _source(name: str, config: Path | None, data: Path | None) -> _Source:
    """The model that a word on the command line means."""
    from stretto.sparring import entries

    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return _Source(path.stem, path, (), "")
    shipped = {entry.id: entry for entry in entries()}
    if name in shipped:
        return _Source(name, shipped[name].path, shipped[name].families, _root(name))
    local = {w.id: Path(w.path) for w in settings_of(config, data).workers if w.path is not None}
    if name in local:
        return _Source(name, local[name], (), "")
    known = ", ".join([*local, *shipped])
    raise ConfigError(f'"{name}" is no GGUF file and no worker with one; there are {known}')


def _root(name: str) -> str:
    """The recipe at which the training of a sparring model began."""
    from stretto.learning.sparring_recipes import recipe

    chosen = recipe(name)
    return _root(chosen.base) if chosen.base else chosen.name


def _one_base(sources: Sequence[_Source], across: bool) -> None:
    """Refuse what is known not to come from one start; what is not known passes."""
    known = {source.base: source.name for source in sources if source.base}
    if len(known) > 1 and not across:
        told = ", ".join(f"{name} began at {base}" for base, name in known.items())
        raise ConfigError(
            f"these models have no common base ({told}), and such models hardly ever mix; "
            "--across-bases merges them all the same"
        )


def _families(sources: Sequence[_Source], named: Sequence[str]) -> tuple[str, ...]:
    """The families to score on: the named ones, else those of the parents, else all."""
    from stretto.config import near
    from stretto.sparring import FAMILIES

    for name in named:
        if name not in FAMILIES:
            hint = near(name, FAMILIES) or "."
            raise ConfigError(f'There is no problem family "{name}"{hint} There are: {", ".join(FAMILIES)}')
    wanted = {*named} or {family for source in sources for family in source.families}
    if not named and any(not source.families for source in sources):
        wanted = {*FAMILIES}
    return tuple(family for family in FAMILIES if family in wanted)


# --- scoring and comparing ---------------------------------------------------------------------------------------


async def _merge(space: "Space", plan: "Plan", job: _Job, out: Path, folder: Path) -> dict[str, Any]:
    from stretto.learning.merging import evolve, write_model

    candidate, mean = folder / "candidate.gguf", folder / "mean.gguf"
    write_model(space.parents[0], space.mean(), mean)
    write_model(space.parents[0], space.mean(), candidate)
    given = [*space.parents, *([space.base] if space.base else [])]
    models = {
        **{model.name: model.path for model in given},
        MEAN: mean,
        MERGED: candidate,
    }
    dev, fresh = job.problems("calibration", job.items, 1), job.problems("calibration", job.confirming, 2)
    held = job.problems("test", job.test, 3)
    contenders = [*(model.name for model in given), MEAN, MERGED]
    async with _asked(models, job.concurrency) as (quick, play):
        total = len(space.starts()) + plan.evaluations + 5
        with progress(total, "merging") as tick:
            search = await evolve(space, quick(dev), quick(fresh), plan, folder, tick=tick)
        notes = _notes(space, plan, job, search, out)
        write_model(space.parents[0], space.mixed(search.chosen.genome), candidate, notes)
        with progress(len(contenders) * (len(dev) + len(held)), "comparing") as tick:

            async def over(name: str, those: "Sequence[Problem]") -> list[float]:
                items = await asyncio.gather(*(play(name, problem) for problem in those))
                for _ in those:
                    tick(name)
                return [item.score for item in items]

            first = {name: sum(await over(name, dev)) / len(dev) for name in contenders}
            scores = {name: await over(name, held) for name in contenders}
    mean.unlink()
    out.parent.mkdir(parents=True, exist_ok=True)
    candidate.replace(out)
    _draw(search, first, folder / "learning-curve.svg")
    return _report(notes, first, scores, search, job)


@asynccontextmanager
async def _asked(
    models: dict[str, Path], concurrency: int
) -> "AsyncIterator[tuple[Callable[[Sequence[Problem]], Score], Play]]":
    """Two ways to ask, in a world of its own that leaves nothing behind.

    The first scores the file that is being tried, straight through the pool: thousands of runs that nobody will ask about need no
    ledger. The second lets a model answer through the engine, as any evaluation does.
    """
    from stretto.app import open_world
    from stretto.config import parse
    from stretto.evaluation.sparring import by_engine
    from stretto.policies.solo import Solo
    from stretto.sparring import grade
    from stretto.steps import Ask, Tally
    from stretto.types import Message

    ids = {name: f"model-{place}" for place, name in enumerate(models)}
    workers = "".join(
        f"[[worker]]\nid = {json.dumps(ids[name])}\npath = {json.dumps(str(path.absolute()))}\nmax_output = {LONGEST}\n"
        for name, path in models.items()
    )
    gate = asyncio.Semaphore(concurrency)
    with TemporaryDirectory() as data:
        text = f'[server]\ndata = {json.dumps(data)}\n[ledger]\ncontent = "digest"\n[pool]\nsparring = false\n{workers}'
        async with open_world(parse(text, file="merge.toml", environ={})) as world:
            ask = by_engine(world.engine, {name: Solo(id) for name, id in ids.items()}, seed=1)

            async def play(name: str, problem: "Problem") -> "Item":
                async with gate:
                    item = await ask(name, problem)
                if item.error not in ("", "empty"):
                    raise ConfigError(f"{models[name]} could not be asked: {item.error}")
                return item

            async def once(problem: "Problem") -> float:
                question = Ask(
                    ids[MERGED],
                    (Message("user", problem.prompt),),
                    max_tokens=LONGEST,
                    params={"temperature": 0},
                )
                endpoint = world.pool.candidates(question).endpoints[0]
                async with gate:
                    came = await world.pool.attempt(
                        question, endpoint, deadline=None, tally=Tally(), emit=None
                    )
                if came.error is not None and came.error.kind != "empty":
                    raise ConfigError(f"a mixture could not be asked: {came.error.message}")
                return grade(problem, came.message.text)

            def quick(those: "Sequence[Problem]") -> "Score":
                async def score(path: Path) -> float:
                    return sum(await asyncio.gather(*map(once, those))) / len(those)

                return score

            yield quick, play


def _notes(space: "Space", plan: "Plan", job: _Job, search: "Search", out: Path) -> dict[str, Any]:
    """What the merged file says about itself."""
    from stretto import __version__

    names = [parent.name for parent in space.parents]
    return {
        "name": out.stem,
        "description": f"{' and '.join(names)}, merged by stretto {__version__}.",
        "parents": [{"name": p.name, "sha256": p.sha256} for p in space.parents],
        "base": {"name": space.base.name, "sha256": space.base.sha256} if space.base else None,
        "method": space.method,
        "blocks": list(space.blocks),
        "shares": [[round(float(x), 5) for x in row] for row in space.shares(search.chosen.genome)],
        "plan": asdict(plan),
        "began": search.began,
        "evaluations": len(search.evaluations),
        "families": list(job.families),
        "dev": {"problems": job.items, "score": search.chosen.score},
        "confirmed": {"problems": job.confirming, "score": search.confirmed},
    }


def _report(
    notes: dict[str, Any],
    dev: dict[str, float],
    scores: dict[str, list[float]],
    search: "Search",
    job: _Job,
) -> dict[str, Any]:
    from stretto.evaluation.intervals import paired_difference, wilson

    given = [name for name in scores if name not in (MEAN, MERGED)]
    best = max(given, key=lambda name: dev[name])
    rows = []
    for name, each in scores.items():
        gain = paired_difference(scores[MERGED], each, seed=job.seed)
        rows.append(
            {
                "model": name,
                "dev": dev[name],
                "test": asdict(wilson(sum(each), len(each))),
                "merged against it": None if name == MERGED else asdict(gain),
            }
        )
    against = paired_difference(scores[MERGED], scores[best], seed=job.seed)
    return {
        "merge": notes,
        "n": job.test,
        "rows": rows,
        "best given": best,
        "verdict": _verdict(against, best),
        "starts": search.starts,
        "curve": [e.score for e in search.evaluations if not e.start],
    }


def _verdict(gain: "Interval", best: str) -> str:
    if gain.above_zero:
        return f"Better than the best of what was given, {best}."
    if gain.below_zero:
        return f"Worse than the best of what was given, {best}: use that."
    return f"No gain shown over the best of what was given, {best}."


def _draw(search: "Search", dev: dict[str, float], path: Path) -> None:
    from stretto.evaluation.curves import learning_curve

    scores = [e.score for e in search.evaluations if not e.start]
    best = [max(scores[: at + 1]) for at in range(len(scores))]
    learning_curve(
        path,
        {"best so far": list(enumerate(best, 1))},
        title="Dev score of the mixtures that were tried",
        across="evaluations",
        up="share of dev problems solved",
        marks={name: score for name, score in dev.items() if name != MERGED},
        dots=list(enumerate(scores, 1)),
    )


def _show(report: dict[str, Any], out: Path, folder: Path) -> None:
    def told(interval: dict[str, float] | None, sign: str = "") -> str:
        if interval is None:
            return "-"
        value, low, high = interval["value"], interval["low"], interval["high"]
        return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    rows = [
        (row["model"], f"{row['dev']:.3f}", told(row["test"]), told(row["merged against it"], "+"))
        for row in report["rows"]
    ]
    merged = report["merge"]
    click.echo("How much of each goes into each block:")
    names = [parent["name"] for parent in merged["parents"]]
    shares = ([f"{x:.2f}" for x in row] for row in merged["shares"])
    table(
        ("block", *names), ((b, *row) for b, row in zip(merged["blocks"], shares, strict=True)), right=names
    )
    click.echo()
    table(("model", "dev", "test", "merged against it (paired)"), rows)
    click.echo(
        f"\n{report['n']} held-out problems of {len(merged['families'])} families, intervals 95 %; "
        f"{merged['evaluations']} mixtures on {merged['dev']['problems']} dev problems. {report['verdict']}"
    )
    click.echo(f"The model is {out}, the report and the learning curve are in {folder}.")
