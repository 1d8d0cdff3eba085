"""Kept replies: asked once, shared by processes, and none the worse for a kill."""

import json
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stretto.errors import StrettoError
from stretto.learning.replies import Pair, Replies, Said, asking
from stretto.pool.scripted import ScriptedPool
from stretto.types import Failure, Price

HASHES = {"a": "a" * 64, "b": "b" * 64}


class Oracle:
    """Answers every pair with its own words, and counts."""

    def __init__(self) -> None:
        self.seen: list[Pair] = []

    def __call__(self, pairs: Sequence[Pair]) -> list[Said]:
        self.seen += pairs
        return [Said(f"{worker} on {prompt}", -0.5, -0.25, 3, 2) for worker, prompt in pairs]


def test_a_reply_is_asked_once_and_read_back_by_the_next_process(tmp_path: Path) -> None:
    """Equal pairs are one question, also over a restart; order is kept."""
    oracle, path = Oracle(), tmp_path / "replies.jsonl"
    first = Replies(path, HASHES, oracle).get([("a", "x"), ("b", "x"), ("a", "x")])
    assert [said.text for said in first] == ["a on x", "b on x", "a on x"]
    again = Replies(path, HASHES)
    assert again.get([("b", "x"), ("a", "x")]) == [first[1], first[0]]
    assert oracle.seen == [("a", "x"), ("b", "x")]


def test_what_is_missing_cannot_be_had_without_somebody_to_ask(tmp_path: Path) -> None:
    """A training that must not ask says what it lacks instead of making something up."""
    with pytest.raises(StrettoError, match=r"lacks 1 replies, such as that of a to 'x'"):
        Replies(tmp_path / "replies.jsonl", HASHES).get([("a", "x")])


def test_a_worker_that_was_trained_anew_is_asked_anew(tmp_path: Path) -> None:
    """The file's hash is part of the key, not the worker's name."""
    path, oracle = tmp_path / "replies.jsonl", Oracle()
    Replies(path, HASHES, oracle).get([("a", "x")])
    assert ("a", "x") not in Replies(path, {"a": "c" * 64})
    assert ("other name", "x") in Replies(path, {"other name": "a" * 64})


def test_a_torn_line_costs_that_line_only(tmp_path: Path) -> None:
    """Killed in the middle of a line: what stood before is kept, what comes after is readable, the lost reply is asked again."""
    path, oracle = tmp_path / "replies.jsonl", Oracle()
    Replies(path, HASHES, oracle).get([("a", "x"), ("a", "y")])
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        path.write_bytes(whole[:-cut])
        again = Replies(path, HASHES, oracle)
        assert ("a", "x") in again
        assert ("a", "y") not in again
        assert [s.text for s in again.get([("a", "y"), ("a", "z")])] == ["a on y", "a on z"]
        assert len(Replies(path, HASHES)) == 3


def test_prices_make_costs(tmp_path: Path) -> None:
    """The cost is of the price now, not of when it was asked."""
    path = tmp_path / "replies.jsonl"
    Replies(path, HASHES, Oracle()).get([("a", "x")])
    (said,) = Replies(path, HASHES, prices={"a": Price(10, 100)}).get([("a", "x")])
    assert said.cost == 3 * 10 + 2 * 100


def _write(path: Path, name: str) -> None:
    book = Replies(path, HASHES, Oracle())
    for number in range(40):
        book.get([(name, f"{number} " + "long " * 400), ("a", f"both {number}")])


def test_two_processes_share_one_file(tmp_path: Path) -> None:
    """Writing at a time, they never mix their lines, and each finds what the other has asked."""
    path = tmp_path / "replies.jsonl"
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_write, args=(path, name)) for name in ("a", "b")]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert len(Replies(path, HASHES)) == 120


def test_a_real_pool_is_asked_at_temperature_zero_with_log_probabilities(tmp_path: Path) -> None:
    """Through the pool's door: text, tokens, and how sure the worker was."""
    pool = ScriptedPool({"a": lambda ask: f"said {(ask.messages or ())[-1].text}"})

    @asynccontextmanager
    async def opened() -> AsyncIterator[ScriptedPool]:
        yield pool

    with asking(opened) as ask:
        found = Replies(tmp_path / "replies.jsonl", HASHES, ask).get([("a", str(n)) for n in range(40)])
    assert [said.text for said in found] == [f"said {n}" for n in range(40)]
    assert len(pool.asks) == 40
    assert all(a.params == {"temperature": 0} and a.want == "logprobs" for a in pool.asks)


def test_a_worker_that_fails_ends_the_training_with_its_words(tmp_path: Path) -> None:
    """A failure is no reply: it is tried again, then told, and never kept."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[ScriptedPool]:
        yield ScriptedPool({"a": [Failure("unavailable", "gone fishing")]})

    path = tmp_path / "replies.jsonl"
    with asking(opened) as ask, pytest.raises(StrettoError, match="a does not answer: gone fishing"):
        Replies(path, HASHES, ask).get([("a", "x")])
    assert len(Replies(path, HASHES)) == 0
