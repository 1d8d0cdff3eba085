"""What the workers of a pool say at temperature 0, asked once and kept: what trainings of orchestrators roll episodes out of.

One file, append-only, one JSON line a reply, keyed by the hash of the worker's file and the prompt: a worker that is trained anew
is asked anew. Several processes may use the file at a time, and one that is killed in the middle of a line costs that line.
"""

import asyncio
import fcntl
import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stretto.errors import StrettoError
from stretto.steps import Ask, Pool, Tally
from stretto.types import Message, Price

__all__ = ["AT_ONCE", "MOST_TOKENS", "Asker", "Pair", "Replies", "Said", "asking", "file_hash"]

AT_ONCE: Final = 16
"""Calls under way at a time."""

MOST_TOKENS: Final = 160
"""Tokens that a reply may have. The longest right answer, workflow or sub-problem of the sparring pool has below 140."""

_WRITTEN: Final = 128
"""Replies that a kill may cost: so many are asked before they are written."""

_TRIES: Final = 3

Pair = tuple[str, str]
"""A worker's id, and the text of the one user message that it is given."""


@dataclass(frozen=True, slots=True)
class Said:
    """One reply: its text, the log-probabilities of its least certain token and of the mean token (0.0 where it wrote none), its
    tokens, and its cost in pico-dollars; or the `state` that was asked for."""

    text: str
    least: float = 0.0
    mean: float = 0.0
    input: int = 0
    output: int = 0
    cost: int = 0
    state: tuple[float, ...] = ()


Asker = Callable[[Sequence[Pair]], Sequence[Said]]
"""Asks each pair and waits for all replies, in order."""


class Replies:
    """The kept replies of the workers in `hashes` (worker id to SHA-256 of its file); `ask` is asked for what is missing.

    Without `ask` a missing reply raises `StrettoError`. `tick(worker)` is called once a new reply. `prices` are for `Said.cost`,
    which is not kept: a price may change. For one thread.
    """

    def __init__(
        self,
        path: Path,
        hashes: Mapping[str, str],
        ask: Asker | None = None,
        *,
        prices: Mapping[str, Price] | None = None,
        tick: Callable[[str], None] = lambda worker: None,
    ) -> None:
        self._path, self._ask, self._tick = path, ask, tick
        self.folder = path.parent
        self._short = {worker: digest[:16] for worker, digest in hashes.items()}
        self._workers: dict[str, list[str]] = {}
        for worker, digest in self._short.items():
            self._workers.setdefault(digest, []).append(worker)
        self._prices = dict(prices or {})
        self._known: dict[Pair, Said] = {}
        self._read = 0
        self.asked = 0
        """Replies that this object had to ask for."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._known

    def get(self, pairs: Sequence[Pair]) -> list[Said]:
        """The replies to `pairs`, in order; what nobody has asked yet is asked now and kept."""
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if missing:
            self.refresh()
            missing = [pair for pair in missing if pair not in self._known]
        if missing:
            self._fetch(missing)
        return [self._known[pair] for pair in pairs]

    def refresh(self) -> None:
        """Take in what other processes have written since."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except FileNotFoundError:
            return
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                digest, prompt, *rest = json.loads(line)
                said = Said(*rest)
            except (ValueError, TypeError):  # what a killed process left of a line
                continue
            for worker in self._workers.get(digest, ()):
                price = self._prices.get(worker)
                cost = said.input * price.input + said.output * price.output if price else 0
                self._known[worker, prompt] = replace(said, cost=cost)

    def _fetch(self, missing: Sequence[Pair]) -> None:
        if self._ask is None:
            worker, prompt = missing[0]
            raise StrettoError(
                f"{self._path} lacks {len(missing)} replies, such as that of {worker} to {prompt!r}"
            )
        for start in range(0, len(missing), _WRITTEN):
            part = missing[start : start + _WRITTEN]
            found = self._ask(part)
            self._append(part, found)
            self.asked += len(part)
            for worker, _ in part:
                self._tick(worker)
        self.refresh()

    def _append(self, pairs: Sequence[Pair], found: Sequence[Said]) -> None:
        lines = "".join(
            json.dumps(
                [self._short[worker], prompt, s.text, round(s.least, 5), round(s.mean, 5), s.input, s.output]
            )
            + "\n"
            for (worker, prompt), s in zip(pairs, found, strict=True)
        ).encode()
        with self._path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, 2)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # somebody was killed in the middle of a line
                    lines = b"\n" + lines
            file.write(lines)
            file.flush()


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- asking a real pool ------------------------------------------------------------------------------------------


@contextmanager
def asking(
    opened: Callable[[], AbstractAsyncContextManager[Pool]], *, width: int = AT_ONCE, pooling: str = ""
) -> Iterator[Asker]:
    """An `Asker` over a pool, which is opened on an event loop of its own, on a thread, for as long as the context lasts.

    `width` calls are under way at a time. With a `pooling` the hidden states of raw texts are asked for, not answers. Raises
    `StrettoError` when a worker fails three times in a row.
    """
    loop = asyncio.new_event_loop()
    ready: Future[Pool] = Future()
    done = asyncio.Event()

    async def live() -> None:
        try:
            async with opened() as pool:
                ready.set_result(pool)
                await done.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            else:
                raise

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(live())

    thread = threading.Thread(target=run, name="asking", daemon=True)
    thread.start()
    try:
        pool = ready.result()

        def ask(pairs: Sequence[Pair]) -> Sequence[Said]:
            return asyncio.run_coroutine_threadsafe(_all(pool, pairs, width, pooling), loop).result()

        yield ask
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


async def _all(pool: Pool, pairs: Sequence[Pair], width: int, pooling: str) -> list[Said]:
    found: dict[int, Said] = {}
    # one worker's prompts together: like beginnings are read from its memory
    order = iter(sorted(range(len(pairs)), key=lambda place: pairs[place]))

    async def lane(places: Iterable[int]) -> None:
        for place in places:
            found[place] = await _one(pool, *pairs[place], pooling)

    await asyncio.gather(*(lane(order) for _ in range(min(width, len(pairs)))))
    return [found[place] for place in range(len(pairs))]


async def _one(pool: Pool, worker: str, prompt: str, pooling: str) -> Said:
    ask = Ask(
        worker, (Message("user", prompt),), want="logprobs", max_tokens=MOST_TOKENS, params={"temperature": 0}
    )
    if pooling:
        ask = Ask(worker, ask.messages, "router", want="state", params={"raw": True, "pooling": pooling})
    last: Any = None
    for _ in range(_TRIES):
        ready = pool.candidates(ask)
        if not ready.endpoints:
            last = ready.reason
            await asyncio.sleep(ready.retry_after or 0.1)
            continue
        came = await pool.attempt(ask, ready.endpoints[0], deadline=None, tally=Tally(), emit=None)
        if came.error is None or came.error.kind == "empty":
            chances = [token.logprob for token in came.logprobs]
            least, mean = (min(chances), math.fsum(chances) / len(chances)) if chances else (0.0, 0.0)
            used = came.usage
            return Said(came.message.text, least, mean, used.input, used.output, state=came.state)
        last = came.error.message
    raise StrettoError(f"{worker} does not answer: {last}")
