"""What is seen of a prompt when the evidence policy is learned: its words or its vector, and which known task it is like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stretto.evaluation.tables import Item
from stretto.learning.evidence.features import fit_features
from stretto.policies.evidence.embedded import Embedded
from stretto.policies.evidence.features import COUNTS, TextFeatures
from stretto.policies.evidence.odds import task_nearness, task_slopes

__all__ = ["Prompts"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is seen of a prompt: its text features, how near it is to each known task, and how hard for it. `None`: nothing is.

    `spread`: how far the counts of the text features vary within each task (`evidence.odds.task_slopes`).

    With `embedded` its features are the vector that an embedding worker gives, by item in `vectors`, in the place of its words.
    """

    text: TextFeatures | None
    tasks: tuple[str, ...] = ()
    centres: Any = None
    spread: Any = None
    embedded: Embedded | None = None
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def learned(
        cls,
        items: Sequence[Item],
        dimensions: int = 128,
        tasks: bool = True,
        embedder: str = "",
        vectors: Mapping[str, Sequence[float]] | None = None,
    ) -> "Prompts":
        """From the training items, by their words or by their `vectors` of the worker `embedder`. Task labels are used here,
        never when serving.
        """
        if vectors is None:
            few = max(16, len(items) // 12)
            found = cls(fit_features([i.prompt for i in items], dimensions=min(dimensions, few)))
        else:
            raw = np.array([vectors[i.id] for i in items], dtype=np.float64)
            raw /= np.maximum(np.sqrt((raw**2).sum(1, keepdims=True)), 1e-12)
            deviation = raw.std(0)
            scale = np.where(deviation > 1e-9, deviation, 1.0)
            found = cls(None, embedded=Embedded(embedder, raw.mean(0), scale), vectors=vectors)
        names = tuple(sorted({i.task for i in items}))
        if not tasks or len(names) < 2:
            return found
        x = found.matrix(items)
        label = np.array([names.index(i.task) for i in items])
        centres = np.stack([x[label == k].mean(0) for k in range(len(names))])
        spread = None
        if found.text is not None:
            away = (x - centres[label])[:, -len(COUNTS) :] ** 2
            usual = 0.1 * away.mean(0)  # keeps a task of one or two prompts from having none
            sums = [(away[label == k].sum(0) + usual) / ((label == k).sum() + 0.1) for k in range(len(names))]
            spread = np.sqrt(np.stack(sums)) + 0.02
        return replace(found, tasks=names, centres=centres, spread=spread)

    @property
    def loose(self) -> int:
        """So many columns of `matrix`, the last ones, tell of tasks."""
        return len(self.tasks) + (0 if self.spread is None else self.spread.size)

    def near(self, x: Any) -> Any:
        """Of each row of `matrix` how near it is to each known task (they sum to 1); `None`: no tasks are known."""
        if self.centres is None:
            return None
        wide = self.centres.shape[1]
        return x[:, wide : wide + len(self.tasks)] / 3.0

    def matrix(self, items: Sequence[Item]) -> Any:
        """The features of items, a row each."""
        if self.embedded is not None:
            x = np.stack([self.embedded.features(self.vectors[i.id]) for i in items])
        elif self.text is not None:
            x = self.text.matrix([i.prompt for i in items])
        else:
            return np.zeros((len(items), 1))
        if self.centres is None:
            return x
        near = task_nearness(x, self.centres)
        if self.spread is None:
            return np.hstack([x, near])
        return np.hstack([x, near, task_slopes(x, near, self.centres, self.spread)])
