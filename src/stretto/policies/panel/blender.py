"""Selection by comparing pairs (LLM-Blender's PairRanker, with a worker as the ranker): who wins most comparisons is best.

Each pair is judged in both orders. A judge that always takes what stands first contradicts itself then, and its two verdicts
cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from stretto.policies.judging import Wordings, longest, pick
from stretto.policies.outlooks import beside, maybe, of_ask, then
from stretto.policies.panel.vote import Ranked, Selection, Vote, agreed
from stretto.policies.signals import comes_to
from stretto.steps import Ask, Choice, Fork, Note, Option, Outlook, Quotes
from stretto.types import Answer, Request

__all__ = ["Pairs"]


@dataclass(frozen=True, slots=True)
class Pairs:
    """`judge` compares every two different answers. Equal answers are compared once and stand together."""

    judge: str
    wordings: Wordings
    tokens: int
    vote: Vote = Vote()
    within: float | None = None

    def choose(self, request: Request, came: Sequence[Answer]) -> Selection:
        """All comparisons side by side, as many at a time as the request's fan-out allows."""
        if (order := agreed(came, "the judge")) is not None:
            return order
        groups: dict[str, list[Answer]] = {}
        for answer in came:
            groups.setdefault(comes_to(answer), []).append(answer)
        firsts = [group[0] for group in groups.values()]
        games = [order for a, b in combinations(range(len(firsts)), 2) for order in ((a, b), (b, a))]
        won: dict[tuple[int, int], int] = {}
        for batch in _batches(games, request.limits.fanout):
            asks = tuple(self._ask(request, (firsts[a], firsts[b])) for a, b in batch)
            verdicts: tuple[Answer, ...] = yield Fork(asks, within=self.within)
            for game, said in zip(batch, verdicts, strict=True):
                found = pick(said.text, 2) if said.error is None else None
                if found is not None:
                    won[game] = game[found]
        if not won:
            because = f"the judge {self.judge} gave no verdict on any pair; by vote: "
            return (yield from self.vote.choose(request, came, because))
        wins = [sum(winner == n for winner in won.values()) for n in range(len(firsts))]
        played = [sum(n in game for game in won) for n in range(len(firsts))]
        share = [w / p if p else 0.0 for w, p in zip(wins, played, strict=True)]
        places = sorted(range(len(firsts)), key=lambda n: -share[n])
        both = [g for g in won if g[0] < g[1] and (g[1], g[0]) in won]
        flips = sum(won[g] != won[g[1], g[0]] for g in both)
        names = [", ".join(a.worker for a in group) for group in groups.values()]
        options = tuple(
            Option(
                f"{n + 1}: {names[n]}",
                {"wins": float(wins[n]), "comparisons": float(played[n])},
                "" if n == places[0] else f"won {wins[n]} of {played[n]}",
            )
            for n in range(len(firsts))
        )
        best = places[0]
        reason = f"won {wins[best]} of {played[best]} comparisons by {self.judge}"
        turned = (
            f"; it contradicted itself on {flips} of {len(both)} pairs when their order was turned"
            if flips
            else ""
        )
        yield Note(Choice(options[best].name, options, reason=f"{reason}{turned}", by=self.judge))
        ordered = [group for n in places for group in list(groups.values())[n]]
        return Ranked(tuple(ordered), reason)

    def _ask(self, request: Request, pair: Sequence[Answer]) -> Ask:
        return Ask(
            self.judge,
            self.wordings.selecting(request, pair),
            role="judge",
            max_tokens=self.tokens,
            params={"temperature": 0},
            reason="compares two answers, unnamed",
        )

    def outlook(self, request: Request, workers: Sequence[str], quotes: Quotes) -> Outlook:
        """Every two answers twice, unless all agree (even odds assumed)."""
        short, long = (
            quotes(self._ask(request, [answer] * 2)) for answer in (Answer(), longest(self.wordings))
        )
        games = [None] * (len(workers) * (len(workers) - 1))
        batches = [beside([of_ask(short, long)] * len(b)) for b in _batches(games, request.limits.fanout)]
        return maybe(then(*batches), 0.5)


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    size = max(1, size)
    return [items[start : start + size] for start in range(0, len(items), size)]
