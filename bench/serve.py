"""The whole sparring pool behind one gateway: first answer, memory, and what 50 callers at a time have to wait.

    python -m bench.serve                                   # about a minute, a table and a summary in serve.json
    python -m bench.serve --callers 10 --calls 200 --model route

Zero configuration but for a scratch folder: what `make serve` starts. Callers ask held-out problems one after the other on
a connection that they keep. Memory is that of the gateway and of its llama.cpp child together (Linux). Exit code 1 when an
answer failed, or the first one took longer than five seconds.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stretto.cli.progress import progress
from stretto.sparring import FAMILIES, Problem, entries, grade, problems
from stretto.sparring.problems import composites
from tests.acceptance.served import Caller, Lost, Served, served

FIRST_SECONDS = 5.0


def memory(process: int) -> dict[str, float]:
    """Megabytes of a process and of all below it: resident (shared pages counted in each), and proportional."""
    rss = pss = 0
    for each in _tree(process):
        told = dict(
            line.split(":", 1) for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]
        )
        rss, pss = rss + int(told["Rss"].split()[0]), pss + int(told["Pss"].split()[0])
    return {"rss_mb": round(rss / 1000, 1), "pss_mb": round(pss / 1000, 1)}


def _tree(process: int) -> Iterator[int]:
    yield process
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        yield from _tree(int(child))
    for task in Path(f"/proc/{process}/task").iterdir():
        if task.name != str(process):
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


async def asked(caller: Caller, model: str, problem: Problem) -> tuple[float, bool, bool]:
    """Seconds of one answer, whether there was one, and whether it was right."""
    body = {"model": model, "messages": [{"role": "user", "content": problem.prompt}], "temperature": 0}
    begun = time.perf_counter()
    try:
        reply = await caller.call("POST", "/v1/chat/completions", body)
    except Lost:
        return time.perf_counter() - begun, False, False
    seconds = time.perf_counter() - begun
    if reply.status != 200:
        return seconds, False, False
    return seconds, True, grade(problem, reply.json["choices"][0]["message"]["content"] or "") == 1.0


async def crowd(port: int, model: str, those: Sequence[Problem], callers: int) -> dict[str, Any]:
    """Every problem once, by `callers` at a time."""
    waiting, seen = list(those), list[tuple[float, bool, bool]]()

    async def one() -> None:
        caller = Caller(port)
        while waiting:
            seen.append(await asked(caller, model, waiting.pop()))
            tick(model)
        caller.close()

    begun = time.perf_counter()
    with progress(len(those), model) as tick:
        await asyncio.gather(*(one() for _ in range(callers)))
    whole = time.perf_counter() - begun
    ranked = sorted(seconds for seconds, _, _ in seen)
    return {
        "model": model,
        "callers": callers,
        "calls": len(seen),
        "failed": sum(not came for _, came, _ in seen),
        "right": round(sum(right for _, _, right in seen) / len(seen), 3),
        "calls_per_second": round(len(seen) / whole, 1),
        "p50_ms": round(1000 * ranked[len(ranked) // 2]),
        "p95_ms": round(1000 * ranked[int(0.95 * len(ranked))]),
        "max_ms": round(1000 * ranked[-1]),
    }


async def measured(gateway: Served, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one gateway."""
    spell = problems(FAMILIES[:1], "test", 1, 1)[0]
    begun = time.perf_counter()
    gateway.start()
    ready = await gateway.ready()
    assert gateway.process is not None
    found: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    found["ready_seconds"] = round(ready, 2)
    found["at_start"] = memory(gateway.process.pid)
    caller = Caller(gateway.port)
    _, came, right = await asked(caller, "stretto", spell)
    found["first_answer_seconds"] = round(time.perf_counter() - begun, 2)
    found["first_answer_right"] = came and right
    found["one_model"] = memory(gateway.process.pid)
    loading = time.perf_counter()
    for entry in entries():
        await asked(caller, entry.id, spell)
    found["all_models_seconds"] = round(time.perf_counter() - loading, 2)
    await asyncio.sleep(2)
    found["all_models"] = memory(gateway.process.pid)
    simple, chained = problems(FAMILIES, "test", options.calls, 5), composites("test", options.calls, 5)
    mixed = [(chained if place % 4 == 3 else simple)[place] for place in range(options.calls)]
    found["alone"] = [
        await crowd(gateway.port, name, mixed[: options.calls // 4], 1) for name in options.model
    ]
    found["crowd"] = [await crowd(gateway.port, name, mixed, options.callers) for name in options.model]
    found["after"] = memory(gateway.process.pid)
    return found


def told(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        "| model | callers | calls/s | p50 ms | p95 ms | max ms | right | failed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows += [
        f"| {r['model']} | {r['callers']} | {r['calls_per_second']} | {r['p50_ms']} | {r['p95_ms']} | {r['max_ms']} "
        f"| {r['right']:.3f} | {r['failed']} of {r['calls']} |"
        for r in (*found["alone"], *found["crowd"])
    ]
    places = ("at_start", "one_model", "all_models", "after")
    sizes = ", ".join(
        f"{place.replace('_', ' ')} {found[place]['rss_mb']:.0f} / {found[place]['pss_mb']:.0f}"
        for place in places
    )
    return "\n".join(
        [
            f"Ready after {found['ready_seconds']} s, first answer {found['first_answer_seconds']} s after the start, all models "
            f"loaded in another {found['all_models_seconds']} s. Memory, MB resident / proportional: {sizes}. "
            f"{found['cores']} cores, load average {found['load']:.1f} at the start.",
            "",
            *rows,
        ]
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", type=int, default=50, help="callers at a time (default 50)")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each model (default 1000)")
    parser.add_argument(
        "--model", action="append", help="who is asked; may be given again (default all policies)"
    )
    parser.add_argument("--out", type=Path, default=Path("serve.json"))
    options = parser.parse_args()
    options.model = options.model or ["route", "cascade", "fuse"]
    with tempfile.TemporaryDirectory() as home, served(Path(home), "[pool]\ndiscover = false\n") as gateway:
        found = asyncio.run(measured(gateway, options))
    options.out.write_text(json.dumps(found, indent=1))
    print(told(found))
    failed = sum(row["failed"] for row in (*found["alone"], *found["crowd"]))
    if failed or not found["first_answer_right"] or found["first_answer_seconds"] > FIRST_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
