"""A small public list, proven: every module says what it offers, and only that is used elsewhere."""

import ast
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "stretto"
FILES = sorted(
    path for path in SOURCE.rglob("*.py") if not path.stem.startswith("_") or path.stem == "__init__"
)
SAYS_NOTHING = ("Manager", "Helper", "Handler", "Service", "Util", "Common", "Misc")
"""Words that name no thing. A few libraries demand them: then the name is theirs, not ours."""


def module(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def listed(tree: ast.Module) -> list[str] | None:
    """The names in a module's `__all__`."""
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__all__"
        ):
            return list(ast.literal_eval(node.value))
    return None


def is_command(node: ast.stmt) -> bool:
    """Whether a function is a command of a click group: reached by its name on the command line, not by import."""
    calls = [
        ast.unparse(item.func) for item in getattr(node, "decorator_list", ()) if isinstance(item, ast.Call)
    ]
    return any(call.endswith(".command") and call != "click.command" for call in calls)


TREES = {module(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


@pytest.mark.parametrize("name", TREES)
def test_a_module_lists_what_it_offers(name: str) -> None:
    """`__all__` holds every public class and function that the module defines, and nothing that is private."""
    tree = TREES[name]
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not is_command(node)
    }
    offered = listed(tree)
    if offered is None:
        assert not defined, f"{name} has no __all__"
        return
    assert len(offered) == len(set(offered))
    assert not [item for item in offered if item.startswith("_") and item != "__version__"]
    assert defined - set(offered) == set()


@pytest.mark.parametrize("name", [name for name in TREES if not name.startswith("stretto.learning")])
def test_what_is_listed_exists(name: str) -> None:
    """Every name in `__all__` can be had from the module. Training code is left out: it needs an extra."""
    loaded = importlib.import_module(name)
    assert [item for item in listed(TREES[name]) or [] if not hasattr(loaded, item)] == []


@pytest.mark.parametrize("name", TREES)
def test_only_what_is_listed_is_used_elsewhere(name: str) -> None:
    """A module takes from another one only what that one offers."""
    taken = []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.module in TREES and node.module != name:
            offered = listed(TREES[node.module]) or []
            taken += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if alias.name not in offered
                and f"{node.module}.{alias.name}" not in TREES
                and alias.name != "__version__"
            ]
    assert taken == []


@pytest.mark.parametrize("name", TREES)
def test_names_name_things(name: str) -> None:
    """No class, function or file is called a manager, helper, handler, service, or something common."""
    names = [node.name for node in ast.walk(TREES[name]) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    vague = [
        word
        for word in [*names, *name.split(".")[1:]]
        if any(bad.lower() in word.lower() for bad in SAYS_NOTHING)
    ]
    assert vague == []


def test_the_root_offers_what_a_policy_is_written_with() -> None:
    """A whole policy can be written with names of the root alone, and each is the object of its home module."""
    root = importlib.import_module("stretto")
    homes = [importlib.import_module(f"stretto.{name}") for name in ("types", "steps", "errors")]
    for name in listed(TREES["stretto"]) or []:
        if name != "__version__":
            assert any(getattr(home, name, None) is getattr(root, name) for home in homes), name
