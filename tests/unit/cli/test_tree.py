"""A receipt as a tree: nested forks, choices, refusals, and texts that must not reach the terminal as they are."""

import asyncio

from rich.console import Console

from stretto import (
    Answer,
    Ask,
    Choice,
    Failure,
    Fork,
    Limits,
    Message,
    Note,
    Option,
    Outlook,
    Plan,
    Quotes,
    Request,
)
from stretto.cli.tree import tree
from stretto.engine.run import Engine
from stretto.ledger.read import Reader
from stretto.testing import MemoryStore, ScriptedPool


class Nested:
    """A plan with a fork in a fork, a choice, and a tail ask."""

    def plan(self, request: Request) -> Plan:
        """Two branches, of which the first forks again; then one more ask."""
        yield Fork((self.inner(), Ask("b", reason="the other side")))
        yield Note(Choice("c", (Option("b", rejected="too slow"), Option("c")), 0.5, "because", "a rule"))
        return Ask("c", speaks=True, otherwise=Answer(Message("assistant", "fell back"), why="no money"))

    def inner(self) -> Plan:
        """A fork of two."""
        yield Fork((Ask("a", role="thinker"), Ask("b")))
        return Answer(Message("assistant", "inner"))

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """Unknown."""
        return Outlook()


def drawn(limits: Limits, *, texts: bool = True) -> str:
    """What is shown of one run of the plan."""
    pool = ScriptedPool({"a": ["A"], "b": [Failure("timeout", "too late")], "c": ["\x1b[31mred\x07"]})
    store = MemoryStore()

    async def run() -> str:
        request = Request(messages=(Message("user", "go"),), limits=limits)
        return (await Engine(pool, store).run(Nested(), request, name="nested")).id

    receipt = Reader(store).receipt(asyncio.run(run()), include_content=texts)
    console = Console(width=200, no_color=True)
    with console.capture() as shown:
        console.print(tree(receipt))
    return shown.get()


def test_every_step_stands_under_the_branch_that_made_it() -> None:
    """Addresses nest as the plan does, and each attempt shows role, worker, outcome and reason."""
    lines = drawn(Limits()).splitlines()
    order = [line.lstrip("│├└─ ") for line in lines]
    depth = [len(line) - len(text) for line, text in zip(lines, order, strict=True)]
    starts = {text.split("  ")[0]: level for text, level in zip(order, depth, strict=True)}
    assert starts["0"] < starts["0.0"] < starts["0.0/0"] < starts["0.0/0.0"] < starts["0.0/0.0/0"]
    assert starts["0.1"] == starts["0.0"]
    assert any(text.startswith("0.0/0.0/0  thinker a  answered") for text in order)
    assert any(
        text.startswith("0.1/0  solver b  failed") and text.endswith("the other side") for text in order
    )
    assert any(text.startswith("timeout: ") and "too late" in text for text in order)


def test_choices_show_what_was_passed_over() -> None:
    """A choice shows its chance, its reason, its source, and every rejected option with its reason."""
    shown = drawn(Limits())
    assert "1  chose c with chance 0.50  because  [a rule]" in shown
    assert "✗ b  too slow" in shown


def test_a_refusal_is_shown_where_it_happened() -> None:
    """What a limit refused stands at its address, and the answer says what it rests on instead."""
    shown = drawn(Limits(calls=2))
    assert "refused" in shown
    assert "calls: all 2 are used" in shown
    assert "no money" in shown


def test_texts_cannot_steer_the_terminal() -> None:
    """Escape sequences in what a model said are not printed."""
    shown = drawn(Limits())
    assert "red" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "said:" not in drawn(Limits(), texts=False)
