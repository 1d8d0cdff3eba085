"""Size is a test. An exception is a line below, with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULE, CLASS, FUNCTION = 600, 400, 80

EXCEPTIONS: dict[str, str] = {}
"""`path` or `path::name` -> why it may be longer."""


def oversized(root: Path) -> Iterator[str]:
    """Every module, class and function under `root` that is too long."""
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        file = str(path.relative_to(ROOT))
        if text.count("\n") > MODULE:
            yield file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                most = CLASS if isinstance(node, ast.ClassDef) else FUNCTION
                if (node.end_lineno or node.lineno) - node.lineno + 1 > most:
                    yield f"{file}::{node.name}"


def test_everything_can_be_read_in_one_sitting() -> None:
    """Modules, classes and functions keep within their limits, and every exception is still needed."""
    assert set(oversized(ROOT / "src")) == set(EXCEPTIONS)
