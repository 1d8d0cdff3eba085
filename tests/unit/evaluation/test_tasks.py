"""Items of an evaluation: what a file of one's own may hold, and what is said of a broken one."""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from stretto.errors import ConfigError, UnknownModel
from stretto.evaluation.tasks import own_items, reasoning_gym_items, recorded_items
from stretto.types import Answer, Failure, Message, ToolCall
from tests.recorded_tables import made

GOOD = {"prompt": "2 + 2?", "reference": "4", "grader": "number"}


def lines(folder: Path, *rows: object) -> Path:
    file = folder / "mine.jsonl"
    file.write_text(
        "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n", encoding="utf-8"
    )
    return file


def test_items_of_ones_own(tmp_path: Path) -> None:
    """A prompt or messages, a reference, a grader by name or with options; blank lines and other keys are passed over."""
    talk = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "JSON?"}]
    wide = {"type": "number", "tolerance": 0.5}
    rows = (
        GOOD | {"note": "x", "id": "sum", "task": "sums"},
        "",
        {"messages": talk, "reference": {"a": 1}, "grader": "json"},
        {"prompt": "pi?\u2028", "reference": 3.1, "grader": wide},
    )
    first, second, third = own_items(lines(tmp_path, *rows))
    assert (first.id, first.task, first.prompt, first.grader) == ("sum", "sums", "2 + 2?", "number")
    assert (second.id, second.reference, len(second.messages)) == ("2", '{"a": 1}', 2)
    graded = [
        asyncio.run(item.check(Answer(Message("assistant", text)), item.reference)).score
        for item, text in ((first, "it is 4"), (second, '{"a": 1.0}'), (third, "3"), (third, "4"))
    ]
    assert graded == [1.0, 1.0, 1.0, 0.0]


def test_a_csv_file(tmp_path: Path) -> None:
    """The same columns in CSV; `grader` may be left out, then the default grades."""
    file = tmp_path / "mine.csv"
    file.write_text('prompt,reference\n"one,\ntwo",B\nthree,C\n')
    items = own_items(file, default="choice")
    assert [(i.prompt, i.reference, i.grader) for i in items] == [
        ("one,\ntwo", "B", "choice"),
        ("three", "C", "choice"),
    ]


