"""Local models: any GGUF file, served by the real llama.cpp engine in one child process for all gateways of a data folder.

The first gateway process that needs a model takes the lock `local/owner.lock` in the data folder, listens on the control
socket, and starts the child (`stretto.pool.llama`), which inherits that socket; the other processes connect to it. The child
ends with its owner: its standard input closes, and on Linux the kernel kills it. Every process keeps one connection to the
child, so each learns at once that it is gone, and whoever needs a model next takes the lock and starts another. The owner
itself starts another straight away. Nothing of llama.cpp is loaded into a gateway.

    <data>/local/           mode 0700
        owner.lock          held (flock) by the process whose child this is
        control.sock        JSON lines, see `stretto.pool.llama`
        <hash>.sock         HTTP: one llama.cpp server, for one file as it was when it was loaded
        llama.log           what the child wrote, bounded
        sockets             where the sockets are, when this path is too long for them
"""

import asyncio
import itertools
import json
import os
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from stretto.errors import LocalModelError
from stretto.pool.gguf import FileIdentity, GgufInfo, file_identity, read_gguf_header

__all__ = ["LlamaRuntime", "LocalModel", "LocalStatus", "Purpose"]

Purpose = Literal["text", "embedding", "mean"]
"""What a model is loaded for, on a server of its own: to write, to embed as its file says (else by the last token), or for
the mean of its states."""

SOCKET_PATH_BYTES: Final = 103
"""Longest path of a Unix socket on every system we run on (Linux takes 107, macOS 103)."""
LOAD_SECONDS: Final = 300.0
"""How long one load may take, whatever the deadline of those who wait for it."""
CONNECT_SECONDS: Final = 20.0
"""How long to wait for another process that is becoming the owner."""
TRIES: Final = 6
"""Children over which one load is tried, counting those that went away for other reasons."""
_SOCKET_NAME: Final = "0123456789ab.sock"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """One model that is up: at most `context` tokens in a request, `slots` requests at a time (more wait their turn)."""

    path: str
    purpose: str
    socket: str
    context: int
    slots: int


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """The child process and its models."""

    pid: int
    models: tuple[LocalModel, ...]


@dataclass(frozen=True, slots=True)
class _Served:
    identity: FileIdentity
    socket: str


_Key = tuple[str, str]


