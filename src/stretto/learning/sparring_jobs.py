"""Several sparring models trained side by side, each in a process of its own on one thread; a base before what starts from it.

Two processes of one thread train faster than one process of two: the models are too small to share out.
"""

import multiprocessing
import queue
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from stretto.errors import ConfigError
from stretto.learning.sparring import Progress, Trained, state, train
from stretto.learning.sparring_recipes import Recipe, recipe

__all__ = ["needed", "train_together"]


def needed(wanted: Sequence[Recipe]) -> list[Recipe]:
    """These recipes and those that they start from, each once, what others start from first."""
    found: dict[str, Recipe] = {}

    def add(chosen: Recipe) -> None:
        if chosen.base:
            add(recipe(chosen.base))
        found.setdefault(chosen.name, chosen)

    for chosen in wanted:
        add(chosen)
    return list(found.values())


def train_together(
    wanted: Sequence[Recipe],
    out_dir: Path,
    *,
    jobs: int = 1,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> list[Trained]:
    """Train `wanted` and what they start from, `jobs` at a time; `minutes` of CPU time are the most that each takes.

    What is trained already is not trained again. Returns how far each of `wanted` is. Raises `ConfigError` if one that others
    start from was stopped by `minutes`; what was trained is kept.
    """
    todo = needed(wanted)
    if jobs == 1:
        for chosen in todo:
            _done(train(chosen, out_dir, minutes=minutes, progress=progress), wanted)
        return [state(chosen, out_dir) for chosen in wanted]
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        told: Any = manager.Queue()
        running: dict[Future[Trained], str] = {}
        ready: set[str] = set()
        while todo or running:
            for chosen in [c for c in todo if not c.base or c.base in ready][: jobs - len(running)]:
                todo.remove(chosen)
                running[pool.submit(_one, chosen, out_dir, minutes, told)] = chosen.name
            ended, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            _pass_on(told, progress)
            for future in ended:
                ready.add(running.pop(future))
                _done(future.result(), wanted)
        _pass_on(told, progress)
    return [state(chosen, out_dir) for chosen in wanted]


def _one(chosen: Recipe, out_dir: Path, minutes: float | None, told: Any) -> Trained:
    return train(chosen, out_dir, minutes=minutes, progress=lambda *news: told.put(news))


def _done(trained: Trained, wanted: Sequence[Recipe]) -> None:
    if not trained.done and trained.recipe not in wanted:
        raise ConfigError(
            f"{trained.recipe.name}, which others start from, has {trained.step} of {trained.recipe.steps} steps: "
            "run this again to go on"
        )


def _pass_on(told: Any, progress: Progress | None) -> None:
    while True:
        try:
            news = told.get_nowait()
        except queue.Empty:
            return
        if progress:
            progress(*news)
