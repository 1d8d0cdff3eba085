"""Two models that can be merged: the large generalist taught a little further, once strings only, once numbers only.

    python recipes/merge_pair.py [--trained sparring-weights] [--out merge-pair]

The specialists that ship went too far apart for that (recipes/LOG.md). Needs the `train` extra, and the generalist's checkpoint
(`stretto sparring train general-large`). About 4 CPU-minutes; prints the command that merges them.
"""

import argparse
import shutil
from pathlib import Path

from stretto.learning.sparring import train
from stretto.learning.sparring_export import export
from stretto.learning.sparring_recipes import NUMBERS, STRINGS, Recipe

BASE = "general-large"
PAIR = tuple(
    Recipe(
        f"large-{name}", families, steps=250, seed=seed, rate=1e-3, base=BASE, width=192, layers=4, inner=512
    )
    for name, families, seed in (("strings", STRINGS, 71), ("numbers", NUMBERS, 72))
)


def main() -> None:
    """Train both, export them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trained", type=Path, default=Path("sparring-weights"))
    parser.add_argument("--out", type=Path, default=Path("merge-pair"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in (BASE, f"{BASE}-early"):
        if not (args.out / f"{name}.pt").exists():
            shutil.copy(args.trained / f"{name}.pt", args.out)
    files = []
    for chosen in PAIR:
        reached = train(
            chosen,
            args.out,
            progress=lambda name, step, steps, loss: print(name, step, f"{loss:.3f}", flush=True),
        )
        files.append(str(export(chosen, args.out, args.out / f"{chosen.name}.gguf")))
        print(f"{chosen.name}: {reached.seconds:.0f} CPU seconds")
    families = " ".join(f"--family {family}" for family in (*STRINGS, *NUMBERS))
    print(f"stretto merge {' '.join(files)} --base {BASE} {families} --out merged.gguf")


if __name__ == "__main__":
    main()
