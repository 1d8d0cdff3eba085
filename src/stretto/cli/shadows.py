"""`stretto runs shadows`: what a candidate would have answered, beside what was served."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.outcomes import of_ledger
from stretto.cli.terminal import dump
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.learning.shadows import Beside, Pair

__all__ = ["pairs_of", "shadows"]


def pairs_of(data: Path, days: float | None = None, policy: str = "", by: str = "") -> "list[Pair]":
    """The shadow runs of a data folder with the runs beside them, newest first; of one candidate, or decided by one artefact."""
    from stretto.learning.shadows import pairs

    found = pairs(of_ledger(data, days=days))
    return [
        p
        for p in found
        if policy in ("", p.shadow.policy) and (not by or any(by in each for each in p.shadow.by))
    ]


@click.command(
    epilog="""\b
Examples:
  stretto runs shadows
  stretto runs shadows --policy candidate --days 7
  stretto runs list --purpose shadow        the runs themselves
"""
)
@click.option("--policy", default="", help="Only shadow runs of this policy.")
@click.option("--days", type=click.FloatRange(min=0), help="Only runs of the last so many days.")
@folder_options
@json_option
def shadows(policy: str, days: float | None, config: Path | None, data: Path | None, as_json: bool) -> None:
    """Hold the candidate of `[shadow]` against what served the same requests: agreement, cost, and scores where there are some.

    Scores come from feedback on the run that served, or on the shadow run. An answer of the candidate that differs and has no
    score is counted twice: as wrong (at worst), and as right unless what was served was right (at best).
    """
    from stretto.learning.shadows import beside

    found = pairs_of(settings_of(config, data).data, days, policy)
    if not found:
        raise ConfigError(
            "no shadow run with a run beside it is on record; [shadow] in stretto.toml makes them"
        )
    names = sorted({p.shadow.policy for p in found})
    rows = [(name, beside([p for p in found if p.shadow.policy == name])) for name in names]
    if as_json:
        dump([{"policy": name, **_plain(row)} for name, row in rows])
        return
    for name, row in rows:
        for line in _lines(name, row):
            click.echo(line)


def _plain(row: "Beside") -> dict[str, Any]:
    from dataclasses import asdict

    return {k: _finite(v) for k, v in asdict(row).items()}


def _finite(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _lines(name: str, row: "Beside") -> list[str]:
    lines = [f"{name}: {row.n} pairs"]
    if row.comparable:
        p, low, high = row.agree
        lines.append(f"  says the same  {p:.1%} [{low:.1%}, {high:.1%}] of {row.comparable}")
    if not math.isnan(row.cost[0]):
        lines.append(f"  costs          x{row.cost[0]:.2f} [{row.cost[1]:.2f}, {row.cost[2]:.2f}]")
    for label, (mean, low, high) in (("at worst", row.worst), ("at best", row.best)):
        if not math.isnan(mean):
            gap = f"{100 * mean:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
            lines.append(f"  {label:14} {gap} on {row.scored} scored pairs")
    if not row.scored:
        lines.append("  no score is known: send feedback (POST /v1/feedback) on the runs that serve")
    return lines
