"""What a decision of the sequential policy costs in CPU: text features, worker chances, posterior update, choice.

    python recipes/evidence_overhead.py --data FOLDER --set bfcl_aug2024

Learns a small artefact from the set (shortlist: its seven best priced workers), then times each part on dev prompts, one thread,
process time, median of batches of 20.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stretto.evaluation.tables import read
from stretto.learning.evidence import artefact, learn, matrix
from stretto.policies.beliefs import Beliefs
from stretto.policies.features import buckets
from stretto.policies.sequential import Evidence


def timed(name: str, run: Callable[[int], object], count: int) -> None:
    """Print the median CPU microseconds of one call."""
    found = []
    for start in range(0, count, 20):
        begun = time.process_time()
        for k in range(start, start + 20):
            run(k)
        found.append(1e6 * (time.process_time() - begun) / 20)
    print(
        f"{name:28s} median {statistics.median(found):7.0f} us, worst batch {max(found):7.0f} us, n {count}"
    )


def main() -> None:
    """Learn, then time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", required=True)
    given = parser.parse_args()
    table = read(given.data / given.set)
    priced = [
        w
        for w in table.covering()
        if all((s := table.said(i.id, w)) is None or s.cost is not None for i in table.items)
    ]
    data = matrix(table, priced)
    names = [data.workers[k] for k in np.argsort(-data.scores.mean(0))[:7]]
    found = artefact(learn(data.of([data.workers.index(n) for n in names]), names=names), {})
    known = Evidence(found)
    prompts = [i.prompt for i in data.items if i.split == "dev"][:160]
    count = len(prompts) // 20 * 20
    print(f"{len(known.workers)} workers, prompts of {statistics.median(map(len, prompts)):.0f} characters")
    logits = [known.logits(p) for p in prompts]
    rng = np.random.default_rng(0)
    numbers = rng.integers(-1, 3, (count, 1, 7))
    asked = rng.random((count, 1, 7)) < 0.5
    asked[:, :, 0] = True
    after = [Beliefs.after(known.posterior, numbers[k], logits[k], asked[k]) for k in range(count)]
    timed("words to buckets", lambda k: buckets(prompts[k]), count)
    timed("chances of all workers", lambda k: known.logits(prompts[k]), count)
    timed(
        "posterior after a reply",
        lambda k: Beliefs.after(known.posterior, numbers[k], logits[k], asked[k]),
        count,
    )
    timed("first choice", lambda k: known.worths(4, 0, None, logits[k]), count)
    timed("stop or ask", lambda k: known.worths(4, 5, after[k], logits[k]), count)


if __name__ == "__main__":
    main()
