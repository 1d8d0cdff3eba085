"""The child program of `stretto.pool.local`: one process that holds every local model.

    python -P -m stretto.pool.llama --control FD --directory DIR --log FILE --owner PID

Each model is a llama.cpp server of its own on its own Unix socket in DIR, so answers never pass through Python. The control
socket (FD, already listening) speaks JSON lines: `{"id": 1, "op": "load", "path": ..., "purpose": ..., ...}` is answered by
`{"id": 1, "ok": {...}}` or `{"id": 1, "error": "..."}`; the other operation is `status`.

The process ends when its standard input does, which is when its owner does. It always ends by `os._exit`: tearing down a
server that has only just started hangs in about one of ten tries (xllamacpp 2026.10). Loading holds the interpreter lock, so
loads are one after the other while the models that are up keep answering. A load that takes the process down leaves its note
in DIR; the next process tries that file in a throwaway process first, and so refuses it without going down again.
"""

import argparse
import asyncio
import atexit
import ctypes
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from stretto.errors import LocalModelError
from stretto.pool.gguf import FileIdentity, GgufInfo, file_identity, read_gguf_header

__all__ = ["Loaded", "Models", "Order", "main", "reason_in", "shape", "start_server"]

KV_BUDGET: Final = 1 << 30
"""Bytes of attention memory for one model; as many slots as fit (one always does)."""
LOG_BYTES: Final = 1 << 20
"""Size at which the log starts anew; the one before is kept beside it."""
SMALL: Final = 64 << 20
"""Bytes below which a model runs on one thread: more only cost more there."""
CONNECTIONS: Final = 256
"""Connections that one model's server holds at a time, each on a thread of its own (about 8 kB). More have to wait until one
closes: up to 5 s, llama.cpp's patience with an idle one. Its default, about a dozen, is too few for sixteen callers."""
GRACE: Final = 60.0
"""Seconds for which the server of a replaced file goes on, for the answers it has begun."""
PROBE_SECONDS: Final = 120.0

_ERROR_LINE: Final = re.compile(r"^[\d.]+ E (?:\w+\s+)?(?:\S+?: )?(.*)$")


@dataclass(frozen=True, slots=True)
class Order:
    """What to load, and how: `context` bounds the tokens of one request, `slots` the requests that are answered at a time."""

    path: str
    purpose: str
    context: int
    slots: int
    threads: int | None

    @property
    def key(self) -> tuple[str, str]:
        """What tells one server from another."""
        return self.path, self.purpose


@dataclass(frozen=True, slots=True)
class Loaded:
    """One llama.cpp server that is up."""

    order: Order
    identity: FileIdentity
    socket: str
    context: int
    slots: int
    server: object

    def public(self) -> dict[str, Any]:
        """What the control socket tells of it."""
        order, size = self.order, {"context": self.context, "slots": self.slots}
        return {
            "path": order.path,
            "purpose": order.purpose,
            "identity": self.identity,
            "socket": self.socket,
            **size,
        }


