"""Two hundred outputs of planners, good, sloppy, broken and hostile: each is the workflow that it should be, or the fault."""

import json
from pathlib import Path

import pytest

from stretto.policies.workflow import Allowed, Fault, Workflow, WorkflowStep, parse

CASES = json.loads((Path(__file__).parents[2] / "golden" / "planner_outputs.json").read_text())
WORKERS = dict(enumerate("abcde"))
NAMES = {name: number for number, name in WORKERS.items()}


def text_of(case):
    """The output; very long ones are stored as what is repeated, and how often."""
    if isinstance(case["text"], str):
        return case["text"]
    return "".join(p if isinstance(p, str) else p["repeat"] * p["times"] for p in case["text"])


def read(case):
    """What Stretto makes of it: five models may be used, a sixth exists."""
    allowed = Allowed(
        WORKERS, count=6, most=case.get("most", 5), returns=case.get("returns", False), names=NAMES
    )
    return parse(text_of(case), allowed)


def test_there_are_two_hundred_outputs_of_four_kinds():
    """The table holds at least 200 outputs, none of them twice, and enough of each kind."""
    kinds = [case["kind"] for case in CASES]

    assert len({text_of(case) + str(case.get("returns")) + str(case.get("most")) for case in CASES}) >= 200
    assert all(kinds.count(kind) >= 40 for kind in ("good", "sloppy", "broken", "hostile"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}: {case['name']}")
def test_an_output_is_the_workflow_or_the_fault_that_it_should_be(case):
    """Expected workflows and kinds of faults stand beside each output; a fault always has a line for its author."""
    found = read(case)

    if "fault" in case:
        assert isinstance(found, Fault), found
        assert found.kind == case["fault"], found
        assert found.message
        assert "\n" not in found.message
        assert len(found.message) < 200
        return
    steps = [
        WorkflowStep(worker, subtask, access if access == "all" else tuple(access))
        for worker, subtask, access in case["steps"]
    ]
    assert found == Workflow(tuple(steps))
