"""`stretto train evidence --verify`: how far a worker can be trusted to say whether a reply is right."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.progress import progress
from stretto.cli.train_compare import Asking, open_worker, text_of
from stretto.errors import ConfigError
from stretto.types import PICO, Answer, Card, Message, Request, Usage

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.evaluation.tables import Table
    from stretto.learning.evidence.lattice import Walk
    from stretto.learning.evidence.training import Learned, Matrix
    from stretto.learning.evidence.verifying import Judged
    from stretto.policies.evidence.verification import Verifier
    from stretto.policies.judging import Wordings

__all__ = ["Verified", "verified"]


@dataclass(frozen=True, slots=True)
class Verified:
    """A verifier beside a table: its error, what it said of which replies, what that costs (USD), and which items are free."""

    worker: str
    judged: "Judged"
    verdicts: dict[tuple[int, int], bool]
    usd: float
    wordings: "Wordings"
    free: Any

    def taught(
        self, made: "Artifact", learned: "Learned", data: "Matrix"
    ) -> "tuple[Artifact, Walk, Verifier]":
        """As `learning.evidence.verifying.taught`, with a line that says where it pays."""
        from stretto.learning.evidence.verifying import taught

        known = {"worker": self.worker, "usd": self.usd, "wordings": self.wordings, "free": self.free}
        with progress(len(learned.prices), "verdicts") as tick:
            found = taught(made, learned, data, self.judged, self.verdicts, **known, say=tick)
        verifier = found[2]
        paying = [u for u, serves in zip(learned.prices, verifier.serves, strict=True) if serves]
        if not self.judged.informed:
            told = "is worth nothing, and will not be asked"
        elif not self.free.any():
            told = "will not be asked: all replies of this table can be compared"
        elif paying:
            told = f"pays at {len(paying)} of {len(learned.prices)} prices, {paying[0]} to {paying[-1]}"
        else:
            told = "was not shown to pay at any price, and will not be asked"
        click.echo(f"{self.worker} as a verifier {told}")
        return found


def verified(
    table: "Table",
    data: "Matrix",
    *,
    who: str,
    checks: int,
    limit: int | None,
    last_line: bool,
    config: Path | None,
    kept: Path,
) -> Verified:
    """Ask the worker `who` about a sample of replies, and say how often it is right. `limit`: pico-dollars in all; `kept`: the
    file that holds what it has said, so that a run that was ended goes on.

    Raises `ConfigError` for a worker that is not in the pool, and when the money does not suffice.
    """
    from stretto.learning.evidence import comparing, verifying

    texts = [[text_of(table, i.id, w) for w in data.workers] for i in data.items]
    values = comparing.values_of(texts, last_line)
    sample = verifying.replies_of(data, values, checks, who)
    verdicts, usd, wordings = asyncio.run(_asked(who, data, texts, sample, limit, config, kept))
    judged = verifying.error(verdicts, data)
    _tell(who, judged, len(verdicts))
    return Verified(who, judged, verdicts, usd, wordings, verifying.free_of(values))


def _tell(who: str, judged: "Judged", replies: int) -> None:
    low, high = judged.edge_interval
    says = f"accepts {100 * judged.rates[0]:.0f} % of right replies and {100 * (1 - judged.rates[1]):.0f} % of wrong ones"
    told = says if judged.informed else "cannot be told from a coin"
    click.echo(
        f"{who} as a verifier: {told} ({judged.items} prompts, {replies} replies); "
        f"edge {judged.edge:.2f} [{low:.2f}, {high:.2f}]"
    )
    if len(judged.tasks) > 1 and judged.informed:
        for name, (rates, intervals, n) in judged.tasks.items():
            parts = [
                f"{what} {100 * rate:.0f} % [{100 * a:.0f}, {100 * b:.0f}]"
                for what, rate, a, b in zip(
                    ("right accepted", "wrong rejected"), rates, *intervals, strict=True
                )
            ]
            click.echo(f"  {name:30} {', '.join(parts)}, {n} prompts")


async def _asked(
    who: str,
    data: "Matrix",
    texts: list[list[str]],
    sample: list[tuple[int, int]],
    limit: int | None,
    config: Path | None,
    kept: Path,
) -> "tuple[dict[tuple[int, int], bool], float, Wordings]":
    """The verdicts on the sample, what one costs (USD), and the wordings. Those in `kept` are not asked for again."""
    from stretto.catalog.usual import wordings as usual

    async with open_worker(who, "verify", config) as (world, card):
        wordings = usual(world.pool.cards(), None, who)
        asks = {}
        for row, k in sample:
            item = Request(messages=(Message("user", data.items[row].prompt),))
            asks[row, k] = wordings.verifying(item, Answer(Message("assistant", texts[row][k])))
        known = _Kept(kept, who)
        missing = [place for place in sample if asks[place] not in known]
        click.echo(_quote(card, [asks[place] for place in missing], len(sample)), err=True)
        asking = Asking(world, who, limit)
        with progress(len(missing), "verifying") as tick:
            for place in missing:
                before = asking.spent
                said = await asking.verdict(asks[place])
                known.add(asks[place], said, asking.spent - before)
                tick("verifying")
        found = {place: known[asks[place]] for place in sample}
        paid = sum(pico for _, pico in found.values()) / PICO / max(1, len(found))
        return {place: yes for place, (yes, _) in found.items() if yes is not None}, paid, wordings


def _quote(card: Card, asks: list[tuple[Message, ...]], count: int) -> str:
    """What is going to be asked, and about what it will cost: four characters a token, and a short reply."""
    tokens = sum(len(m.text) for messages in asks for m in messages) // 4
    usd = card.price.of(Usage(tokens, 8 * len(asks))) / PICO
    old = f"; {count - len(asks)} are known from before" if count > len(asks) else ""
    price = f"about {usd:.4f} USD" if card.priced else "its price is not known"
    return f"showing {card.id} {len(asks)} replies, {price}{old}"


class _Kept:
    """What a verifier has said, a JSON line each: by what it was asked, a verdict (or none) and its cost in pico-dollars."""

    def __init__(self, path: Path, worker: str) -> None:
        self._path, self._worker = path, worker
        self._said: dict[str, tuple[bool | None, int]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
                self._said[row["asked"]] = (row["right"], row["pico"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that a kill cut

    def _key(self, asked: tuple[Message, ...]) -> str:
        text = "\n".join((self._worker, *(m.text for m in asked)))
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()

    def __contains__(self, asked: tuple[Message, ...]) -> bool:
        return self._key(asked) in self._said

    def __getitem__(self, asked: tuple[Message, ...]) -> tuple[bool | None, int]:
        return self._said[self._key(asked)]

    def add(self, asked: tuple[Message, ...], right: bool | None, pico: int) -> None:
        """Remember a verdict, on disk first."""
        key = self._key(asked)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as out:
                out.write(json.dumps({"asked": key, "right": right, "pico": pico}) + "\n")
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}") from None
        self._said[key] = (right, pico)
