"""What the owner's own ledger teaches: each run's asks with the chance they had, what was answered, what it cost, and its score.

A score comes from feedback (`POST /v1/feedback`), from an evaluation's grader, or from whoever else called `Engine.score`. It
belongs to the answer of the run, or to the step that it names; a reply that says the same as a scored one has its score.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from stretto.evaluation.tables import Item, Said, Table
from stretto.ledger.events import Answered, Asked, Chose, Event, Finished, Opened, Refused, Scored
from stretto.ledger.read import Source
from stretto.policies.answers import said
from stretto.types import PICO, Card, Failure, FailureKind, Message, Reply, Request

__all__ = ["Logged", "Spoken", "as_reply", "item_of", "logged", "read", "table_of", "write"]

_PAGE: Final = 500
_DEV: Final = 5


@dataclass(frozen=True, slots=True)
class Spoken:
    """One reply of a run: whose, to what ask, with what `chance`; `chances` are those of all that could have been asked then.

    `own`: it was asked the caller's own messages as a solver. `content` is `None` where texts are not kept. Money: pico-dollars.
    """

    at: str
    worker: str
    own: bool
    chance: float
    chances: Mapping[str, float]
    content: Message | None
    cost: int
    input: int
    output: int
    seconds: float
    error: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """One run. `served` wrote the answer, at the step `at`; `score` is the answer's; `by` names the artefacts that decided.

    `request` is what the plan saw, with its pool; `None` where content was not kept. `beside`: the run that served the same
    request, of a shadow run. `cut`: a limit refused a step of it.
    """

    run: str
    time: float
    purpose: str
    policy: str
    version: str
    item: str
    request: Request | None
    replies: tuple[Spoken, ...]
    served: str
    at: str
    cost: int
    score: float | None = None
    scored_by: str = ""
    by: tuple[str, ...] = ()
    error: str = ""
    beside: str = ""
    cut: bool = False

    def reply(self, at: str) -> Spoken | None:
        """The reply at a step."""
        return next((reply for reply in self.replies if reply.at == at), None)


def item_of(messages: Iterable[Message]) -> str:
    """A name for what was asked: equal for equal conversations."""
    told = json.dumps([[m.role, m.text] for m in messages], ensure_ascii=False)
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def read(
    source: Source,
    cards: Any,
    *,
    purposes: Sequence[str] = (),
    since: float = 0.0,
    most: int | None = None,
    last_line: bool = True,
) -> Iterator[Logged]:
    """The finished runs of a ledger, newest first, begun at `since` (Unix seconds) or later; `cards(version)` tells their pool.

    With `purposes` only runs made for these. `last_line`: of a reply that gives its working first the last line counts.
    """
    before: str | None = None
    given = 0
    while True:
        page = source.runs(_PAGE, before)
        for summary in page:
            if summary.time < since:
                return
            if summary.status not in ("finished", "failed") or (purposes and summary.purpose not in purposes):
                continue
            if most is not None and given >= most:
                return
            given += 1
            yield logged(source.events(summary.run), cards, last_line=last_line)
        if len(page) < _PAGE:
            return
        before = page[-1].run


def logged(events: Sequence[Event], cards: Any, *, last_line: bool = True) -> Logged:
    """One run from its events (an `opened` among them)."""
    opened = next(e for e in events if isinstance(e, Opened))
    finished = next((e for e in reversed(events) if isinstance(e, Finished)), None)
    request = opened.content
    if request is not None:
        out = {denied.worker for denied in opened.denied}
        pool: tuple[Card, ...] = (
            tuple(c for c in cards(opened.pool) if c.id not in out) if opened.pool else ()
        )
        request = request.admitted(pool, opened.limits, opened.seed)
    scores = {s.at: s for s in events if isinstance(s, Scored)}  # the latest of each step
    at = finished.at if finished else ""
    told = scores.get("") or (scores.get(at) if at else None)
    by_step = {step: s.score for step, s in scores.items() if step}
    if told is not None and at:
        by_step.setdefault(at, told.score)
    tools = request.tools if request is not None else ()
    replies = _scored(_replies(events), by_step, last_line, tools)
    return Logged(
        opened.run,
        opened.time,
        opened.purpose,
        opened.policy,
        opened.version,
        item_of(request.messages) if request is not None else "",
        request,
        replies,
        finished.worker if finished else "",
        at,
        finished.cost if finished else 0,
        told.score if told is not None else None,
        told.by if told is not None else "",
        tuple(dict.fromkeys(e.by for e in events if isinstance(e, Chose) and e.by)),
        finished.error.kind if finished and finished.error else "",
        opened.beside,
        any(isinstance(e, Refused) and e.error.kind == "limit" for e in events),
    )


def _replies(events: Sequence[Event]) -> list[Spoken]:
    asked: dict[str, Asked] = {}
    told: dict[str, list[Answered]] = {}
    chance: dict[str, tuple[float, Mapping[str, float]]] = {}
    chose: Chose | None = None
    for event in events:
        if isinstance(event, Chose):
            chose = event
        elif isinstance(event, Asked):
            asked.setdefault(event.at, event)
            if chose is not None and chose.picked == event.worker:
                chance[event.at] = chose.probability, _chances(chose)
            chose = None
        elif isinstance(event, Answered):
            told.setdefault(event.at, []).append(event)
    found = []
    for at, intent in asked.items():
        attempts = told.get(at, [])
        last = attempts[-1] if attempts else None
        own, of_all = chance.get(at, (1.0, {intent.worker: 1.0}))
        found.append(
            Spoken(
                at,
                intent.worker,
                intent.role == "solver" and intent.content is None,
                own,
                of_all,
                last.content.message if last and last.content else None,
                sum(a.cost for a in attempts),
                last.usage.input if last else 0,
                last.usage.output if last else 0,
                last.seconds if last else 0.0,
                "unknown" if last is None else last.error.kind if last.error else "",
            )
        )
    return found


def _chances(chose: Chose) -> Mapping[str, float]:
    """The chance of each option; where none is recorded, what was picked was certain."""
    found = {name: each["probability"] for name, each, _ in chose.options if "probability" in each}
    return found or {chose.picked: chose.probability}


def _scored(
    replies: list[Spoken], scores: Mapping[str, float], last_line: bool, tools: Sequence[Mapping[str, Any]]
) -> tuple[Spoken, ...]:
    """Each reply with its own score, else with that of a scored reply that says the same."""
    by_value: dict[str, float] = {}
    values: dict[str, str] = {}
    for reply in replies:
        if reply.own and reply.content is not None and not reply.error:
            value = said(reply.content, last_line=last_line, tools=tools)
            if value:
                values[reply.at] = value
                if reply.at in scores:
                    by_value.setdefault(value, scores[reply.at])
    return tuple(
        replace(r, score=scores[r.at] if r.at in scores else by_value.get(values.get(r.at, "")))
        for r in replies
    )


# --- as a table --------------------------------------------------------------------------------------------------


def table_of(runs: Iterable[Logged], name: str = "ledger") -> Table:
    """Recorded outcomes in the form that every learner reads: one row an item and worker, the newest scored reply of each.

    Every fifth item (by its name, so that it stays what it is) is of split `dev`.
    """
    items: dict[str, Item] = {}
    found: dict[str, dict[str, tuple[Said, ...]]] = {}
    for run in runs:
        if run.request is None:
            continue
        for reply in run.replies:
            if not reply.own or reply.error or reply.score is None or reply.content is None:
                continue
            by_item = found.setdefault(reply.worker, {})
            if run.item in by_item:
                continue
            items.setdefault(run.item, _item(run))
            answer = _answer(reply.content)
            by_item[run.item] = (
                Said(
                    reply.score, reply.cost / PICO, reply.input, reply.output, reply.seconds, answer, answer
                ),
            )
    return Table(name, tuple(items.values()), dict(sorted(found.items())))


def _item(run: Logged) -> Item:
    request = run.request
    assert request is not None
    split = "dev" if int(run.item, 16) % _DEV == 0 else "train"
    tools = json.dumps([dict(tool) for tool in request.tools], ensure_ascii=False) if request.tools else ""
    return Item(run.item, request.prompt, run.purpose, "", None, split, tools)


def _answer(message: Message) -> str:
    """A message as an answer to compare: its text, else its tool calls as JSON."""
    if message.tool_calls and not message.text:
        calls = [{"name": c.name, "arguments": c.arguments} for c in message.tool_calls]
        return json.dumps(calls, ensure_ascii=False)
    return message.text


def write(table: Table, folder: Path) -> None:
    """`items.jsonl` and `outcomes.jsonl` of a table, in the schema that `evaluation.tables.read` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [
        {"item_id": i.id, "prompt": i.prompt, "dataset": i.dataset, "task": i.task, "split": i.split}
        | ({"reference": i.reference} if i.reference is not None else {})
        | ({"tools": i.tools} if i.tools else {})
        for i in table.items
    ]
    outcomes = []
    for worker in table.workers:
        for item in table.items:
            if (one := table.said(item.id, worker)) is not None:
                row = {"item_id": item.id, "model": worker, "score": one.score, "cost_usd": one.cost}
                row |= {"answer": one.answer, "latency_s": one.seconds}
                outcomes.append(row | {"prompt_tokens": one.input, "completion_tokens": one.output})
    for name, rows in (("items.jsonl", items), ("outcomes.jsonl", outcomes)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial = folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)


def as_reply(spoken: Spoken) -> Reply:
    """A logged reply as a plan is sent it."""
    error = Failure(cast(FailureKind, spoken.error), "as recorded") if spoken.error else None
    return Reply(
        spoken.content or Message("assistant", ""),
        worker=spoken.worker,
        at=spoken.at,
        cost=spoken.cost,
        error=error,
    )
