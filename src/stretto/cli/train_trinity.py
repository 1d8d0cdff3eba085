"""`stretto train trinity`: train a coordinator that picks worker and role turn by turn."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from stretto.cli.options import settings_of, writable
from stretto.cli.terminal import console
from stretto.errors import ConfigError

__all__ = ["trinity"]

ROLES = "worker,thinker,verifier"


@click.command(
    epilog="\b\nExamples:\n  stretto train trinity --pool sparring --seed 1 --out trained\n"
    "  stretto train trinity --pool sparring --seed 1 --out trained --resume\n"
    "  stretto train trinity --pool sparring --method stage-1 --out quick\n"
    "  stretto train trinity --pool sparring --without words-south --out less\n"
    "  stretto train trinity --pool sparring --add words-south --artefact less --out added\n"
    "  stretto eval --sparring --set mix --policy trinity --artefact trained\n"
)
@click.option("--pool", type=click.Choice(["sparring"]), required=True, help="Whom to coordinate.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of every draw of the search.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where trinity.json, coordinator.gguf, log.jsonl, learning-curve.svg and the checkpoint go.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT, if there is one.")
@click.option(
    "--replies",
    "kept",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of kept replies (default DATA/replies/sparring.jsonl).",
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
@click.option(
    "--method",
    type=click.Choice(["evolution", "stage-1", "random-search", "reinforce"]),
    default="evolution",
    show_default=True,
    help="What follows stage 1.",
)
@click.option(
    "--start",
    type=click.Choice(["stage-1", "zero"]),
    default="stage-1",
    show_default=True,
    help="From where.",
)
@click.option(
    "--backbone",
    default="thinker-north",
    show_default=True,
    help="Whose states are read: a sparring model, a GGUF file, or a folder with a model and its GGUF file.",
)
@click.option(
    "--pooling", type=click.Choice(["penultimate", "last", "mean"]), default="penultimate", show_default=True
)
@click.option(
    "--head", type=click.Choice(["linear", "low-rank", "block"]), default="linear", show_default=True
)
@click.option(
    "--scales/--no-scales", default=True, show_default=True, help="Scale the last layer's singular values."
)
@click.option("--roles", default=ROLES, show_default=True, help="The roles that are used.")
@click.option(
    "--verifier", type=click.Choice(["agreement", "verdict"]), default="agreement", show_default=True
)
@click.option("--without", multiple=True, metavar="WORKER", help="Train without this worker.")
@click.option(
    "--add",
    "newcomer",
    metavar="WORKER",
    help="Train nothing: put this worker into the coordinator in --artefact, by its answers to a probe set.",
)
@click.option(
    "--artefact", type=click.Path(path_type=Path, exists=True, file_okay=False), help="The folder for --add."
)
@click.option("--generations", type=click.IntRange(0), default=150, show_default=True)
@click.option(
    "--replications", type=click.IntRange(2), default=192, show_default=True, help="Episodes a candidate."
)
@click.option("--problems", type=click.IntRange(8), default=600, show_default=True, help="Of each kind.")
@click.option("--held", type=click.IntRange(4), default=150, show_default=True, help="Of each kind.")
def trinity(
    pool: str,
    seed: int,
    out: Path,
    resume: bool,
    kept: Path | None,
    data: Path | None,
    newcomer: str | None,
    artefact: Path | None,
    **chosen: Any,
) -> None:
    """Train TRINITY's coordinator: who plays next, and in which role.

    Stage 1 learns from a tree of the workers' replies, stage 2 evolves the head, and the singular values of the backbone's last
    layer, on whole runs. Replies are asked once and kept; from then on a training takes minutes on one core.
    """
    try:
        from stretto.learning.trinity.newcomers import add
        from stretto.learning.trinity.training import Recipe, train
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"training needs {error.name}, which is not installed: pip install 'stretto[evolve]'"
        ) from None
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stretto.cli.local_pool import replies, states
    from stretto.sparring import entries

    if (newcomer is None) != (artefact is None):
        raise click.UsageError("--add WORKER and --artefact DIR go together.")
    writable(out / "trinity.json")
    settings = settings_of(None, data)
    where = kept or settings.data / "replies" / "sparring.jsonl"
    if newcomer and artefact:
        with replies(where, settings.data) as book:
            made_anew = add(artefact, newcomer, entries(), book, out)
        click.echo(f"{newcomer} put in by its answers to {made_anew.provenance['probes']} situations")
        click.echo(str(out / "trinity.json"))
        return
    roles = tuple(role.strip() for role in chosen.pop("roles").split(","))
    known = {entry.id for entry in entries()}
    if unknown := [name for name in chosen["without"] if name not in known]:
        raise ConfigError(f"--without {unknown[0]}: there is no such sparring model")
    recipe = Recipe(seed=seed, roles=roles, **chosen)
    columns = (TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking", total=recipe.generations)

        def say(what: str) -> None:
            bar.update(task, description=what)

        def tell(row: dict[str, float]) -> None:
            told = f"simple {row['simple']:.3f}, composite {row['composite']:.3f}"
            bar.update(task, completed=row["generation"], description=told)

        with ExitStack() as opened:
            book = opened.enter_context(replies(where, settings.data))
            file, read = Path(recipe.backbone), None
            if recipe.backbone not in known and file.is_file():
                read = opened.enter_context(states(file.absolute(), recipe.pooling, settings.data))
            made = train(recipe, entries(), book, out, resume=resume, read=read, say=say, tell=tell)
    last = made.artifact.provenance["calibration"]
    if made.stopped:
        click.echo(f"stopped early: {made.stopped}", err=True)
    click.echo(
        f"calibration, {2 * recipe.held} problems: simple {last['simple']:.3f}, composite {last['composite']:.3f}; "
        f"best single worker ({made.best_single[0]}) {made.best_single[1]:.3f} on both; "
        f"{made.cpu_seconds:.0f} s of CPU"
    )
    click.echo(str(out / "trinity.json"))
