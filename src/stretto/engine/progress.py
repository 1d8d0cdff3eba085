"""What an orchestrated run is doing, in short plain lines for whoever waits for its answer.

Only steps of the outermost plan are told: who is asked, how many have answered, who checks or writes. Policies know
nothing of it.
"""

from collections.abc import Callable, Sequence
from typing import Final

from stretto.steps import Ask, Plan
from stretto.types import Reply

__all__ = ["Progress", "Tell"]

Tell = Callable[[str, bool], None]
"""Takes a line, and whether it tells of an ask whose own answer may stream next (then there is no hurry to show it)."""

_NAMED: Final = 4
_ONE: Final = {
    "solver": "asking {}",
    "thinker": "{} thinks",
    "worker": "{} works",
    "verifier": "{} checks the answer",
    "judge": "{} weighs the answers",
    "synthesizer": "{} writes the answer",
    "planner": "{} plans",
    "router": "{} chooses who answers",
}
_MANY: Final = {
    "verifier": "{} checks side by side",
    "judge": "{} judges weigh the answers",
    "planner": "{} plans side by side",
}


class Progress:
    """Tells `tell` of the steps of one run."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def asks(self, ask: Ask, *, live: bool = False) -> None:
        """Somebody is asked."""
        if (line := _ONE.get(ask.role)) is not None:
            self._tell(line.format(ask.worker), live)

    def came(self, reply: Reply) -> None:
        """A reply is there; only one that is none is worth a line."""
        if reply.error is not None:
            self._tell(f"{reply.worker} gave no answer", False)

    def repairs(self, ask: Ask) -> None:
        """An answer does not fit what was asked for."""
        self._tell(f"asking {ask.worker} to repair its answer", False)

    def forks(self, plans: Sequence[Plan | Ask]) -> Callable[[bool], None]:
        """Several are asked side by side. To be called back as each comes back, with whether it brought an answer."""
        asks = [plan for plan in plans if isinstance(plan, Ask)]
        if len(plans) == 1:
            for ask in asks:
                self.asks(ask)
        else:
            self._tell(_side_by_side(len(plans), asks), False)
        good = bad = 0

        def back(answered: bool) -> None:
            nonlocal good, bad
            good, bad = good + answered, bad + (not answered)
            lost = f", {bad} gave no answer" if bad else ""
            self._tell(f"{good} of {len(plans)} have answered{lost}", False)

        return back


def _side_by_side(count: int, asks: Sequence[Ask]) -> str:
    if len(asks) < count:
        return f"{count} steps side by side"
    roles = {ask.role for ask in asks}
    if len(roles) == 1 and (line := _MANY.get(asks[0].role)) is not None:
        return line.format(count)
    workers = list(dict.fromkeys(ask.worker for ask in asks))
    if len(workers) == 1:
        return f"asking {workers[0]} {count} times"
    told = f": {', '.join(workers)}" if len(workers) <= _NAMED else ""
    return f"asking {count} workers{told}" if len(workers) == count else f"asking {count} times{told}"
