"""What is written is true: every setting, policy, route, command and folder is documented, and what documents show exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stretto.catalog import BUILT_IN, Catalog
from stretto.cli.main import COMMANDS, stretto
from stretto.config import KEYS, POLICY_KEYS, parse
from stretto.errors import UnknownModel
from stretto.types import Card

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and what implements it, as it is typed after `stretto`."""
    context = click.Context(stretto)
    for name in COMMANDS:
        command = stretto.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())


KNOWN = dict(commands())


def blocks(page: Path, *kinds: str) -> Iterator[tuple[int, str]]:
    """The fenced blocks of a page that are of some kind, with the line on which each begins."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if found[1] in kinds:
            yield text[: found.start()].count("\n") + 1, found[2]


def typed(page: Path) -> Iterator[tuple[int, str]]:
    """Every line of a page that shows something typed into a shell: in fenced and indented blocks, and between backticks."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if found := re.match(r"(?:    |\$ |    \$ )?((?:stretto|make) .*)", line):
            yield number, found[1].partition("  #")[0].partition("    ")[0].strip()
        for quoted in re.findall(r"`((?:stretto|make) [^`]*)`", line):
            yield number, quoted


@pytest.mark.parametrize("table", KEYS)
def test_every_setting_is_documented(table: str) -> None:
    """Each key of the configuration file appears in the reference."""
    assert [key for key in KEYS[table] if not re.search(rf"\b{key}\b", REFERENCE)] == []


@pytest.mark.parametrize("kind", POLICY_KEYS)
def test_every_policy_type_is_documented(kind: str) -> None:
    """Each policy type appears in the reference, with each of its options."""
    assert [key for key in (kind, *POLICY_KEYS[kind]) if f"`{key}`" not in REFERENCE] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_name_is_documented(name: str) -> None:
    """What `model` may name without any configuration is told."""
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_command_is_documented(name: str) -> None:
    """Each command, with each of its own options, appears in the reference."""
    assert f"stretto {name}" in REFERENCE
    command = KNOWN[name]
    options = [max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)]
    assert [option for option in options if option not in REFERENCE] == []


def test_every_route_is_documented() -> None:
    """Each path that the gateway serves appears in the documents."""
    source = (ROOT / "src" / "stretto" / "gateway" / "http.py").read_text(encoding="utf-8")
    formats = (ROOT / "src" / "stretto" / "wire").glob("*.py")
    source += "\n".join(file.read_text(encoding="utf-8") for file in formats)
    paths = set(re.findall(r'(?:Route\(|ROUTE[^=\n]*= )"(/[^"]*)"', source)) - {"/"}
    assert len(paths) >= 10
    assert [path for path in sorted(paths) if path not in TEXT] == []


def test_every_folder_is_in_the_architecture() -> None:
    """Each folder and module of the package has its row."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    units = [
        path.stem for path in (ROOT / "src" / "stretto").iterdir() if path.suffix == ".py" or path.is_dir()
    ]
    assert [
        unit
        for unit in sorted(units)
        if not unit.startswith("_") and unit not in ("py",) and f"{unit}" not in page
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_typed_exists(page: Path) -> None:
    """Every `stretto` command and `make` target that a page shows exists, with the options it is shown with."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    wrong = []
    for number, line in typed(page):
        words = shlex.split(line.replace("…", "...").rstrip("\\"), comments=True)
        if words[0] == "make":
            if words[1] not in (*targets, "serve|test|check|bench|sparring"):
                wrong.append(f"{number}: {line}")
            continue
        name = next((n for n in (" ".join(words[1:3]), words[1]) if n in KNOWN), None)
        if name is None:
            if words[1] not in ("--help", "--version"):
                wrong.append(f"{number}: {line}")
            continue
        given = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        known = {option for parameter in KNOWN[name].params for option in parameter.opts}
        if given - known - {"--help", "-h"}:
            wrong.append(f"{number}: {line}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_configurations_that_are_shown_are_valid(page: Path, tmp_path: Path) -> None:
    """Every TOML block of a page is a configuration that is read without complaint, and its policies can be built."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for _, block in blocks(page, "toml"):
        settings = parse(block, file=str(tmp_path / "stretto.toml"))
        workers = [Card(worker.id) for worker in settings.workers]
        names = Catalog(workers, settings) if workers else None
        for name in settings.policies if names is not None else ():
            try:
                names.resolve(name)
            except UnknownModel as error:
                raise AssertionError(f"{page}: {error}") from None
