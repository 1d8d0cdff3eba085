"""What an evaluation asks: items with their grading, from recorded tables, a file of one's own, or a reasoning-gym family."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from stretto.errors import ConfigError, UnknownModel
from stretto.evaluation import tables
from stretto.evaluation.graders import GRADERS, Grade, Grader, grader
from stretto.evaluation.recorded import question, unsaid
from stretto.types import Answer, Message

__all__ = ["Item", "JudgeOf", "own_items", "reasoning_gym_items", "recorded_items"]

JudgeOf = Callable[[str, str], Grader]
"""Makes the grader of an item from the worker that judges and the question that was asked."""

_ROLES: Final = ("system", "developer", "user", "assistant")
_TESTED: Final = ("number", "choice", "regex", "json")
"""Graders whose references can be wrong in form, and whose grading is instant: a bad one is told before anything is asked."""

_NESTED: Final = ("messages", "tools", "grader")
"""What a row holds as a list or an object."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question and how its answer is graded. `grader` names the grading for the record, `check` does it.

    `split`: on `train` items things are chosen, `dev` items are reported; "": not told, then choices are cross-fitted.
    """

    id: str
    messages: tuple[Message, ...]
    check: Grader = field(repr=False, compare=False)
    grader: str = "exact"
    reference: str = ""
    task: str = ""
    split: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")


# --- recorded ----------------------------------------------------------------------------------------------------


def recorded_items(table: tables.Table) -> list[Item]:
    """The items of a recorded table. The score of an answer is the one that was recorded for it."""
    items = []
    for item in table.items:
        request = question(item)
        check = _recorded_score(table, item.id)
        items.append(
            Item(
                item.id,
                request.messages,
                check,
                "recorded",
                item.reference or "",
                item.task or item.dataset,
                item.split,
                request.tools,
            )
        )
    return items


def _recorded_score(table: tables.Table, item: str) -> Grader:
    async def grade(answer: Answer, reference: str) -> Grade:
        if answer.error is not None:
            return Grade(0.0, f"no answer: {answer.error.kind}")
        for sample in range(table.samples(item, answer.worker)):
            said = table.said(item, answer.worker, sample)
            assert said is not None
            if answer.text in (said.answer or "", said.text or "", unsaid(answer.worker)):
                return Grade(said.score, f"as recorded for {answer.worker}")
        return Grade(0.0, f"this is no reply that was recorded for {answer.worker or 'any worker'}")

    return grade


# --- one's own ---------------------------------------------------------------------------------------------------


def own_items(file: Path, *, default: str = "exact", judge: JudgeOf | None = None) -> list[Item]:
    """The items of a `.jsonl` (or `.csv`, `.parquet`) file, one a line or row.

    | key | what |
    |---|---|
    | `prompt` | the question; or `messages`: a list of `{"role", "content"}` that ends with the user's |
    | `reference` | what the grader compares with: a text; JSON for `json`, tests for `code`, a pattern for `regex` |
    | `grader` | a name, or an object with `type` and options (`{"type": "judge", "worker": "gpt"}`); absent: `default` |
    | `tools` | optional: the functions that the answer may call, as in a Chat Completions request |
    | `id`, `task`, `split` | optional: a name of its own, the kind of task, `train` or `dev` |

    Other keys are passed over. `judge` makes the grader `judge`. Raises `ConfigError` that names file and line.
    """
    items: list[Item] = []
    seen: dict[str, str] = {}
    for number, (where, row) in enumerate(_rows(file), 1):
        item = _own(row, where, number, default, judge)
        if item.id in seen:
            raise ConfigError(f"{where}: the id {item.id!r} is there twice; the first is in {seen[item.id]}")
        seen[item.id] = where
        items.append(item)
    if len(items) < 2:
        raise ConfigError(
            f"{file}: holds {'one item' if items else 'no item'}; a comparison needs at least two"
        )
    if (splits := {i.split for i in items}) != {""} and len(splits) < 2:
        raise ConfigError(
            f"{file}: every item has split {splits.pop()!r}; there must be train and dev, or none at all"
        )
    if "" in splits and len(splits) > 1:
        raise ConfigError(f"{file}: some items have a split and some have none")
    return items


def _rows(file: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Rows with the place where each stands: a line of JSON lines, else a row (the first after the head is 1)."""
    rows = tables.read_rows(file)
    if file.suffix != ".jsonl":
        return [(f"{file.name} row {number}", row) for number, row in enumerate(rows, 1)]
    lines = file.read_text(encoding="utf-8-sig").split("\n")
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    return [(f"{file.name} line {number}", row) for number, row in zip(numbers, rows, strict=True)]


def _own(row: Mapping[str, Any], where: str, number: int, default: str, judge: JudgeOf | None) -> Item:
    row = {key: _unpacked(value) if key in _NESTED else value for key, value in row.items()}
    messages = _messages(row, where)
    name, options = _named(row.get("grader"), where, default)
    prompt = messages[-1].text
    try:
        check = _judged(options, judge, prompt) if name == "judge" else grader(name, **options)
        reference = _reference(row, name, where)
        if name in _TESTED:
            _probe(check, reference)
    except (ConfigError, UnknownModel) as error:
        raise ConfigError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from None
    split = row.get("split") or ""
    if split not in ("", "train", "dev"):
        raise ConfigError(f"{where}: split is {split!r}; it must be train or dev")
    told = name if not options else f"{name} {json.dumps(options, sort_keys=True)}"
    id = row.get("id")
    return Item(
        str(number) if id is None else str(id),
        messages,
        check,
        told,
        reference,
        str(row.get("task") or ""),
        split,
        _tools(row.get("tools"), where),
    )


