"""Hidden states of a raw text from the real llama.cpp, as TRINITY's coordinator reads them, against a forward pass by hand."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stretto.pool.http import HttpClient
from stretto.pool.local import LlamaRuntime
from stretto.pool.worker import Place, WorkerPool, describe
from stretto.sparring.pool import entries
from stretto.sparring.vocabulary import prompt_tokens
from stretto.sparring.wordings import ANSWER_MARK
from stretto.steps import Ask, Outcome, Tally
from stretto.types import Message

FILE = next(entry.path for entry in entries() if entry.id == "thinker-north")
TEXT = " task: reverse tip and then count the vowels of it. \n next step?"
CHAT = "Task: reverse tip and then count the vowels of it.\nNext step?"


def states(tmp_path: Path, *asked: tuple[str, Mapping[str, Any]], together: bool = False) -> list[Outcome]:
    """What the worker shows of each text with these parameters, asked one after the other or all at once."""

    async def whole() -> list[Outcome]:
        local, client = LlamaRuntime(tmp_path), HttpClient()
        pool = WorkerPool([describe("w", "w", [Place("w/local", gguf=FILE)])], client, local=local)

        async def shown(text: str, params: Mapping[str, Any]) -> Outcome:
            ask = Ask("w", (Message("user", text),), "router", want="state", params=params)
            place = pool.candidates(ask).endpoints[0]
            return await pool.attempt(ask, place, deadline=None, tally=Tally(), emit=None)

        try:
            async with asyncio.timeout(60):
                if together:
                    return await asyncio.gather(*(shown(*each) for each in asked))
                return [await shown(*each) for each in asked]
        finally:
            await client.close()
            await local.close()

    return asyncio.run(whole())


def test_raw_text_gives_the_states_that_a_forward_pass_by_hand_gives(tmp_path: Path) -> None:
    """Penultimate, last and mean state of a text without a template, unnormalised, at F16's precision."""
    np = pytest.importorskip("numpy")
    pytest.importorskip("gguf")
    from tests.unit.learning.llama_by_hand import hidden_states, read_tensors

    ids = prompt_tokens(CHAT)[:-1]  # without the answer mark, which the chat template adds
    by_hand = hidden_states(read_tensors(FILE), ids, heads=4)
    found = states(tmp_path, *((TEXT, {"raw": True, "pooling": p}) for p in ("penultimate", "last", "mean")))

    for outcome, expected in zip(found, (by_hand[-2], by_hand[-1], by_hand.mean(0)), strict=True):
        assert outcome.error is None
        state = np.array(outcome.state)
        assert np.linalg.norm(state - expected) < 0.01 * np.linalg.norm(expected)
        assert abs(np.linalg.norm(state) - 1) > 0.1  # not brought to length one
    assert [outcome.usage.input for outcome in found] == [len(ids) - 1, len(ids), len(ids)]
    assert np.linalg.norm(by_hand[-1] - by_hand[-2]) > 0.1 * np.linalg.norm(by_hand[-1])


def test_a_mean_is_over_the_whole_text_also_where_others_are_asked_meanwhile(tmp_path: Path) -> None:
    """llama.cpp cuts texts of unequal length that it reads side by side, and its mean is over the last part only."""
    np = pytest.importorskip("numpy")
    texts = [
        TEXT,
        " add 5 to 7 .",
        " sort the letters of word abcd .",
        TEXT + " and then once more ?",
        " 1 + 2",
    ]
    asked = [(text, {"raw": True, "pooling": "mean"}) for text in texts]
    alone, side_by_side = (states(tmp_path, *asked, together=together) for together in (False, True))
    for one, other in zip(alone, side_by_side, strict=True):
        assert np.linalg.norm(np.array(one.state) - np.array(other.state)) < 0.1


def test_a_template_and_raw_text_meet_where_the_text_is_the_same(tmp_path: Path) -> None:
    """The mark that the chat template ends with, written out in raw text, is the same token."""
    chat, raw, bare = states(tmp_path, (CHAT, {}), (TEXT + ANSWER_MARK, {"raw": True}), (TEXT, {"raw": True}))
    assert raw.state == pytest.approx(chat.state, abs=1e-4)
    assert bare.state != pytest.approx(chat.state, abs=1e-2)


def test_a_state_that_there_is_none_of_is_refused_without_a_call(tmp_path: Path) -> None:
    """Before anything is sent."""
    (outcome,) = states(tmp_path, (TEXT, {"pooling": "first"}))
    assert outcome.error is not None
    assert outcome.error.kind == "bad_request"
    assert "penultimate, last, mean" in outcome.error.message
