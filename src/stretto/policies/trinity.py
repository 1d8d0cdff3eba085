"""TRINITY: turn by turn a small model's hidden state says who goes on, as worker, thinker or verifier (arXiv 2512.04695).

What an episode is stands in `policies.episode`, how a state becomes a choice in `policies.coordinator`; this plays it through
the engine.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

from stretto.artifacts import Artifact
from stretto.policies.carrying import LEAST_OUTPUT
from stretto.policies.coordinator import ROLES, Coordinator, Decision
from stretto.policies.episode import (
    THINKER,
    VERIFIER,
    WORKER,
    Episode,
    Rules,
    Turn,
    advanced,
    allowed,
    observed,
    opening,
    prompt,
)
from stretto.policies.forms import put_to
from stretto.policies.outlooks import of_ask
from stretto.policies.panel.members import because, draft
from stretto.policies.transcript import asked, flat
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Quotes, Role, Span, Step, put
from stretto.types import Answer, Failure, Left, Message, Reply, Request

__all__ = ["Trinity"]

_ENOUGH: Final = 3
"""Calls that a thinker's turn needs to be of use: its own, one more reading, and an answer."""

_EXPECTED_TURNS: Final = 3.0

_ENDS: Final = {
    "accepted": "accepted by a verifier",
    "agreed": "two workers say the same",
    "done": "a thinker says that nothing is left to do",
    "turns": "the last worker's answer when the turns were used up",
}