def _unpacked(value: Any) -> Any:
    """What a cell holds: in a table without nested values, a CSV file say, lists and objects stand as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value  # whoever reads it says what is wrong with a text
    return value


def _tools(given: Any, where: str) -> tuple[Mapping[str, Any], ...]:
    """The functions that an answer may call."""
    if given in (None, "", []):
        return ()
    if not isinstance(given, list):
        raise ConfigError(f"{where}: tools must be a list of functions, not {_kind(given)}")
    for at, tool in enumerate(given):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ConfigError(
                f'{where}: tools[{at}] is no function; one looks like {{"type": "function", "function": {{"name": ...}}}}'
            )
    return tuple(given)


def _messages(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    prompt, given = row.get("prompt"), row.get("messages")
    if (prompt is None) == (given is None):
        there = f"neither prompt nor messages, but {', '.join(map(str, row)) or 'nothing'}"
        raise ConfigError(f"{where}: has {there if prompt is None else 'both prompt and messages; keep one'}")
    if given is None:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ConfigError(f"{where}: prompt must be a text that is not empty, not {_kind(prompt)}")
        return (Message("user", prompt),)
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: messages must be a list that is not empty, not {_kind(given)}")
    found = []
    for at, one in enumerate(given):
        if not isinstance(one, dict) or one.get("role") not in _ROLES:
            raise ConfigError(f"{where}: messages[{at}] needs a role, one of {', '.join(_ROLES)}")
        if not isinstance(one.get("content"), str):
            raise ConfigError(
                f"{where}: messages[{at}].content must be a text, not {_kind(one.get('content'))}"
            )
        found.append(Message(one["role"], one["content"]))
    if found[-1].role != "user":
        raise ConfigError(f"{where}: the last of messages must be the user's")
    return tuple(found)


def _named(given: Any, where: str, default: str) -> tuple[str, dict[str, Any]]:
    if given is None:
        return default, {}
    if isinstance(given, str):
        return given, {}
    if isinstance(given, dict) and isinstance(given.get("type"), str):
        return given["type"], {k: v for k, v in given.items() if k != "type" and v is not None}
    names = ", ".join([*GRADERS, "judge"])
    raise ConfigError(
        f"{where}: grader must be one of {names}, or an object with that as `type`; not {_kind(given)}"
    )


def _judged(options: Mapping[str, Any], judge: JudgeOf | None, prompt: str) -> Grader:
    if set(options) != {"worker"} or not isinstance(options["worker"], str):
        raise ConfigError(
            'grader judge needs the worker that judges, and nothing else: {"type": "judge", "worker": "..."}'
        )
    if judge is None:
        raise ConfigError("grader judge needs a pool of models that answer; there is none here")
    return judge(options["worker"], prompt)


def _reference(row: Mapping[str, Any], name: str, where: str) -> str:
    given = row.get("reference")
    if given is None:
        raise ConfigError(f"{where}: has no reference, which grader {name} compares with")
    if name == "json" and not isinstance(given, str):
        return json.dumps(given)
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ConfigError(
            f"{where}: reference must be a text or a number for grader {name}, not {_kind(given)}"
        )
    return str(given)


def _probe(check: Grader, reference: str) -> None:
    """Let a grader read a reference, against an empty answer. These graders await nothing, so one step is the whole of it."""
    grading = check(Answer(), reference).__await__()
    try:
        next(grading)
    except StopIteration:
        return
    raise AssertionError("a grader that is tried on its reference must not wait for anything")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    told = kinds.get(type(value), type(value).__name__)
    return "an empty text" if value == "" else told


# --- reasoning-gym -----------------------------------------------------------------------------------------------

_ASKED: Final = "\n\nGive your final answer between <answer> and </answer>."


def reasoning_gym_items(families: Sequence[str], n: int, seed: int) -> list[Item]:
    """`n` fresh problems of each family of the package `reasoning-gym`, graded by the family's own scoring.

    The prompt asks for `<answer>` tags, as that package's own evaluation does; without them the whole answer is graded. Raises
    `ConfigError` where the package or the family is missing.
    """
    try:
        gym = import_module("reasoning_gym")
        known = import_module("reasoning_gym.factory").DATASETS
        extract = import_module("reasoning_gym.utils").extract_answer
    except ImportError as error:
        raise ConfigError(
            f"problems of reasoning-gym need that package ({error}); `pip install reasoning-gym`"
        ) from None
    items = []
    for family in families:
        if family not in known:
            raise ConfigError(f"reasoning-gym has no family {family!r}; it has {', '.join(sorted(known))}")
        dataset = gym.create_dataset(family, size=n, seed=seed)
        for number, entry in enumerate(dataset):
            message = Message("user", entry["question"] + _ASKED)
            check = _gym_score(dataset, entry, extract)
            reference = str(entry.get("answer") or "")
            items.append(
                Item(
                    f"{family}/{seed}/{number}",
                    (message,),
                    check,
                    f"reasoning-gym {family}",
                    reference,
                    family,
                )
            )
    return items


def _gym_score(dataset: Any, entry: Any, extract: Callable[[str], str | None]) -> Grader:
    async def grade(answer: Answer, reference: str) -> Grade:
        if answer.error is not None:
            return Grade(0.0, f"no answer: {answer.error.kind}")
        said = extract(answer.text) or answer.text.strip()
        score = min(1.0, max(0.0, float(dataset.score_answer(said, entry))))
        return Grade(score, f"the family's own scoring gives {score:g} for {said[:80]!r}")

    return grade
