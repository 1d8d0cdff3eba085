"""Selection: from several answers to an order, the best first. Here by vote, and what the other ways share."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from stretto.policies.signals import comes_to, confidence
from stretto.steps import Choice, Note, Option, Outlook, Quotes, Step
from stretto.types import Answer, Request

__all__ = ["Ranked", "Selection", "Selector", "Vote", "agreed"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Answers from the best to the worst, and why the first is first."""

    order: tuple[Answer, ...]
    why: str


Selection = Generator[Step, Any, Ranked]


class Selector(Protocol):
    """A way to order answers."""

    def choose(self, request: Request, came: Sequence[Answer]) -> Selection:
        """A part of a plan that orders at least two answers. It always comes to an order."""
        ...

    def outlook(self, request: Request, workers: Sequence[str], quotes: Quotes) -> Outlook:
        """What ordering the answers of `workers` would take."""
        ...


def agreed(came: Sequence[Answer], who: str) -> Ranked | None:
    """The order of answers that all come to the same: nobody has to be asked."""
    if len({comes_to(a) for a in came}) > 1:
        return None
    return Ranked(tuple(came), f"all {len(came)} agree, so {who} was not asked")


@dataclass(frozen=True, slots=True)
class Vote:
    """Equal answers are counted, or each weighs as much as its worker's own confidence. Equal weight: who stands first."""

    weigh: Literal["count", "confidence"] = "count"

    def choose(self, request: Request, came: Sequence[Answer], because: str = "") -> Selection:
        """One recorded choice, without a call. `because` says why it came to a vote."""
        votes: dict[str, list[Answer]] = {}
        for answer in came:
            votes.setdefault(comes_to(answer), []).append(answer)
        weights = {value: sum(map(self._weight, group)) for value, group in votes.items()}
        values = sorted(weights, key=lambda v: -weights[v])
        picked = values[0]
        names = {value: ", ".join(a.worker for a in group) for value, group in votes.items()}
        options = tuple(
            Option(
                names[value],
                {"votes": float(len(group)), "weight": round(weights[value], 4)},
                ""
                if value == picked
                else f"weight {weights[value]:.2f} < {weights[picked]:.2f}"
                if weights[value] < weights[picked]
                else "equal weight, later in the panel",
            )
            for value, group in votes.items()
        )
        heads = f"{len(votes[picked])} of {len(came)} agree" if len(votes) < len(came) else "no two agree"
        reason = (
            heads
            if self.weigh == "count"
            else f"{heads}, weight {weights[picked]:.2f} of {sum(weights.values()):.2f}"
        )
        yield Note(Choice(names[picked], options, reason=reason, by=f"vote by {self.weigh}"))
        order = [a for value in values for a in sorted(votes[value], key=lambda a: -self._weight(a))]
        return Ranked(tuple(order), f"{because}{reason}")

    def _weight(self, answer: Answer) -> float:
        if self.weigh == "count":
            return 1.0
        sure = confidence(answer.logprobs)
        return 0.5 if sure is None else sure

    def outlook(self, request: Request, workers: Sequence[str], quotes: Quotes) -> Outlook:
        """Nothing."""
        return Outlook()
