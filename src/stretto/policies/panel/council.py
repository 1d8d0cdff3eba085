"""Selection by anonymous peer review (llm-council): every member ranks the others' answers; the ranks are counted (Borda).

Against the known faults of councils: nobody ranks its own answer, each reviewer sees the answers in an order of its own, and
who stood where is on record.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stretto.policies.judging import Wordings, longest, ranking
from stretto.policies.outlooks import beside, maybe, of_ask
from stretto.policies.panel.vote import Ranked, Selection, Vote, agreed
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Quotes
from stretto.types import Answer, Request

__all__ = ["Council", "borda"]


@dataclass(frozen=True, slots=True)
class Council:
    """The members rank each other. Nobody is asked when all agree; with fewer than three answers, or no ranking, the vote
    decides.
    """

    wordings: Wordings
    tokens: int
    vote: Vote = Vote()
    within: float | None = None

    def choose(self, request: Request, came: Sequence[Answer]) -> Selection:
        """One review a member, side by side; the mean of the points decides, of equals who stands first in the panel."""
        if (order := agreed(came, "the council")) is not None:
            return order
        if len(came) < 3:
            return (yield from self.vote.choose(request, came, "too few for a council; by vote: "))
        sheets = [self._sheet(request, came, own) for own in range(len(came))]
        asks = tuple(
            self._ask(request, reviewer.worker, [came[n] for n in sheet])
            for reviewer, sheet in zip(came, sheets, strict=True)
        )
        reviews: tuple[Answer, ...] = yield Fork(asks, within=self.within)
        points: list[list[float]] = [[] for _ in came]
        heard = 0
        for review, sheet in zip(reviews, sheets, strict=True):
            named = ranking(review.text, len(sheet)) if review.error is None else ()
            if named:
                heard += 1
                for place, worth in borda(named, len(sheet)).items():
                    points[sheet[place]].append(worth)
        if not heard:
            return (
                yield from self.vote.choose(
                    request, came, "no member of the council gave a ranking; by vote: "
                )
            )
        means = [sum(p) / len(p) if p else 0.0 for p in points]
        places = sorted(range(len(came)), key=lambda n: -means[n])
        options = tuple(
            Option(
                f"{n}: {a.worker}",
                {"points": round(means[n - 1], 4), "reviews": float(len(points[n - 1]))},
                ""
                if n - 1 == places[0]
                else f"{means[n - 1]:.2f} points, the first has {means[places[0]]:.2f}",
            )
            for n, a in enumerate(came, 1)
        )
        reason = f"{means[places[0]]:.2f} of 1 in the rankings of {heard} of {len(came)} peers"
        yield Note(Choice(options[places[0]].name, options, reason=reason, by="council"))
        return Ranked(tuple(came[n] for n in places), f"ranked first by the council: {reason}")

    def _sheet(self, request: Request, came: Sequence[Answer], own: int) -> list[int]:
        """Whose answers a member ranks: those of other workers (in a panel of one worker: the other samples), shuffled."""
        sheet = [n for n, a in enumerate(came) if a.worker != came[own].worker]
        if len(sheet) < 2:
            sheet = [n for n in range(len(came)) if n != own]
        request.random("council", own).shuffle(sheet)
        return sheet

    def _ask(self, request: Request, reviewer: str, answers: Sequence[Answer]) -> Ask:
        return Ask(
            reviewer,
            self.wordings.ranking(request, answers),
            role="judge",
            max_tokens=self.tokens,
            params={"temperature": 0},
            reason=f"ranks {len(answers)} answers of its peers, unnamed",
        )

    def outlook(self, request: Request, workers: Sequence[str], quotes: Quotes) -> Outlook:
        """One review by each of `workers`, unless all agree (even odds assumed)."""
        if len(workers) < 3:
            return Outlook()
        others = len(workers) - 1
        asks = []
        for worker in workers:
            short, long = (
                quotes(self._ask(request, worker, [answer] * others))
                for answer in (Answer(), longest(self.wordings))
            )
            asks.append(of_ask(short, long))
        return maybe(beside(asks), 0.5)


def borda(named: Sequence[int], count: int) -> dict[int, float]:
    """Points 0..1 for each of `count` places on a sheet: 1 for the first, 0 for the last; those that were not named share the
    rest.
    """
    worth = [1 - place / (count - 1) for place in range(count)]
    points = dict(zip(named, worth, strict=False))
    rest = worth[len(named) :]
    return points | {n: sum(rest) / len(rest) for n in range(count) if n not in points}