def shape(info: GgufInfo, order: Order) -> tuple[int, int, int]:
    """Tokens of context for each slot, slots, threads."""
    context = max(1, min(info.context or 2048, order.context))
    slots = max(1, min(order.slots, KV_BUDGET // max(1, context * info.kv_bytes)))
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = order.threads or (1 if info.size < SMALL else min(8, cores))
    return context, slots, threads


def reason_in(log: str) -> str:
    """Why llama.cpp failed, from what it wrote; empty when it did not say."""
    last = ""
    for line in log.splitlines():
        if "GGML_ASSERT" in line or "terminate called" in line or "what():" in line:
            return line.strip()
        if "error loading model: " in line:
            return line.split("error loading model: ", 1)[1]
        if found := _ERROR_LINE.match(line):
            last = found[1]
    return last


def start_server(order: Order, info: GgufInfo, address: str) -> object:
    """A running llama.cpp server. LocalModelError when the engine is not installed or refuses the file."""
    try:
        import xllamacpp
    except ImportError as error:
        raise LocalModelError(f"llama.cpp is not installed ({error}); run `pip install xllamacpp`") from None
    context, slots, threads = shape(info, order)
    p = xllamacpp.CommonParams()
    p.model.path = order.path
    p.model_alias = {Path(order.path).name}
    p.hostnames = [address]
    p.n_threads_http = CONNECTIONS
    p.n_parallel = slots
    p.n_ctx = context * slots
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
    p.verbosity = 1  # errors only
    p.use_jinja = True
    p.endpoint_metrics = True
    p.fit_params = p.ui = False
    p.warmup = True  # so that a file over which llama.cpp dies kills it now, while we know the culprit
    p.cache_ram_mib = 0  # each slot keeps its own prefix; the default reserves up to 8 GiB for more
    if order.purpose != "text":
        p.embedding = True
        p.n_batch = p.n_ubatch = max(512, min(context, 2048))  # an embedded text must fit in one batch
        pooling = xllamacpp.llama_pooling_type
        if order.purpose == "mean":
            p.pooling_type = pooling.LLAMA_POOLING_TYPE_MEAN
            # side by side it cuts texts of unequal length into several batches, and gives the mean over the last of them
            p.n_parallel, p.n_ctx = 1, context
        elif info.pooling is None:
            p.pooling_type = pooling.LLAMA_POOLING_TYPE_LAST
    try:
        return xllamacpp.Server(p)
    except RuntimeError as error:
        raise LocalModelError(str(error)) from None


class Models:
    """The models of this process, and the notes about those that took one down."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self._log = log
        self._loaded: dict[tuple[str, str], Loaded] = {}
        self._note = directory / "loading.json"
        self._suspects_file = directory / "suspects.json"
        self._suspects: list[list[Any]] = _read_json(self._suspects_file, [])
        if (left := _read_json(self._note, None)) is not None:
            self._suspects = [*self._suspects[-63:], left]
            self._keep_suspects()
            self._note.unlink()

    def status(self) -> dict[str, Any]:
        """The process and its models."""
        return {"pid": os.getpid(), "models": [model.public() for model in self._loaded.values()]}

    async def load(self, order: Order) -> dict[str, Any]:
        """The server for this file as it is now, started if there is none. LocalModelError when it cannot be served."""
        identity = file_identity(order.path)
        known = self._loaded.get(order.key)
        if known is not None and known.identity == identity:
            return known.public()
        info = read_gguf_header(order.path)
        if order.purpose == "text" and not info.causal:
            raise LocalModelError(
                f"{order.path} is an embedding model ({info.architecture}); it cannot write text"
            )
        suspect = [order.path, order.purpose, list(identity)]
        if suspect in self._suspects:
            await self._probe(order)
            self._suspects.remove(suspect)
            self._keep_suspects()
        self._note.write_text(json.dumps(suspect))
        try:
            model = self._start(order, info, identity)
        finally:
            self._note.unlink()
        if known is not None:  # the file was replaced: the old server goes when its answers are done
            asyncio.get_running_loop().call_later(GRACE, _keep_until_now, known.server)
        self._loaded[order.key] = model
        return model.public()

    def _start(self, order: Order, info: GgufInfo, identity: FileIdentity) -> Loaded:
        name = blake2b(repr((order.key, identity)).encode(), digest_size=6).hexdigest()
        address = self._directory / f"{name}.sock"
        address.unlink(missing_ok=True)
        before = self._log.stat().st_size
        try:
            server = start_server(order, info, str(address))
        except LocalModelError as error:
            with self._log.open("rb") as log:
                log.seek(before)
                why = reason_in(log.read(1 << 16).decode("utf-8", "replace"))
            raise LocalModelError(f"{order.path} cannot be loaded by llama.cpp: {why or error}") from None
        context, slots, _ = shape(info, order)
        return Loaded(order, identity, str(address), context, slots, server)

    async def _probe(self, order: Order) -> None:
        """Load a file that a process died over in a throwaway process. LocalModelError when that one dies as well."""
        address = self._directory / f"probe-{os.getpid()}.sock"
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "stretto.pool.llama", "--probe", json.dumps(asdict(order))),
            *("--directory", str(self._directory), "--owner", str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                _, wrote = await child.communicate()
        except TimeoutError:
            child.kill()
            await child.wait()
            raise LocalModelError(
                f"{order.path} is not served: llama.cpp died over it, then hung over it"
            ) from None
        finally:
            address.unlink(missing_ok=True)
        if child.returncode and child.returncode < 0:
            why = reason_in(wrote.decode("utf-8", "replace"))
            what = f"{order.path} is not served: llama.cpp dies of {signal.Signals(-child.returncode).name} while it loads it"
            raise LocalModelError(f"{what}{': ' if why else ''}{why}")

    def _keep_suspects(self) -> None:
        self._suspects_file.write_text(json.dumps(self._suspects))


def _read_json(path: Path, otherwise: Any) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return otherwise


def _keep_until_now(server: object) -> None:
    """A timer holds the last reference to a server; when it has called this, the server is gone."""


def _live_no_longer_than(owner: int) -> None:
    """On Linux, have the kernel end this process with its owner, also while it is busy in native code."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != owner:
        os._exit(0)


def _bound_log(log: Path) -> None:
    """Begin the log anew once it is large; standard error appends to it, so truncation is safe."""
    try:
        if stat.S_ISREG(os.fstat(2).st_mode) and log.stat().st_size > LOG_BYTES:
            with log.open("rb+") as file:
                file.seek(-LOG_BYTES // 2, os.SEEK_END)
                log.with_suffix(".log.1").write_bytes(file.read(LOG_BYTES))
                file.truncate(0)
    except OSError as error:
        print(f"the log cannot be bounded: {error}", file=sys.stderr)


async def _converse(models: Models, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One gateway process's requests, in the order they come."""
    try:
        while line := await reader.readline():
            order = json.loads(line)
            number = order.pop("id")
            operation = order.pop("op")
            try:
                found = models.status() if operation == "status" else await models.load(Order(**order))
                answer = {"id": number, "ok": found}
            except LocalModelError as error:
                answer = {"id": number, "error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
    except (ValueError, KeyError, TypeError) as error:
        print(f"control: not understood: {error!r}", file=sys.stderr, flush=True)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _serve(control: int, models: Models, log: Path) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(0, lambda: os.read(0, 1) or os._exit(0))

    def tend_log() -> None:
        _bound_log(log)
        loop.call_later(60, tend_log)

    tend_log()
    listener = socket.socket(fileno=control)
    server = await asyncio.start_unix_server(lambda r, w: _converse(models, r, w), sock=listener)
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the child program; it does not return."""
    parser = argparse.ArgumentParser(
        prog="stretto.pool.llama", description="Holds the local models of a data folder."
    )
    parser.add_argument("--control", type=int, help="number of the inherited, listening control socket")
    parser.add_argument("--directory", type=Path, required=True, help="private folder for sockets and notes")
    parser.add_argument("--log", type=Path, help="the file that standard error goes to")
    parser.add_argument("--owner", type=int, required=True, help="process id to end with")
    parser.add_argument("--probe", help="an order as JSON: load it, then end")
    options = parser.parse_args(arguments)
    _live_no_longer_than(options.owner)
    atexit.register(os._exit, 1)
    if options.probe:
        order = Order(**json.loads(options.probe))
        start_server(
            order, read_gguf_header(order.path), str(options.directory / f"probe-{options.owner}.sock")
        )
        os._exit(0)
    asyncio.run(_serve(options.control, Models(options.directory, options.log), options.log))


if __name__ == "__main__":
    main()
