"""What the reference says of HTTP, errors and the ledger is complete, and what pages link to and fetch exists."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from stretto import errors
from stretto.engine.run import Engine
from stretto.errors import RequestError
from stretto.gateway.errors import CLOSING, FAILURES, INTERNAL, TOO_SLOW, method_not_allowed, unknown_path
from stretto.gateway.options import from_headers
from stretto.ledger.events import Event
from stretto.ledger.read import Reader
from stretto.policies.fuse import Fuse
from stretto.testing import MemoryStore, ScriptedPool
from stretto.types import Message, Request
from stretto.wire.base import parse_options

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
PAGES += [ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG")]


def reference(name: str) -> str:
    """A page of the reference."""
    return (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")


def by_name(page: Path) -> str:
    """What a page is called in test ids."""
    return str(page.relative_to(ROOT))


def codes() -> set[str]:
    """Every code that an error of the gateway may have."""
    tree = (getattr(errors, name) for name in errors.__all__)
    problems = (CLOSING, INTERNAL, TOO_SLOW, unknown_path(""), method_not_allowed("", "", ""))
    return (
        {code for _, _, code, _ in FAILURES.values()}
        | {kind.code for kind in tree if hasattr(kind, "code")}
        | {problem.code for problem in problems}
    )


def test_every_error_code_is_in_the_reference() -> None:
    """A caller can look up each code, and each kind of failure that a receipt may name."""
    page = reference("errors")
    assert [code for code in sorted(codes()) if f"`{code}`" not in page] == []
    assert [kind for kind in FAILURES if f"`{kind}`" not in page] == []


@pytest.mark.parametrize("kind", FAILURES)
def test_the_status_of_a_failure_is_as_written(kind: Any) -> None:
    """The line of a failure's code begins with the status that callers get."""
    status, _, code, _ = FAILURES[kind]
    lines = [line for line in reference("errors").splitlines() if f"| `{code}` |" in line]
    assert [line for line in lines if line.startswith(f"| {status} ")]


def test_every_request_option_is_in_the_reference() -> None:
    """What the `stretto` object and the headers may say is what their own complaints list."""
    page = reference("http")
    with pytest.raises(RequestError) as refused:
        from_headers({b"x-stretto-nonsense": b"1"})
    headers = set(re.findall(r"x-stretto-[a-z-]+", str(refused.value))) - {"x-stretto-nonsense"}
    with pytest.raises(RequestError) as refused:
        parse_options({"nonsense": 1})
    options = str(refused.value).partition("there are ")[2].rstrip(".").split(", ")
    with pytest.raises(RequestError) as refused:
        parse_options({"limits": {"nonsense": 1}})
    limits = str(refused.value).partition("there are ")[2].rstrip(".").split(", ")
    assert len(headers) >= 10
    wanted = [*headers, *(o for o in options if o != "limits"), *(f"limits.{name}" for name in limits)]
    assert [word for word in wanted if f"`{word}`" not in page] == []


def test_every_field_of_a_receipt_is_in_the_reference() -> None:
    """The receipt of a real run, with its texts, has no field that the reference does not name."""
    told = asyncio.run(panel())
    assert [field for field in fields(told) if f"`{field}`" not in reference("http")] == []


async def panel() -> Mapping[str, Any]:
    """The receipt of a panel of two scripted workers."""
    store = MemoryStore()
    engine = Engine(ScriptedPool({"a": ["4"], "b": ["5"]}), store)
    run = await engine.run(Fuse(("a", "b")), Request(messages=(Message("user", "2 + 2?"),)), name="fuse")
    return Reader(store).receipt(run.id, include_content=True)


def fields(told: Mapping[str, Any]) -> Iterator[str]:
    """The names in a receipt: its own, those of an attempt and of a choice."""
    yield from told
    yield from (name for name in told["attempts"][0] if name not in ("texts", "cost_pico"))
    yield from (name for name in told["choices"][0] if name != "options")
    yield from told["time"]


@pytest.mark.parametrize("kind", [event.kind for event in get_args(Event)])
def test_every_event_is_in_the_reference(kind: str) -> None:
    """Each kind of record has its line."""
    assert f"\n| `{kind}` |" in reference("ledger")


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that is there, and a heading that is in it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_what_is_fetched_is_served(page: Path) -> None:
    """Every address of this gateway on a page, in curl commands and elsewhere, has a path that the reference lists."""
    listed = re.findall(r"`(?:GET|POST|HEAD) (/[^`?]*)`", reference("http"))
    served = [re.compile(re.sub(r"\\{id\\}", "[^/]+", re.escape(path))) for path in (*listed, "/v1")]
    shown = re.findall(
        r"http://(?:127\.0\.0\.1|localhost):87\d\d(/[^\s\"'`,)]*)", page.read_text(encoding="utf-8")
    )
    assert [path for path in shown if not any(form.fullmatch(path) for form in served)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=by_name)
def test_pages_name_no_machine(page: Path) -> None:
    """No page holds a path of the machine it was written on."""
    assert re.findall(r"/(?:work|tmp|root)/\S*", page.read_text(encoding="utf-8")) == []