class LlamaRuntime:
    """This process's access to the local models of a data folder.

    One event loop uses it. Nothing happens before the first `socket_for`; `close` ends the child if this process owns it.
    `context` bounds the tokens of one request (a model's own training bound applies as well); `slots` is how many requests
    one model answers at a time, within a gibibyte of attention memory; `threads` is per model, by default 1 for files below
    64 MiB and up to 8 beyond. Whoever loads a model first decides these for all.
    """

    def __init__(
        self, data_dir: Path, *, context: int = 8192, slots: int = 8, threads: int | None = None
    ) -> None:
        self._directory = data_dir.expanduser().absolute() / "local"
        self._settings = {"context": context, "slots": slots, "threads": threads}
        self._served: dict[_Key, _Served] = {}
        self._refused: dict[_Key, tuple[FileIdentity, str]] = {}
        self._loads: dict[tuple[_Key, FileIdentity], asyncio.Task[str]] = {}
        self._link: _Link | None = None
        self._linking = asyncio.Lock()
        self._child: _Child | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closed = False

    async def socket_for(
        self, path: str | os.PathLike[str], *, purpose: Purpose = "text", deadline: float | None = None
    ) -> str:
        """The Unix socket on which llama.cpp serves this file over HTTP, loading it first if need be.

        It takes `POST /v1/chat/completions`, `/v1/completions`, `/tokenize`, `/apply-template`, and with purpose `embedding`
        or `mean` (servers of their own) `/v1/embeddings` and `/embeddings`. One system call when the model is up. A file that was
        replaced is loaded anew. Raises LocalModelError when the file or the engine cannot be used, TimeoutError when it was
        not ready at `deadline` (event loop time); the load then goes on for whoever asks next.
        """
        key = os.fspath(path), purpose
        identity = file_identity(key[0])
        served = self._served.get(key)
        if served is not None and served.identity == identity:
            return served.socket
        refused = self._refused.get(key)
        if refused is not None and refused[0] == identity:
            raise LocalModelError(refused[1])
        if self._closed:
            raise LocalModelError("the local models are closed")
        load = self._loads.get((key, identity))
        if load is None:
            load = asyncio.create_task(self._load(key, identity), name=f"load {key[0]}")
            self._loads[key, identity] = load
            load.add_done_callback(lambda task: self._ended((key, identity), task))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(load)
        except TimeoutError:
            raise TimeoutError(f"{key[0]} is still being loaded") from None

    def forget(self, path: str | os.PathLike[str], *, purpose: Purpose = "text") -> None:
        """Ask the child again at the next `socket_for`: for callers whose connection to the socket was refused."""
        self._served.pop((os.fspath(path), purpose), None)

    async def describe(self, path: str | os.PathLike[str]) -> GgufInfo:
        """What the file says about itself, without loading it. LocalModelError when it is no usable model file."""
        return await asyncio.to_thread(read_gguf_header, path)

    async def status(self) -> LocalStatus | None:
        """The child and its models, whichever process owns it; None when none runs. Starts nothing."""
        try:
            async with self._linking:
                if self._link is None or self._link.lost:
                    self._link = await self._connect()
            found = (await self._link.ask({"op": "status"}))["ok"]
        except OSError:
            return None
        names = ("path", "purpose", "socket", "context", "slots")
        return LocalStatus(
            found["pid"], tuple(LocalModel(*(item[name] for name in names)) for item in found["models"])
        )

    async def close(self) -> None:
        """Let go: ends the child, and every answer it is giving, if this process owns it. May be called again."""
        self._closed = True
        tasks = [*self._loads.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()
        if self._child is not None:
            await self._child.end()
            self._child = None
        self._served.clear()

    # --- loading -------------------------------------------------------------------------------------------------

    async def _load(self, key: _Key, identity: FileIdentity) -> str:
        if sys.platform == "win32":
            raise LocalModelError(
                "local models need Linux or macOS; point a worker at a llama.cpp server instead"
            )
        path, purpose = key
        await asyncio.to_thread(read_gguf_header, path)
        order = {"op": "load", "path": str(Path.cwd() / path), "purpose": purpose, **self._settings}
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                for attempt in range(TRIES):
                    try:
                        link = await self._linked()
                        return self._take(key, identity, link, await link.ask(order))
                    except (
                        ConnectionError
                    ):  # the child went away, perhaps over this file: the next one tries it apart
                        await asyncio.sleep(0.02 * 2**attempt)
        except TimeoutError:
            raise LocalModelError(f"{path} was not loaded within {LOAD_SECONDS:.0f} s") from None
        except OSError as error:
            raise LocalModelError(f"the llama.cpp process cannot be started: {error}") from None
        last = _last_words(self._directory / "llama.log")
        raise LocalModelError(
            f"the llama.cpp process ended {TRIES} times while {path} was to be loaded; {last}"
        )

    def _take(self, key: _Key, identity: FileIdentity, link: "_Link", reply: Mapping[str, Any]) -> str:
        if "error" in reply:
            self._refused[key] = identity, reply["error"]
            raise LocalModelError(reply["error"])
        found = reply["ok"]
        if not link.lost:
            self._served[key] = _Served(tuple(found["identity"]), found["socket"])
        return str(found["socket"])

    def _ended(self, key: tuple[_Key, FileIdentity], load: "asyncio.Task[str]") -> None:
        self._loads.pop(key, None)
        if not load.cancelled():
            load.exception()  # seen, also when every caller has given up

    # --- the child, ours or another's ----------------------------------------------------------------------------

    async def _linked(self) -> "_Link":
        """A connection to the child; this process becomes its owner if there is none."""
        async with self._linking:
            if self._link is not None and not self._link.lost:
                return self._link
            if self._closed:
                raise LocalModelError("the local models are closed")
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    while True:
                        try:
                            self._link = await self._connect()
                            return self._link
                        except (FileNotFoundError, ConnectionRefusedError):
                            if self._child is not None or not await self._own():
                                await asyncio.sleep(
                                    0.02
                                )  # the last child is being buried, or another process starts one
            except TimeoutError:
                what = f"the process that holds {self._directory / 'owner.lock'} does not answer; end it"
                raise LocalModelError(what) from None

    async def _connect(self) -> "_Link":
        path = _socket_directory(self._directory) / "control.sock"
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
        return _Link(reader, writer, self._served.clear)

    async def _own(self) -> bool:
        """Start the child, unless another process owns one."""
        child = _Child.claim(self._directory)
        if child is None:
            return False
        self._child = child
        try:
            await child.start()
        except OSError:
            self._child = None
            await child.end()
            raise
        self._watch = asyncio.create_task(self._supervise(child), name="local models")
        return True

    async def _supervise(self, child: "_Child") -> None:
        """Wait for the end of the child; then start another at once if it had lived, else leave it to the next need."""
        began = time.monotonic()
        await child.ended()
        await child.end()
        self._child = None
        if time.monotonic() - began > 1:
            try:
                await self._linked()
            except (OSError, LocalModelError):
                return  # whoever asks next tries again, and is told why


class _Link:
    """The connection to the child: questions out, answers in, by number. `on_lost` is called once, when it ends."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_lost: Callable[[], None]
    ) -> None:
        self.lost = False
        self._writer = writer
        self._on_lost = on_lost
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._listening = asyncio.create_task(self._listen(reader), name="local models: control")

    async def ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """The child's answer. ConnectionError when the child goes away first."""
        if self.lost:
            raise ConnectionResetError
        number = next(self._numbers)
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(json.dumps({"id": number, **message}).encode() + b"\n")
        try:
            return await answer
        finally:
            del self._waiting[number]

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                reply = json.loads(line)
                answer = self._waiting.get(reply["id"])
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (ConnectionError, ValueError):  # ValueError: half a line of a child that died
            pass
        finally:
            self.lost = True
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())
            self._on_lost()

    async def close(self) -> None:
        """End the connection; what is still waited for fails with ConnectionError."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


class _Child:
    """The child process of an owner, and the lock that makes it one."""

    def __init__(self, base: Path, lock: int, sockets: Path) -> None:
        self._base, self._lock, self._sockets = base, lock, sockets
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def claim(cls, base: Path) -> "_Child | None":
        """Ownership of the folder's local models; None while another has it."""
        import fcntl

        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        base.chmod(0o700)
        lock = os.open(base / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(base, lock, _make_socket_directory(base))
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            os.close(lock)
            raise

    async def start(self) -> None:
        """Start the process. It inherits the listening socket, so a connection made from now on waits for it or fails with it."""
        control, log = self._sockets / "control.sock", self._base / "llama.log"
        control.unlink(missing_ok=True)
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(control))
                listener.listen(128)
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "stretto.pool.llama", "--control", str(listener.fileno())),
                    *("--directory", str(self._sockets), "--log", str(log), "--owner", str(os.getpid())),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log_fd,
                    stderr=log_fd,
                    pass_fds=(listener.fileno(),),
                    start_new_session=True,  # an interrupt from the terminal is the gateway's to handle
                    env=_environment(os.environ),
                )
        finally:
            os.close(log_fd)

    async def ended(self) -> None:
        """Wait until the process is gone."""
        if self._process is not None:
            await self._process.wait()

    async def end(self) -> None:
        """Kill the process, remove its sockets, give the ownership up. May be called again."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
            self._process = None
        if self._lock >= 0:
            for left in self._sockets.glob("*.sock"):
                left.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the child sees: native code that reads files from anywhere has no use for credentials."""
    hidden = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")
    return {
        **{name: text for name, text in ours.items() if not name.endswith(hidden)},
        "GGML_NO_BACKTRACE": "1",
    }


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _SOCKET_NAME)) <= SOCKET_PATH_BYTES


def _socket_directory(base: Path) -> Path:
    """Where the sockets of this data folder are. FileNotFoundError while that is not decided."""
    return base if _fits(base) else Path((base / "sockets").read_text())


def _make_socket_directory(base: Path) -> Path:
    """The private folder for the sockets: `base`, or a short one that `base/sockets` names. For the owner only."""
    if _fits(base):
        return base
    record = base / "sockets"
    try:
        found = Path(record.read_text())
        info = found.lstat()
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077:
            return found
    except FileNotFoundError:
        pass
    made = Path(tempfile.mkdtemp(prefix="stretto-"))
    fresh = base / "sockets.new"
    fresh.write_text(str(made))
    fresh.replace(record)
    return made


def _last_words(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return "it wrote no log"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return f"it last wrote: {last} (see {log})"
