"""`stretto` on the sparring pool, learned and measured in one go: the artefact that ships, and figures on held-out problems.

    python recipes/stretto_live.py --out OUT [--n 2000] [--only simple,mix,dominated] [--ship]

1. Every solver answers calibration problems (3,000 simple ones, 600 composites), once, through llama.cpp: OUT/calibration.
2. The evidence is learned from that table, cross-fitted, for prices around what the workers cost here. `certified` in its
   provenance is the cheapest price whose loss against the best single worker is at most a point with 95 %. With `--ship` the
   artefact goes into `src/stretto/sparring/artifacts`.
3. `stretto` at several dials (one of them the certified price's), `route`, `cascade`, `fuse` and every worker answer the same `n`
   held-out problems, live through the engine: OUT/simple; half composites, with the Conductor beside: OUT/mix; the pool that one
   model dominates: OUT/dominated. Each with its report.
4. `stretto` beside each of the others, paired over the problems, in accuracy and in money: OUT/paired.md, OUT/live-SET.svg.

Resumable: what was answered is kept in OUT and not asked again.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from stretto import __version__, artifacts, sparring
from stretto.app import open_world
from stretto.cli.progress import progress
from stretto.config import load
from stretto.evaluation import tables
from stretto.evaluation.controls import paired
from stretto.evaluation.runner import Log
from stretto.learning.evidence.risk import certify
from stretto.learning.evidence.training import artefact, learn, matrix, summary
from stretto.policies.sequential import EVIDENCE_SCHEMA
from stretto.policies.signals import confidence
from stretto.policies.solo import Solo
from stretto.sparring import FAMILIES, entries, grade
from stretto.sparring.problems import composites, problems
from stretto.types import Message, Request, usd

SIMPLE, CHAINED = 3000, 600
PRICES = (
    *(0.0005, 0.01, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6),
    *(0.7, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.6, 3.0, 4.0),
)
"""What a call of the best single worker, which is dear here, is worth in accuracy; the dial goes along them, .5 is .6."""
DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
SETS = {
    "simple": (["--set", "simple"], 1.0, ()),
    "mix": (["--set", "mix"], 0.5, ("conductor",)),
    "dominated": (["--pool", "dominated"], 0.5, ()),
}
"""Of each comparison: options of the command, its share of `n`, policies beside the usual ones."""


async def collect(folder: Path, data: Path, seed: int) -> None:
    """Every solver on calibration problems; only what is not in the table yet."""
    solvers = [e.id for e in entries() if e.role == "solver"]
    simple = [(p.family, p) for p in problems(FAMILIES, "calibration", SIMPLE, seed)]
    those = [*simple, *(("composite", p) for p in composites("calibration", CHAINED, seed))]
    with (folder / "items.jsonl").open("w", encoding="utf-8") as out:
        for task, p in those:
            out.write(
                json.dumps(
                    {"item_id": f"calibration/{p.id}", "task": task, "split": "train", "prompt": p.prompt}
                )
                + "\n"
            )
    file = folder / "outcomes.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    known = {(row["item_id"], row["model"]) for row in map(json.loads, lines)}
    wanted = [(w, p) for _, p in those for w in solvers if (f"calibration/{p.id}", w) not in known]
    if not wanted:
        return
    async with open_world(load(None, data=data)) as world:
        queue = iter(wanted)
        with file.open("a", encoding="utf-8") as out, progress(len(wanted), "calibration") as tick:

            async def work() -> None:
                for worker, p in queue:
                    request = Request(
                        messages=(Message("user", p.prompt),), model=worker, params={"temperature": 0}
                    )
                    run = await world.engine.run(Solo(worker, "logprobs"), request, purpose="calibration")
                    right = 0.0 if run.answer.error else grade(p, run.answer.text)
                    row = {
                        "item_id": f"calibration/{p.id}",
                        "model": worker,
                        "score": right,
                        "answer": run.answer.text,
                        "cost_usd": usd(run.cost),
                        "prompt_tokens": run.usage.input,
                        "completion_tokens": run.usage.output,
                        "confidence": confidence(run.answer.logprobs),
                    }
                    out.write(json.dumps(row) + "\n")
                    tick(worker)

            await asyncio.gather(*(work() for _ in range(16)))


def teach(folder: Path, out: Path, seed: int) -> None:
    """Learn the evidence from the table and say what it would have brought."""
    table = tables.read(folder)
    workers = [e.id for e in entries() if e.role == "solver"]
    data = matrix(table, workers, last_line=True)
    learned = learn(
        data,
        size=len(workers),
        dimensions=64,
        names=workers,
        prices=PRICES,
        say=lambda text: print("  ", text, flush=True),
    )
    best = data.scores[:, learned.best], data.costs[:, learned.best]
    walks = [(u, went.score, went.cost) for u, went in zip(PRICES, learned.crossed, strict=True)]
    found = certify(walks, *best)
    print(f"certified: {found.reason}")
    made = artefact(
        learned,
        {
            "learned_by": "recipes/stretto_live.py",
            "stretto": __version__,
            "problems": f"{len(data.items)} of the calibration split, seed {seed}",
            "models": {e.id: e.sha256 for e in entries() if e.role == "solver"},
            "certified": found.reason,
            "certified_dial": None if found.u is None else 1 - PRICES.index(found.u) / (len(PRICES) - 1),
        },
        last_line=True,
    )
    artifacts.write(made, out)
    for name, score, cost, calls in summary(learned, data):
        print(f"{name:28} {100 * score:6.2f} {1000 * cost:9.4f} {calls:5.2f}")
    print(out, f"{out.stat().st_size / 1e6:.2f} MB")


def measure(out: Path, folder: Path, name: str, n: int, seed: int) -> None:
    """One live comparison, by the command that anybody would type."""
    options, share, more = SETS[name]
    certified = artifacts.read(folder / "evidence.json", EVIDENCE_SCHEMA).provenance.get("certified_dial")
    dials = sorted({*DIALS, *([] if certified is None else [round(certified, 4)])})
    policies = ",".join(["route", "cascade", "fuse", *more, *(f"stretto@{dial:g}" for dial in dials)])
    command = [sys.executable, "-c", "from stretto.cli import main; main()", "eval", "--sparring"]
    command += ["-n", str(int(n * share)), "--seed", str(seed), *options, "--policy", policies]
    command += ["--artefact", str(folder), "--out", str(out / name), "--concurrency", "8"]
    subprocess.run([*command, "--data", str(out / "data")], check=True)


def compared(out: Path) -> str:
    """`stretto` beside the others, paired over the problems: points of accuracy, and USD per 1,000 problems."""
    lines = []
    for name in SETS:
        if not (out / name / "summary.json").is_file():
            continue
        log = Log(out / name / "results.jsonl")
        log.close()
        by: dict[str, dict[str, tuple[float, float]]] = {}
        for r in log.done.values():
            by.setdefault(r.contender, {})[r.item] = (r.score, usd(r.cost))
        summary_ = json.loads((out / name / "summary.json").read_text(encoding="utf-8"))
        shown = [row["name"] for row in summary_["rows"] if row["kind"] == "policy"]
        best = summary_["best"]
        items = sorted(by[shown[0]])
        got = {who: np.array([by[who][i] for i in items]) for who in (*shown, best)}
        lines += [f"\n### {name}: {len(items)} problems, best single {best}\n"]
        lines += [
            "| policy | accuracy | USD per 1,000 | against | points [95 %] | USD per 1,000 [95 %] |",
            "|---|--:|--:|---|---|---|",
        ]
        for who in (*shown, best):
            score, cost = got[who].mean(0)
            first = f"| {who} | {100 * score:.2f} | {1000 * cost:.4f} "
            others = (
                [x for x in ("route", "cascade", "fuse", best) if x != who]
                if who.startswith("stretto")
                else [best]
            )
            for other in others:
                d = paired(got[who][:, 0], got[other][:, 0], seed=1)
                m = paired(got[who][:, 1], got[other][:, 1], seed=1)
                lines.append(
                    f"{first}| {other} | {100 * d.value:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}] "
                    f"| {1000 * m.value:+.4f} [{1000 * m.low:+.4f}, {1000 * m.high:+.4f}] |"
                )
                first = "| | | "
        (out / f"live-{name}.svg").write_text(picture(name, got), encoding="utf-8")
    return "\n".join(lines) + "\n"


def picture(name: str, got: dict) -> str:
    """Accuracy against money, the dials of `stretto` as a line, everybody with a 95 % interval."""
    wide, high, left, low, top = 640, 400, 52, 350, 40
    costs = {who: max(1000 * found[:, 1].mean(), 1e-6) for who, found in got.items()}
    least, most = 0.8 * min(costs.values()), 1.3 * max(costs.values())
    floor = max(0.0, min(found[:, 0].mean() for found in got.values()) - 0.05)

    def at(cost: float, score: float) -> tuple[float, float]:
        x = left + np.log(cost / least) / np.log(most / least) * (wide - left - 60)
        return float(x), float(low - (score - floor) / (1 - floor) * (low - top))

    count = len(next(iter(got.values())))
    marks = [
        f'<text x="{left}" y="20" font-size="14">{name}: accuracy against USD per 1,000 ({count} problems)</text>'
    ]
    for tick in np.arange(np.ceil(floor * 10) / 10, 1.01, 0.1):
        y = at(least, tick)[1]
        marks.append(f'<path d="M{left},{y:.0f} H{wide - 20}" stroke="#8884"/>')
        marks.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:.1f}</text>')
    for cost in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1):
        if least <= cost <= most:
            x = at(cost, floor)[0]
            marks.append(f'<text x="{x:.0f}" y="{low + 18}" text-anchor="middle">${cost:g}</text>')
    dials = sorted(
        (who for who in got if who.startswith("stretto")), key=lambda who: float(who.split("@")[1])
    )
    line = " ".join("{:.1f},{:.1f}".format(*at(costs[who], got[who][:, 0].mean())) for who in dials)
    marks.append(f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="2"/>')
    taken: list[tuple[float, float, int]] = []
    for who, found in got.items():
        mean = float(found[:, 0].mean())
        half = 1.96 * float(found[:, 0].std()) / np.sqrt(count)
        x, y = at(costs[who], mean)
        up, down = at(costs[who], min(1.0, mean + half))[1], at(costs[who], max(floor, mean - half))[1]
        colour = "#1f6feb" if who in dials else "#57606a"
        marks.append(f'<path d="M{x:.1f},{up:.1f} V{down:.1f}" stroke="{colour}"/>')
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        said, below = (who.split("@")[1], 16) if who in dials else (who, -8)
        place = [x + 5, y + below]
        while any(abs(place[0] - a) < 7 * max(len(said), n) and abs(place[1] - b) < 11 for a, b, n in taken):
            place[1] += 12 if below > 0 else -12
        taken.append((*place, len(said)))
        marks.append(f'<text x="{place[0]:.0f}" y="{place[1]:.0f}" fill="{colour}">{said}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *marks, "</svg>"]) + "\n"


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--n", type=int, default=2000, help="held-out simple problems; half as many of the other sets"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--ship", action="store_true", help="put the artefact where it ships")
    parser.add_argument("--only", default=",".join(SETS), help="these comparisons")
    given = parser.parse_args()
    calibration = given.out / "calibration"
    calibration.mkdir(parents=True, exist_ok=True)
    asyncio.run(collect(calibration, given.out / "data", 101))
    learned = given.out / "artefacts" / "evidence.json"
    if not learned.exists():
        teach(calibration, learned, 101)
    if given.ship:
        shipped = Path(sparring.__file__).parent / "artifacts" / "evidence.json"
        shipped.write_bytes(learned.read_bytes())
    for name in given.only.split(","):
        measure(given.out, learned.parent, name, given.n, given.seed)
    text = compared(given.out)
    (given.out / "paired.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
