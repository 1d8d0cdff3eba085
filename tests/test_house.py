"""House rules about the tests themselves."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda p: str(p.relative_to(TESTS)))
def test_every_test_says_in_a_docstring_what_it_specifies(path):
    """A list of the tests reads as a specification, so each test function has a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))

    silent = [f.name for f in functions if f.name.startswith("test_") and not ast.get_docstring(f)]

    assert silent == []
