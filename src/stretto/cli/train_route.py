"""`stretto train route` and `stretto train newcomer`: who is likely to be right at a prompt, and a worker that came later."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.options import writable
from stretto.cli.progress import progress
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.evaluation.tables import Table
    from stretto.learning.evidence.newcomers import Joined
    from stretto.learning.route_table import Study

__all__ = ["newcomer", "route"]

_BY = ("table", "logistic", "nearest", "clusters", "factors", "irt", "auto")


@click.command(
    epilog="""\b
Examples:
  stretto train route --data outcomes/ --out route-table.json
  stretto train route --data outcomes/ --by auto --out route-table.json
  stretto eval --recorded outcomes/ --policy route --artefact route-table.json
\b
Then, in stretto.toml:
  [policy.quick]
  type = "route"
  table = "route-table.json"
"""
)
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="TABLE, for scripts that prefer an option.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the artefact goes."
)
@click.option("--worker", "workers", multiple=True, help="Only these; default all whose costs are known.")
@click.option(
    "--by",
    type=click.Choice(_BY),
    default="table",
    show_default=True,
    help="What tells who is right at a prompt: see above.",
)
def route(table: Path | None, data: Path | None, out: Path, workers: Sequence[str], by: str) -> None:
    """Learn whom the policy `route` asks: one worker a prompt, before anything is answered.

    TABLE is a folder as for `train evidence`; no answers are needed, only scores. Items of split `dev` and `test` are not
    learned from. Who is likely to be right is told

    \b
    --by table     by the kind of task (the column `task`) that a prompt's words are like
         logistic  by a logistic regression a worker over the prompt's words
         nearest   by the outcomes of the most similar prompts (kNN)
         clusters  by those of the nearest clusters of prompts (Avengers-Pro)
         factors   by a few directions that all workers share (matrix factorisation, RouteLLM)
         irt       by one difficulty a prompt, a slope and a level a worker (item response theory)
         auto      by the one of these that foretells best; by the table if asking by that surely brings more

    and all are compared with the table on items that they had not seen (cross-fitted): nats (the mean log-loss; less is better),
    calibration error, AUC, and what asking by it brings. Who foretells better need not ask better: read the last columns. All
    but the table also tell how unsure they are, and need 50 outcomes of two workers at least. For a worker with fewer there is
    `stretto train newcomer`.
    """
    from stretto import artifacts
    from stretto.evaluation.tables import read
    from stretto.learning.route_table import of_table, study

    folder = table or data
    if folder is None or (table and data):
        raise ConfigError("name one folder of recorded outcomes, as TABLE or with --data")
    writable(out)
    found = read(folder)
    names = [name for given in workers for name in given.split(",")] or _priced(found)
    if by == "table":
        made = of_table(found, names)
        artifacts.write(made, out)
        _tell_tasks(made)
    else:
        from stretto.learning.evidence.routing import FAMILIES, LEAST, steps

        families = [family for family in FAMILIES if by in (family, "auto")]
        with progress(steps(families), "learning") as tick:
            made, compared = study(found, families, names, tick=tick)
        artifacts.write(made, out)
        _tell(compared)
        for worker, count in compared.few.items():
            click.echo(
                f"left out: {worker} has {count} outcomes, {LEAST} are needed; it may join by its probe profile: "
                f"stretto train newcomer {worker} --artefact {out} --data {folder} --out {out}",
                err=True,
            )
    click.echo(str(out))


def _priced(table: "Table") -> list[str]:
    """The workers whose costs are known, where others' are not: what is not known would count as free. Else nobody is named."""
    known = {
        w: all(one.cost is not None for i in table.items if (one := table.said(i.id, w)) is not None)
        for w in table.workers
    }
    priced = [w for w in table.workers if known[w]]
    if len(priced) < 2 or len(priced) == len(known):
        return []
    left = ", ".join(w for w in table.workers if not known[w])
    click.echo(
        f"left out, since outcomes of theirs have no cost_usd: {left} (--worker takes them in)", err=True
    )
    return priced


def _tell_tasks(made: "Artifact") -> None:
    """Who is best at what."""
    for task, entry in made.data["tasks"].items():
        best = max(entry["workers"], key=lambda w: entry["workers"][w][0] / entry["workers"][w][1])
        right, tried = entry["workers"][best]
        click.echo(f"{task:32} {best} {100 * right / tried:.1f} % of {tried}")


def _tell(found: "Study") -> None:
    """What was compared, and what serves."""
    n = len(found.rows[0].quality.worth)
    click.echo(
        f"{n} items of split train, cross-fitted; best single worker {found.single} {100 * found.score:.2f}"
    )
    costly = any(cost.any() for row in found.rows for cost in row.quality.costs)
    click.echo(f"{'':9} {'nats':>6} {'calib.':>6} {'AUC':>5}   {'dial 1':>15} {'dial .5':>15} {'dial 0':>15}")
    for row in found.rows:
        q = row.quality
        parts = [
            f"{100 * score.mean():6.2f} {f'${1000 * cost.mean():.4g}' if costly else '-':>8}"
            for score, cost in zip(q.scores, q.costs, strict=True)
        ]
        mark = "  <- serves" if row.by == found.by else ""
        told = f"  ({row.told})" if row.told else ""
        click.echo(
            f"{row.by:9} {q.nats:6.4f} {100 * q.error:5.2f}% {q.auc:5.3f}   {' '.join(parts)}{mark}{told}"
        )
    click.echo("score and USD per 1000 prompts of those whom it asks; calib.: expected calibration error")
    best = min(found.rows[1:], key=lambda row: row.quality.nats)
    lead = best.lead
    if lead is None:
        return
    gap = f"{100 * lead.value:+.2f} [{100 * lead.low:+.2f}, {100 * lead.high:+.2f}] points"
    how = (
        "is shown to bring more"
        if lead.low > 0
        else "brings surely less"
        if lead.high < 0
        else "is not shown to bring more"
    )
    click.echo(f"asking by {best.by} {how} than by the table: {gap} of worth, the mean over the three dials")


