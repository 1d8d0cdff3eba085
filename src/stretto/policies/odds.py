"""How likely each worker is to be right, from what is seen of a prompt, and which known task that is most like."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Odds", "task_nearness"]


def task_nearness(x: Any, centres: Any) -> Any:
    """How near each prompt (a row) is to each known task: a softmax over squared distances, times three."""
    import numpy as np

    distance = ((x**2).sum(1)[:, None] + (centres**2).sum(1)[None] - 2 * x @ centres.T) / x.shape[1]
    near = np.exp(-6.0 * (distance - distance.min(1, keepdims=True)))
    return 3.0 * near / near.sum(1, keepdims=True)


@dataclass(frozen=True, slots=True)
class Odds:
    """Log-odds of the workers from a prompt's features and `task_nearness`, with one product for both."""

    weights: Any
    offsets: Any
    tasks: Any

    @classmethod
    def of(cls, success: Any, centres: Any) -> "Odds":
        """`success`: a constant, a weight a feature and, where there are centres, a weight a task; a column a worker."""
        import numpy as np

        constant, rest = success[0].astype(np.float64), success[1:].astype(np.float64)
        if centres is None:
            return cls(rest, constant, None)
        wide = centres.astype(np.float64)
        size = wide.shape[1]
        # of the squared distance, the prompt's own square is the same for all tasks and falls out of the softmax
        return cls(
            np.ascontiguousarray(np.hstack([rest[:size], 12.0 / size * wide.T])),
            np.concatenate([constant, -6.0 / size * (wide**2).sum(1)]),
            rest[size:],
        )

    def nearest(self, x: Any) -> int:
        """The known task that a prompt with features `x` is nearest to; -1: no task is known."""
        if self.tasks is None:
            return -1
        return int((x @ self.weights + self.offsets)[self.tasks.shape[1] :].argmax())

    def after(self, x: Any) -> Any:
        """The log-odds of each worker for a prompt with features `x`."""
        import numpy as np

        seen = x @ self.weights + self.offsets
        if self.tasks is None:
            return seen
        workers = self.tasks.shape[1]
        near = np.exp(seen[workers:] - seen[workers:].max())
        return seen[:workers] + (near * (3.0 / near.sum())) @ self.tasks
