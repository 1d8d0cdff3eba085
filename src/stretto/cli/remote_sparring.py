"""`stretto eval --sparring --url`: the sparring evaluation as a client of a running gateway."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.progress import progress
from stretto.cli.terminal import dump, table

if TYPE_CHECKING:
    from stretto.evaluation.sparring import Item, Report

__all__ = ["evaluated_remotely"]

_CHOOSING = 200
"""Calibration problems on which the best single worker is chosen; fewer where fewer are asked."""


def evaluated_remotely(
    url: str,
    key: str,
    policies: Sequence[str],
    sets: Sequence[str],
    n: int,
    seed: int,
    out: Path,
    concurrency: int,
    as_json: bool,
) -> None:
    """Ask, save, and show what came of it. The gateway needs the sparring models."""
    from dataclasses import asdict

    from stretto.evaluation.sparring import save, verdict

    report, items = asyncio.run(_asked(url, key, policies, sets, n, seed, concurrency))
    save(report, items, out)
    if as_json:
        dump(asdict(report))
        return
    _show(report)
    click.echo(verdict(report))
    click.echo(f"Every item is in {out / 'items.jsonl'}, the figures in {out / 'summary.json'}.")


async def _asked(
    url: str, key: str, policies: Sequence[str], sets: Sequence[str], n: int, seed: int, concurrency: int
) -> "tuple[Report, dict[str, list[Item]]]":
    from stretto import __version__
    from stretto.evaluation.sparring import by_url, evaluate
    from stretto.sparring import entries

    workers = [entry.id for entry in entries() if entry.role == "solver"]
    choosing = min(n, _CHOOSING)
    provenance = {
        "stretto": __version__,
        "how": f"as a client of {url}",
        "models": {e.id: e.sha256 for e in entries()},
    }
    with progress(n * (len(workers) + len(policies)) + choosing * len(workers), "evaluating") as tick:
        return await evaluate(
            by_url(url, key=key, seed=seed),
            workers,
            policies,
            n=n,
            seed=seed,
            sets=sets,
            choosing=choosing,
            concurrency=concurrency,
            provenance=provenance,
            tick=tick,
        )


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
