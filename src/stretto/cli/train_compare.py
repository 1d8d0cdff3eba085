"""`stretto train evidence --compare`: how far somebody can be trusted to say whether two free texts amount to the same."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from stretto.cli.progress import progress
from stretto.errors import ConfigError
from stretto.types import PICO, Answer, Card, Limits, Message, Request

if TYPE_CHECKING:
    from stretto.app import World
    from stretto.evaluation.tables import Table
    from stretto.learning.evidence.comparing import Comparison
    from stretto.learning.evidence.training import Matrix, Prompts
    from stretto.policies.judging import Wordings
    from stretto.steps import Policy

    _Found = tuple[Literal["embedding", "judge"], Any, float, Wordings | None]

__all__ = ["LONGEST", "Asking", "compared", "embedded", "open_worker", "text_of"]

LONGEST = 5
"""The longest shortlist with a comparer: six replies can be divided in four times as many ways as five."""

_BATCH = 16
"""So many texts are embedded at a time."""


def compared(
    table: "Table",
    data: "Matrix",
    *,
    who: str,
    pairs: int,
    limit: int | None,
    last_line: bool,
    config: Path | None,
) -> "Comparison":
    """The comparer `who` beside a table: its error learned on train, and told in a line. `limit`: pico-dollars in all.

    Raises `ConfigError` for a worker that is not in the pool, and when the money does not suffice.
    """
    from stretto.learning.evidence import comparing
    from stretto.policies.evidence.equivalence import SHIPPED

    texts = [[text_of(table, i.id, w) for w in data.workers] for i in data.items]
    values = comparing.values_of(texts, last_line)
    if who == SHIPPED:
        asked: _Found = ("embedding", comparing.static(texts), 0.0, None)
    else:
        sample = comparing.pairs_of(data, values, pairs)
        asked = asyncio.run(_asked(who, data, texts, sample, limit, config))
    by, measured, usd, wordings = asked
    found, beside = comparing.learned(data, measured, values, by, who, usd=usd, wordings=wordings)
    comparer = beside.comparer
    yes, no = 100 * comparer.sensitivity, 100 * (1 - comparer.specificity)
    low, high = found.edge_interval
    says = f'says "the same" of {yes:.0f} % that are, and of {no:.0f} % that are not'
    told = says if comparer.informed else "cannot be told from a coin"
    click.echo(
        f"{who} as {'an embedding' if by == 'embedding' else 'a judge'}: {told} "
        f"({found.items} prompts, {found.pairs} pairs); edge {found.edge:.2f} [{low:.2f}, {high:.2f}]"
    )
    return beside


def embedded(data: "Matrix", *, who: str, limit: int | None, config: Path | None) -> "Prompts":
    """What the embedding worker `who` makes of the prompts of a table. Raises `ConfigError` as `compared` does."""
    from stretto.learning.evidence.training import Prompts
    from stretto.policies.evidence.embedded import shortened

    async def asked() -> "dict[tuple[int, int], Sequence[float]]":
        async with open_worker(who, "embed", config) as (world, _):
            return await Asking(world, who, limit).vectors(
                [((row, 0), shortened(item.prompt)) for row, item in enumerate(data.items)]
            )

    vectors = asyncio.run(asked())
    by_id = {item.id: vectors[row, 0] for row, item in enumerate(data.items)}
    return Prompts.learned([i for i in data.items if i.split == "train"], embedder=who, vectors=by_id)


@asynccontextmanager
async def open_worker(who: str, option: str, config: Path | None) -> "AsyncIterator[tuple[World, Card]]":
    """The world of the configuration, and the card of a worker in it."""
    from stretto.app import open_world
    from stretto.config import load

    async with open_world(load(config)) as world:
        card = next((c for c in world.pool.cards() if c.id == who), None)
        if card is None:
            names = ", ".join([*["static"] * (option == "compare"), *(c.id for c in world.pool.cards())])
            raise ConfigError(f"--{option} {who}: there is no such worker; there are {names}")
        if option == "embed" and "embedding" not in card.abilities:
            raise ConfigError(f"--embed {who}: has not the ability `embedding`")
        yield world, card


def text_of(table: "Table", item: str, worker: str) -> str:
    """The whole reply of a worker, "" where it was not recorded."""
    one = table.said(item, worker)
    return "" if one is None else (one.text if one.text is not None else one.answer) or ""


async def _asked(
    who: str,
    data: "Matrix",
    texts: Sequence[Sequence[str]],
    sample: Sequence[tuple[int, int, int]],
    limit: int | None,
    config: Path | None,
) -> "_Found":
    """What a worker of the pool says of the pairs, and what comparing a reply costs (USD)."""
    from stretto.catalog.usual import wordings as usual

    async with open_worker(who, "compare", config) as (world, card):
        asking = Asking(world, who, limit)
        if "embedding" in card.abilities and "text" not in card.abilities:
            measured, usd = await asking.embedded(texts)
            return "embedding", measured, usd, None
        wordings = usual(world.pool.cards(), None, who)
        measured, usd = await asking.judged(data, texts, sample, wordings)
        return "judge", measured, usd, wordings


class Asking:
    """Asks one worker, through the engine, until the money for it is spent."""

    def __init__(self, world: "World", worker: str, limit: int | None) -> None:
        self._world, self._worker, self._limit = world, worker, limit
        self.spent = 0

    async def _run(self, policy: "Policy", request: Request) -> Any:
        run = await self._world.engine.run(policy, request, purpose="evaluation")
        self.spent += run.cost
        if run.answer.error is not None and run.answer.error.kind == "limit":
            raise ConfigError(
                f"--limit-usd is reached after {self.spent / PICO:.4f} USD; a higher one goes on"
            )
        return run.answer

    def _limits(self) -> Limits:
        return Limits(usd=None if self._limit is None else max(0, self._limit - self.spent))

    async def embedded(self, texts: Sequence[Sequence[str]]) -> tuple[Any, float]:
        """Cosines of all pairs of replies to each item, and what a text costs."""
        from stretto.learning.evidence.comparing import of_vectors
        from stretto.policies.evidence.equivalence import LONGEST as CHARACTERS

        flat = [
            ((row, k), t[-CHARACTERS:])
            for row, said in enumerate(texts)
            for k, t in enumerate(said)
            if t.strip()
        ]
        vectors = await self.vectors(flat)
        if not vectors:
            raise ConfigError("the table holds no reply with a text")
        return of_vectors(len(texts), len(texts[0]), vectors), self.spent / PICO / len(flat)

    async def vectors(
        self, flat: Sequence[tuple[tuple[int, int], str]]
    ) -> dict[tuple[int, int], Sequence[float]]:
        """The vector of each text, by its place."""
        from stretto.policies.solo import Solo

        vectors: dict[tuple[int, int], Sequence[float]] = {}
        with progress(len(flat), "embedding") as tick:
            for start in range(0, len(flat), _BATCH):
                part = flat[start : start + _BATCH]
                request = Request(
                    messages=tuple(Message("user", t) for _, t in part),
                    model=self._worker,
                    want="embedding",
                    wire="embeddings",
                    limits=self._limits(),
                )
                answer = await self._run(Solo(self._worker), request)
                if (error := answer.error) is not None:
                    raise ConfigError(f"{self._worker} gave no vectors: {error.kind}: {error.message}")
                vectors.update(zip((place for place, _ in part), answer.embeddings, strict=True))
                for _ in part:
                    tick("embedding")
        return vectors

    async def verdict(self, asked: tuple[Message, ...]) -> bool | None:
        """Yes or no to one question; `None`: neither."""
        from stretto.policies.evidence.verification import TOKENS
        from stretto.policies.judging import verdict
        from stretto.policies.solo import Solo

        request = Request(
            messages=asked,
            model=self._worker,
            params={"temperature": 0},
            max_tokens=TOKENS,
            limits=self._limits(),
        )
        answer = await self._run(Solo(self._worker), request)
        return None if answer.error is not None else verdict(answer.text)

    async def judged(
        self,
        data: "Matrix",
        texts: Sequence[Sequence[str]],
        sample: Sequence[tuple[int, int, int]],
        wordings: "Wordings",
    ) -> tuple[Any, float]:
        """Verdicts on the sampled pairs (nan elsewhere), and what holding a reply against two others costs."""
        from stretto.learning.evidence.comparing import of_verdicts
        from stretto.policies.judging import verdict
        from stretto.policies.solo import Solo

        found: dict[tuple[int, int, int], bool] = {}
        with progress(len(sample), "judging") as tick:
            for row, a, b in sample:
                item = Request(messages=(Message("user", data.items[row].prompt),))
                one, other = (Answer(Message("assistant", texts[row][k])) for k in (a, b))
                request = Request(
                    messages=wordings.comparing(item, one, other),
                    model=self._worker,
                    params={"temperature": 0},
                    max_tokens=8,
                    limits=self._limits(),
                )
                answer = await self._run(Solo(self._worker), request)
                said = None if answer.error is not None else verdict(answer.text)
                if said is not None:
                    found[row, a, b] = said
                tick("judging")
        cost = 2 * self.spent / PICO / max(1, len(sample))
        return of_verdicts(len(texts), len(data.workers), found), cost
