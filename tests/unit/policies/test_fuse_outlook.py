"""What a fuse says before anything is called holds for what it then does, on the real engine; so do quorum and deadline."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stretto.engine.run import Engine
from stretto.policies.fuse import Fuse
from stretto.policies.fusion import Fusion
from stretto.policies.judging import COMPACT, STANDARD
from stretto.pool.scripted import Scripted
from stretto.steps import Ask, Policy, Quote
from stretto.testing import MemoryStore, ScriptedPool
from stretto.types import Card, Failure, Limits, Message, Price, Request, ToolCall, Usage
from tests.virtual_time import in_virtual_time

WORKERS = ("a", "b", "c", "w")
CAP = 40
LONG = "\N{GRINNING FACE}" * 10_000
"""As many bytes as so many characters can be."""


class BytesPool(ScriptedPool):
    """A pool that counts bytes for tokens, so that longer prompts cost more."""

    def quote(self, ask: Ask) -> Quote:
        """Bytes in, the cap out."""
        given, cap = weight(ask), CAP if ask.max_tokens is None else ask.max_tokens
        card = next(card for card in self.cards() if card.id == ask.worker)
        return Quote(card.price.of(Usage(given, 1)), card.price.of(Usage(given, cap)), given, cap)


def weight(ask: Ask) -> int:
    """The bytes of a prompt."""
    return sum(len(message.text.encode()) for message in ask.messages or ())


def pool(replies: list[int]) -> BytesPool:
    """Workers that answer, fail, rank, pick and call tools as `replies` say, one number a call."""
    numbers = iter(replies * 50)

    def script(ask: Ask) -> Scripted:
        n = next(numbers)
        cap = CAP if ask.max_tokens is None else ask.max_tokens
        if n == 0:
            return Scripted(error=Failure("bad_request", "no"))
        usage = Usage(weight(ask), min(cap, n))
        if ask.tools and n % 2:
            call = ToolCall("c", ask.tools[-1]["function"]["name"], '{"prompt": "' + LONG * (n % 3) + '"}')
            return Scripted(message=Message("assistant", None, (call,)), usage=usage)
        verdicts = (f"{n % 3 + 1}", "A > B > C", '{"consensus": ["' + LONG * (n % 3) + '"]}', "no idea")
        text = verdicts[n % len(verdicts)] if ask.role == "judge" else f"{n} {LONG * (n % 4)}"
        return Scripted(text, usage=usage)

    cards = {
        w: Card(w, Price.per_million(1 + i, 2 + i), abilities=frozenset({"text", "tools", "json"}))
        for i, w in enumerate(WORKERS)
    }
    return BytesPool(dict.fromkeys(WORKERS, script), cards=cards, cap=100_000)


FUSES = st.builds(
    Fuse,
    panel=st.lists(st.sampled_from(("a", "b", "c", "gone")), min_size=1, max_size=5).map(tuple),
    how=st.sampled_from(("vote", "select", "rank", "pairs", "synthesise")),
    weigh=st.sampled_from(("count", "confidence")),
    judge=st.sampled_from(("a", "w")),
    layers=st.integers(1, 3),
    window=st.sampled_from((0, 2, 3)),
    wordings=st.sampled_from((STANDARD, COMPACT)),
    quorum=st.none() | st.integers(1, 2),
)
WRITING = st.builds(
    lambda fuse, analysis: Fuse(
        fuse.panel,
        fuse.how,
        judge=fuse.judge,
        writer="w",
        layers=fuse.layers,
        window=fuse.window,
        analysis=analysis,
        wordings=fuse.wordings,
    ),
    FUSES,
    st.booleans(),
)
FUSIONS = st.builds(lambda fuse, asks: Fusion(fuse, asks), WRITING, st.booleans())


@settings(max_examples=80, deadline=None)
@given(FUSES | WRITING | FUSIONS, st.lists(st.integers(0, 30), min_size=5, max_size=40))
def test_an_outlook_is_never_passed(policy: Policy, replies: list[int]) -> None:
    """Whatever members, judges and writers say or fail with: no run makes more calls or costs more than was told before.

    What was told allows three attempts of each ask. Nothing here is worth a second one, so a third of it must do.
    """
    if isinstance(policy, Fuse) and policy.how == "synthesise" and not policy.writer:
        policy = Fuse(policy.panel)
    request = Request(
        messages=(Message("system", "s" * 9000), Message("user", "q " * 4000)), seed=1, max_tokens=CAP
    )

    async def play() -> tuple[Any, Any]:
        engine = Engine(pool(replies), MemoryStore())
        seen = engine.preview(policy, request)
        return seen.outlook, await engine.run(policy, request)

    outlook, run = asyncio.run(play())

    assert 3 * run.calls <= outlook.calls.most
    assert 3 * run.cost <= outlook.usd.most
    if run.answer.error is not None:
        assert run.answer.error.kind != "policy", run.answer.error.message


def run(policy: Policy, workers: ScriptedPool, **fields: Any) -> Any:
    """One run of a question, in virtual time."""
    request = Request(messages=(Message("user", "q"),), **fields)
    return in_virtual_time(Engine(workers, MemoryStore()).run(policy, request))


async def never(ask: Ask) -> None:
    """Holds `c` back for ever."""
    if ask.worker == "c":
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("how", [{"quorum": 2}, {"deadline": 20.0}])
def test_a_panel_goes_on_without_who_is_late(how: dict[str, Any]) -> None:
    """By quorum or by deadline the writer gets what is there; who was not waited for is cancelled and named."""
    workers = ScriptedPool({"a": ["1"], "b": ["2"], "c": ["3"], "w": ["written"]}, gate=never)

    found = run(Fuse(("a", "b", "c"), how="synthesise", writer="w", analysis=True, judge="a", **how), workers)

    assert found.answer.text == "written"
    assert "c was not waited for" in found.answer.why
    assert found.answer.more["fusion"]["failed_models"] == [{"model": "c", "error": "dropped"}]
    assert [ask.worker for ask in workers.cancelled] == ["c"]


def test_a_council_does_not_wait_for_a_late_reviewer() -> None:
    """The deadline holds for each round; the ranks that came decide."""

    async def late(ask: Ask) -> None:
        if ask.role == "judge" and ask.worker == "c":
            await asyncio.get_running_loop().create_future()

    def says(ask: Ask) -> str:
        return "A > B" if ask.role == "judge" else ask.worker

    script = dict.fromkeys(("a", "b", "c"), says)

    found = run(Fuse(("a", "b", "c"), how="rank", deadline=20.0), ScriptedPool(script, gate=late))

    assert "in the rankings of 2 of 3 peers" in found.answer.why


@pytest.mark.parametrize(
    ("calls", "text", "why"),
    [
        (3, "1", "w as synthesizer gave no answer (limit"),
        (2, "1", "c was refused (limit)"),
        (4, "written", "w writes from 3 answers"),
    ],
)
def test_the_best_draft_is_the_answer_when_the_writer_does_not_fit(calls: int, text: str, why: str) -> None:
    """The panel has used the calls up: its first answer goes out, and says why."""
    workers = ScriptedPool({"a": ["1"], "b": ["2"], "c": ["3"], "w": ["written"]})

    found = run(Fuse(("a", "b", "c"), how="synthesise", writer="w"), workers, limits=Limits(calls=calls))

    assert found.answer.text == text
    assert why in found.answer.why
    assert found.calls <= calls
