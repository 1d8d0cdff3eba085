"""A pool that asks llama.cpp once for each question at temperature 0, and keeps the reply: contenders share what they ask alike.

Everything else is as live: engine, door, ledger and policies do not know. llama.cpp's greedy replies are equal every time (24 of
24 under load), so nothing is told that a second call would not tell; only the time a call takes is not the model's.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stretto.pool.worker import WorkerPool
from stretto.steps import Ask, Count, Emit, Endpoint, Outcome, Quote, Ready, Tally
from stretto.types import Card, Message, TokenLogprob, Usage

Rows = dict[str, list[Any]]
"""Replies by what was asked."""


def known(path: Path) -> Rows:
    """The replies that are kept in `path`, one JSON line each; half a line, which a kill leaves, is passed over."""
    rows: Rows = {}
    text = path.read_bytes() if path.is_file() else b""
    for line in text.split(b"\n"):
        try:
            key, *row = json.loads(line)
        except ValueError:
            continue
        rows[key] = row
    if text and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return rows


class Kept:
    """A `steps.Pool` over another one. `digests`: of each worker's file, so that another model is asked anew.

    What is new is kept in `path` and in `rows`, which several of these may share; without it `path` is read.
    """

    def __init__(
        self, pool: WorkerPool, path: Path, digests: Mapping[str, str], rows: Rows | None = None
    ) -> None:
        self._pool, self._digests = pool, digests
        self.asked = self.spared = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._known = known(path) if rows is None else rows
        self._file = path.open("ab")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def cards(self) -> tuple[Card, ...]:
        """As `Pool.cards`."""
        return self._pool.cards()

    def quote(self, ask: Ask) -> Quote:
        """As `Pool.quote`."""
        return self._pool.quote(ask)

    def candidates(self, ask: Ask) -> Ready:
        """As `Pool.candidates`."""
        return self._pool.candidates(ask)

    async def count(self, ask: Ask, *, warm: bool = False) -> Count:
        """As `Pool.count`."""
        return await self._pool.count(ask, warm=warm)

    async def attempt(
        self, ask: Ask, endpoint: Endpoint, *, deadline: float | None, tally: Tally, emit: Emit | None
    ) -> Outcome:
        """The kept reply, else the worker's, which is then kept if nothing was drawn by lot in it."""
        key = self._key(ask)
        row = self._known.get(key) if emit is None else None
        if row is not None:
            self.spared += 1
            text, finish, input, output, logprobs, state = row
            tally.usage = Usage(input, output)
            return Outcome(
                Message("assistant", text),
                finish,
                tally.usage,
                logprobs=tuple(TokenLogprob(token, value) for token, value in logprobs),
                state=tuple(state),
            )
        came = await self._pool.attempt(ask, endpoint, deadline=deadline, tally=tally, emit=emit)
        self.asked += 1
        if key and came.error is None and not came.message.tool_calls:
            logprobs = [(t.token, t.logprob) for t in came.logprobs]
            row = [
                came.message.text,
                came.finish,
                came.usage.input,
                came.usage.output,
                logprobs,
                list(came.state),
            ]
            self._known[key] = row
            self._file.write(json.dumps([key, *row]).encode() + b"\n")
            if self.asked % 64 == 0:
                self._file.flush()
        return came

    def _key(self, ask: Ask) -> str:
        """What tells one question from another; "" for one whose reply is drawn by lot."""
        if ask.want != "state" and ask.params.get("temperature") != 0:
            return ""
        params = {k: v for k, v in ask.params.items() if k != "seed"}
        asked = [
            self._digests.get(ask.worker, ask.worker),
            ask.want,
            params,
            ask.max_tokens,
            [(m.role, m.text) for m in ask.messages or ()],
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
