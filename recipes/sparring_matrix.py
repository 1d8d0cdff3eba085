"""The skill matrix of the shipped sparring models, asked through llama.cpp: accuracy per family and model, latency, verification.

    python recipes/sparring_matrix.py [--n 500] [--trained DIR]

Needs `xllamacpp` and `stretto`; with `--trained DIR` (the folder of `stretto sparring train`) also the `train` extra, and then
llama.cpp's greedy answers are compared with those of the framework that the models were trained in. Prints Markdown.
"""

import argparse
import http.client
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stretto.sparring import FAMILIES, PoolEntry, Problem, entries, grade, problems
from stretto.sparring.vocabulary import prompt_tokens

SERVER = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]; params.hostnames = ["127.0.0.1"]; params.port = 0
params.n_ctx = 4096; params.n_parallel = 1; params.warmup = False; params.use_jinja = True
params.cpuparams.n_threads = 1; params.n_threads_http = 2; params.verbosity = 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def served(path: Path) -> Iterator[http.client.HTTPConnection]:
    """A llama.cpp server for one file, in a child process that ends with this block."""
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    try:
        address = child.stdout.readline().strip().removeprefix("http://")
        if not address:
            raise SystemExit(f"llama.cpp cannot serve {path}")
        yield http.client.HTTPConnection(address, timeout=60)
    finally:
        child.stdin.close()
        child.wait(20)


def post(connection: http.client.HTTPConnection, path: str, body: object) -> Any:
    """One JSON exchange; anything but 200 ends the program."""
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    raw = response.read()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {raw[:300]!r}")
    return json.loads(raw)


def ask(connection: http.client.HTTPConnection, prompt: str) -> tuple[str, float, float, dict[str, int]]:
    """The greedy answer, its least token log-probability, the seconds it took, and its usage."""
    started = time.perf_counter()
    reply = post(
        connection,
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 96,
            "logprobs": True,
        },
    )
    choice = reply["choices"][0]
    least = min((token["logprob"] for token in choice["logprobs"]["content"]), default=0.0)
    return choice["message"]["content"], least, time.perf_counter() - started, reply["usage"]


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    p = right / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def separation(scored: Sequence[tuple[float, bool]]) -> tuple[float, float, float]:
    """Area under the curve, and the threshold with the best balanced accuracy on these answers with that accuracy."""
    right = sorted(score for score, ok in scored if ok)
    wrong = sorted(score for score, ok in scored if not ok)
    if not right or not wrong:
        return math.nan, math.nan, math.nan
    wins = sum((r > w) + 0.5 * (r == w) for r in right for w in wrong)
    best = max((balanced(scored, cut), cut) for cut in {score for score, _ in scored})
    return wins / len(right) / len(wrong), best[1], best[0]


def balanced(scored: Sequence[tuple[float, bool]], cut: float) -> float:
    """The mean of the share of right answers at or above `cut` and of wrong ones below it."""
    right = [score >= cut for score, ok in scored if ok]
    wrong = [score < cut for score, ok in scored if not ok]
    return (sum(right) / len(right) + sum(wrong) / len(wrong)) / 2 if right and wrong else math.nan


def agreement(entry: PoolEntry, asked: Sequence[tuple[Problem, str]], trained: Path) -> str:
    """How often llama.cpp's greedy answer is the one of the framework that the model was trained in."""
    from stretto.learning.sparring import greedy, load
    from stretto.sparring.vocabulary import decode

    answers = greedy(load(entry.id, trained), [problem.prompt for problem, _ in asked])
    same = sum(
        decode(tokens).strip() == text.strip() for tokens, (_, text) in zip(answers, asked, strict=True)
    )
    return f"{same} of {len(asked)}"


