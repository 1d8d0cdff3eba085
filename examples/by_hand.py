"""Test a plan with no engine, model or network: it is a generator, so a test plays the engine."""

import sys
from pathlib import Path

from stretto.steps import Ask, Fork, Note
from stretto.testing import by_hand, question, said

sys.path.insert(0, str(Path(__file__).parent / "own-policy"))
from twice import Twice

replies = iter([said("42", "cheap"), said("41", "cheap")])
steps, last = by_hand(
    Twice("cheap", "dear").plan(question("6 * 7?", "cheap", "dear")), lambda ask: next(replies)
)
assert [type(step) for step in steps] == [Fork, Note]
assert isinstance(last, Ask)
assert last.worker == "dear"
print(last.reason)
