"""Environments for the clients, under .bench/: a virtual environment for each that needs one, and node_modules; all pinned."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["CLIENTS", "FOLDER", "NODE", "ROOT", "command", "prepare", "python", "version"]

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".bench" / "clients"
NODE: Final = FOLDER / "node"

PACKAGES: Final = {
    "langchain": ("langchain-openai==1.7.3", "langchain-tests==1.1.9", "openai==3.54.0"),
    "pydantic-ai": ("pydantic-ai-slim[openai]==2.68.0",),
    "instructor": ("instructor==1.17.0", "openai==3.3.0"),
    "llama-index": ("llama-index-llms-openai-like==0.8.1",),
    "litellm": ("litellm==1.106.2", "mcp==2.3.0"),  # it imports mcp wherever a request has tools
}
"""What is installed where. `openai` and `anthropic` are Stretto's own development dependencies: they run in its environment."""

CLIENTS: Final = {
    "openai-python": ("", "openai"),
    "openai-python-responses": ("", "openai"),
    "openai-node": ("node", "openai"),
    "openai-node-responses": ("node", "openai"),
    "anthropic-python": ("", "anthropic"),
    "anthropic-node": ("node", "@anthropic-ai/sdk"),
    "langchain": ("langchain", "langchain-openai"),
    "langchain-responses": ("langchain", "langchain-openai"),
    "pydantic-ai": ("pydantic-ai", "pydantic-ai-slim"),
    "pydantic-ai-responses": ("pydantic-ai", "pydantic-ai-slim"),
    "instructor": ("instructor", "instructor"),
    "llama-index": ("llama-index", "llama-index-llms-openai-like"),
    "ai-openai-compatible": ("node", "@ai-sdk/openai-compatible"),
    "ai-openai-responses": ("node", "@ai-sdk/openai"),
    "ai-anthropic": ("node", "@ai-sdk/anthropic"),
    "litellm": ("litellm", "litellm"),
    "litellm-messages": ("litellm", "litellm"),
}
"""Client: its environment ("" is this one) and the package whose version is told."""


def python(environment: str) -> str:
    """The interpreter of an environment."""
    return str(FOLDER / f"py-{environment}" / "bin" / "python") if environment else sys.executable


def command(client: str) -> list[str]:
    """The program that drives a client; it runs in the root of the repository."""
    environment, _ = CLIENTS[client]
    if environment == "node":
        return ["node", "bench/clients/node_drive.mjs", client, str(NODE)]
    return [python(environment), "-m", "bench.clients.sdks_drive", client]


async def version(client: str) -> str:
    """The version of a client's package, as it is installed."""
    environment, package = CLIENTS[client]
    if environment == "node":
        told = json.loads((NODE / "node_modules" / package / "package.json").read_text())
        return str(told["version"])
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return (await _run([python(environment), "-c", code])).strip()


async def prepare(environments: set[str], say: Callable[[str], None]) -> None:
    """Install what is missing. Minutes at the first run, nothing later."""
    for environment in sorted(environments - {""}):
        if environment == "node":
            await _prepare_node(say)
            continue
        folder, wanted = FOLDER / f"py-{environment}", "\n".join(PACKAGES[environment])
        stamp = folder / "installed"
        if stamp.is_file() and stamp.read_text() == wanted:
            continue
        say(f"installing {' '.join(PACKAGES[environment])}")
        if not (folder / "bin" / "python").exists():
            await _run([sys.executable, "-m", "venv", str(folder)])
        pip = [python(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        await _run([*pip, *PACKAGES[environment]])
        stamp.write_text(wanted)


async def _prepare_node(say: Callable[[str], None]) -> None:
    wanted = (ROOT / "bench" / "clients" / "node" / "package.json").read_text()
    stamp = NODE / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if shutil.which("npm") is None:
        raise SystemExit("npm is not on the PATH: install node 20 or later, or leave the npm clients out")
    say("installing the npm clients")
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text(wanted)
    await _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], NODE)
    stamp.write_text(wanted)


async def _run(words: list[str], folder: Path = ROOT) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, complaint = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{complaint.decode()[-2000:]}")
    return told.decode()
