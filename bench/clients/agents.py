"""Five coding agents do a small task through Stretto, configured by `stretto connect` itself.

    python -m bench.clients.agents                          # install what is missing into .bench/agents, run all, some minutes
    python -m bench.clients.agents codex llm --mode fuse    # some of it
    python -m bench.clients.agents --record                 # and write the table into bench/CLIENTS.md

Each agent has a home of its own with settings of its owner in it. `stretto connect AGENT --write` points it at a gateway, it is
told to edit a file of a small project, a scripted upstream (`agents_upstream.py`) answers with tool calls of that agent, and the
edited program is run. Then `stretto connect AGENT --undo` must bring the owner's settings back byte for byte.
Needs npm and pip for the first run; nothing but loopback and the package registries is spoken to. Exit code 1 when a task failed.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clients.agents_upstream import BEFORE, NEW, TASK, Upstream

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".bench" / "agents"
STRETTO = [sys.executable, "-c", "from stretto.cli import main; main()"]
NPM = {
    "codex": "@openai/codex@0.169.0",
    "claude-code": "@anthropic-ai/claude-code@2.1.197",
    "opencode": "opencode-ai@1.18.33",
}
PIP = {"aider": "aider-chat==0.86.2", "llm": "llm==0.36"}
AGENTS = (*NPM, *PIP)
SECONDS = 480

MODES = {
    "solo, no key": "large",
    "solo": "large",
    "route": "route",
    "cascade": "ladder",
    "fuse": "panel",
}
"""Mode -> the name on the wire. All but the first go to a gateway that wants a key."""

CONFIG = """
[server]
port = {port}
data = "{data}"
{more}

[[worker]]
id = "small"
endpoints = [{{ base_url = "{upstream}" }}]
price = {{ input = 0.1, output = 0.4 }}
abilities = ["text", "tools", "json"]
context = 128000
max_output = 16000

[[worker]]
id = "large"
endpoints = [{{ base_url = "{upstream}" }}]
price = {{ input = 3, output = 12 }}
abilities = ["text", "tools", "json"]
context = 200000
max_output = 32000

[policy.ladder]
type = "cascade"
rungs = ["small", "large"]
check = "verifier"
verifier = "large"

[policy.panel]
type = "fuse"
panel = ["small", "large"]
how = "select"
judge = "large"

[[rule]]
when = {{ contains = ["exclamation"] }}
use = "large"
"""

OWNERS = {
    "codex": {
        ".codex/config.toml": '# my settings\nmodel = "gpt-5"   # the usual one\n\n[history]\npersistence = "none"\n'
    },
    "claude-code": {".claude/settings.json": '{\n    "cleanupPeriodDays": 20,\n    "env": {"MINE": "1"}\n}'},
    "opencode": {".config/opencode/opencode.json": '{"autoupdate": false, "share": "disabled"}\n'},
    "aider": {".aider.conf.yml": "# mine\nmodel: gpt-4o\nanalytics-disable: true\ncheck-update: false\n"},
    "llm": {".config/io.datasette.llm/extra-openai-models.yaml": "- model_id: mine\n  model_name: mine\n"},
}
"""What stands in each home before: settings that `connect` must leave, or bring back."""

FUNCTIONS = '''
from pathlib import Path


def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()


def replace(path: str, old: str, new: str) -> str:
    """Replace a text in a file."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    return "done"
