"""Slow streams under clients whose patience is shorter than the silence: real clocks, real connections.

    python -m bench.clients.idle_timers [--write]

An upstream is silent for 14 seconds before its first piece and for 14 more in the middle. Every client gives up after 12 seconds
without a sign of life, each by its own measure. It reads the stream from the upstream itself, where it must give up (else the
check would prove nothing), and through `stretto serve`, where it must not. `--write` puts the result into bench/CLIENTS.md.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import anthropic
import openai

from bench.clients.cut_streams import ROOT, write_section

SILENCE: Final = 14.0
PATIENCE: Final = 12.0
HEADING: Final = "## Idle timers"
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_ASKS: Final = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]}),
    "responses": ("/v1/responses", {"input": "hello"}),
    "messages": ("/v1/messages", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 99}),
    "completions": ("/v1/completions", {"prompt": "hello"}),
}
_ENDS: Final = {
    "chat": b"[DONE]",
    "completions": b"[DONE]",
    "responses": b"response.completed",
    "messages": b"message_stop",
}

Read = Callable[[str, Path], Awaitable[str]]
"""Reads the stream at an address, with packages from a folder; "" if it came to its end, else why not."""


async def upstream() -> tuple[asyncio.Server, str]:
    """The slow one: it speaks every wire, and says what a gateway once said."""
    from tests.recorded_streams import recorded

    forms = ("chat", "responses", "messages", "completions")
    streams = await asyncio.to_thread(lambda: {form: recorded(form) for form in forms})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await reader.readexactly(int(re.findall(r"(?i)content-length: *(\d+)", head)[0]))
            path = head.split(" ")[1]
            form = next(form for form, (route, _) in _ASKS.items() if path.startswith(route))
            data = streams[form]
            middle = data.index(b"\n\n", len(data) // 3) + 2
            writer.write(_HEAD)
            for piece in (data[:middle], data[middle:]):
                await writer.drain()
                await asyncio.sleep(SILENCE)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled: the end of the program
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


# --- readers -----------------------------------------------------------------------------------------------------


def counting(form: str, counts: str) -> Read:
    """A bare reader with an idle timer on bytes, or on events with data (as Codex: a timeout on the next parsed event)."""

    async def read(base: str, modules: Path) -> str:
        host, _, port = base.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path, fields = _ASKS[form]
        body = json.dumps({"model": form, "stream": True, **fields}).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        seen = b""
        try:
            async with asyncio.timeout(PATIENCE):
                status = await reader.readline()
            if b" 200 " not in status:
                return status.decode().strip()
            while _ENDS[form] not in seen:
                async with asyncio.timeout(PATIENCE):
                    while (line := await reader.readline()) and not (
                        counts == "bytes" or line.startswith(b"data:")
                    ):
                        pass
                if not line:
                    return "ended early"
                seen = line
        except TimeoutError:
            return f"no {counts} for {PATIENCE:.0f} s"
        finally:
            writer.close()
        return ""

    return read


async def openai_python(base: str, modules: Path) -> str:
    """httpx's read timeout counts bytes."""

    def read() -> str:
        with openai.OpenAI(base_url=f"{base}/v1", api_key="k", max_retries=0, timeout=PATIENCE) as client:
            try:
                stream = client.chat.completions.create(
                    model="chat", messages=[{"role": "user", "content": "hello"}], stream=True
                )
                ends = [choice.finish_reason for chunk in stream for choice in chunk.choices]
            except Exception as error:  # whatever it raises is the finding
                return f"{type(error).__name__}: {error}"[:120]
        return "" if any(ends) else "no end"

    return await asyncio.to_thread(read)


async def anthropic_python(base: str, modules: Path) -> str:
    """The same in Anthropic's client."""

    def read() -> str:
        with anthropic.Anthropic(base_url=base, api_key="k", max_retries=0, timeout=PATIENCE) as client:
            try:
                stream = client.messages.create(
                    model="messages",
                    max_tokens=99,
                    messages=[{"role": "user", "content": "hello"}],
                    stream=True,
                )
                kinds = [event.type for event in stream]
            except Exception as error:  # whatever it raises is the finding
                return f"{type(error).__name__}: {error}"[:120]
        return "" if kinds[-1] == "message_stop" else "no end"

    return await asyncio.to_thread(read)