def main() -> None:
    """Measure every shipped model on every family and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=500, help="problems a cell")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--pool", type=Path, help="a folder with pool.toml, in place of the shipped one")
    parser.add_argument(
        "--trained", type=Path, help="where the models were trained, to compare greedy answers"
    )
    args = parser.parse_args()
    cells: dict[tuple[str, str], list[bool]] = {}
    rows: list[str] = []
    checks: list[str] = []
    for entry in entries(args.pool):
        with served(entry.path) as connection:
            asked: list[tuple[Problem, str]] = []
            scored: dict[str, list[tuple[float, bool]]] = {"calibration": [], "test": []}
            times: list[float] = []
            tokens = 0
            for family in FAMILIES:
                for split, n in (("test", args.n), ("calibration", args.n // 2)):
                    for problem in problems([family], split, n, args.seed):  # type: ignore[arg-type]
                        text, least, seconds, usage = ask(connection, problem.prompt)
                        ok = grade(problem, text) == 1.0
                        scored[split].append((least, ok))
                        if split == "test":
                            cells.setdefault((entry.id, family), []).append(ok)
                            times.append(seconds)
                            tokens += usage["completion_tokens"]
                            asked.append((problem, text))
            sample = [problem.prompt for problem, _ in asked[:: max(1, len(asked) // 300)]]
            same_tokens = sum(
                post(
                    connection,
                    "/tokenize",
                    {
                        "content": post(
                            connection, "/apply-template", {"messages": [{"role": "user", "content": prompt}]}
                        )["prompt"],
                        "parse_special": True,
                    },
                )["tokens"]
                == prompt_tokens(prompt)
                for prompt in sample
            )
        times.sort()
        compared = (
            agreement(entry, asked[:: max(1, len(asked) // 400)], args.trained)
            if args.trained
            else "not asked"
        )
        rows.append(
            f"| {entry.id} | {same_tokens} of {len(sample)} | {compared} | {times[len(times) // 2] * 1e3:.1f}"
            f" | {times[int(len(times) * 0.95)] * 1e3:.1f} | {tokens / len(times):.0f} |"
        )
        area, cut, fitted = separation(scored["calibration"])
        own = [
            pair
            for pair, (problem, _) in zip(scored["test"], asked, strict=True)
            if problem.family in entry.families
        ]
        checks.append(
            f"| {entry.id} | {area:.3f} | {cut:.3f} | {fitted:.3f} | {balanced(scored['test'], cut):.3f}"
            f" | {separation(own)[0]:.3f} ({sum(not ok for _, ok in own)} wrong of {len(own)}) |"
        )
    report(cells, args.n)
    print(
        "\n| model | same tokens | same greedy answer | p50 ms | p95 ms | tokens an answer |\n|---|--:|--:|--:|--:|--:|"
    )
    print("\n".join(rows))
    print(
        "\n| model | AUC, calibration | threshold | balanced accuracy there | the same on test | AUC on own families, test |"
        "\n|---|--:|--:|--:|--:|--:|"
    )
    print("\n".join(checks))


def report(cells: dict[tuple[str, str], list[bool]], n: int) -> None:
    """The skill matrix, the mean over families, and the per-problem oracle."""
    names = list(dict.fromkeys(name for name, _ in cells))
    print(
        f"n = {n} a cell, Wilson 95 % intervals\n\n| family | {' | '.join(names)} | oracle |\n|---|{'--:|' * (len(names) + 1)}"
    )
    totals: dict[str, int] = dict.fromkeys([*names, "oracle"], 0)
    for family in FAMILIES:
        columns = {name: cells[name, family] for name in names}
        columns["oracle"] = [any(row) for row in zip(*columns.values(), strict=True)]
        for name, column in columns.items():
            totals[name] += sum(column)
        print(f"| {family} | {' | '.join(_cell(sum(column), n) for column in columns.values())} |")
    print(f"| **all** | {' | '.join(_cell(right, n * len(FAMILIES)) for right in totals.values())} |")


def _cell(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right / n:.3f} ({low:.3f}-{high:.3f})"


if __name__ == "__main__":
    main()
