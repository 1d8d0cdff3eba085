"""`stretto runs outcomes`: the ledger as a table of recorded outcomes, for every learner and for `stretto eval --recorded`."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.terminal import dump
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.evaluation.tables import Table
    from stretto.learning.own_outcomes import Logged

__all__ = ["of_ledger", "outcomes"]

_DAY = 86400.0


def of_ledger(
    data: Path,
    purposes: Sequence[str] = (),
    days: float | None = None,
    *,
    since: float = 0.0,
    last_line: bool = True,
) -> "list[Logged]":
    """The finished runs of a data folder, newest first: of the last so many days, or `since` then (Unix seconds).

    Raises `ConfigError` where there are none.
    """
    from stretto.learning.own_outcomes import read
    from stretto.ledger.archive import Archive

    if days is not None:
        since = time.time() - days * _DAY
    with closing(Archive(data)) as archive:
        found = list(read(archive, archive.cards, purposes=purposes, since=since, last_line=last_line))
    if not found:
        raise ConfigError(
            f"{data}: no finished run is on record there (--data names the gateway's data folder)"
        )
    return found


@click.command(
    epilog="""\b
Examples:
  stretto runs outcomes --out outcomes/
  stretto runs outcomes --out outcomes/ --purpose serve --days 30
\b
Then, for instance:
  stretto train evidence outcomes/ --out evidence.json
"""
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder.")
@click.option("--purpose", "purposes", multiple=True, help="Only runs made for this: serve, evaluation, ...")
@click.option("--days", type=click.FloatRange(min=0), help="Only runs of the last so many days.")
@folder_options
@json_option
def outcomes(
    out: Path,
    purposes: tuple[str, ...],
    days: float | None,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write what the ledger knows as a table: items and outcomes.

    One row an item (equal conversations are one item) and worker: the answer, what it cost, and its score. Scores come from
    feedback (POST /v1/feedback) and from evaluations (`stretto eval`); a reply that says the same as a scored one has its
    score. Runs without a score, or whose texts were not kept, are left out and counted.
    """
    from stretto.learning.own_outcomes import table_of, write

    found = of_ledger(settings_of(config, data).data, purposes, days)
    table = table_of(found)
    told = _told(found, table)
    if not table.items:
        raise ConfigError(_empty(told))
    write(table, out)
    if as_json:
        dump(told | {"out": str(out)})
        return
    click.echo(
        f"{told['runs']} runs: {told['unscored']} without a score, {told['erased']} without texts; "
        f"{told['items']} items, {told['outcomes']} outcomes"
    )
    for worker, count in told["workers"].items():
        click.echo(f"  {worker:30} {count}")
    click.echo(f"{out}: items.jsonl, outcomes.jsonl")


def _told(runs: "Sequence[Logged]", table: "Table") -> dict[str, Any]:
    counts = {w: sum(table.samples(i.id, w) for i in table.items) for w in table.workers}
    return {
        "runs": len(runs),
        "unscored": sum(1 for r in runs if r.request is not None and all(x.score is None for x in r.replies)),
        "erased": sum(1 for r in runs if r.request is None),
        "items": len(table.items),
        "outcomes": sum(counts.values()),
        "workers": counts,
    }


def _empty(told: dict[str, Any]) -> str:
    return (
        f"of {told['runs']} runs none has a score and kept texts ({told['erased']} without texts): send feedback "
        "(POST /v1/feedback with run_id and score), or evaluate on prompts of your own (`stretto eval --tasks`)"
    )
