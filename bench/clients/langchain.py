"""LangChain's standard tests for chat models (unit, Chat Completions, Responses) against a real gateway, through every policy.

    python -m bench.clients.langchain                     # all policies, some five minutes; the first run installs LangChain
    python -m bench.clients.langchain --policy fuse --tests test_agent_loop

Results go into .bench/langchain.json and the table into bench/CLIENTS.md. Exit code 1 when a test failed.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench.clients.sdks import publish
from bench.clients.sdks_gateways import MODELS, POLICIES, SCRIPTED, scripted_config
from bench.clients.sdks_setup import ROOT, prepare, python, version
from tests.acceptance.served import served
from tests.acceptance.speakers import speakers

RESULTS = ROOT / ".bench" / "langchain.json"
LOOP = ("-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session")
"""LangChain keeps connections of its asynchronous client across tests, so they must share one event loop."""
SUITE = "bench/clients/langchain_suite.py"


async def suite(base: str, policy: str, tests: str, folder: Path) -> dict[str, Any]:
    """One run of the suite: counts, and each failure and skip with its reason."""
    report = folder / f"{policy.replace(' ', '-')}.xml"
    chosen = f"not serdes and ({tests})" if tests else "not serdes"
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "-o", "asyncio_mode=auto", *LOOP]
    words = [python("langchain"), "-m", "pytest", "--rootdir", str(folder), "-c", os.devnull, *options]
    environ = {**os.environ, "STRETTO_BASE": base, "STRETTO_MODEL": MODELS.get(policy, policy)}
    process = await asyncio.create_subprocess_exec(
        *words,
        *("--benchmark-disable", "-k", chosen, f"--junitxml={report}", SUITE),
        cwd=ROOT,
        env={**environ, "DO_NOT_TRACK": "1"},
        stdout=sys.stderr,
    )
    await process.wait()
    return told(report)


def told(report: Path) -> dict[str, Any]:
    """What a JUnit report says."""
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    skipped: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        out = case.find("skipped")
        kind = "failed" if bad is not None else "skipped" if out is not None else "passed"
        counts[kind] += 1
        if bad is not None:
            failed[name] = str(bad.get("message"))[:400]
        elif out is not None:
            reason = str(out.get("message") or out.get("type")).removeprefix("Skipped: ")
            skipped.setdefault(reason, []).append(name)
    return {**counts, "failures": failed, "skips": skipped}


def table(results: dict[str, dict[str, Any]], versions: str) -> str:
    """The section of the page."""
    lines = [
        f"{versions}; without the one test that needs a recorded snapshot (`serdes`).\n",
        "| policy | passed | skipped | failed |\n|---|--:|--:|--:|",
    ]
    for policy, found in results.items():
        lines.append(
            f"| {policy} | {found.get('passed', 0)} | {found.get('skipped', 0)} | {found.get('failed', 0)} |"
        )
    lines.append("")
    skips: dict[str, set[str]] = {}
    for policy, found in results.items():
        for name, why in found["failures"].items():
            lines.append(f"* failed, {policy}: `{name}`: {why.splitlines()[0]}")
        for reason, names in found["skips"].items():
            skips.setdefault(reason, set()).update(names)
    lines += [f"* skipped, {reason}: {', '.join(sorted(names))}" for reason, names in sorted(skips.items())]
    return "\n".join(lines) + "\n"


def write(results: dict[str, dict[str, Any]]) -> None:
    """Keep what there is; a run of some policies replaces only theirs."""
    RESULTS.parent.mkdir(exist_ok=True)
    ordered = {policy: results[policy] for policy in POLICIES[SCRIPTED] if policy in results}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")


async def run(options: argparse.Namespace) -> int:
    """Every policy that was asked for."""
    await prepare({"langchain"}, lambda what: print(what, file=sys.stderr))
    results: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    chosen = options.policy or POLICIES[SCRIPTED]
    with tempfile.TemporaryDirectory(prefix="stretto-langchain-") as folder:
        async with speakers(own_ids=False) as upstream:
            with served(Path(folder), scripted_config(upstream.base_url)) as gateway:
                await gateway.started()
                base = gateway.base_url.removesuffix("/v1")
                for policy in chosen:
                    found = await suite(base, policy, options.tests, Path(folder))
                    results[policy] = found
                    write(results)
                    counts = {k: v for k, v in found.items() if isinstance(v, int)}
                    print(policy, json.dumps(counts), *found["failures"], sep="\n  ", flush=True)
        for complaint in dict.fromkeys(upstream.wrong):
            print("REFUSED", complaint)
    if not options.quiet:
        versions = f"langchain-openai {await version('langchain')}, langchain-tests 1.1.9"
        publish("LangChain", table(results, versions))
    return 1 if upstream.wrong or any(results[policy]["failures"] for policy in chosen) else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.clients.langchain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", action="append", choices=POLICIES[SCRIPTED])
    parser.add_argument("--tests", default="", help="an expression for pytest's -k")
    parser.add_argument("--quiet", action="store_true", help="leave bench/CLIENTS.md as it is")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
