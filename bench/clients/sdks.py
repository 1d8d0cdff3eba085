"""The client libraries that people use, each through every policy, against scripted upstreams and the real llama.cpp.

    python -m bench.clients.sdks                                   # all, some ten minutes; the first run installs the clients
    python -m bench.clients.sdks --client openai-node --feature turns --upstream llama.cpp

A cell is one client doing one thing (chat, stream, forced tool calls, a JSON schema, a tool loop) through one policy of a
real gateway process; it passes when everything that came back was checked and right. Cells go into .bench/sdks.json, where
a partial run replaces only its own, and the table into bench/CLIENTS.md. Exit code 1 when a cell failed, or an upstream was
sent what its vendor would refuse.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.clients.sdks_cases import FEATURES
from bench.clients.sdks_gateways import LLAMA, POLICIES, SCRIPTED, llama_config, scripted_config, wanted
from bench.clients.sdks_setup import CLIENTS, ROOT, command, prepare, version
from stretto.cli.progress import progress
from tests.acceptance.served import Served, served
from tests.acceptance.speakers import speakers

PAGE = ROOT / "bench" / "CLIENTS.md"
CELLS = ROOT / ".bench" / "sdks.json"
LINE = 1 << 20
PATIENCE = 240.0
"""Seconds for one cell."""


def lines_of(client: str, upstream: str, base: str, options: argparse.Namespace) -> list[str]:
    """What the driver of a client is told, a line for each cell."""
    found = []
    for feature in options.feature or FEATURES:
        for case in wanted(upstream, base, feature):
            if not options.policy or case.policy in options.policy:
                found.append(json.dumps({**asdict(case), "feature": feature}))
    return found


async def drive(
    client: str, lines: Sequence[str], log: Path, step: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Put one client through its cells."""
    cells: list[dict[str, Any]] = []
    told = await version(client)
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command(client),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LINE,
        )
        assert process.stdin
        assert process.stdout
        for line in lines:
            given = json.loads(line)
            cell = {"client": client, "version": told, "upstream": given["upstream"]}
            cell |= {"policy": given["policy"], "feature": given["feature"]}
            process.stdin.write(line.encode() + b"\n")
            try:
                cells.append(cell | await asyncio.wait_for(_answer(process.stdout), PATIENCE))
            except (TimeoutError, EOFError) as error:
                cells.append(cell | {"ok": False, "why": f"the driver: {type(error).__name__}", "seconds": 0})
                break
            step(client)
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
    return cells


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next line that tells of a cell; clients may print others."""
    while line := await reader.readline():
        if line.startswith(b'{"cell"'):
            found: dict[str, Any] = json.loads(line)
            return {name: found[name] for name in ("ok", "why", "seconds")}
    raise EOFError


async def behind(upstream: str, clients: Iterable[str], home: Path, options: argparse.Namespace) -> Any:
    """Every client in front of one gateway: the cells, and what the upstream complained of."""
    cells: list[dict[str, Any]] = []
    async with speakers() as scripted:
        config = scripted_config(scripted.base_url) if upstream == SCRIPTED else llama_config(home)
        with served(home, config) as gateway:
            await gateway.started()
            base = gateway.base_url.removesuffix("/v1")
            plan = {client: lines_of(client, upstream, base, options) for client in clients}
            log = CELLS.with_name("sdks.log")
            with progress(sum(map(len, plan.values())), upstream) as step:
                for client, lines in plan.items():
                    cells += await drive(client, lines, log, step)
                    kept(cells, options.out)  # a run that is cut short leaves what it found
            wrong = list(scripted.wrong) + await _stopped(gateway)
    return cells, wrong


async def _stopped(gateway: Served) -> list[str]:
    """What the gateway itself must not have done."""
    code = await asyncio.to_thread(gateway.stop)
    told = gateway.told()
    return [f"the gateway ended with {code}"] * bool(code) + ["a traceback in the gateway's log"] * (
        "Traceback" in told
    )


def kept(cells: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """All cells that there are, these in the place of older ones; written down."""

    def address(cell: dict[str, Any]) -> tuple[str, ...]:
        return tuple(cell[name] for name in ("client", "upstream", "policy", "feature"))

    older = json.loads(path.read_text())["cells"] if path.is_file() else []
    together = {address(cell): cell for cell in [*older, *cells]}
    order = list(CLIENTS)
    found = sorted(together.values(), key=lambda cell: order.index(cell["client"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": found}, indent=1) + "\n")
    return found


def table(cells: list[dict[str, Any]]) -> str:
    """The section of the page."""
    parts = []
    for upstream in (SCRIPTED, LLAMA):
        mine = [cell for cell in cells if cell["upstream"] == upstream]
        passed = sum(cell["ok"] for cell in mine)
        parts.append(f"### {upstream}: {passed} of {len(mine)} cells pass\n")
        parts.append(f"Each figure: passed of {', '.join(POLICIES[upstream])}.\n")
        parts.append(f"| client | version | {' | '.join(FEATURES)} |\n|---|---|{'---|' * len(FEATURES)}")
        for client in dict.fromkeys(cell["client"] for cell in mine):
            own = [cell for cell in mine if cell["client"] == client]
            row = []
            for feature in FEATURES:
                of = [cell for cell in own if cell["feature"] == feature]
                bad = [cell["policy"] for cell in of if not cell["ok"]]
                row.append(f"{len(of) - len(bad)}/{len(of)}" + (f" (not {', '.join(bad)})" if bad else ""))
            parts.append(f"| {client} | {own[-1]['version']} | {' | '.join(row)} |")
        failed = [cell for cell in mine if not cell["ok"]]
        parts += [""] + [
            f"* {c['client']}, {c['feature']}, {c['policy']}: {c['why'][:300].replace('|', '/')}"
            for c in failed
        ]
    return "\n".join(parts).rstrip() + "\n"


def publish(name: str, text: str, page: Path = PAGE) -> None:
    """Put a text between the marks of its section; the section is made where there is none."""
    begin, end = f"<!-- {name}: written by the program -->", f"<!-- /{name} -->"
    whole = page.read_text() if page.is_file() else "# What clients make of Stretto\n"
    if begin not in whole:
        whole = f"{whole.rstrip()}\n\n## {name}\n\n{begin}\n{end}\n"
    head, _, rest = whole.partition(begin)
    page.write_text(f"{head}{begin}\n\n{text}\n{end}{rest.partition(end)[2]}")


async def run(options: argparse.Namespace) -> int:
    """Everything that was asked for."""
    clients = options.client or list(CLIENTS)
    await prepare({CLIENTS[name][0] for name in clients}, lambda what: print(what, file=sys.stderr))
    if options.prepare:
        return 0
    cells: list[dict[str, Any]] = []
    wrong: list[str] = []
    for upstream in options.upstream or (SCRIPTED, LLAMA):
        with tempfile.TemporaryDirectory(prefix="stretto-sdks-") as home:
            found, complaints = await behind(upstream, clients, Path(home), options)
        cells += found
        wrong += complaints
    failed = [cell for cell in cells if not cell["ok"]]
    for cell in failed:
        names = (cell[name] for name in ("client", "upstream", "policy", "feature", "why"))
        print("FAIL", *names, sep=" | ")
    for complaint in dict.fromkeys(wrong):
        print("REFUSED", complaint)
    everything = kept(cells, options.out)
    if not options.quiet:
        publish("SDKs", table(everything))
    print(f"{len(cells) - len(failed)} of {len(cells)} cells pass; they are in {options.out}")
    return 1 if failed or wrong else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.clients.sdks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--client", action="append", choices=list(CLIENTS), help="only this one; repeatable")
    parser.add_argument("--upstream", action="append", choices=[SCRIPTED, LLAMA])
    parser.add_argument("--feature", action="append", choices=FEATURES)
    parser.add_argument("--policy", action="append", help="one of the table's")
    parser.add_argument("--out", type=Path, default=CELLS, help="where the cells go")
    parser.add_argument("--quiet", action="store_true", help="leave bench/CLIENTS.md as it is")
    parser.add_argument("--prepare", action="store_true", help="install the clients and do no more")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
