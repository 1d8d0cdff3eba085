"""`stretto serve`: the gateway under uvicorn, in one process or several on one socket."""

import asyncio
import gc
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from stretto import __version__
from stretto.app import World, check_access, find_workers, needs_key, open_world
from stretto.catalog import BUILT_IN
from stretto.cli.options import database, folder_options
from stretto.cli.terminal import columns, money
from stretto.config import Settings, load
from stretto.errors import ConfigError, StrettoError
from stretto.ledger.keys import Keys
from stretto.pool.discover import Found
from stretto.pool.worker import Worker

__all__ = ["serve"]

_CONFIG_EXIT: Final = 2
"""A process that ends with this must not be started again: it would end the same way."""
_SHOWN: Final = 12
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Where a gateway that listens everywhere is reached from its own machine."""
_PAUSE: Final = 5.0

_log = logging.getLogger("stretto.serve")


@click.command(
    epilog="\b\nExamples:\n"
    "  stretto serve                              everything found on this machine, else the sparring models\n"
    "  stretto serve --config stretto.toml --workers 2\n"
    "  stretto keys create me && stretto serve --host 0.0.0.0\n"
)
@folder_options
@click.option(
    "--host", help="Address to listen on (default 127.0.0.1). Elsewhere than loopback a key is needed."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port (default 8700; environment STRETTO_PORT; 0: any free).",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Gateway processes on the one socket (default 1)."
)
def serve(
    config: Path | None, data: Path | None, host: str | None, port: int | None, workers: int | None
) -> None:
    """Serve the endpoint, OpenAI- and Anthropic-compatible, until told to stop (Ctrl+C or SIGTERM; open calls may finish)."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = load(config, host=host, port=port, data=data, workers=workers)
    with database(settings.data) as connection:
        check_access(settings, Keys(connection))
    found = asyncio.run(find_workers(settings))
    listener = _listen(settings)
    if settings.server.workers == 1:
        _run(_serve(settings, found, listener, announce=True))
    else:
        sys.exit(_Processes(settings, found, listener).run())


# --- one process -------------------------------------------------------------------------------------------------


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest event loop there is."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def _listen(settings: Settings) -> socket.socket:
    server = settings.server
    host = server.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, server.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {server.host}:{server.port} ({os.strerror(error.errno) if error.errno else error}); "
            "is another gateway running there? "
            "Choose another address with --host and --port, or under [server]"
        ) from None


async def _serve(
    settings: Settings, found: Found, listener: socket.socket, *, announce: bool, parent: int | None = None
) -> None:
    """Serve on `listener` until a signal comes, or the pipe `parent` closes because the parent process is gone."""
    import uvicorn

    from stretto.gateway.server import WebSocketProtocol, http_protocol
    from stretto.gateway.settings import Settings as GatewaySettings

    async with open_world(settings, found) as world:
        gateway = world.gateway()
        config = uvicorn.Config(
            gateway,
            http=http_protocol(),
            ws=WebSocketProtocol,
            ws_max_size=GatewaySettings().body_limit,
            ws_per_message_deflate=False,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(settings.server.grace)),
        )
        server = uvicorn.Server(config)
        if parent is not None:
            asyncio.get_running_loop().add_reader(parent, setattr, server, "should_exit", True)
        if announce:
            click.echo(_banner(world, listener.getsockname()))
        gc.collect()
        gc.freeze()  # what has been made so far stays for good: no need to look through it again and again
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(
                number, _already_stopping
            )  # uvicorn raises what it caught once more when it is done
        watching = asyncio.create_task(world.watch().keep())
        try:
            await server.serve(sockets=[listener])
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        if tasks := set(server.server_state.tasks):
            if server.force_exit:  # a second signal: uvicorn leaves them as they are
                for task in tasks:
                    task.cancel()
            await asyncio.wait(tasks, timeout=2)  # they were cancelled, and tell their callers so
        await gateway.close()


def _already_stopping(number: int, frame: FrameType | None) -> None:
    """Nothing: the server has stopped, the ledger is being closed."""


# --- several processes -------------------------------------------------------------------------------------------


