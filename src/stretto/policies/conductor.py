"""Conductor: a planner writes a workflow for the request, and the workflow is carried out; its last reply is the answer.

After the Conductor (Nielsen et al. 2026) and Fugu-Ultra: any worker may plan, trained or not. The workflow is checked data
(`policies.workflow`); whatever goes wrong with it is recorded, and the best single worker answers in its place.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from stretto.artifacts import Artifact
from stretto.policies.carrying import LEAST_OUTPUT, Around, Carrying, sees, single
from stretto.policies.forms import FORMS, TAGGED, Forms, Seen, put_to
from stretto.policies.outlooks import maybe, of_ask, one_of, then
from stretto.policies.panel.members import because
from stretto.policies.planning import PROMPTED, Planning, response_format, shortlist
from stretto.policies.route import Table, blend
from stretto.policies.settle import settle
from stretto.policies.workflow import ITSELF, STEPS, Allowed, Fault, Workflow, WorkflowStep, parse
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Policy, Quotes, Step, Want, put
from stretto.types import Answer, Card, Failure, Left, Message, Request

__all__ = ["CONDUCTOR_SCHEMA", "Conductor"]

CONDUCTOR_SCHEMA: Final = "stretto.conductor/1"

_TOKENS: Final = 0.6
"""Tokens of a character, for what a plan may cost: as much as is set aside for English."""


@dataclass(frozen=True, slots=True)
class _NoPlan:
    """Why there is no workflow."""

    why: str
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Conductor:
    """`planner` writes a workflow of at most `steps` steps over some workers, which is then carried out.

    `workers`: who may do steps. A trained `planning` knows them by their places in it, and leaves out who may not be used;
    a worker that training never saw may sit in the place of one of them (`seats`: whose), and plays where that may not.
    Another planner is told of at most `options` of them (empty: of all who write text), chosen by `table` or price. `forms`
    words the steps. Steps that see nothing of each other run side by side; the last one speaks to the caller, holds its tools
    and streams.

    `depth` (never above the request's): so often may the planner look at the answer and write another workflow, or
    return it; with `itself` a step may also be the planner's own, a workflow one level down. A text that is no workflow is sent
    back once where `repair` is set. Without a workflow `otherwise` answers, or else the best single worker by the table
    or by price. A step that fails is given to the next best worker, and left out if that fails too.

    With `doubt` a step whose worker is less sure than that of its reply is given to the next best worker as well, and the surer
    reply stands; the answer is checked so too, and cannot stream then.

    `name` is what recorded choices call the planner's knowledge; `typical`: steps that a workflow usually has.
    """

    CODE: ClassVar[str] = "2"
    planner: str
    workers: tuple[str, ...] = ()
    seats: Mapping[str, str] = field(default_factory=dict)
    planning: Planning = PROMPTED
    forms: Forms = TAGGED
    steps: int = STEPS
    depth: int = 0
    itself: bool = False
    repair: bool = True
    otherwise: Policy | None = None
    table: Table | None = None
    options: int = 4
    plan_tokens: int = 2048
    step_tokens: int | None = 4096
    temperature: float = 0.2
    want: Want = "text"
    doubt: float = 0.0
    typical: float = 2.0
    name: str = ""

    @classmethod
    def trained(cls, artifact: Artifact, planner: str = "", **settings: Any) -> "Conductor":
        """From what `stretto train conductor` wrote; `planner` is the id of the worker that it brings along, where that differs.

        `settings` go before the artefact's. Raises `ValueError` for another schema.
        """
        if artifact.schema != CONDUCTOR_SCHEMA:
            raise ValueError(
                f"a conductor needs an artefact of schema {CONDUCTOR_SCHEMA}, not {artifact.schema}"
            )
        data = artifact.data
        name = f"conductor {artifact.hash}"
        found: dict[str, Any] = {
            "workers": tuple(data["workers"]),
            "seats": data.get("seats", {}),
            "planning": Planning.trained(data, name),
            "forms": FORMS[data["forms"]],
            "steps": data.get("steps", STEPS),
            "depth": data.get("depth", 0),
            "plan_tokens": data.get("tokens", 256),
            "temperature": 0.0,
            "typical": data.get("typical", 2.0),
            "name": name,
        }
        return cls(planner or data.get("planner", "planner"), **{**found, **settings})

    # --- the plan ---

    def plan(self, request: Request) -> Plan:
        """Plan, carry out, and perhaps look at the answer and plan again."""
        return (yield from self._conduct(request, self._levels(request), 0))

    def _levels(self, request: Request) -> int:
        return max(0, min(self.depth, request.limits.depth))

    def _conduct(self, request: Request, levels: int, forks: int) -> Plan:
        """`levels`: of recursion that are left; `forks`: of the run that are around this plan."""
        numbers, choice = self._numbered(request)
        if choice is not None:
            yield Note(choice)
        if not numbers:
            among = ", ".join(self.workers) or "the pool"
            return Answer(error=Failure("denied", f"none of {among} may be used for this request"))
        if (why := self._too_tight(request, numbers)) is not None:
            return (yield from self._alone(request, why))
        best: Answer | None = None
        before: tuple[Seen, ...] = ()
        for left in range(levels, -1, -1):
            found = yield from self._planned(request, numbers, left, best)
            if isinstance(found, _NoPlan):
                if best is not None:
                    return because(best, f"the answer of the last workflow stands: {found.why}")
                if found.error is not None and found.error.kind == "limit":
                    return Answer(error=found.error)
                return (yield from self._alone(request, found.why, down=found.error is not None))
            workflow, still = found
            if best is not None and not workflow.steps:
                return because(best, f"{self.planner} returned the answer of the last workflow as it is")
            around = Around(left, forks, before, best)
            carried = self._carrying(request, workflow, numbers, around, still).plan()
            if left == 0:
                return (yield from carried)
            answer = yield from settle(carried)
            if answer.error is not None:
                return (
                    answer
                    if best is None
                    else because(best, f"the next workflow failed ({answer.error.kind})")
                )
            best = answer
            before = (Seen(1, workflow.steps[-1].subtask, answer.text),)
        raise AssertionError("the last level returns")

    def _numbered(self, request: Request) -> tuple[dict[int, str], Choice | None]:
        """Who may do steps, by the numbers that the planner knows them by; and the choice of these few, if there was one."""
        if not self.planning.cards:
            sitting = {n: self._seated(request, worker) for n, worker in enumerate(self.workers)}
            return {n: worker for n, worker in sitting.items() if worker}, None
        listed = shortlist(request, self._candidates(request), self.table, self.options)
        return dict(enumerate(listed.workers)), listed.choice

    def _seated(self, request: Request, worker: str) -> str:
        """Who does what this worker was trained for: it, else the first one in its seat that may be used, else ""."""
        sitting = (worker, *(new for new, place in self.seats.items() if place == worker))
        return next((each for each in sitting if request.card(each) is not None), "")

    def _candidates(self, request: Request) -> list[Card]:
        if self.workers:
            seated = (self._seated(request, w) for w in self.workers)
            return [card for w in dict.fromkeys(seated) if (card := request.card(w)) is not None]
        return [
            c for c in request.pool if "text" in c.abilities and c.labels.get("role", "solver") == "solver"
        ]

    # --- planning ---

    def _planned(
        self, request: Request, numbers: dict[int, str], left: int, best: Answer | None
    ) -> Generator[Step, Any, tuple[Workflow, Left] | _NoPlan]:
        """A checked workflow, recorded as a choice, and what is left of the limits for it; or why there is none."""
        allowed = self._allowed(request, numbers, left, best)
        ask = self._asking(request, allowed, best)
        reply = yield from put(ask)
        found: Workflow | Fault | None = parse(reply.text, allowed) if reply.error is None else None
        if isinstance(found, Fault) and self.repair and _calls(reply.left) > 1:
            yield Note(self._faulty(found, "ask once more"))
            ask = replace(
                ask,
                messages=self.planning.repaired(ask.messages or (), reply.text, found),
                params={"temperature": 0.0 if self.planning.repair else self.planning.warm},
                reason=f"its text was no workflow: {found.message}",
            )
            reply = yield from put(ask)
            found = parse(reply.text, allowed) if reply.error is None else None
        if reply.error is not None:
            told = reply.error.message if reply.error.kind == "denied" else reply.error.kind
            return _NoPlan(f"{self.planner} gave no plan ({told})", reply.error)
        if not isinstance(found, Workflow):
            assert found is not None
            yield Note(self._faulty(found, "go on without a workflow"))
            return _NoPlan(f"what {self.planner} wrote is no workflow ({found.kind}: {found.message})")
        yield Note(self._chosen(found, numbers))
        if (why := self._beyond(request, found, reply.left)) is not None:
            return _NoPlan(why)
        return found, reply.left

    def _allowed(self, request: Request, numbers: dict[int, str], left: int, best: Answer | None) -> Allowed:
        workers = dict(numbers)
        if self.itself and left > 0:
            workers[max(workers, default=-1) + 1] = ITSELF
        return Allowed(
            workers,
            count=len(self.workers) if not self.planning.cards else len(workers),
            most=self.steps,
            returns=best is not None,
            subtask_chars=self.forms.subtask_chars,
            names={worker.casefold(): n for n, worker in workers.items()} if self.planning.cards else {},
        )

    def _asking(self, request: Request, allowed: Allowed, best: Answer | None) -> Ask:
        card = request.card(self.planner)
        as_json = bool(self.planning.json) and card is not None and bool(card.abilities & {"json", "grammar"})
        cards = {c.id: c for c in request.pool} | {ITSELF: _SELF}
        models = self.planning.models(allowed.workers, cards)
        messages = self.planning.messages(
            self.planning.question(request),
            models,
            self.steps,
            reply=None if best is None else self.forms.shown(best.text),
            as_json=as_json,
        )
        return Ask(
            self.planner,
            messages,
            role="planner",
            reason="writes the workflow"
            if best is None
            else "looks at the answer: return it, or another workflow",
            max_tokens=self.plan_tokens,
            params={"temperature": 0.0},
            seed="step",
            response_format=response_format(allowed) if as_json else None,
        )

    def _too_tight(self, request: Request, numbers: dict[int, str]) -> str | None:
        """Why the limits leave no room for a planner and a step: after a refusal nobody could be asked any more."""
        limits, card = request.limits, request.card(self.planner)
        if limits.calls is not None and limits.calls < 2:
            return f"a workflow takes at least 2 calls, {limits.calls} allowed"
        if limits.usd is not None and card is not None:
            ask = self._asking(request, self._allowed(request, numbers, 0, None), None)
            told = sum(len(message.text) for message in ask.messages or ())
            if told * card.price.input * _TOKENS + self.plan_tokens * card.price.output > limits.usd:
                return "a plan may cost more money than is allowed"
        return None

    def _chosen(self, workflow: Workflow, numbers: Mapping[int, str]) -> Choice:
        """The whole workflow as it is recorded: who does what, and who sees whom. The sub-tasks are kept apart, as texts."""
        count = len(workflow.steps)
        needed = workflow.needed()
        options = tuple(
            Option(
                f"step {n + 1}: {step.worker}{sees(workflow, n)}",
                {"step": n + 1},
                "" if n in needed else "not asked: nobody on the way to the answer sees it",
            )
            for n, step in enumerate(workflow.steps)
        )
        picked = (
            f"a workflow of {count} step{'' if count == 1 else 's'}"
            if count
            else "return the answer as it is"
        )
        return Choice(
            picked,
            options,
            reason=f"written by {self.planner} over {', '.join(numbers.values())}",
            by=self.name or self.planning.version,
            texts={f"step {n + 1}": step.subtask for n, step in enumerate(workflow.steps)} or None,
        )

    def _faulty(self, fault: Fault, then_: str) -> Choice:
        rejected = Option("the text of the planner", rejected=f"{fault.kind}: {fault.message}")
        return Choice(
            then_, (Option(then_), rejected), reason="the planner's text is no workflow", by="workflow"
        )

    def _beyond(self, request: Request, workflow: Workflow, left: Left) -> str | None:
        """Why what is left of the limits cannot pay for this workflow; `None` if it may."""
        steps, calls = _needed(workflow)
        if left.calls is not None and calls > left.calls:
            return f"the workflow takes {calls} calls, {left.calls} are left"
        if left.usd is not None:
            size = sum(len(message.text) for message in request.messages) // 4
            prices = [card.price for s in steps if (card := request.card(s.worker)) is not None]
            if sum(size * p.input + LEAST_OUTPUT * p.output for p in prices) > left.usd:
                return "the workflow costs more money than is left"
        return None

    # --- without a workflow ---

    def _alone(self, request: Request, why: str, *, down: bool = False) -> Plan:
        """No workflow: `otherwise` answers, or the best single worker does, or the next best should it bring nothing.

        `down`: the planner could not be asked, so it comes last. Who cannot be paid at all comes after those who can.
        """
        if self.otherwise is not None:
            name = type(self.otherwise).__name__.lower()
            yield Note(
                Choice(name, (Option("a workflow", rejected=why), Option(name)), reason=why, by="conductor")
            )
            return (yield from self.otherwise.plan(request))
        ranked = self._ranked(request, request.prompt)
        ranked.sort(key=lambda card: (not _payable(request, card), down and card.id == self.planner))
        options = (Option("a workflow", rejected=why), *(Option(card.id) for card in ranked))
        yield Note(Choice(ranked[0].id, options, reason=why, by="conductor"))
        best, *others = (single(card.id, self.want, f"answers alone: {why}") for card in ranked)
        return replace(best, otherwise=others[0]) if others else best

    def _ranked(self, request: Request, text: str) -> list[Card]:
        """Who may do steps, the best for a text first: by the table, else the dearest first."""
        cards = self._candidates(request)
        if self.table is not None:
            guess = self.table.guess(text)
            right = self.table.breadth() if guess.strange else self.table.estimates(guess.task)
            return sorted(cards, key=lambda card: (-right.get(card.id, 0.0), blend(card)))
        return sorted(cards, key=lambda card: -blend(card))

    def _carrying(
        self, request: Request, workflow: Workflow, numbers: Mapping[int, str], around: Around, left: Left
    ) -> Carrying:
        _, calls = _needed(workflow)
        asks = calls * (2 if self.doubt else 1)
        return Carrying(
            request,
            workflow,
            around,
            self.forms,
            lambda text: [c.id for c in self._ranked(request, text) if c.id in numbers.values()],
            self._conduct,
            self.step_tokens,
            self.temperature,
            "logprobs" if self.doubt else self.want,
            self.doubt,
            steady=not self.planning.cards,
            spare=None if left.calls is None else left.calls - calls,
            purse=None if left.usd is None else left.usd // max(1, asks),
        )

    # --- what it would take ---

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """A plan and its steps, as often as the depth allows; at most every step at the worst price, each failing once."""
        numbers, _ = self._numbered(request)
        if not numbers:
            return Outlook()
        alone = self._outlook_alone(request, quotes)
        if self._too_tight(request, numbers) is not None:
            return alone
        found = self._outlook_of(request, numbers, self._levels(request), quotes)
        return then(found, maybe(alone, 0.05))

    def _outlook_alone(self, request: Request, quotes: Quotes) -> Outlook:
        parts = [of_ask(quotes(single(card.id, self.want, ""))) for card in self._candidates(request)]
        if self.otherwise is not None:
            parts.append(self.otherwise.outlook(request, quotes))
        found = one_of([(1 / len(parts), part) for part in parts])
        return then(found, maybe(found, 0.02))

    def _outlook_of(self, request: Request, numbers: dict[int, str], levels: int, quotes: Quotes) -> Outlook:
        allowed = self._allowed(request, numbers, levels, None)
        longest = Answer(Message("assistant", _LONG * (self.forms.reply_chars + 1)))
        task = _LONG * self.forms.subtask_chars
        seen = [Seen(n, task, longest.text) for n in range(1, self.steps + 1)]
        short, long = (
            put_to(request, self.forms.working(request.prompt, given, subtask, last=True), tools=True)
            for given, subtask in (((), ""), (seen, task))
        )
        each: list[Outlook] = []
        for worker in numbers.values():
            asks = [Ask(worker, messages, speaks=True) for messages in (short, long)]
            inner = [replace(ask, speaks=False, max_tokens=self.step_tokens) for ask in asks]
            spoken, worked = (of_ask(*(quotes(ask) for ask in pair)) for pair in (asks, inner))
            each.append(one_of([(0.5, spoken), (0.5, worked)]))
        step = one_of([(1 / len(each), part) for part in each])
        if self.itself and levels > 0:
            below = self._outlook_of(replace(request, messages=long), numbers, levels - 1, quotes)
            step = one_of([(0.9, step), (0.1, below)])
        first = then(step, maybe(step, 0.02))
        if self.doubt:
            first = then(first, maybe(step, 0.2))
        rest = max(0, self.steps - 1)
        share = min(1.0, max(0.0, (self.typical - 1) / rest)) if rest else 0.0
        steps = then(first, *[maybe(first, share)] * rest)
        once = then(self._outlook_planned(request, allowed, None, quotes), steps)
        again = self._outlook_planned(request, allowed, longest, quotes)
        return then(once, *[then(maybe(again, 0.95), maybe(steps, 0.3))] * levels)

    def _outlook_planned(
        self, request: Request, allowed: Allowed, best: Answer | None, quotes: Quotes
    ) -> Outlook:
        """One plan, and perhaps its repair. `best`: the longest answer that it may be asked to look at."""
        asks = [self._asking(request, allowed, reply) for reply in (best and Answer(), best)]
        planned = maybe(of_ask(*(quotes(ask) for ask in asks)), 1.0)  # not where the planner may not be used
        if not self.repair:
            return planned
        fault = Fault("missing", _LONG * 200)
        sent = [self.planning.repaired(ask.messages or (), _LONG * 8000, fault) for ask in asks]
        again = [quotes(replace(ask, messages=messages)) for ask, messages in zip(asks, sent, strict=True)]
        return then(planned, maybe(of_ask(*again), 0.1))


_SELF: Final = Card(ITSELF, description="You yourself: the subtask gets a workflow of its own", priced=False)

_LONG: Final = "\N{GRINNING FACE}"
"""A character that is as long as any in tokens: what a worst case is reckoned with."""


def _payable(request: Request, card: Card) -> bool:
    """Whether the money that is allowed pays for a short answer of this worker."""
    if request.limits.usd is None:
        return True
    size = sum(len(message.text) for message in request.messages)
    tokens = request.max_tokens or LEAST_OUTPUT
    return size * card.price.input * _TOKENS + tokens * card.price.output <= request.limits.usd


def _needed(workflow: Workflow) -> tuple[list[WorkflowStep], int]:
    """The steps on which the answer rests, and the calls that they take at least."""
    steps = [workflow.steps[place] for place in workflow.needed()]
    return steps, sum(2 if step.worker == ITSELF else 1 for step in steps)


def _calls(left: Left) -> float:
    return float("inf") if left.calls is None else left.calls
