"""`stretto eval`: every worker, random choice, every policy and the oracle on the same held-out problems."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.options import folder_options, settings_of
from stretto.cli.progress import progress
from stretto.cli.terminal import dump, table
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.evaluation.sets import SubPool
    from stretto.evaluation.sparring import Item, Play, Report
    from stretto.pool.discover import Found

__all__ = ["evaluate"]

POLICIES = ("route", "cascade", "fuse")
CHOOSING = 200
"""Calibration problems on which the best single worker is chosen; fewer where fewer are asked."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is compared on what."""

    policies: tuple[str, ...]
    sets: tuple[str, ...]
    n: int
    seed: int
    concurrency: int
    pool: "SubPool | None"

    @property
    def choosing(self) -> int:
        return min(self.n, CHOOSING)

    def asks(self, workers: Sequence[str]) -> int:
        return self.n * (len(workers) + len(self.policies)) + self.choosing * len(workers)


@click.command(
    "eval",
    epilog="\b\nExamples:\n  stretto eval --sparring\n  stretto eval --sparring -n 200 --set mix --out results\n"
    "  stretto eval --sparring --pool dominated\n  stretto eval --sparring --url http://127.0.0.1:8700/v1\n",
)
@click.option("--sparring", is_flag=True, required=True, help="On the held-out sparring problems.")
@click.option("-n", "count", type=click.IntRange(8), default=600, show_default=True, help="Problems.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the problems and of every draw.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    default=("simple",),
    show_default=True,
    help="Which problems: simple, handovers, composite, triples, pairs, wordings, mix; several take turns.",
)
@click.option(
    "--policy", "policies", multiple=True, help=f"A policy to compare; default {', '.join(POLICIES)}."
)
@click.option("--pool", "pool", help="Some workers and families only: `dominated`, or a file in TOML.")
@click.option("--url", help="Ask a running gateway, such as http://127.0.0.1:8700/v1, instead of in process.")
@click.option("--key", envvar="STRETTO_KEY", default="", help="The key for --url (environment STRETTO_KEY).")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluation"),
    show_default=True,
    help="Where summary.json, table.md and items.jsonl go.",
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of the table.")
@folder_options
def evaluate(
    sparring: bool,
    count: int,
    seed: int,
    sets: tuple[str, ...],
    policies: tuple[str, ...],
    pool: str | None,
    url: str | None,
    key: str,
    out: Path,
    concurrency: int,
    as_json: bool,
    config: Path | None,
    data: Path | None,
) -> None:
    """Compare the sparring workers and the policies over them: accuracy, money, calls and time, with paired intervals.

    Everybody answers the same problems. The best single worker is chosen on calibration problems, never on these; `random`
    picks a worker by lot; `oracle` is what perfect foresight would do, a bound and no policy.
    """
    from stretto.evaluation.sets import sets_named, sub_pool
    from stretto.evaluation.sparring import save, verdict

    if url and pool:
        raise click.UsageError("--pool is for an evaluation in process; a gateway has the pool that it has.")
    names = tuple(name for given in policies or POLICIES for name in given.split(","))
    part = sub_pool(pool) if pool else None
    plan = _Plan(names, sets_named(sets), count, seed, concurrency, part)
    report, items = asyncio.run(_remote(url, key, plan) if url else _local(config, data, plan))
    save(report, items, out)
    if as_json:
        dump(asdict(report))
        return
    _show(report)
    click.echo(verdict(report))
    click.echo(f"Every item is in {out / 'items.jsonl'}, the figures in {out / 'summary.json'}.")


async def _local(
    config: Path | None, data: Path | None, plan: _Plan
) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto.app import find_workers, open_world
    from stretto.evaluation.sparring import by_engine
    from stretto.sparring import FAMILIES

    settings = settings_of(config, data)
    found = await find_workers(settings)
    if plan.pool is not None:
        found = _only(found, plan.pool)
    async with open_world(settings, found) as world:
        there = {card.id for card in world.pool.cards()}
        workers = [name for name in _solvers() if name in there]
        if not workers:
            raise ConfigError("this pool has no sparring model; set `sparring = true` under [pool]")
        contenders = {name: world.catalog.resolve(name) for name in (*workers, *plan.policies)}
        families = plan.pool.families if plan.pool else FAMILIES
        play = by_engine(world.engine, contenders, seed=plan.seed)
        return await _compare(play, workers, plan, families, "in process, through the engine")


async def _remote(url: str, key: str, plan: _Plan) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto.evaluation.sparring import by_url
    from stretto.sparring import FAMILIES

    play = by_url(url, key=key, seed=plan.seed)
    return await _compare(play, _solvers(), plan, FAMILIES, f"as a client of {url}")


async def _compare(
    play: "Play", workers: Sequence[str], plan: _Plan, families: Sequence[str], how: str
) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto.evaluation.sparring import evaluate as compare

    with progress(plan.asks(workers), "evaluating") as tick:
        return await compare(
            play,
            workers,
            plan.policies,
            n=plan.n,
            seed=plan.seed,
            sets=plan.sets,
            families=families,
            choosing=plan.choosing,
            concurrency=plan.concurrency,
            provenance=_provenance(how, plan),
            tick=tick,
        )


def _solvers() -> list[str]:
    """The sparring models that solve problems: the thinker and the checker do not, and are no contenders."""
    from stretto.sparring import entries

    return [entry.id for entry in entries() if entry.role == "solver"]


def _only(found: "Found", pool: "SubPool") -> "Found":
    """The workers that a named pool is made of."""
    from dataclasses import replace

    workers = tuple(worker for worker in found.workers if worker.id in pool.workers)
    if len(workers) < len(pool.workers):
        raise ConfigError(
            f'the pool "{pool.name}" needs {", ".join(pool.workers)}; set `sparring = true` under [pool]'
        )
    return replace(found, workers=workers)


def _provenance(how: str, plan: _Plan) -> dict[str, object]:
    from stretto import __version__
    from stretto.sparring import entries

    return {
        "stretto": __version__,
        "how": how,
        "pool": plan.pool.name if plan.pool else "all",
        "models": {e.id: e.sha256 for e in entries()},
    }


def _show(report: "Report") -> None:
    rows = []
    for c in report.contenders:
        a, g = c.accuracy, c.gain
        gain = "-" if c.name == report.best_single else f"{g.value:+.3f} [{g.low:+.3f}, {g.high:+.3f}]"
        name = f"{c.name} (best single)" if c.name == report.best_single else c.name
        cells = (
            f"{a.value:.3f} [{a.low:.3f}, {a.high:.3f}]",
            gain,
            f"${c.usd_per_thousand:.4f}",
            f"{c.calls:.2f}",
        )
        rows.append((name, c.kind, *cells, f"{1000 * c.p50_seconds:.0f}", str(c.errors)))
    columns = (
        "contender",
        "kind",
        "accuracy",
        "against best single",
        "per 1000",
        "calls",
        "p50 ms",
        "errors",
    )
    table(columns, rows, right=columns[4:])
    click.echo(
        f"\n{report.n} held-out problems ({', '.join(report.sets)}), seed {report.seed}, intervals 95 %, "
        f"{report.seconds:.0f} s; "
        f"best single chosen on {report.best_single_chosen_on}."
    )
