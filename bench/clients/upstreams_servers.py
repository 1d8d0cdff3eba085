"""Upstreams that nobody here wrote, started on loopback: llama.cpp's server, the LiteLLM proxy in front of it, Prism."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["FOLDER", "KEY", "litellm", "llama", "prepare_litellm", "prepare_prism", "prism"]

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".bench" / "upstreams"
KEY: Final = "sk-upstreams-0001"
"""The key that the upstreams which check one want to see."""
LITELLM: Final = "litellm[proxy]==1.106.2"
PRISM: Final = "@stoplight/prism-cli@5.14.2"

_LLAMA: Final = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
p.api_keys, p.model_alias = [sys.argv[3]], {"handmade"}
p.n_ctx, p.n_parallel, p.use_jinja, p.warmup, p.cpuparams.n_threads = 8192, 4, True, False, 1
server = xllamacpp.Server(p)
time.sleep(86400)
"""

_PROXY: Final = """
model_list:
  - model_name: handmade
    litellm_params: {{ model: openai/handmade, api_base: "{base}", api_key: "{key}" }}
litellm_settings: {{ num_retries: 0, telemetry: false }}
general_settings: {{ master_key: "{key}" }}
"""


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _run(*words: str, folder: Path = ROOT) -> None:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{complaint.decode()[-2000:]}")


async def prepare_litellm() -> Path:
    """The proxy in an environment of its own; minutes at the first run."""
    command = FOLDER / "litellm" / "bin" / "litellm"
    if not command.exists():
        await _run(sys.executable, "-m", "venv", str(FOLDER / "litellm"))
        await _run(str(command.with_name("python")), "-m", "pip", "install", "--quiet", LITELLM)
    return command


async def prepare_prism() -> Path:
    """Prism; a minute at the first run."""
    folder = FOLDER / "prism"
    command = folder / "node_modules" / ".bin" / "prism"
    if not command.exists():
        if shutil.which("npm") is None:
            raise SystemExit("npm is not on the PATH: install node 20 or later, or leave Prism out")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        await _run("npm", "install", "--no-audit", "--no-fund", PRISM, folder=folder)
    return command


@contextlib.asynccontextmanager
async def _server(
    name: str, words: list[str], port: int, path: str, seconds: float, env: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """A server process until the end of the block; its base URL. It is up once `path` has an answer."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *words, stdout=log, stderr=log, env={**os.environ, **(env or {})}, cwd=FOLDER
        )
    try:
        end = time.monotonic() + seconds
        while not await _answers(port, path):
            if process.returncode is not None or time.monotonic() > end:
                raise SystemExit(f"{name} did not start; see {FOLDER / f'{name}.log'}")
            await asyncio.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n".encode())
        status = (await asyncio.wait_for(reader.readline(), 20)).split()
        writer.close()
    except (OSError, TimeoutError):
        return False
    return len(status) > 1 and status[1] != b"503"


def llama(model: Path) -> contextlib.AbstractAsyncContextManager[str]:
    """llama.cpp's HTTP server (PyPI xllamacpp), as Stretto's users would run it: over TCP, with a key."""
    port = free_port()
    words = [sys.executable, "-c", _LLAMA, str(model), str(port), KEY]
    return _server("llama.cpp", words, port, "/health", 60)


def litellm(command: Path, base: str) -> contextlib.AbstractAsyncContextManager[str]:
    """The LiteLLM proxy over the chat route of `base`: it makes Responses and Messages of it by itself."""
    port, file = free_port(), FOLDER / "litellm.yaml"
    file.write_text(_PROXY.format(base=base, key=KEY))
    words = [str(command), "--config", str(file), "--port", str(port), "--host", "127.0.0.1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "DO_NOT_TRACK": "1"}
    return _server("litellm", words, port, "/health/liveliness", 540, env)


def prism(command: Path, specification: Path) -> contextlib.AbstractAsyncContextManager[str]:
    """A mock made from OpenAI's specification: it refuses requests that break it (422), and answers with its examples.

    Of the specification it gets the operations that are asked and what they refer to, as they stand: the whole of it takes
    Prism minutes to start on a busy machine.
    """
    port, file = free_port(), FOLDER / "prism.json"
    read = "console.log(JSON.stringify(require('js-yaml').load(require('fs').readFileSync(process.argv[1],'utf8'))))"
    told = subprocess.run(
        ["node", "-e", read, str(specification)], cwd=FOLDER / "prism", capture_output=True, check=True
    )
    file.write_text(json.dumps(_cut(json.loads(told.stdout), ("/chat/completions", "/responses", "/models"))))
    words = [str(command), "mock", "--errors", "-h", "127.0.0.1", "-p", str(port), str(file)]
    return _server("prism", words, port, "/models", 300)


def _cut(specification: dict[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    """The specification with these paths, and the components that they reach."""
    kept = {path: specification["paths"][path] for path in paths}
    components: dict[str, dict[str, Any]] = {}
    waiting: list[Any] = [kept, specification.get("security", [])]
    security = specification["components"].get("securitySchemes", {})
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            name = value.get("$ref")
            if isinstance(name, str) and name.startswith("#/components/"):
                kind, which = name.removeprefix("#/components/").split("/", 1)
                found = components.setdefault(kind, {})
                if which not in found:
                    found[which] = specification["components"][kind][which]
                    waiting.append(found[which])
    head = {name: specification[name] for name in ("openapi", "info", "security") if name in specification}
    return {**head, "paths": kept, "components": {**components, "securitySchemes": security}}
