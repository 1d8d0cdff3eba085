"""`stretto sparring calibrate`: learn the route table and the cascade's thresholds of the sparring pool."""

import asyncio
from pathlib import Path

import click

from stretto.artifacts import Artifact
from stretto.cli.options import folder_options, settings_of, writable
from stretto.cli.progress import progress
from stretto.config import Settings

__all__ = ["calibrate"]


@click.command()
@click.option(
    "-n", "count", type=click.IntRange(210), default=4200, show_default=True, help="Calibration problems."
)
@click.option("--seed", type=int, default=11, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the artefacts go; default the `artifacts` folder of the data folder, from where `serve` reads them.",
)
@folder_options
def calibrate(count: int, seed: int, out: Path | None, config: Path | None, data: Path | None) -> None:
    """Ask every sparring model the calibration problems, and learn from the outcomes who is good at what.

    Writes route-table.json (read by `route`) and thresholds.json (read by `cascade`). Test problems are not touched.
    """
    from stretto import artifacts

    settings = settings_of(config, data)
    folder = out or settings.data / "artifacts"
    writable(folder / "thresholds.json")
    for name, artifact in asyncio.run(_learn(settings, count, seed)).items():
        artifacts.write(artifact, folder / name)
        click.echo(str(folder / name))


async def _learn(settings: Settings, n: int, seed: int) -> dict[str, Artifact]:
    from stretto import __version__
    from stretto.app import open_world
    from stretto.learning.calibration import observe, route_table, thresholds
    from stretto.sparring import entries

    async with open_world(settings) as world:
        there = {card.id for card in world.pool.cards()}
        workers = [entry.id for entry in entries() if entry.id in there and entry.role == "solver"]
        with progress(n * len(workers), "calibrating") as tick:
            seen = await observe(world.engine, workers, n=n, seed=seed, tick=tick)
    provenance = {
        "learned_by": "stretto sparring calibrate",
        "stretto": __version__,
        "problems": f"{n} of the calibration split, seed {seed}",
        "models": {entry.id: entry.sha256 for entry in entries() if entry.id in there},
    }
    return {
        "route-table.json": route_table(seen, provenance, n=12000, seed=seed),
        "thresholds.json": thresholds(seen, provenance),
    }