'''
"""The tools that `llm` is given."""


@dataclass(frozen=True)
class Result:
    """What became of one task."""

    agent: str
    mode: str
    passed: bool
    seconds: float
    runs: str
    upstream: str
    note: str = ""


# --- installing --------------------------------------------------------------------------------------------------


def install(agents: Sequence[str]) -> None:
    """Put what is missing into .bench/agents."""
    PLACE.mkdir(parents=True, exist_ok=True)
    missing = [NPM[agent] for agent in agents if agent in NPM and not program(agent).exists()]
    if missing:
        print("npm install", *missing, flush=True)
        (PLACE / "package.json").exists() or (PLACE / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *missing], cwd=PLACE, check=True)
    for agent in agents:
        if agent in PIP and not program(agent).exists():
            print("pip install", PIP[agent], flush=True)
            subprocess.run([sys.executable, "-m", "venv", PLACE / agent], check=True)
            subprocess.run([PLACE / agent / "bin" / "pip", "install", "-q", PIP[agent]], check=True)


def program(agent: str) -> Path:
    """Where an agent's program is."""
    if agent in NPM:
        return PLACE / "node_modules" / ".bin" / {"claude-code": "claude"}.get(agent, agent)
    return PLACE / agent / "bin" / agent


def command(agent: str, model: str, project: Path) -> list[str]:
    """How an agent is told the task, from the project's folder."""
    words = {
        "codex": ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", TASK],
        "claude-code": ["-p", TASK, "--permission-mode", "acceptEdits", "--allowedTools", "Read,Edit"],
        "opencode": ["run", TASK],
        "aider": ["--yes-always", "--no-git", "--message", TASK, "greet.py"],
        "llm": [
            "-m",
            model if model.startswith("stretto") else f"stretto/{model}",
            "--functions",
            FUNCTIONS,
            TASK,
        ],
    }
    return [str(program(agent)), *words[agent]]


# --- gateways ----------------------------------------------------------------------------------------------------


class Gateway:
    """A running `stretto serve`."""

    def __init__(self, folder: Path, upstream: str, more: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.config = folder / "stretto.toml"
        self.config.write_text(
            CONFIG.format(port=_free_port(), data=folder / "data", upstream=upstream, more=more)
        )
        self.port = int(re.findall(r"port = (\d+)", self.config.read_text())[0])
        self.key = ""

    def stretto(self, *arguments: str, home: Path | None = None) -> str:
        """What a command prints."""
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home or self.folder),
            "STRETTO_CONFIG": str(self.config),
        }
        done = subprocess.run(
            [*STRETTO, *arguments], env=environ, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"stretto {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def runs(self) -> list[Mapping[str, Any]]:
        """The latest runs, newest first."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/v1/runs?limit=100", headers={"authorization": f"Bearer {self.key}"})
        found = json.loads(connection.getresponse().read())
        connection.close()
        return list(found["data"])


@contextmanager
def gateway(folder: Path, upstream: str, *, keyed: bool) -> Iterator[Gateway]:
    """A gateway until the end of the context."""
    it = Gateway(folder, upstream, "" if keyed else "anonymous = true")
    if keyed:
        it.key = json.loads(it.stretto("keys", "create", "agents", "--json"))["key"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "STRETTO_CONFIG": str(it.config)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*STRETTO, "serve"], env=environ, cwd=folder, stdout=log, stderr=log)
    try:
        while b"Stretto" not in (folder / "log").read_bytes():
            if process.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.05)
        yield it
    finally:
        process.terminate()
        process.wait(timeout=30)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- one task ----------------------------------------------------------------------------------------------------


def prepare(agent: str, home: Path) -> None:
    """An empty home, but for what its owner has set."""
    shutil.rmtree(home, ignore_errors=True)
    for name, text in OWNERS[agent].items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def environment(agent: str, gate: Gateway, home: Path) -> dict[str, str]:
    """What the agent finds in its environment: no key but the gateway's, and no leave to phone anywhere."""
    environ = {
        "PATH": f"{program(agent).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "TERM": "dumb",
        "DO_NOT_TRACK": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    if gate.key:
        environ["STRETTO_KEY"] = gate.key
        if agent == "aider":
            environ["OPENAI_API_KEY"] = gate.key  # as `stretto connect aider` tells its user to
    return environ


def work(agent: str, mode: str, gate: Gateway, upstream: Upstream, home: Path) -> Result:
    """Connect, do the task, look at what was done."""
    project = home / "project"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir(parents=True)
    (project / "greet.py").write_text(BEFORE)
    subprocess.run(
        ["git", "init", "-q"], cwd=project, check=True
    )  # else an agent takes all of Stretto for its project
    model = MODES[mode]
    gate.stretto("connect", agent, "--model", model, "--write", home=home)
    again = gate.stretto("connect", agent, "--model", model, "--write", home=home)
    idle = all("nothing to change" in line for line in again.partition("Try it")[0].splitlines())
    environ = environment(agent, gate, home)
    if gate.key and agent == "llm":
        subprocess.run(
            [program("llm"), "keys", "set", "stretto", "--value", gate.key], env=environ, check=True
        )
    known = {run["run"] for run in gate.runs()}
    upstream.begin(agent, project)
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command(agent, model, project),
            cwd=project,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        said, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = f"not done after {SECONDS} s: {late.stdout!r}", -1
    seconds = time.monotonic() - begun
    (home / f"{model}.log").write_text(said)
    (home / f"{model}.json").write_text(json.dumps(upstream.bodies, indent=1))
    runs = [run for run in gate.runs() if run["run"] not in known]
    told = subprocess.run([sys.executable, "greet.py"], cwd=project, capture_output=True, text=True).stdout
    problems = []
    if NEW not in (project / "greet.py").read_text() or told != "Hello, Ada!\n":
        problems.append("the file is not as it should be")
    if code:
        problems.append(f"exit code {code}")
    if not idle:
        problems.append("a second `connect` changed something")
    if bad := [run for run in runs if run["status"] != "finished"]:
        problems.append(f"{len(bad)} failed calls")
    wrong = [run["model"] for run in runs if run["model"] != model]
    if wrong or not runs:
        problems.append(f"asked {', '.join(wrong) or 'nobody'}, not {model}")
    if mode in ("cascade", "fuse") and not any(
        word in key for key in upstream.asked for word in ("judge", "verifier")
    ):
        problems.append("nothing was orchestrated")
    asked = ", ".join(f"{count} {key}" for key, count in sorted(upstream.asked.items()))
    return Result(agent, mode, not problems, seconds, str(len(runs)), asked, "; ".join(problems))


def restored(agent: str, gate: Gateway, home: Path) -> str:
    """Undo; what is not as it was, or nothing."""
    gate.stretto("connect", agent, "--undo", home=home)
    wrong = [name for name, text in OWNERS[agent].items() if (home / name).read_text() != text]
    left = [str(path.relative_to(home)) for path in home.rglob("*stretto-*") if "project" not in path.parts]
    return ", ".join(wrong + left)


def version(agent: str) -> str:
    """What an agent says of itself."""
    told = subprocess.run(
        [program(agent), "--version"], capture_output=True, text=True, env=os.environ | {"HOME": str(PLACE)}
    )
    return (re.search(r"\d+\.\d+[.\d]*", told.stdout) or ["?"])[0]


# --- the table ---------------------------------------------------------------------------------------------------


def table(results: Sequence[Result], versions: Mapping[str, str], undone: Mapping[str, str]) -> str:
    """The results as Markdown."""
    lines = [
        "| agent | mode | task | calls to Stretto | calls to the two models | seconds |",
        "|---|---|---|--:|---|--:|",
    ]
    for r in results:
        state = "done" if r.passed else f"**failed**: {r.note}"
        lines.append(
            f"| {r.agent} {versions[r.agent]} | {r.mode} | {state} | {r.runs} | {r.upstream} | {r.seconds:.1f} |"
        )
    kept = [agent for agent, wrong in undone.items() if not wrong]
    lines += [
        "",
        f"`--undo` brought the owner's settings back byte for byte: {', '.join(kept) or 'nowhere'}.",
    ]
    lines += [f"**Not brought back** for {agent}: {wrong}." for agent, wrong in undone.items() if wrong]
    return "\n".join(lines)


def record(text: str) -> None:
    """Put the table into its place in bench/CLIENTS.md."""
    page = ROOT / "bench" / "CLIENTS.md"
    begin, end = "<!-- agents: begin -->", "<!-- agents: end -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def main() -> None:
    """The command line."""
    about = __doc__ or ""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help=f"which; default all: {', '.join(AGENTS)}")
    parser.add_argument("--mode", action="append", choices=list(MODES), help="which modes; default all")
    parser.add_argument("--record", action="store_true", help="write the table into bench/CLIENTS.md")
    parser.add_argument(
        "--folder", default="run", help="where below .bench/agents; one for each of several at a time"
    )
    options = parser.parse_args()
    agents = options.agents or list(AGENTS)
    if unknown := set(agents) - set(AGENTS):
        parser.error(f"there is no agent {', '.join(unknown)}; there are: {', '.join(AGENTS)}")
    install(agents)
    folder = PLACE / options.folder
    shutil.rmtree(folder, ignore_errors=True)
    upstream, results, undone = Upstream(), [], {}
    with (
        gateway(folder / "keyed", upstream.base_url, keyed=True) as keyed,
        gateway(folder / "open", upstream.base_url, keyed=False) as free,
    ):
        for agent in agents:
            home = folder / agent
            prepare(agent, home)
            for mode in options.mode or MODES:
                gate = free if mode.endswith("no key") else keyed
                results.append(work(agent, mode, gate, upstream, home))
                r = results[-1]
                print(
                    f"{'ok  ' if r.passed else 'FAIL'} {r.agent:12} {r.mode:13} {r.seconds:5.1f} s  {r.upstream}  {r.note}",
                    flush=True,
                )
                if gate is free:
                    gate.stretto("connect", agent, "--undo", home=home)
            undone[agent] = (
                restored(agent, keyed, home)
                if any(not m.endswith("no key") for m in options.mode or MODES)
                else ""
            )
    text = table(results, {agent: version(agent) for agent in agents}, undone)
    print(f"\n{text}")
    if options.record:
        record(text)
    if not all(result.passed for result in results) or any(undone.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
