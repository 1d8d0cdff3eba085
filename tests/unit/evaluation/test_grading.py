"""Graders: what counts as right, and that each grade says why."""

import asyncio
import ctypes
import json
import re
from pathlib import Path

import pytest

from stretto.engine.run import Engine
from stretto.errors import ConfigError
from stretto.evaluation.graders import Grade, Grader, Judge, grader
from stretto.evaluation.sandbox import Bounds, run_python
from stretto.testing import MemoryStore, ScriptedPool
from stretto.types import Answer, Card, Failure, Limits, Message, Price, ToolCall


def graded(by: Grader, text: str | Message, reference: str) -> Grade:
    message = Message("assistant", text) if isinstance(text, str) else text
    return asyncio.run(by(Answer(message), reference))


@pytest.mark.parametrize(
    ("name", "text", "reference", "right"),
    [
        ("exact", "  Paris ", "paris", True),
        ("exact", "Paris, France", "paris", False),
        ("number", "So 3 + 4 = 7, the answer is 7.", "7", True),
        ("number", "It costs $1,234.50 in all", "1234.5", True),
        ("number", "roughly 12%", "12", True),
        ("number", r"first 5, thus \boxed{3/4} of 8", "0.75", True),
        ("number", "The final answer is 1/3", "0.333333333", True),
        ("number", "#### 42\nI hope that helps you 2", "42", True),
        ("number", "-3.5e2", "-350", True),
        ("number", "about 7.1", "7", False),
        ("number", "e5", "7", False),  # no number, and no reason to break off
        ("number", "see page7", "7", True),
        ("number", "it is .5", "0.5", True),
        ("number", "no 1/2e", "0.5", True),
        ("number", "no idea", "7", False),
        ("number", "between 3-5", "5", True),  # no sign after a digit
        ("number", "it falls to \u22125 degrees", "-5", True),
        ("number", r"thus \boxed{\frac{1}{2}}", "0.5", True),
        ("number", r"\boxed{12{,}000}", "12000", True),
        ("number", "**Answer: 17**. There are 3 steps", "17", True),
        ("number", "**Answer**: $17, after 3 steps", "17", True),
        ("number", "Answer: she has 3 and buys 4, so 7", "7", True),
        ("number", "The answer is 3 + 4 = 7.", "7", True),
        ("number", "The answer is 7 (since 2x = 14)", "7", True),
        ("choice", "The answer is (C).", "C", True),
        ("choice", "A is wrong, so I pick\nB", "B", True),
        ("choice", "Answer: D\nbecause A and B fail", "D", True),
        ("choice", "C) 12 apples", "(c)", True),
        ("choice", r"therefore \boxed{\text{E}}", "E", True),
        ("choice", "b", "B", True),
        ("choice", "(c)", "C", True),
        ("choice", "The answer is a bat (B)", "B", True),
        ("choice", "a mammal", "A", False),
        ("choice", "I am not sure", "I", False),
        ("choice", "The answer is apple", "A", False),
        ("choice", "A.\nB.\nI pick C.", "C", True),
        ("choice", "A) a fish\nB) a mammal\nC) a bird\nSo the bat it is: option B", "B", True),
        ("choice", "Option A is a fish. Option C is a bird. So option B is correct.", "B", True),
        ("choice", "A) trout\nB) bat\nC) wren", "C", False),
        ("choice", "A) no\nB) yes\nC) no\n\nB", "B", True),
        ("choice", "The answer is (B) or (C).", "B", False),
        ("choice", "Option A is a fish, option B a mammal.", "B", False),
        ("choice", "Not (A), and (C) flies. What is left is (B).", "B", True),
        ("choice", "I'd go with **B**, not A", "B", True),
        ("regex", "colour: grey", r"colou?r: gr[ae]y", True),
        ("regex", "blue", "red", False),
        ("json", '```json\n{"b": [1, 2.0], "a": null}\n```', '{"a": null, "b": [1, 2]}', True),
        ("json", '{"a": true}', '{"a": 1}', False),
        ("json", "[2, 1]", "[1, 2]", False),
        ("json", "{a}", "{}", False),
    ],
)
def test_what_counts_as_right(name: str, text: str, reference: str, right: bool) -> None:
    """Each grader on answers as models write them."""
    found = graded(grader(name), text, reference)
    assert found.score == float(right), found.why
    assert found.why


