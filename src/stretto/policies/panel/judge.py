"""Selection by a judge: one worker sees all answers, anonymous and numbered, and names the best."""

from collections.abc import Sequence
from dataclasses import dataclass

from stretto.policies.judging import Wordings, longest, pick
from stretto.policies.outlooks import maybe, of_ask
from stretto.policies.panel.vote import Ranked, Selection, Vote, agreed
from stretto.steps import Ask, Choice, Note, Option, Outlook, Quotes, put
from stretto.types import Answer, Request

__all__ = ["Judge"]


@dataclass(frozen=True, slots=True)
class Judge:
    """`worker` picks. It is not asked when all agree; when it fails, is refused or names nobody, the vote decides and says so."""

    worker: str
    wordings: Wordings
    tokens: int
    vote: Vote = Vote()

    def choose(self, request: Request, came: Sequence[Answer]) -> Selection:
        """One ask."""
        if (order := agreed(came, "the judge")) is not None:
            return order
        reply = yield from put(self._ask(request, came))
        if reply.error is not None:
            because = f"the judge {self.worker} gave no verdict ({reply.error.kind}: {reply.error.message}); by vote: "
            return (yield from self.vote.choose(request, came, because))
        index = pick(reply.text, len(came))
        if index is None:
            because = f"the judge {self.worker} named nobody; by vote: "
            return (yield from self.vote.choose(request, came, because))
        options = tuple(
            Option(f"{n}: {a.worker}", rejected="" if n == index + 1 else "the judge preferred another")
            for n, a in enumerate(came, 1)
        )
        reason = f"the judge {self.worker} said {index + 1}"
        yield Note(Choice(options[index].name, options, reason=reason, by=self.worker))
        others = (a for n, a in enumerate(came) if n != index)
        return Ranked((came[index], *others), f"picked by the judge {self.worker} from {len(came)}")

    def _ask(self, request: Request, came: Sequence[Answer]) -> Ask:
        return Ask(
            self.worker,
            self.wordings.selecting(request, came),
            role="judge",
            max_tokens=self.tokens,
            params={"temperature": 0},
            reason=f"picks the best of {len(came)}",
        )

    def outlook(self, request: Request, workers: Sequence[str], quotes: Quotes) -> Outlook:
        """One call, unless all agree (even odds assumed)."""
        short, long = (
            quotes(self._ask(request, [answer] * len(workers)))
            for answer in (Answer(), longest(self.wordings))
        )
        return maybe(of_ask(short, long), 0.5)