@click.command(
    epilog="""\b
Examples:
  stretto train newcomer phi --artefact route-table.json --data phi-outcomes/ --out with-phi.json
  stretto train newcomer phi --artefact route-table.json --out with-phi.json      # nothing is known of it yet
"""
)
@click.argument("worker")
@click.option(
    "--artefact",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="What `stretto train route` wrote, or this command.",
)
@click.option("--data", type=click.Path(path_type=Path), help="A folder with outcomes of the new worker.")
@click.option(
    "--labels",
    type=click.IntRange(0, 200),
    help="Use so many of its outcomes, by lot; default all, at most 200.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which ones: the lot's seed.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the artefact goes."
)
def newcomer(
    worker: str, artefact: Path, data: Path | None, labels: int | None, seed: int, out: Path
) -> None:
    """Let WORKER take part in what `route` serves, though there are few outcomes of it (0 to 200), or none.

    Its probe profile says how likely it is to be right where the known workers are: like an average of them until its outcomes
    say otherwise, and like those that did as it did. It is told with its uncertainty, of which half a deviation is taken off
    where it is weighed against others. Of DIR (as for `train route`) only items of split train count, only WORKER's outcomes
    are learned from, and the other prompts there show where it would be asked.

    With more than 200 outcomes learn anew: `stretto train route` (`stretto eval` asks it the prompts of the others).
    """
    import random

    from stretto import artifacts
    from stretto.evaluation.tables import read
    from stretto.learning.evidence.newcomers import MOST, join

    writable(out)
    known = _route_table(artefact, worker)
    items, scores = [], {}
    if data is not None:
        found = read(data)
        items = [item for item in found.items if item.split == "train"]
        scores = {i.id: one.score for i in items if (one := found.said(i.id, worker)) is not None}
        if not scores and labels != 0:
            raise ConfigError(
                f"{found.name}: has no outcomes of {worker} on items of split train; there are {', '.join(found.workers)}. With "
                "--labels 0 it is taken for an average worker"
            )
    elif labels:
        raise ConfigError(f"--labels {labels}: name the folder of {worker}'s outcomes with --data")
    count = min(len(scores), MOST if labels is None else labels)
    if labels is not None and count < labels:
        raise ConfigError(
            f"--labels {labels}: there are {len(scores)} outcomes of {worker} on items of split train"
        )
    if labels is None and len(scores) > MOST:
        click.echo(
            f"{len(scores)} outcomes of {worker}, {MOST} of them used: with so many, learn anew with stretto train route",
            err=True,
        )
    lot = set(random.Random(seed).sample(sorted(scores), count))
    made = join(
        known, worker, [i.prompt for i in items], [scores[i.id] if i.id in lot else None for i in items]
    )
    artifacts.write(made.artifact, out)
    _tell_newcomer(made, worker)
    click.echo(str(out))


def _route_table(file: Path, worker: str) -> "Artifact":
    """The table. Raises `ConfigError` for evidence, in which a newcomer cannot take part."""
    import json

    from stretto import artifacts
    from stretto.policies.route import TABLE_SCHEMA
    from stretto.policies.sequential import EVIDENCE_SCHEMA

    try:
        schema = json.loads(file.read_bytes()).get("schema")
    except (OSError, ValueError, AttributeError):
        schema = None  # told below
    if schema == EVIDENCE_SCHEMA:
        raise ConfigError(
            f"{file}: is evidence, in which nobody takes part that it was not learned with: how its replies read, and what it is "
            "worth to ask it beside others, is learned from outcomes of all (a stranger made `sequential` 1.5 points worse). Let "
            f"{worker} answer some 300 prompts of the others (stretto eval), then stretto train evidence; or name a route table"
        )
    return artifacts.read(file, TABLE_SCHEMA)


def _tell_newcomer(made: "Joined", worker: str) -> None:
    if not made.profile.labels:
        click.echo(f"{worker}: no outcomes; it counts as an average of {', '.join(made.known)}")
    else:
        click.echo(
            f"{worker}: learned from {made.profile.labels} outcomes, in terms of {', '.join(made.known)}"
        )
    if len(made.right):
        right, doubt, others = 100 * made.right.mean(), 100 * made.doubt.mean(), 100 * made.others.mean(0)
        best = int(others.argmax())
        click.echo(
            f"over {len(made.right)} prompts: right {right:.1f} % of the time, give or take {doubt:.1f} at each prompt; the best "
            f"known, {made.known[best]}, {others[best]:.1f} %"
        )
        click.echo(f"at dial 1 it would be asked {100 * made.asked.mean():.1f} % of them")
