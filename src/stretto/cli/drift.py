"""`stretto drift`: which worker has silently got worse, by the record; and leaving it out for a while."""

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.terminal import dump, table, when
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.catalog.masks import Masks
    from stretto.ledger.drift import Watched

__all__ = ["drift"]

_DAY, _HOUR = 86400.0, 3600.0


@click.command(
    epilog="""\b
Examples:
  stretto drift                       what the record says of every worker
  stretto drift --mask                leave out for an hour whom an alarm has named (from cron, say)
  stretto drift --unmask big
"""
)
@click.option(
    "--days", type=click.FloatRange(min=0), default=7.0, show_default=True, help="How far back to look."
)
@click.option("--mask", is_flag=True, help="Leave out whom an alarm has named, from now on.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="For how long; then it is on probation.",
)
@click.option("--unmask", metavar="WORKER", help="Let a worker play again.")
@folder_options
@json_option
def drift(
    days: float,
    mask: bool,
    hours: float,
    unmask: str | None,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Tell which workers agree with the others less often than they used to: their replies have silently got worse.

    Read from what `sequential` records of each reply: whether it said what somebody had said before it, and how likely that was
    of a healthy worker. The evidence is a sequential likelihood-ratio test against three wrong replies in ten; an alarm is
    evidence of 1,000 to 1. A worker that is left out is passed over by every policy, but still answers under its own name.
    After the time it plays again, and what was recorded before counts no longer.
    """
    from stretto.catalog.masks import Masks
    from stretto.ledger.archive import Archive
    from stretto.ledger.drift import watched

    folder = settings_of(config, data).data
    masks = Masks(folder)
    if unmask is not None:
        if not masks.lift(unmask):
            raise ConfigError(
                f"{unmask} is not left out; left out are: {', '.join(w for w, _ in masks.current()) or 'none'}"
            )
        click.echo(f"{unmask} plays again")
        return
    now = time.time()
    starts: dict[str, float] = {}
    for each in masks.all():
        starts[each.worker] = max(starts.get(each.worker, 0.0), each.until)
    with closing(Archive(folder)) as archive:
        found = watched(archive, since=now - days * _DAY, starts=starts)
    accused = _masked(masks, found, now, hours) if mask else []
    _tell(masks, found, accused, as_json)


def _masked(masks: "Masks", found: "Watched", now: float, hours: float) -> list[str]:
    """Leave out whom the latest alarms have named; one by one, never one that is left out already."""
    from stretto.catalog.masks import Mask

    out = {worker for worker, _ in masks.current()}
    accused = []
    for _, alarm in found.alarms:
        if alarm.worker not in out:
            masks.put(Mask(alarm.worker, alarm.reason, now, now + hours * _HOUR))
            out.add(alarm.worker)
            accused.append(alarm.worker)
    return accused


def _tell(masks: "Masks", found: "Watched", accused: list[str], as_json: bool) -> None:
    out = dict(masks.current())
    rows = [
        {
            "worker": name,
            "compared": state.seen,
            "agreed": state.agreed,
            "expected": round(state.expected, 1),
            "evidence": round(state.evidence, 2),
            "left_out": out.get(name, ""),
        }
        for name, state in sorted(found.monitor.workers.items())
    ]
    alarms = [{"time": t, "worker": a.worker, "reason": a.reason} for t, a in found.alarms]
    tied = found.monitor.tied()
    if as_json:
        dump({"workers": rows, "alarms": alarms, "tied": tied, "left_out": out, "newly": accused})
        return
    if not rows:
        click.echo(
            "Nothing to compare yet: only `sequential` with an artefact of `stretto train evidence` records it."
        )
    else:
        table(
            ("worker", "compared", "agreed", "expected", "evidence", "left out"),
            ([str(value) or "-" for value in row.values()] for row in rows),
            right=("compared", "agreed", "expected", "evidence"),
        )
        click.echo("evidence in nats; 6.9 is 1,000 to 1, an alarm")
    if tied:
        click.secho(
            f"{' and '.join(tied)} differ far more often than they used to. Which of them is worse now their replies alone do "
            "not tell: a third worker's would, or feedback on answers of each.",
            fg="red",
        )
    for t, alarm in found.alarms:
        click.secho(f"{when(t)}  {alarm.worker}: {alarm.reason}", fg="red")
    for worker in accused:
        click.echo(f"{worker} is left out from now on; stretto drift --unmask {worker} lets it play again")
