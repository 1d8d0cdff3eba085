"""`stretto train conductor`: a planner for the sparring pool, by fine-tuning on what went well and by GRPO."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stretto.cli.options import settings_of, writable
from stretto.cli.terminal import console
from stretto.errors import ConfigError, StrettoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stretto.config import Settings
    from stretto.learning.conductor.training import Trained
    from stretto.sparring import Problem

__all__ = ["conductor", "live"]


@click.command(
    epilog="""\b
Examples:
  stretto train conductor --pool sparring --seed 1 --out conductor-1
  stretto train conductor --pool sparring --seed 2 --out conductor-2 --format conductor-1
  stretto train conductor --pool sparring --seed 1 --out conductor-1 --resume
\b
Then:
  stretto eval --sparring --policy conductor --artefact conductor-1
"""
)
@click.option(
    "--pool",
    type=click.Choice(["sparring"]),
    default="sparring",
    show_default=True,
    help="Whose workers are planned for.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Equal seeds give equal planners.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Checkpoints, log, curve, artefact.",
)
@click.option("--resume", is_flag=True, help="Go on with the training that OUT holds.")
@click.option(
    "--format",
    "start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take over the format stage, which is equal for all seeds, from this training's folder.",
)
@click.option("--without", multiple=True, metavar="WORKER", help="Train without this worker.")
@click.option(
    "--replies",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of kept replies (default DATA/replies/sparring.jsonl).",
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
@click.option(
    "--confirm",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="So many calibration problems are asked live in the end.",
)
def conductor(
    pool: str,
    seed: int,
    out: Path,
    resume: bool,
    start: Path | None,
    without: tuple[str, ...],
    replies: Path | None,
    data: Path | None,
    confirm: int,
) -> None:
    """Train the planner of the policy `conductor` on the sparring pool.

    Stages: the format of workflows; a little fine-tuning on workflows that were right; from there GRPO, and beside it more of
    that fine-tuning with as many sampled workflows; recursion. What is better on calibration problems is exported. A stage whose
    readings go bad (format, spread over the workers, regret, held-out curve) is stopped and its best weights are kept.

    Writes OUT/conductor.json, planner.gguf, log.jsonl, learning-curve.svg and what it needs to be resumed.
    """
    try:
        from stretto.learning.conductor.export import export
        from stretto.learning.conductor.training import Setup, rolled, train
    except ModuleNotFoundError as error:
        raise StrettoError(
            f"training needs {error.name}, which is not installed: pip install 'stretto[train]' "
            "(take the CPU build of torch: its default build brings several GB of CUDA packages)"
        ) from None
    from stretto.cli.local_pool import replies as kept

    if not resume and (out / "checkpoint.pt").exists():
        raise ConfigError(f"{out} holds a training; go on with it by --resume, or give another folder")
    writable(out / "checkpoint.pt")
    settings = settings_of(None, data)
    setup = Setup(_solvers(without), seed=seed, without=without)
    with (
        _Bars() as told,
        kept(replies or settings.data / "replies" / "sparring.jsonl", settings.data) as book,
    ):
        trained = train(setup, out, book, start=start, progress=told)
        expected = rolled(setup, trained, book, confirm)
        asked = book.asked
    provenance = {"by": "stretto train conductor", "stage": trained.stage, "setup": setup.stamp()[:16]}
    path = export(
        trained.weights,
        setup.workers,
        out,
        depth=trained.depth,
        steps=5,
        tokens=setup.tokens,
        seed=seed,
        provenance=provenance | {"found": trained.found},
        labels=_labels(setup.form.base),
    )
    _told(trained, asked)
    if confirm:
        right = asyncio.run(live([problem for problem, _ in expected], settings, out))
        agreed = sum(live == rolled for live, (_, rolled) in zip(right, expected, strict=True))
        click.echo(
            f"live on {len(right)} of these: {sum(right)} right, {sum(r for _, r in expected)} by the kept replies; "
            f"the same on {agreed}"
        )
    click.echo(str(path))


def _solvers(without: tuple[str, ...]) -> tuple[str, ...]:
    """The workers by ordinal, those included that nothing is learned of: they keep their numbers."""
    from stretto.sparring import entries

    known = [entry.id for entry in entries() if entry.role == "solver"]
    if unknown := [name for name in without if name not in known]:
        raise ConfigError(
            f"--without {unknown[0]}: no sparring worker is called that; there are {', '.join(known)}"
        )
    if len(known) - len(set(without)) < 2:
        raise ConfigError("a planner needs two workers at least")
    return tuple(known)


def _labels(model: str) -> dict[str, str]:
    """What the pool says of the model that the planner began as, but for its role."""
    from stretto.sparring import entries

    told = next((entry.card.labels for entry in entries() if entry.id == model), {})
    return {name: said for name, said in told.items() if name != "role"}


async def live(those: "Sequence[Problem]", settings: "Settings", out: Path) -> list[bool]:
    """Whether the planner in the folder `out` is right on these problems, through the engine; nobody answers without it."""
    from stretto.app import find_workers, open_world
    from stretto.catalog.orchestrators import unwrapped
    from stretto.evaluation.sparring import by_engine

    async with open_world(settings, await find_workers(settings), artefacts=out) as world:
        planner = unwrapped(
            world.catalog.resolve("conductor")
        )  # what was trained, not who is known to be right alone
        play = by_engine(world.engine, {"conductor": planner}, seed=1)
        return [bool((await play("conductor", problem)).score) for problem in those]


def _told(trained: "Trained", asked: int) -> None:
    found = trained.found
    click.echo(
        f"{trained.seconds / 60:.1f} CPU minutes; {asked} replies were asked now, the others were kept"
    )
    click.echo(
        f"{'on calibration problems':26} {'right':>6} {'valid':>6} {'1 step':>7} {'2':>6} {'3':>6} {'calls':>7}"
    )
    rows = [*found["calibration"].items(), *((f"again, depth {d}", row) for d, row in found["again"].items())]
    for name, row in rows:
        calls = found["calls"].get(name, "")
        click.echo(
            f"{name:26} {row['right']:6.3f} {row['valid']:6.3f} {row['right_1']:7.3f} {row['right_2']:6.3f} "
            f"{row['right_3']:6.3f} {calls:>7}"
        )
    gain, low, high = found["grpo_against_sft"]
    click.echo(
        f"GRPO against more filtered fine-tuning: {gain:+.3f} [{low:+.3f}, {high:+.3f}]; shipped: {found['shipped']}"
    )
    for stage, why in found.get("alarms", {}).items():
        click.echo(f"alarm in stage {stage}: {why}")


class _Bars:
    """A bar for each stage on standard error while training runs."""

    def __enter__(self) -> "_Bars":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, TextColumn("{task.fields[value]:.3f}"), console=console(stderr=True))
        self._tasks = dict[str, int]()
        self._bars.start()
        return self

    def __call__(self, stage: str, step: int, steps: int, value: float) -> None:
        from rich.progress import TaskID

        if stage not in self._tasks:
            self._tasks[stage] = int(self._bars.add_task(stage, total=steps, value=value))
        self._bars.update(TaskID(self._tasks[stage]), completed=step, value=value)

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()
