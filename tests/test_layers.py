"""Imports point down. The table is DESIGN's; changing it is a design decision, made in a change of its own."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stretto"

BASE = {"types", "errors"}
SHAPES = BASE | {"steps"}
EVERYTHING = SHAPES | {
    "wire",
    "artifacts",
    "policies",
    "pool",
    "ledger",
    "sparring",
    "engine",
    "gateway",
    "evaluation",
    "console",
    "config",
    "catalog",
}

MAY: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "steps": BASE,
    "wire": BASE,
    "artifacts": BASE,
    "policies": SHAPES | {"artifacts"},
    "pool": SHAPES | {"wire", "artifacts"},
    "ledger": SHAPES,
    "sparring": SHAPES | {"wire", "artifacts"},
    "engine": SHAPES | {"ledger.events"},
    "gateway": SHAPES | {"wire", "engine", "ledger.read"},
    "evaluation": SHAPES | {"engine", "ledger", "policies", "sparring"},
    "console": BASE | {"ledger.read"},
    "learning": SHAPES | {"artifacts", "ledger", "policies", "sparring", "engine", "evaluation"},
    "testing": SHAPES | {"ledger", "pool", "engine"},
    "config": EVERYTHING - {"catalog"},
    "catalog": EVERYTHING,
    "app": EVERYTHING,
    "cli": EVERYTHING | {"app", "learning"},
    "__init__": SHAPES | {"engine"},
}
"""What each module or folder may import of Stretto, beside itself: DESIGN.md section 8. `testing` holds public doubles, which
nothing in the package may use; of `app` and `cli` nobody but `cli` knows."""

ACTS = {
    "asyncio",
    "socket",
    "ssl",
    "http",
    "urllib",
    "time",
    "random",
    "os",
    "threading",
    "subprocess",
    "secrets",
}
"""Libraries that a policy may not import: it does no I/O, reads no clock, draws no randomness of its own."""

ONLY_IN: dict[str, set[str]] = {
    "torch": {"learning"},
    "transformers": {"learning"},
    "datasets": {"learning"},
    "ray": {"learning"},
    "gguf": {"learning"},
    "numpy": {"learning", "artifacts", "policies", "evaluation"},
    "scipy": {"learning"},
    "lightgbm": {"learning"},
    "pyarrow": {"evaluation"},
    "xllamacpp": {"pool"},
    "sqlite3": {"ledger", "app", "cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "uvicorn": {"app", "cli", "gateway"},
    "cryptography": {"ledger"},
    "jsonschema_rs": {"engine"},
}
"""Libraries that belong to some folders alone."""

LATE = {
    "torch",
    "transformers",
    "datasets",
    "ray",
    "gguf",
    "numpy",
    "scipy",
    "lightgbm",
    "pyarrow",
    "xllamacpp",
    "rich",
    "uvicorn",
    "uvloop",
    "cryptography",
    "jsonschema_rs",
}
"""Heavy libraries: outside `learning` they are imported inside the function that needs them."""


def imports(tree: ast.AST, late: bool = False) -> Iterator[tuple[str, int, bool, bool]]:
    """Every import under a node: dotted name, line, whether it is not run on import, whether it is relative."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, late, False
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno, late, bool(node.level)
        never = (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        )
        inside = late or never or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, inside)


