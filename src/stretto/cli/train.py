"""`stretto train`: learn from recorded outcomes what a policy then reads."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.progress import progress
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.evaluation.tables import Table

__all__ = ["train"]

_STAGES = 6


@click.group()
def train() -> None:
    """Learn from a table of recorded outcomes: who answered what, how good it was, what it cost."""


@train.command(
    epilog="""\b
Examples:
  stretto train evidence outcomes/ --out evidence.json
  stretto train evidence outcomes/ --worker small --worker big --out evidence.json
\b
Then, in stretto.toml, and under the name `stretto` from the next start on:
  [policy.careful]
  type = "sequential"
  artifact = "evidence.json"
"""
)
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="TABLE, for scripts that prefer an option.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the artefact goes."
)
@click.option(
    "--worker", "workers", multiple=True, help="Only these workers, as named in the table; default all."
)
@click.option(
    "--size",
    type=click.IntRange(1, 10),
    default=7,
    show_default=True,
    help="At most so many in the shortlist.",
)
@click.option(
    "--prompt/--no-prompt", default=True, show_default=True, help="Whether the text of a prompt counts."
)
@click.option(
    "--last-line", is_flag=True, help="Replies give their working first: the answer is their last line."
)
def evidence(
    table: Path | None,
    data: Path | None,
    out: Path,
    workers: Sequence[str],
    size: int,
    prompt: bool,
    last_line: bool,
) -> None:
    """Learn the policy `sequential`: who to ask first, what agreement is worth, and when to stop.

    TABLE is a folder with `items` (item_id, prompt; perhaps task, split) and `outcomes` (item_id, model, score 0..1, answer,
    cost_usd), each as .jsonl, .csv or .parquet. Model names must be the ids of the workers in stretto.toml. Items of split
    `dev` are not learned from. A few hundred items are a start, a few thousand are better.

    Prints for each price what the policy would have brought on items that it had not seen (cross-fitted), beside the best
    single worker.
    """
    if missing := [name for name in ("numpy", "scipy") if not _installed(name)]:
        raise ConfigError(f"learning needs {' and '.join(missing)}: pip install 'stretto[evidence]'")
    from stretto.evaluation.tables import read

    folder = table or data
    if folder is None or (table and data):
        raise ConfigError("name one folder of recorded outcomes, as TABLE or with --data")
    found = read(folder)
    _learn(found, _usable(found, workers), out, size, prompt, last_line)


def _installed(name: str) -> bool:
    """Whether a library can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _usable(table: "Table", named: Sequence[str]) -> list[str]:
    """The workers to learn from: the named ones, else all that know nearly every item; each with known costs."""
    chosen = list(named or table.covering())
    if not chosen:
        raise ConfigError(
            f"{table.name}: no worker has outcomes for 98.5 % of the items; name some with --worker"
        )
    part = table.only(workers=chosen, complete=True)
    if len(part.items) < 50:
        raise ConfigError(
            f"{table.name}: {len(part.items)} items were answered by all of {', '.join(chosen)}; 50 are needed at least"
        )
    for worker in chosen:
        if any((one := part.said(i.id, worker)) is not None and one.cost is None for i in part.items):
            raise ConfigError(
                f"{table.name}: outcomes of {worker} have no cost_usd, without which no price can be weighed"
            )
    return chosen


def _learn(table: "Table", workers: list[str], out: Path, size: int, prompt: bool, last_line: bool) -> None:
    from stretto import __version__, artifacts
    from stretto.learning.evidence import PRICES, artefact, learn, matrix, summary

    data = matrix(table, workers)
    if not any(i.split == "train" for i in data.items):
        raise ConfigError(f"{table.name}: no item is of split train")
    with progress(_STAGES + len(PRICES), "learning") as tick:
        learned = learn(data, size=min(size, len(workers)), text=prompt, say=tick)
        provenance = {
            "learned_by": "stretto train evidence",
            "stretto": __version__,
            "table": table.name,
            "items": len(learned.fold),
            "workers": workers,
        }
        made = artefact(learned, provenance, last_line=last_line, say=tick)
    artifacts.write(made, out)
    rows = summary(learned, data)
    click.echo(
        f"shortlist: {', '.join(learned.workers)}; {len(learned.fold)} items of split train, cross-fitted"
    )
    click.echo(f"{'':24} {'score':>6} {'USD per 1000':>13} {'calls':>6}")
    for name, score, cost, calls in rows:
        click.echo(f"{name:24} {100 * score:6.2f} {1000 * cost:13.4f} {calls:6.2f}")
    click.echo(str(out))