def npm(client: str) -> Read:
    """An npm client."""

    async def read(base: str, modules: Path) -> str:
        program = ROOT / "bench" / "clients" / "idle_timers.mjs"
        process = await asyncio.create_subprocess_exec(
            "node",
            str(program),
            str(modules),
            client,
            base,
            str(int(PATIENCE * 1000)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        told = json.loads(out.splitlines()[-1])
        return "" if told.get("end") else told.get("error", "no end")

    return read


NOT_COUNTED: Final = "AI SDK chat"
"""Its parts are pieces of text, reasoning and calls: no keep-alive of Chat Completions is one. The timer is off by default."""

READERS: Final[dict[str, tuple[str, Read, bool]]] = {
    "openai-python chat": ("bytes (httpx's read timeout)", openai_python, True),
    "anthropic-python messages": ("bytes (httpx's read timeout)", anthropic_python, True),
    "openai-node chat": ("chunks given out", npm("openai-node chat"), True),
    "openai-node responses": ("events given out", npm("openai-node responses"), True),
    "anthropic-node messages": ("nothing once the head is there", npm("anthropic-node messages"), False),
    NOT_COUNTED: ("parts given out (`timeout.chunkMs`)", npm("ai-openai-compatible chat"), True),
    "as Codex, responses": ("events with data", counting("responses", "events"), True),
    "the same, chat": ("events with data", counting("chat", "events"), True),
    "the same, messages": ("events with data", counting("messages", "events"), True),
    "the same, completions": ("events with data", counting("completions", "events"), True),
    "a proxy": ("bytes", counting("chat", "bytes"), True),
}
"""Readers, what their timers count, and whether they give up at all when nothing comes."""


async def _bounded(reading: Awaitable[str]) -> str:
    """A reader that neither ends nor gives up is a finding too."""
    try:
        async with asyncio.timeout(10 * PATIENCE):
            return await reading
    except TimeoutError:
        return f"still there after {10 * PATIENCE:.0f} s"


async def main(options: argparse.Namespace) -> int:
    """Run all of them side by side."""
    from tests.acceptance.served import served

    server, slow = await upstream()
    text = "[pool]\ndiscover = false\nsparring = false\n"
    for wire in _ASKS:
        text += f'[[worker]]\nid = "{wire}"\nwire = "{wire}"\nendpoints = [{{ base_url = "{slow}/v1" }}]\n'
        text += 'abilities = ["text", "tools"]\n'
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), text) as gateway:
        await gateway.started()
        here = gateway.base_url.removesuffix("/v1")
        reads = [
            _bounded(read(base, options.modules)) for _, read, _ in READERS.values() for base in (slow, here)
        ]
        found = await asyncio.gather(*reads)
        gateway.kill()
    server.close()
    rows, bad = [], 0
    for number, (name, (counts, _, gives_up)) in enumerate(READERS.items()):
        direct, through = found[2 * number : 2 * number + 2]
        bad += (bool(through) and name != NOT_COUNTED) or bool(direct) != gives_up
        rows.append(f"| {name} | {counts} | {direct or 'waits'} | {through or 'the whole answer'} |")
        print(rows[-1], flush=True)
    if options.write:
        intro = (
            f"An upstream is silent for {SILENCE:.0f} seconds before its first piece and in the middle; every client gives up",
            f"after {PATIENCE:.0f} seconds without what its timer counts.",
            "`python -m bench.clients.idle_timers --write` makes this table.",
            "",
            "| client | its timer counts | at the upstream itself | through Stretto |",
            "|---|---|---|---|",
        )
        limit = f"*{NOT_COUNTED}*: this timer, off unless asked for, counts pieces of answers only; no keep-alive is one."
        write_section(HEADING, [*intro, *rows, "", limit])
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", type=Path, default=ROOT / ".bench" / "clients" / "node")
    parser.add_argument("--write", action="store_true", help="put the table into bench/CLIENTS.md")
    sys.exit(asyncio.run(main(parser.parse_args())))