def declared() -> set[str]:
    """The import names of the dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras.get("train", []), *extras.get("evidence", [])]
    names = (line.partition(";")[0].strip() for line in lines)
    return {
        name.split("[")[0].split("=")[0].split(">")[0].split("<")[0].strip().replace("-", "_")
        for name in names
    }


def fault(here: str, file: str, name: str, late: bool) -> str | None:
    """What is wrong with one import in the folder or module `here`, if anything."""
    parts = name.split(".")
    if parts[0] == "stretto":
        if parts[1:] in ([], ["__version__"]):
            return None
        if any(part.startswith("_") for part in parts[1:]) and parts[1] != here:
            return "is private to its folder"
        if here == "cli" and parts[1] == "learning" and not late:
            return "is reached inside its command only"
        allowed = MAY.get(here, set()) | {here}
        if not any(parts[1 : 1 + place.count(".") + 1] == place.split(".") for place in allowed):
            return "is not below it"
        return None
    if parts[0] in ("tests", "recipes", "examples", "bench"):
        return "is not part of the package"
    if here == "policies" and parts[0] in ACTS:
        return "acts, and a policy does not"
    if parts[0] in ONLY_IN and here not in ONLY_IN[parts[0]]:
        return f"belongs to {', '.join(sorted(ONLY_IN[parts[0]]))}"
    if parts[0] in LATE and here != "learning" and not late:
        return "is heavy: import it inside the function that needs it"
    if parts[0] not in sys.stdlib_module_names and parts[0] not in declared():
        return "is no declared dependency"
    return None


def faults(root: Path) -> list[str]:
    """Every import under `root` that should not be, as `FILE:LINE NAME: why`."""
    found = []
    for path in sorted(root.rglob("*.py")):
        file = str(path.relative_to(root))
        here = path.relative_to(root).parts[0].removesuffix(".py")
        for name, line, late, relative in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if why := "is a relative import" if relative else fault(here, file, name, late):
                found.append(f"{file}:{line} {name}: {why}")
    return found


def test_imports_point_down() -> None:
    """No module imports what the rank table, or the list of what must never be, forbids."""
    assert faults(SOURCE) == []


def test_every_folder_has_a_row() -> None:
    """A new module or folder of the package needs a row in the table."""
    units = {
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert units - set(MAY) == set()


@pytest.mark.parametrize(
    ("file", "line", "why"),
    [
        ("policies/solo.py", "from stretto import pool", "is not below it"),
        ("policies/solo.py", "def plan():\n    import stretto.engine.run", "is not below it"),
        ("policies/solo.py", "import asyncio", "acts"),
        ("policies/solo.py", "from time import time", "acts"),
        ("pool/worker.py", "from stretto.ledger.events import Asked", "is not below it"),
        ("ledger/read.py", "from stretto.wire import chat", "is not below it"),
        ("engine/run.py", "from stretto.policies.solo import Solo", "is not below it"),
        ("engine/run.py", "from stretto.ledger.journal import Journal", "is not below it"),
        ("gateway/http.py", "from stretto.ledger.sqlite import Accounts", "is not below it"),
        ("gateway/http.py", "async def f():\n    from stretto.learning import sparring", "is not below it"),
        ("gateway/http.py", "from . import errors", "relative"),
        ("console/views.py", "from stretto.engine import run", "is not below it"),
        ("learning/trainer.py", "from stretto.gateway import http", "is not below it"),
        ("evaluation/runner.py", "import stretto.gateway", "is not below it"),
        ("engine/run.py", "import stretto.testing", "is not below it"),
        ("catalog/names.py", "from stretto.app import open_world", "is not below it"),
        ("app.py", "from stretto.engine._loop import x", "private"),
        ("app.py", "import recipes.compare", "not part of the package"),
        ("app.py", "import torch", "belongs to learning"),
        ("app.py", "def f():\n    import transformers", "belongs to learning"),
        ("artifacts.py", "import numpy", "heavy"),
        ("cli/show.py", "from rich.table import Table", "heavy"),
        ("cli/main.py", "from stretto.learning import sparring", "inside its command"),
        ("gateway/http.py", "import fastapi", "no declared dependency"),
    ],
)
def test_planted_faults_are_found(tmp_path: Path, file: str, line: str, why: str) -> None:
    """The check itself works: each forbidden import, planted in an otherwise empty tree, is found."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    found = faults(tmp_path)
    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/run.py", "from stretto.ledger.events import Asked\nfrom stretto.ledger import events"),
        ("gateway/http.py", "from stretto.ledger.read import receipt\nfrom stretto import __version__"),
        ("learning/trainer.py", "import torch"),
        ("artifacts.py", "def load():\n    import numpy"),
        ("cli/sparring.py", "def train():\n    from stretto.learning import sparring"),
    ],
)
def test_what_is_allowed_is_not_found(tmp_path: Path, file: str, line: str) -> None:
    """The check lets pass what the table allows."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert faults(tmp_path) == []