@dataclass(frozen=True, slots=True)
class Trinity:
    """Read the backbone's state of the run so far, let the coordinator pick a role and a worker, ask, and go on until it is over.

    `sample`: role and worker are drawn by their chances, from the request's seed; else the likeliest. Each turn leaves two
    recorded choices with all chances. Worker turns speak: they hold the caller's tools and parameters, with
    `temperature` where the caller names none; one that calls tools ends the run. The last turn's worker streams, since its
    answer stands whatever it is; an answer that was to be verified goes out once it is accepted.

    A worker that fails sits out the next turn. Where the coordinator cannot be asked, the last answer stands;
    without one `otherwise` (a worker) answers alone, by default the best single one that the artefact knows.
    """

    CODE: ClassVar[str] = "2"
    coordinator: Coordinator
    rules: Rules
    sample: bool = False
    otherwise: str = ""
    temperature: float | None = None
    thinker_tokens: int = 1024
    verifier_tokens: int = 1024

    @classmethod
    def of(cls, artifact: Artifact, *, otherwise: str = "", backbone: str = "", **changed: Any) -> "Trinity":
        """The policy as an artefact was trained; `backbone` as for `Coordinator`.

        `changed`: `turns`, `roles` (names, or whether there are any), `verifier`, `heeds`, `done_ends`, `forms` (a name),
        `sample`, `temperature`, `thinker_tokens`, `verifier_tokens` in the place of the artefact's own.

        Raises `ValueError` for what makes no sense.
        """
        coordinator = Coordinator(artifact, backbone)
        data = {**artifact.data, **changed}
        if isinstance(data.get("roles"), bool):
            data["roles"] = ROLES if data["roles"] else ROLES[:1]
        return cls(
            coordinator,
            Rules.of(data),
            bool(data.get("sample", False)),
            otherwise,
            data.get("temperature"),
            int(data.get("thinker_tokens", 1024)),
            int(data.get("verifier_tokens", 1024)),
        )

    def plan(self, request: Request) -> Plan:
        """A reading, two choices and an ask a turn."""
        able = self._able(request)
        if not any(able[WORKER]):
            nobody = f"none of {', '.join(self.coordinator.workers)} may be used for this request"
            return (yield from self._alone(request, Failure("denied", nobody)))
        if request.limits.calls is not None and request.limits.calls < 2:
            hurry = Failure("limit", "one call is no room for a coordinator")
            return (yield from self._alone(request, hurry))
        episode, draws = opening(_question(request)), request.random("trinity")
        best: Answer | None = None
        last = Reply()
        while not episode.ended:
            if best is not None and (left := last.left.calls) is not None and left < 2:
                return because(best, f"{best.why}: no calls are left for another turn")
            reading = yield from put(self._reading(request, episode))
            if (failure := self._unread(reading)) is not None:
                return (yield from self._alone(request, failure, best))
            hurried = self._hurried(request, episode, reading.left)
            two = (draws.random(), draws.random())
            decision = self._decide(reading, episode, able, two, hurried=hurried)
            yield from self._notes(decision, episode)
            ask = self._ask(request, episode, decision.role, decision.worker)
            if decision.role == WORKER and len(episode.turns) == self.rules.turns - 1:
                return self._tail(request, ask, best)
            last = reply = yield from put(ask)
            error, why = reply.error, f"{ask.worker} in turn {len(episode.turns) + 1}"
            if error is not None and error.kind == "limit":
                if best is None:
                    return Answer.of(reply)
                return because(best, f"{best.why}: {ask.worker} as {ask.role} was refused ({error.message})")
            if decision.role == WORKER and error is None and reply.message.tool_calls:
                return Answer.of(reply, f"{why}: it calls tools")
            episode = advanced(
                self.rules,
                episode,
                decision.role,
                decision.worker,
                reply.text,
                failed=error is not None,
            )
            if decision.role == WORKER and not episode.turns[-1].failed:
                best = Answer.of(reply, why)
        if best is None:
            return (yield from self._alone(request, Failure("unavailable", "no worker gave an answer")))
        return because(best, f"{best.why}: {_ENDS[episode.ended]}")

    # --- the coordinator ---

    def _able(self, request: Request) -> tuple[tuple[bool, ...], ...]:
        eligible = [request.card(worker) is not None for worker in self.coordinator.workers]
        return self.coordinator.able(eligible)

    def _reading(self, request: Request, episode: Episode) -> Ask:
        coordinator = self.coordinator
        text = observed(coordinator.observes, self.rules, episode)
        return Ask(
            coordinator.backbone,
            (Message("user", text),),
            role="router",
            want="state",
            params={"raw": True, "pooling": coordinator.pooling},
            reason=f"reads the run before turn {len(episode.turns) + 1}",
        )

    def _unread(self, reading: Reply) -> Failure | None:
        """Why a reading is of no use, or `None`."""
        if reading.error is not None:
            return reading.error
        came, needed = len(reading.state), self.coordinator.width
        if came != needed:
            return Failure("protocol", f"its states have {came} numbers, the coordinator reads {needed}")
        return None

    def _hurried(self, request: Request, episode: Episode, left: Left) -> bool:
        """Whether a thinker's or a verifier's turn would leave too little for an answer: too few calls, or too little money."""
        if left.calls is not None and left.calls < _ENOUGH:
            return True
        cards = [c for w in self.coordinator.workers if (c := request.card(w)) is not None]
        if left.usd is None or not cards:
            return False
        given = len(prompt(self.rules, episode, THINKER).encode())
        turn = max(given * c.price.input + self.thinker_tokens * c.price.output for c in cards)
        return left.usd < turn + min(given * c.price.input + LEAST_OUTPUT * c.price.output for c in cards)

    def _decide(
        self,
        reading: Reply,
        episode: Episode,
        able: tuple[tuple[bool, ...], ...],
        two: tuple[float, float],
        *,
        hurried: bool,
    ) -> Decision:
        """`two`: numbers to draw by. `hurried`: so little is left that nothing but a worker's turn is of use before there is an
        answer.
        """
        who = allowed(self.rules, episode, able)
        if hurried and episode.author < 0 and any(able[WORKER]):
            who = (who[WORKER] if any(who[WORKER]) else able[WORKER], *((False,) * len(w) for w in who[1:]))
        return self.coordinator.decide(reading.state, who, two if self.sample else None)

    def _notes(self, decision: Decision, episode: Episode) -> Generator[Step, Any, None]:
        """The two choices of a turn: the role, then the worker for it."""
        turn = f"turn {len(episode.turns) + 1} of at most {self.rules.turns}"
        names = self.coordinator.workers
        if len(self.rules.roles) > 1:
            yield self._note(ROLES, decision.roles, decision.role, turn, "not open now")
        what = f"{turn}, as {ROLES[decision.role]}"
        yield self._note(names, decision.workers, decision.worker, what, "may not play this role now")

    def _note(
        self, names: tuple[str, ...], odds: tuple[float, ...], picked: int, what: str, closed: str
    ) -> Note:
        def rejected(place: int) -> str:
            if place == picked:
                return ""
            if odds[place] == 0.0:
                return closed
            return "not drawn" if self.sample else f"chance {odds[place]:.3f} <= {odds[picked]:.3f}"

        options = tuple(
            Option(name, {"chance": round(odds[place], 6)}, rejected(place))
            for place, name in enumerate(names)
        )
        how = "drawn by its chance" if self.sample else "the likeliest"
        chance = round(odds[picked], 6) if self.sample else 1.0
        return Note(Choice(names[picked], options, chance, f"{what}: {how}", self.coordinator.name))

    # --- the asks ---

    def _ask(self, request: Request, episode: Episode, role: int, worker: int) -> Ask:
        """What `worker` is asked in this role now."""
        who, text = self.coordinator.workers[worker], prompt(self.rules, episode, role)
        turn = f"turn {len(episode.turns) + 1}"
        if role == WORKER:
            own = text == episode.question
            again = any(t.worker == worker and t.asked == text for t in episode.turns)
            return Ask(
                who,
                None if own else put_to(request, text, tools=True),
                role="worker",
                speaks=True,
                params=self._warmth(request),
                seed="step" if again else None,
                reason=f"{turn}: " + ("answers" if own or self.rules.forms.suggestion else "goes on"),
            )
        if role == VERIFIER and self.rules.verifier == "agreement":
            ask = draft(
                request, who, f"{turn}: does it again, to see whether it agrees", self._warmth(request)
            )
            own = text == episode.question
            messages = flat(request.messages) if own else put_to(request, text, tools=False)
            return replace(ask, role="verifier", messages=messages)
        names: dict[int, Role] = {THINKER: "thinker", VERIFIER: "verifier"}
        tokens = self.thinker_tokens if role == THINKER else self.verifier_tokens
        return Ask(
            who,
            put_to(request, text, tools=False),
            role=names[role],
            max_tokens=tokens,
            params={"temperature": 0},
            reason=f"{turn}: {'says what is next' if role == THINKER else 'checks the answer'}",
        )

    def _warmth(self, request: Request) -> dict[str, Any]:
        if self.temperature is None or "temperature" in request.params:
            return {}
        return {"temperature": self.temperature}

    def _tail(self, request: Request, ask: Ask, best: Answer | None) -> Ask:
        """The last turn's worker, unconditionally. If it brings nothing the answer before it stands, else the best single one
        answers.
        """
        ask = replace(ask, reason=f"{ask.reason}, in the last turn")
        if best is not None:
            return replace(ask, otherwise=best)
        other = next((w for w in self._singles if w != ask.worker and request.card(w) is not None), None)
        if other is None:
            return ask
        alone = Ask(
            other, speaks=True, params=self._warmth(request), reason="answers alone: every turn failed"
        )
        return replace(ask, otherwise=alone)

    def _alone(self, request: Request, failure: Failure, best: Answer | None = None) -> Plan:
        """The end where the coordinator cannot choose: the best so far, else one worker without it."""
        if best is not None:
            return because(
                best, f"{best.why}: the coordinator cannot go on ({failure.kind}: {failure.message})"
            )
        single = next((w for w in self._singles if request.card(w) is not None), None)
        if single is None:
            return Answer(error=failure)
        told = f"{failure.kind}: {failure.message}"
        options = (Option("the coordinator", rejected=told), Option(single))
        yield Note(Choice(single, options, reason="answers alone", by=self.coordinator.name))
        return Ask(single, speaks=True, params=self._warmth(request), reason=f"answers alone ({told})")

    @property
    def _singles(self) -> tuple[str, ...]:
        own = (self.otherwise,) if self.otherwise else ()
        return (*own, *self.coordinator.best)

    # --- beforehand ---

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """A reading and an ask a turn: at most all turns, each with the dearest ask at its longest, and one alone."""
        able = self._able(request)
        rules, workers = self.rules, self.coordinator.workers
        single = next((w for w in self._singles if request.card(w) is not None), None)
        alone = of_ask(quotes(Ask(single, speaks=True))) if single is not None else Outlook()
        if not any(able[WORKER]):
            return alone
        short, *longs = self._extremes(request)
        readings = [quotes(self._reading(request, episode)) for episode in (short, *longs)]
        reading = of_ask(readings[0], max(readings, key=lambda quote: quote.worst))
        asks = {
            (role, worker): of_ask(*(quotes(self._ask(request, e, role, worker)) for e in (short, longs[0])))
            for role, name in enumerate(ROLES)
            for worker in range(len(workers))
            if name in rules.roles and able[role][worker]
        }
        answers = [ask for (role, _), ask in asks.items() if role == WORKER]
        turns = _EXPECTED_TURNS if self.coordinator.calls is None else self.coordinator.calls / 2
        turns = max(1.0, min(turns, float(rules.turns)))
        dearest = [alone, *asks.values()]

        def span(of: Literal["calls", "usd", "seconds"], least: float) -> Span:
            spans, mine = [getattr(a, of) for a in answers], getattr(reading, of)
            expected = mine.expected + sum(s.expected for s in spans) / len(spans)
            most = mine.most + max(getattr(a, of).most for a in dearest)
            return Span(least, turns * expected, rules.turns * most + getattr(alone, of).most)

        return Outlook(span("calls", 1), span("usd", 0), span("seconds", 0))

    def _extremes(self, request: Request) -> tuple[Episode, ...]:
        """The shortest episode that may be asked about, and the longest ones: the first for workers, all for the coordinator."""
        rules, question = self.rules, _question(request)
        most = max(rules.forms.reply_chars, rules.forms.subtask_chars)
        hint = "\N{GRINNING FACE}" * rules.forms.subtask_chars
        task = hint if len(hint.encode()) > len(question.encode()) else ""
        said = "\N{GRINNING FACE}" * (most + 1)
        found = [Episode(question)]
        for role, name in enumerate(ROLES):
            if name in rules.roles:
                turns = (Turn(role, 0, "", said, False, task),) * (rules.turns - 1)
                own = Episode(question, turns, task, said, False, hint, -1, said, 0, task)
                found.append(replace(own, problem=prompt(rules, own, WORKER)))
                found.append(replace(found[-1], pending=True))
        return tuple(found)


def _question(request: Request) -> str:
    """What is asked: the last user message's text."""
    return request.prompt or asked(request.messages, 8000)
