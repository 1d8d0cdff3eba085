"""How often must a worker be right to answer alone? The orchestrators' key `alone`, chosen on calibration problems, live.

    python recipes/alone.py [--n 400] [--out alone-figures]

Simple problems and composites, and the dominated pool (one model is best at everything there). Replies at temperature 0 are
kept in OUT/replies.jsonl, so a stopped run goes on. `off` is `alone = 1`. Differences are paired, over the same problems.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrators import ASKING, Entry, _opened
from orchestrators_kept import Kept

from stretto.cli.progress import progress
from stretto.engine.run import Engine
from stretto.evaluation.intervals import paired_difference
from stretto.evaluation.runner import Contender, Log, Result, play
from stretto.evaluation.sets import sparring_items, sub_pool
from stretto.ledger.memory import MemoryStore
from stretto.sparring import FAMILIES
from stretto.types import PICO

LEAST = (0.5, 0.6, 0.7, 0.8, 0.9)
SEED = 23
TYPES = ("conductor", "trinity", "ultra")


async def measured(pool: str, kinds: Sequence[str], n: int, out: Path) -> None:
    """Print what each policy comes to at each value of `alone`, for some sets of a pool."""
    toml = "".join(
        f'[policy.{name}-{_told(least)}]\ntype = "{name}"\nalone = {least}\n'
        for name in TYPES
        for least in (*LEAST, 1)
    )
    entry = Entry("alone", "conductor", "policy", toml=toml, pool=pool)
    families = sub_pool(pool).families if pool else FAMILIES
    log = Log(out / "answers.jsonl")
    async with _opened(entry, out) as (world, digests):
        kept = Kept(world.pool, out / "replies.jsonl", digests)
        resolve = world.catalog.resolve
        contenders = [
            Contender(f"{t}-{_told(x)}", resolve(f"{t}-{_told(x)}")) for t in TYPES for x in (1, *LEAST)
        ]
        contenders.append(Contender("route-off", resolve("route")))
        for kind in kinds:
            items = sparring_items((kind,), 0, SEED, families, choosing=n)
            with progress(len(items) * len(contenders), f"{pool or 'sparring'} {kind}") as tick:
                found: dict[str, Sequence[Result]] = {}
                for contender in contenders:
                    engine = Engine(kept, store := MemoryStore(), limits=world.settings.limits)
                    found |= await play(
                        engine,
                        store,
                        world.pool.cards(),
                        items,
                        [contender],
                        log,
                        ASKING,
                        concurrency=16,
                        tick=tick,
                    )
            print(f"\n{pool or 'sparring'}, {kind}, n = {n}", flush=True)
            show(found)
        kept.close()
    log.close()


def _told(least: float) -> str:
    return "off" if least == 1 else f"{100 * least:.0f}"


def show(found: Mapping[str, Sequence[Result]]) -> None:
    """One line a contender: right, paired difference to itself without the key and to `route`, money, calls."""
    scores = {name: [r.score for r in results] for name, results in found.items()}
    for name, results in found.items():
        n = len(results)
        usd = 1000 * sum(r.cost for r in results) / PICO / n
        off = f"{name.split('-')[0]}-off"
        gains = [paired_difference(scores[name], scores[other]) for other in (off, "route-off")]
        told = "  ".join(f"{g.value:+.3f} [{g.low:+.3f}, {g.high:+.3f}]" for g in gains)
        print(f"{name:16} {sum(scores[name]) / n:.3f}  {told}  {usd:.4f} USD/1000", flush=True)


async def main() -> None:
    """Both pools."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=400, help="problems of each set")
    parser.add_argument("--out", type=Path, default=Path("alone-figures"))
    args = parser.parse_args()
    await measured("", ("simple", "composite"), args.n, args.out)
    await measured("dominated", ("simple",), args.n, args.out)


if __name__ == "__main__":
    asyncio.run(main())