def test_tolerances_are_options() -> None:
    """A wider tolerance accepts what the usual one does not."""
    assert graded(grader("number"), "3.14", "3.14159").score == 0
    assert graded(grader("number", tolerance=0.01), "3.14", "3.14159").score == 1
    assert graded(grader("exact", case=True), "paris", "Paris").score == 0


def test_tool_calls_are_compared_by_name_and_arguments() -> None:
    """Calls count in any order, arguments by value; a missing call, or one more, is wrong."""
    calls = (ToolCall("1", "f", '{"x": 1, "y": "a"}'), ToolCall("2", "g", "{}"))
    wanted = [{"name": "g", "arguments": {}}, {"name": "f", "arguments": {"y": "a", "x": 1.0}}]
    said = Message("assistant", None, tool_calls=calls)
    assert graded(grader("json"), said, json.dumps(wanted)).score == 1
    assert graded(grader("json"), said, json.dumps(wanted[:1])).score == 0
    assert graded(grader("json"), json.dumps(wanted[::-1]), json.dumps(wanted)).score == 1
    one = Message("assistant", None, tool_calls=calls[:1])
    assert graded(grader("json"), one, json.dumps(wanted[1])).score == 1
    assert graded(grader("json"), one, json.dumps(wanted[0])).score == 0


def test_a_failed_run_is_no_answer() -> None:
    """An error is a score of 0 that names the failure."""
    failed = Answer(error=Failure("timeout"))
    assert asyncio.run(grader("exact")(failed, "")) == Grade(0.0, "no answer: timeout")


@pytest.mark.parametrize(
    ("name", "reference"), [("number", "seven"), ("regex", "(["), ("json", "{"), ("nothing", "")]
)
def test_a_wrong_reference_is_an_error_of_the_task(name: str, reference: str) -> None:
    """What cannot be graded is told, never counted as a wrong answer."""
    with pytest.raises(ConfigError):
        graded(grader(name), "7", reference)


def test_an_unknown_option_is_told() -> None:
    """Options of a grader that do not exist are an error of the task, not of Python."""
    for name in ("exact", "code"):
        with pytest.raises(ConfigError, match="no such option"):
            grader(name, colour="red")


def test_code_passes_its_tests_or_says_why_not() -> None:
    """The answer's code and the reference's tests run as one program."""
    tests = "assert add(2, 3) == 5"
    right = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
    wrong = "def add(a, b): return a - b"
    assert graded(grader("code"), right, tests).score == 1
    found = graded(grader("code"), wrong, tests)
    assert found.score == 0
    assert "AssertionError" in found.why


@pytest.mark.parametrize(
    ("answer", "tests", "why"),
    [
        ("import os; os._exit(0)", "assert add(2, 3) == 5", "ended itself before its tests"),
        ("import sys; sys.exit(0)", "assert add(2, 3) == 5", "NameError"),
        ("def add(a, b): exit_()\nfrom os import abort as exit_", "add(2, 3)", "SIGABRT"),
        ("import sys\ndef add(a, b): sys.exit(0)", "add(2, 3)", "ended itself while it was tested"),
        ("import sys\ndef add(a, b): return a + b\nsys.exit(0)", "assert add(2, 3) == 5", ""),
        ("def add(a, b): return a + b\nraise SystemExit('no')", "assert add(2, 3) == 5", "no"),
        ("def add(a, b): return a - b", "import unittest\n{case}", "FAILED"),
        ("def add(a, b): return a + b", "import unittest\n{case}", ""),
    ],
)
def test_code_that_ends_itself_has_not_passed_its_tests(answer: str, tests: str, why: str) -> None:
    """Only tests that were run count: leaving early with status 0 is no pass, a main block that leaves is none either; a test
    program that ends itself, as unittest does, says by its status how it went.
    """
    case = (
        "class Adds(unittest.TestCase):\n    def test(self): self.assertEqual(add(2, 3), 5)\nunittest.main()"
    )
    found = graded(grader("code"), answer, tests.format(case=case))
    assert found.score == float(not why), found.why
    assert why in found.why


