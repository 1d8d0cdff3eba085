"""What a decision of the sequential policy costs in CPU: text features, worker chances, posterior update, choice.

    OMP_NUM_THREADS=1 python recipes/evidence_overhead.py --data FOLDER --set bfcl_aug2024 [--artefact FILE]

Learns a small artefact from the set (shortlist: its seven best priced workers; kept in FILE, if named), then times each part on
2,000 calls over its prompts: one thread, process time, batches of 100. The lowest decile of the batches is what it costs when
nobody else pushes it out of the caches; the median is what it cost on this machine now.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stretto import artifacts
from stretto.artifacts import Artifact
from stretto.evaluation.tables import Table, read
from stretto.learning.evidence.training import artefact, learn, matrix
from stretto.policies.evidence.beliefs import Beliefs
from stretto.policies.evidence.features import buckets
from stretto.policies.evidence.standing import Scene
from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence

COUNT = 2000


def timed(name: str, run: Callable[[int], object], count: int) -> None:
    """Print the CPU microseconds of one call."""
    found = []
    for start in range(0, count, 100):
        begun = time.process_time()
        for k in range(start, start + 100):
            run(k)
        found.append(1e6 * (time.process_time() - begun) / 100)
    low, middle = statistics.quantiles(found, n=10)[0], statistics.median(found)
    print(f"{name:36s} median {middle:7.0f} us, lowest decile {low:7.0f} us, n {count}")


def learned(table: Table) -> Artifact:
    """An artefact with the seven best workers whose calls were all priced."""
    priced = [
        w
        for w in table.covering()
        if all((s := table.said(i.id, w)) is None or s.cost is not None for i in table.items)
    ]
    data = matrix(table, priced)
    names = [data.workers[k] for k in np.argsort(-data.scores.mean(0))[:7]]
    return artefact(learn(data.of([data.workers.index(n) for n in names]), names=names), {})


def main() -> None:
    """Learn, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", required=True)
    parser.add_argument("--artefact", type=Path)
    given = parser.parse_args()
    table = read(given.data / given.set)
    if given.artefact and given.artefact.exists():
        found = artifacts.read(given.artefact, EVIDENCE_SCHEMA)
    else:
        found = learned(table)
        if given.artefact:
            artifacts.write(found, given.artefact)
    known = Evidence(found)
    prompts = [i.prompt for i in table.items][:COUNT]
    prompts = (prompts * (1 + COUNT // len(prompts)))[:COUNT]
    count = COUNT
    print(
        f"{len(known.workers)} workers of the shortlist, prompts of {statistics.median(map(len, prompts)):.0f} characters"
    )
    seen = [known.seen(p) for p in prompts]
    logits = [each for each, _ in seen]
    rng = np.random.default_rng(0)
    size = len(known.workers)
    numbers = np.minimum(rng.integers(-1, 3, (count, 1, size)), size - 1)
    asked = rng.random((count, 1, size)) < 0.5
    asked[:, :, 0] = True
    form = type(known.posterior.form).__name__.lower()
    after = [Beliefs.after(known.posterior, numbers[k], logits[k], asked[k]) for k in range(count)]
    timed("of it: words to buckets", lambda k: buckets(prompts[k]), count)
    timed("of it: chances of all workers", lambda k: known.logits(prompts[k]), count)
    timed(
        f"posterior ({form}) after a reply",
        lambda k: Beliefs.after(known.posterior, numbers[k], logits[k], asked[k]),
        count,
    )
    if (moves := known.moves) is not None:
        usual = np.zeros((1, size))
        chances = [known.posterior.chances(numbers[k], logits[k], asked[k], usual) for k in range(count)]

        def settled(k: int) -> object:
            parts = numbers[k], logits[k], asked[k], ~asked[k], usual, chances[k]
            return Scene(known.posterior, moves, *parts).settled()

        timed("whether an ask would be in vain", settled, count)
    everybody = (1 << size) - 1
    fewer = everybody & ~2
    timed("routing decision", lambda k: known.worths(1, 0, everybody, None, *known.seen(prompts[k])), count)
    timed("of it: first choice", lambda k: known.worths(1, 0, everybody, None, *seen[k]), count)
    timed("stop or ask", lambda k: known.worths(1, 5, everybody, after[k], logits[k]), count)
    timed("stop or ask, one worker left out", lambda k: known.worths(1, 5, fewer, after[k], logits[k]), count)
    opening = known.first(10, everybody, *seen[0])
    timed("second round or not", lambda k: known.additions(10, opening, after[k], logits[k]), count)


if __name__ == "__main__":
    main()
