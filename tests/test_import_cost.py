"""What an import brings along is pinned: a fresh interpreter must not load more than the module needs."""

import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "scipy",
    "lightgbm",
    "pyarrow",
    "torch",
    "transformers",
    "gguf",
    "rich",
    "xllamacpp",
    "uvicorn",
    "uvloop",
    "pydantic",
    "anyio",
    "h11",
    "cryptography",
    "jsonschema_rs",
}
"""Libraries that no import of ours may load: they are loaded by the function that needs them."""

PINNED: dict[str, tuple[set[str], set[str]]] = {
    "stretto": (set(), {"asyncio", "ssl", "sqlite3", "email", "tomllib"}),
    "stretto.steps": (set(), {"asyncio", "ssl", "sqlite3"}),
    "stretto.config": (set(), {"asyncio", "ssl", "sqlite3"}),
    "stretto.catalog": (set(), {"asyncio", "ssl", "sqlite3", "email"}),
    "stretto.testing": ({"orjson"}, {"email"}),
    "stretto.engine.run": (set(), {"sqlite3", "email"}),
    "stretto.gateway.http": ({"orjson"}, {"sqlite3", "email"}),
    "stretto.pool.llama": (set(), {"sqlite3", "email"}),
    "stretto.app": ({"httptools", "orjson"}, {"email"}),
    "stretto.cli": ({"click"}, {"asyncio", "ssl", "sqlite3"}),
    "stretto.cli.serve": ({"click", "httptools", "orjson"}, {"email"}),
}
"""Module -> the third-party libraries it loads, exactly; standard libraries that it does not load."""


def loaded(module: str) -> set[str]:
    """The top-level names of everything that `import module` loads in a fresh interpreter."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in run.stdout.split()}


@pytest.mark.parametrize("module", PINNED)
def test_an_import_loads_what_it_needs_and_no_more(module: str) -> None:
    """The third-party libraries behind a module are the pinned ones, and nothing heavy is among them."""
    names = loaded(module)
    third, without = PINNED[module]
    own = {"stretto", "cython_runtime", *sys.stdlib_module_names}
    assert {name for name in names - own if not name.startswith("_")} == third
    assert names & without == set()
    assert names & HEAVY == set()