def test_a_program_writes_in_its_folder_only(tmp_path: Path) -> None:
    """It may make, write and remove files where it runs, and (where the kernel has Landlock) nowhere else."""
    kept = tmp_path / "kept"
    kept.write_text("mine")
    inside = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\nos.rename('a/b/c', 'a/d')\nos.remove('a/d')"
    assert asyncio.run(run_python(f"{inside}\nopen(os.devnull, 'w').write('x')")).passed
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 1:
        pytest.skip("this kernel has no Landlock")
    for deed in (f"open({str(kept)!r}, 'w')", f"import os; os.remove({str(kept)!r})"):
        ran = asyncio.run(run_python(deed))
        assert "Permission denied" in ran.why
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("while True: pass", "SIGXCPU|SIGKILL|still running"),
        ("x = bytearray(10**10)", "MemoryError"),
        ("import time; time.sleep(60)", "still running after 1.5 s"),
        ("open('big', 'wb').write(b'x' * (32 << 20))", "SIGXFSZ|File too large"),
        ("import sys; sys.exit(3)", "status 3"),
        (
            "import os\nassert 'HOME' in os.environ and 'SECRET_API_KEY' not in os.environ\nraise SystemExit(4)",
            "4",
        ),
    ],
)
def test_a_program_is_held_to_its_bounds(program: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, CPU, memory and files have limits, and our environment is not inherited."""
    monkeypatch.setenv("SECRET_API_KEY", "sk-not-to-be-seen")
    seconds = 1.5 if "sleep" in program or "while" in program else 60.0
    ran = asyncio.run(run_python(program, Bounds(seconds=seconds, cpu=1)))
    assert not ran.passed
    assert re.search(why, ran.why), ran


def test_what_a_program_leaves_behind_is_ended() -> None:
    """Output without end is cut, and the whole session is ended with the program."""
    ran = asyncio.run(run_python("print('x' * 10**6)\nprint('end')"))
    assert ran.passed
    assert ran.output.endswith("end\n")
    assert len(ran.output) <= 2000


def test_a_judge_is_a_worker_like_any_other() -> None:
    """Its yes or no is the grade; prose without either is no grade; its calls are recorded as evaluation."""
    store = MemoryStore()
    pool = ScriptedPool({"j": ["Yes, it does.", "No.", "Perhaps", Failure("timeout")]})
    by = Judge(Engine(pool, store), "j")
    found = [graded(by, "4", "four") for _ in range(3)]
    assert [g.score for g in found] == [1.0, 0.0, 0.0]
    assert "neither yes nor no" in found[2].why
    assert len(store.runs(purpose="evaluation")) == 3
    assert "four" in pool.asks[0].messages[-1].text


def test_a_judge_is_not_asked_what_can_be_seen() -> None:
    """An answer that is the reference, blanks aside, is right whatever a judge would say."""
    pool = ScriptedPool({"j": "No."})
    found = graded(Judge(Engine(pool, MemoryStore()), "j"), " the  same\n", "the same")
    assert (found.score, found.cost, pool.asks) == (1.0, 0, [])


def test_a_judge_costs_and_is_held_to_limits() -> None:
    """What it took is part of the grade, so that an evaluation can count it; without money it does not judge."""
    card = Card("j", Price.per_million(1, 1))
    by = Judge(Engine(ScriptedPool({"j": "Yes."}, cards={"j": card}), MemoryStore()), "j")
    assert graded(by, "4", "four").cost > 0
    refused = graded(by.within(Limits(usd=1)), "4", "four")
    assert (refused.score, refused.cost) == (0.0, 0)
    assert refused.why == "j could not judge: limit"