class _Processes:
    """Forks one server per process, starts those anew that die, and passes the signal to stop on to all."""

    def __init__(self, settings: Settings, found: Found, listener: socket.socket) -> None:
        self._settings = settings
        self._found = found
        self._listener = listener
        self._children: dict[int, float] = {}
        self._lifeline = os.pipe()
        self._stopping = False
        self._announced = False
        self._code = 0

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        for _ in range(self._settings.server.workers):
            self._start()
        while self._children:
            process, status = os.waitpid(-1, 0)
            if (began := self._children.pop(process, None)) is not None:
                self._ended(process, os.waitstatus_to_exitcode(status), began)
        return self._code

    def _start(self) -> None:
        announce, self._announced = not self._announced, True
        sys.stdout.flush()
        process = os.fork()
        if process:
            self._children[process] = time.monotonic()
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._lifeline[1])
        code = 1
        try:
            _run(
                _serve(
                    self._settings,
                    self._found,
                    self._listener,
                    announce=announce,
                    parent=self._lifeline[0],
                )
            )
            code = 0
        except StrettoError as error:
            if announce:  # the others fail alike
                click.echo(f"Error: {error}", err=True)
            code = _CONFIG_EXIT
        finally:
            sys.stdout.flush()
            os._exit(code)  # the parent's clean-up is not this process's to run

    def _ended(self, process: int, code: int, began: float) -> None:
        if self._stopping:
            return
        if code == _CONFIG_EXIT:
            self._code = code
            self._stop(signal.SIGTERM, None)
            return
        _log.warning("gateway process %d ended with %d; another one is started", process, code)
        if time.monotonic() - began < _PAUSE:
            # the parent serves nobody: it may wait, so that a child that cannot start is not forked in a circle
            time.sleep(0.5)
        if not self._stopping:
            self._start()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in self._children:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        signal.alarm(round(self._settings.server.grace) + 10)

    def _kill(self, number: int, frame: FrameType | None) -> None:
        for process in self._children:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


# --- what is shown at the start ----------------------------------------------------------------------------------


def _banner(world: World, address: Sequence[Any]) -> str:
    """Address, pool, and how to try it."""
    settings = world.settings
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    url = f"http://{host}:{address[1]}/v1"
    here = f"http://{_REACHABLE.get(host, host)}:{address[1]}/v1"
    keyed = needs_key(settings, world.keys)
    entry = "callers need a key" if keyed else "no key needed"
    processes = f", {settings.server.workers} processes" if settings.server.workers > 1 else ""
    policies = [card.id for card in world.catalog.models() if card.labels.get("kind") == "policy"]
    policies.sort(key=lambda name: name not in BUILT_IN)
    lines = [
        f"Stretto {__version__} on {url} ({entry}{processes}), data in {settings.data}",
        *(
            []
            if settings.keeps_content
            else ['  texts of runs are not kept: [ledger] content = "full" keeps them']
        ),
        *(f"  {line}" for line in world.found.announcements),
        "",
        *columns(_row(worker) for worker in world.found.workers[:_SHOWN]),
    ]
    if (more := len(world.found.workers) - _SHOWN) > 0:
        lines.append(f"  and {more} more: {_typed()} pool list")
    header = " -H 'authorization: Bearer sk-stretto-...'" if keyed else ""
    question = (
        '{"model": "stretto", "messages": [{"role": "user", "content": "Spell the word planet backward."}]}'
    )
    lines += [
        f"  policies: {', '.join(policies)}",
        "",
        "Try it:",
        f"  curl {here}/chat/completions -H 'content-type: application/json'{header} \\",
        f"    -d '{question}'",
        f"Then see how the answer came about:  {_typed()} runs show{_folder(settings)}",
    ]
    return "\n".join(lines)


def _typed() -> str:
    """How this program was called, if typing `stretto` would not find it."""
    return "stretto" if shutil.which("stretto") or not sys.argv[0].endswith("stretto") else sys.argv[0]


def _folder(settings: Settings) -> str:
    """The option by which other commands find the same data folder, if they would not find it by themselves."""
    with suppress(ConfigError):
        if load(needs_keys=False).data == settings.data:
            return ""
    return f" --data {shlex.quote(str(settings.data))}"


def _row(worker: Worker) -> tuple[str, ...]:
    card, place = worker.card, worker.places[0]
    price = "price unknown"
    if card.priced:
        prices = (money(card.price.input * 1_000_000), money(card.price.output * 1_000_000))
        price = f"{prices[0]} in, {prices[1]} out per 1M tokens"
    more = f" and {len(worker.places) - 1} more" if len(worker.places) > 1 else ""
    where = place.gguf.name if place.gguf is not None else place.base_url
    return "", card.id, price, where + more, card.description
