"""`stretto demote`: what was promoted and does not keep its promise gives way to what was served before."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.terminal import dump
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.learning.promotion import Promotions, Record

__all__ = ["demote"]


@click.command(
    epilog="""\b
Examples:
  stretto demote --check                    whatever was promoted and does not keep its promise (from cron, say)
  stretto demote evidence.json --reason "customers complain"
"""
)
@click.argument("file", required=False)
@click.option("--check", is_flag=True, help="Only if the scored runs since refute what it promised.")
@click.option("--reason", default="", help="Why, for the history.")
@folder_options
@json_option
def demote(
    file: str | None, check: bool, reason: str, config: Path | None, data: Path | None, as_json: bool
) -> None:
    """Serve again what was served before the artefact FILE was promoted; a running gateway follows within seconds.

    With --check only where the feedback on the runs that it has decided since refutes the score it promised, less the margin
    of its promotion. The test may be asked as often as you like: a promise that holds is called broken with a chance of at most
    5 %, over all time. Scores of feedback and of the evaluation must mean the same for that.
    """
    from stretto.learning.promotion import FILES, Promotions

    folder = settings_of(config, data).data
    promotions = Promotions(folder)
    names = [file] if file else [name for name in FILES.values() if (promotions.folder / name).exists()]
    if file is not None and file not in FILES.values():
        raise ConfigError(f"{file}: is none of {', '.join(FILES.values())}")
    if not check and (file is None or not reason):
        raise ConfigError("name what is to give way and why (FILE --reason), or --check what was promised")
    if not check:
        record = promotions.back(str(file), "demoted", reason)
        dump(asdict(record)) if as_json else click.echo(_told(record))
        return
    rows = [_checked(promotions, folder, name) for name in names]
    if as_json:
        dump(rows)
    elif not rows:
        click.echo("Nothing is served that was promoted.")
    for row in () if as_json else rows:
        click.echo(f"{row['file']}: {row['told']}")


def _checked(promotions: "Promotions", folder: Path, file: str) -> dict[str, Any]:
    """Hold what is served to its promise, and take it back if that is refuted."""
    from stretto.cli.outcomes import of_ledger
    from stretto.learning.demotion import kept

    now = promotions.current(file)
    promise = now.provenance.get("promotion") if now is not None else None
    if now is None or not promise:
        return {"file": file, "demoted": False, "told": "was not promoted: it has promised nothing"}
    since = next((r.time for r in reversed(promotions.history(file)) if r.hash == now.hash), 0.0)
    try:
        runs = of_ledger(folder, ("serve",), since=since)
    except ConfigError:
        runs = []
    scores = [r.score for r in reversed(runs) if r.score is not None and any(now.hash in by for by in r.by)]
    floor = max(0.0, float(promise["score"]) - float(promise["margin"]))
    found = kept(scores, floor)
    told = f"promised a score of at least {floor:.3f}"
    if not scores:
        return {"file": file, "demoted": False, "told": f"{told}; no scored run since"}
    told = f"{told}; {found.mean:.3f} over {found.n} scored runs, odds against it {found.against:.1f} (20 refute it)"
    if not found.broken:
        return {"file": file, "demoted": False, "told": f"{told}: kept"}
    record = promotions.back(file, "demoted", told, now.hash)
    return {"file": file, "demoted": True, "told": f"{told}: {_told(record)}"}


def _told(record: "Record") -> str:
    return f"{record.previous} gives way; {record.hash or 'nothing'} is served from now on"
