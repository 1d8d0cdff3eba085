"""How likely each worker is to be right, from what is seen of a prompt, and which known task that is most like."""

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Odds", "task_nearness", "task_slopes"]

_FAR: Final = 3.0
"""A prompt counts as at most so many deviations longer or shorter than its task's usual ones."""


def task_nearness(x: Any, centres: Any) -> Any:
    """How near each prompt (a row) is to each known task: a softmax over squared distances, times three."""
    import numpy as np

    distance = ((x**2).sum(1)[:, None] + (centres**2).sum(1)[None] - 2 * x @ centres.T) / x.shape[1]
    near = np.exp(-6.0 * (distance - distance.min(1, keepdims=True)))
    return 3.0 * near / near.sum(1, keepdims=True)


def task_slopes(x: Any, near: Any, centres: Any, spread: Any) -> Any:
    """How hard each prompt is for its task: its counts, in deviations from each task's usual ones, by how near that task is.

    The counts are the last columns of `x` and `centres`; `spread` (tasks, counts): their deviations within each task.
    """
    import numpy as np

    size = spread.shape[1]
    away = (x[:, None, -size:] - centres[:, -size:]) / spread
    return (near[:, :, None] / 3.0 * np.clip(away, -_FAR, _FAR)).reshape(len(x), -1)


@dataclass(frozen=True, slots=True)
class Odds:
    """Log-odds of the workers from a prompt's features, `task_nearness` and `task_slopes`; one product for the first two.

    `usual`: mean and spread of the counts within each task, and the weights of the slopes; `None` where there are none.
    """

    weights: Any
    offsets: Any
    tasks: Any
    usual: tuple[Any, Any, Any] | None = None

    @classmethod
    def of(cls, success: Any, centres: Any, spread: Any = None) -> "Odds":
        """`success`: a constant, a weight a feature and, where there are centres, a weight a task; with `spread` a weight a
        task and count, too; a column a worker.
        """
        import numpy as np

        constant, rest = success[0].astype(np.float64), success[1:].astype(np.float64)
        if centres is None:
            return cls(rest, constant, None)
        wide = centres.astype(np.float64)
        count, size = wide.shape
        usual = None
        if spread is not None:
            usual = wide[:, -spread.shape[1] :], spread.astype(np.float64), rest[size + count :]
        # of the squared distance, the prompt's own square is the same for all tasks and falls out of the softmax
        return cls(
            np.ascontiguousarray(np.hstack([rest[:size], 12.0 / size * wide.T])),
            np.concatenate([constant, -6.0 / size * (wide**2).sum(1)]),
            rest[size : size + count],
            usual,
        )

    def nearest(self, x: Any) -> int:
        """The known task that a prompt with features `x` is nearest to; -1: no task is known."""
        if self.tasks is None:
            return -1
        return int((x @ self.weights + self.offsets)[self.tasks.shape[1] :].argmax())

    def after(self, x: Any) -> Any:
        """The log-odds of each worker for a prompt with features `x`."""
        return self.seen(x)[0]

    def seen(self, x: Any) -> tuple[Any, Any]:
        """The log-odds of each worker for a prompt with features `x`, and how near it is to each known task (they sum to 1;
        `None`: no task is known).
        """
        import numpy as np

        seen = x @ self.weights + self.offsets
        if self.tasks is None:
            return seen, None
        workers = self.tasks.shape[1]
        near = seen[workers:]  # below, the methods `max` and `sum` would cost twice as much
        near = np.exp(near - np.maximum.reduce(near))
        near /= np.add.reduce(near)
        found = seen[:workers] + 3.0 * near @ self.tasks
        if self.usual is None:
            return found, near
        mean, spread, slopes = self.usual
        away = np.minimum(np.maximum((x[-mean.shape[1] :] - mean) / spread, -_FAR), _FAR)
        return found + (near[:, None] * away).ravel() @ slopes, near
