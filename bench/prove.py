"""The long proofs: kills, ceilings and departures on real gateway processes, with a figure for each promise.

    python -m bench.prove                                   # all three, some two minutes, a summary in prove.json
    python -m bench.prove crash --kills 50 --durability power
    python -m bench.prove limits --callers 200 --ceiling 2

Exit code 1 when a promise was broken. The same machinery runs shorter in tests/acceptance.
"""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stretto.cli.progress import progress
from stretto.types import usd
from tests.acceptance.ceilings import pressure
from tests.acceptance.crashes import storm
from tests.acceptance.departures import departures

READY_SECONDS = 2.0
LEAVING_SECONDS = 0.25


def spread(values: Sequence[float]) -> dict[str, float]:
    """What there is to know about a row of measurements."""
    ranked = sorted(values)
    return {
        "n": len(ranked),
        "median": round(ranked[len(ranked) // 2], 4),
        "p95": round(ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))], 4),
        "max": round(ranked[-1], 4),
    }


def crash(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Kills at random points under load, all on one data folder."""
    with progress(options.kills, f"kill -9, {options.durability}") as step:
        found = asyncio.run(
            storm(
                home,
                options.kills,
                options.seed,
                durability=options.durability,
                progress=lambda: step(f"kill -9, {options.durability}"),
            )
        )
    told = asdict(found)
    told["ready"] = spread(found.ready)
    told["ready_first_and_last"] = [
        round(sum(found.ready[:5]) / len(found.ready[:5]), 4),
        round(sum(found.ready[-5:]) / len(found.ready[-5:]), 4),
    ]
    if max(found.ready) > READY_SECONDS:
        told["violations"].append(f"ready after {max(found.ready):.2f} s, promised within {READY_SECONDS:g}")
    return told


def limits(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """A ceiling under pressure."""
    with progress(100, "spent, %") as step:
        shown = 0

        def show(share: float) -> None:
            nonlocal shown
            while shown < share * 100:
                shown += 1
                step("spent, %")

        found = asyncio.run(
            pressure(
                home,
                callers=options.callers,
                ceiling=options.ceiling,
                kills=options.gateway_kills,
                seed=options.seed,
                progress=show,
            )
        )
    told = asdict(found)
    for name in ("ceiling", "most", "spent", "unknown", "billed", "left_before_last", "left", "smallest"):
        told[f"{name}_usd"] = usd(told.pop(name))
    return told


def leave(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Callers who leave after 0, 1 and 10 pieces, and the members of a panel."""
    with progress(1, "departures") as step:
        found = asyncio.run(departures(home, options.rounds))
        step("departures")
    told: dict[str, Any] = {f"after_{after}": spread(seconds) for after, seconds in found.seconds.items()}
    told["panel"] = spread(found.panel_seconds)
    receipts = [receipt for many in found.receipts.values() for receipt in many] + found.panel
    violations = [
        f"{receipt['run_id']} is {receipt['status']}"
        for receipt in receipts
        if not receipt["consistent"] or (receipt["error"] or {}).get("kind") != "cancelled"
    ]
    slowest = max(max(seconds) for seconds in (*found.seconds.values(), found.panel_seconds))
    if slowest > LEAVING_SECONDS:
        violations.append(f"an upstream was left alone after {slowest:.3f} s, promised {LEAVING_SECONDS:g}")
    if found.open:
        violations.append(f"{found.open} connections to the upstream are still open")
    return told | {"violations": violations}


PROOFS = {"crash": crash, "limits": limits, "leave": leave}


def main() -> int:
    """Run what was asked for; the summary goes to a file and, without its details, to standard output."""
    parser = argparse.ArgumentParser(prog="python -m bench.prove", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("proof", nargs="?", choices=[*PROOFS, "all"], default="all")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--durability", choices=["process", "power"], default="process")
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--ceiling", type=float, default=3.0, help="USD")
    parser.add_argument("--gateway-kills", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("prove.json"))
    options = parser.parse_args()
    summary: dict[str, Any] = {"seed": options.seed, "python": platform.python_version()}
    broken = 0
    for name in PROOFS if options.proof == "all" else (options.proof,):
        with tempfile.TemporaryDirectory(prefix=f"stretto-{name}-") as folder:
            summary[name] = PROOFS[name](options, Path(folder))
        broken += len(summary[name]["violations"])
        print(name, json.dumps(summary[name], indent=1))
    options.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{'every promise kept' if not broken else f'{broken} promises broken'}; summary in {options.out}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
