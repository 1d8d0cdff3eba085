"""`stretto train evidence --by-question` and `--chain`: the sequential policy where fewer asks are open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.learning.evidence.lattice import Lattice
    from stretto.learning.evidence.training import Learned, Matrix

__all__ = ["Special", "special"]

_MOST = 10
"""So many workers a shortlist has at most."""


@dataclass(frozen=True, slots=True)
class Special:
    """What `learn` is to be given: `names`, the shortlist if that is fixed, and `lattice_of`. `told`: whom it asks, in words."""

    names: tuple[str, ...]
    lattice_of: "Callable[..., Lattice]"
    told: str
    chain: bool

    def assumed(self, data: "Matrix") -> "Matrix":
        """What is learned from: where nobody is asked after another one, nothing needs to be compared."""
        from stretto.learning.evidence.special import apart

        return data if self.chain else apart(data)

    def stands(self, learned: "Learned") -> list[str]:
        """Of a chain and for each price from which scores on its answers stand; of others nothing."""
        from stretto.learning.evidence.special import thresholds
        from stretto.learning.evidence.training import values

        if not self.chain:
            return ["" for _ in learned.prices]
        return [
            " ".join(f"{max(0.0, one):.2f}" for one in row) for row in thresholds(values(learned)).tolist()
        ]


def special(workers: Sequence[str], size: int, *, by_question: bool, chain: Sequence[str]) -> Special | None:
    """What was asked for, if anything. `workers`: those to learn from; `chain`: those to ask in this order.

    Raises `ConfigError` where a chain names somebody twice, or fewer than two workers or more than ten.
    """
    from stretto.learning.evidence.special import by_question as once
    from stretto.learning.evidence.special import in_order, lattice_of

    def believing(solver: Any) -> "Callable[..., Lattice]":
        return partial(lattice_of, solver)

    if by_question:
        names = tuple(workers) if len(workers) <= size else ()
        return Special(names, believing(once), "one, by the question", chain=False)
    if not chain:
        return None
    if not 2 <= len(chain) <= _MOST or len(set(chain)) < len(chain):
        raise ConfigError(
            f"--chain names from 2 to {_MOST} workers, each once, in the order in which they are asked"
        )
    return Special(tuple(chain), believing(in_order), " > ".join(chain), chain=True)
