"""`stretto eval`: every worker, random choice, every policy and the oracle on the same held-out problems."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.options import folder_options, settings_of
from stretto.cli.progress import progress
from stretto.cli.terminal import dump, table
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.evaluation.sparring import Item, Report

__all__ = ["evaluate"]

POLICIES = ("route", "cascade", "fuse")


@click.command(
    "eval",
    epilog="\b\nExamples:\n  stretto eval --sparring\n  stretto eval --sparring -n 200 --out results\n"
    "  stretto eval --sparring --url http://127.0.0.1:8700/v1\n",
)
@click.option("--sparring", is_flag=True, required=True, help="On the held-out sparring problems.")
@click.option("-n", "count", type=click.IntRange(8), default=600, show_default=True, help="Problems.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the problems and of every draw.")
@click.option(
    "--policy", "policies", multiple=True, help=f"A policy to compare; default {', '.join(POLICIES)}."
)
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
    policies: tuple[str, ...],
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
    from stretto.evaluation.sparring import save, verdict

    chosen = policies or POLICIES
    if url:
        report, items = asyncio.run(
            _remote(url, key, settings_of(config, data).data, chosen, count, seed, concurrency)
        )
    else:
        report, items = asyncio.run(_local(config, data, chosen, count, seed, concurrency))
    save(report, items, out)
    if as_json:
        dump(asdict(report))
        return
    _show(report)
    click.echo(verdict(report))
    click.echo(f"Every item is in {out / 'items.jsonl'}, the figures in {out / 'summary.json'}.")


async def _local(
    config: Path | None, data: Path | None, policies: Sequence[str], n: int, seed: int, concurrency: int
) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto.app import learned, open_world
    from stretto.evaluation.sparring import by_engine
    from stretto.evaluation.sparring import evaluate as compare
    from stretto.sparring import entries

    async with open_world(settings_of(config, data)) as world:
        there = {card.id for card in world.pool.cards()}
        workers = [entry.id for entry in entries() if entry.id in there]
        if not workers:
            raise ConfigError("this pool has no sparring model; set `sparring = true` under [pool]")
        contenders = {name: world.catalog.resolve(name) for name in (*workers, *policies)}
        with progress(n * (len(workers) + len(policies)), "evaluating") as tick:
            return await compare(
                by_engine(world.engine, contenders, seed=seed),
                workers,
                policies,
                n=n,
                seed=seed,
                chosen=_best_single(workers, learned(world.settings.data, there).table),
                concurrency=concurrency,
                provenance=_provenance("in process, through the engine"),
                tick=tick,
            )


async def _remote(
    url: str, key: str, data: Path, policies: Sequence[str], n: int, seed: int, concurrency: int
) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto.app import learned
    from stretto.evaluation.sparring import by_url
    from stretto.evaluation.sparring import evaluate as compare
    from stretto.sparring import entries

    workers = [entry.id for entry in entries()]
    with progress(n * (len(workers) + len(policies)), "evaluating") as tick:
        return await compare(
            by_url(url, key=key, seed=seed),
            workers,
            policies,
            n=n,
            seed=seed,
            chosen=_best_single(workers, learned(data, workers).table),
            concurrency=concurrency,
            provenance=_provenance(f"as a client of {url}"),
            tick=tick,
        )


def _best_single(workers: Sequence[str], table: "Artifact | None") -> tuple[str, str] | None:
    """The worker with the best record in the route table, which was learned on calibration problems."""
    if table is None:
        return None
    tasks = table.data["tasks"].values()
    record = {
        w: sum(t["prior"] * t["workers"][w][0] / t["workers"][w][1] for t in tasks if w in t["workers"])
        for w in workers
    }
    return max(record, key=lambda w: record[w]), f"the calibration problems of route table {table.hash}"


def _provenance(how: str) -> dict[str, object]:
    from stretto import __version__
    from stretto.sparring import entries

    return {"stretto": __version__, "how": how, "models": {e.id: e.sha256 for e in entries()}}


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
        f"\n{report.n} {report.split} problems, seed {report.seed}, intervals 95 %, {report.seconds:.0f} s; "
        f"best single chosen on {report.best_single_chosen_on}."
    )