def test_lists_and_objects_in_a_csv_file_are_json_text(tmp_path: Path) -> None:
    """Messages, tools and a grader with options stand in cells as JSON; what an answer calls is graded."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    talk = [{"role": "user", "content": "Add 1 and 2."}]
    calls = [{"name": "add", "arguments": {"a": 1, "b": 2}}]
    rows = [
        {
            "messages": json.dumps(talk),
            "tools": json.dumps([tool]),
            "reference": json.dumps(calls),
            "grader": "json",
        },
        {
            "messages": json.dumps(talk),
            "reference": "3",
            "grader": json.dumps({"type": "number", "tolerance": 1}),
        },
    ]
    file = tmp_path / "mine.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, ["messages", "tools", "reference", "grader"])
        writer.writeheader()
        writer.writerows(rows)
    first, second = own_items(file)
    assert (first.tools, first.prompt, second.tools) == ((tool,), "Add 1 and 2.", ())
    said = Message("assistant", None, tool_calls=(ToolCall("1", "add", '{"b": 2, "a": 1}'),))
    assert asyncio.run(first.check(Answer(said), first.reference)).score == 1
    assert asyncio.run(second.check(Answer(Message("assistant", "4")), second.reference)).score == 1


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            '{"prompt": "x", "reference": "1", "tools": "add"}',
            "tools must be a list of functions, not a text",
        ),
        ('{"prompt": "x", "reference": "1", "tools": [{"name": "add"}]}', "tools[0] is no function"),
        ('{"prompt": "x"', "line 2: is not JSON"),
        ("[1]", "line 2: is not a JSON object"),
        ({"reference": "4"}, "line 2: has neither prompt nor messages, but reference"),
        (GOOD | {"messages": []}, "line 2: has both prompt and messages"),
        (GOOD | {"prompt": " "}, "line 2: prompt must be a text that is not empty"),
        (GOOD | {"prompt": 7}, "line 2: prompt must be a text that is not empty, not a number"),
        ({"messages": "x", "reference": "4"}, "line 2: messages must be a list"),
        ({"messages": [{"role": "boss"}], "reference": "4"}, "line 2: messages[0] needs a role"),
        (
            {"messages": [{"role": "user", "content": 1}], "reference": "4"},
            "messages[0].content must be a text",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}], "reference": "4"}, "must be the user's"),
        ({"prompt": "x", "refernce": "4"}, "line 2: has no reference"),
        (GOOD | {"reference": ["4"]}, "line 2: reference must be a text or a number"),
        (GOOD | {"reference": "four"}, "line 2: the reference 'four' holds no number"),
        (GOOD | {"grader": "regex", "reference": "("}, "line 2: the reference '(' is no regular expression"),
        (GOOD | {"grader": "json", "reference": "{"}, "line 2: the reference '{' is not JSON"),
        (GOOD | {"grader": "vibes"}, "line 2: there is no grader 'vibes'; there are exact"),
        (GOOD | {"grader": {"type": "number", "slack": 1}}, "line 2: grader number has no such option"),
        (GOOD | {"grader": {"type": "number", "tolerance": "x"}}, "line 2: grader number: tolerance is 'x'"),
        (GOOD | {"grader": {"type": "code", "seconds": 0}}, "line 2: grader code: seconds is 0"),
        (GOOD | {"grader": "choice", "reference": "both"}, "line 2: the reference 'both' is not the letter"),
        ('{"prompt":' * 100_000, "line 2: is not JSON"),
        (GOOD | {"grader": 5}, "line 2: grader must be one of"),
        (GOOD | {"grader": {"type": "judge"}}, "line 2: grader judge needs the worker that judges"),
        (GOOD | {"grader": {"type": "judge", "worker": "w"}}, "line 2: grader judge needs a pool"),
        (GOOD | {"split": "test"}, "line 2: split is 'test'"),
        (GOOD | {"id": "1"}, "line 2: the id '1' is there twice; the first is in mine.jsonl line 1"),
        (GOOD | {"split": "dev"}, "some items have a split and some have none"),
    ],
)
def test_a_broken_line_is_named_with_its_fault(tmp_path: Path, broken: object, told: str) -> None:
    """Whatever is wrong with a line, the error says which line and what."""
    with pytest.raises(ConfigError) as error:
        own_items(lines(tmp_path, GOOD, broken))
    assert told in str(error.value)
    assert "mine.jsonl" in str(error.value)


def test_a_file_with_too_little_in_it(tmp_path: Path) -> None:
    """One item is no comparison, and a split needs both of its sides."""
    with pytest.raises(ConfigError, match="one item"):
        own_items(lines(tmp_path, GOOD))
    with pytest.raises(ConfigError, match="there must be train and dev"):
        own_items(lines(tmp_path, GOOD | {"split": "dev"}, GOOD | {"split": "dev"}))


def test_recorded_answers_have_their_recorded_score() -> None:
    """A reply is worth what was recorded for that worker; what nobody said, and a failure, are worth nothing."""
    table = made(6)
    item = recorded_items(table)[0]
    said = table.said(item.id, "dear")
    assert said is not None
    answers = (
        Answer(Message("assistant", said.answer), worker="dear"),
        Answer(Message("assistant", "Z"), worker="dear"),
        Answer(error=Failure("limit", "too dear")),
    )
    grades = [asyncio.run(item.check(answer, item.reference)) for answer in answers]
    assert [g.score for g in grades] == [said.score, 0.0, 0.0]
    assert [g.why for g in grades] == [
        "as recorded for dear",
        "this is no reply that was recorded for dear",
        "no answer: limit",
    ]


def test_reasoning_gym_is_live_where_it_is_installed() -> None:
    """Its problems come with the family's own scoring; a wrong family is named. Without the package: what to install."""
    try:
        import reasoning_gym  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install reasoning-gym"):
            reasoning_gym_items(["gcd"], 2, 1)
        return
    one, two = reasoning_gym_items(["gcd"], 2, 1)
    right = Answer(Message("assistant", f"So <answer>{one.reference}</answer>"))
    assert asyncio.run(one.check(right, one.reference)).score == 1.0
    assert one.prompt != two.prompt
    with pytest.raises(ConfigError, match="no family 'nonsense'"):
        reasoning_gym_items(["nonsense"], 2, 1)


def test_a_judge_that_the_pool_lacks_is_told_with_its_line(tmp_path: Path) -> None:
    """Which line of which file names it."""

    def judge(worker: str, question: str) -> Any:
        raise UnknownModel(f"There is no model {worker!r}.")

    asks = GOOD | {"grader": {"type": "judge", "worker": "gpt"}}
    with pytest.raises(ConfigError, match=r"mine\.jsonl line 2: There is no model 'gpt'"):
        own_items(lines(tmp_path, GOOD, asks), judge=judge)
