"""Streams of Stretto cut at every byte, read by the npm clients over real connections: does any of them see a whole answer?

    python -m bench.clients.cut_streams [--step 7] [--client openai-node] [--write]

Each stream is recorded from a real gateway. It is served up to every offset twice: the connection breaks off there (no last
chunk), and it ends there as if that were all (what a careless proxy makes of it). `--write` puts the result into
bench/CLIENTS.md.
The packages are those of `python -m bench.clients.sdks` (`.bench/clients/node`); `--modules` names another folder.
"""

import argparse
import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "bench" / "CLIENTS.md"
HEADING: Final = "## Cut streams"
CLIENTS: Final = {
    "openai-node": ("chat", "openai"),
    "openai-node-responses": ("responses", "openai"),
    "anthropic-node": ("messages", "@anthropic-ai/sdk"),
    "ai-openai-compatible": ("chat", "@ai-sdk/openai-compatible"),
    "ai-openai-responses": ("responses", "@ai-sdk/openai"),
    "ai-anthropic": ("messages", "@ai-sdk/anthropic"),
}
ENDS: Final = {"breaks off": b"", "ends tidily": b"0\r\n\r\n"}
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Cutter:
    """Serves a stream up to the offset that stands in the path: `/END/FORMAT/OFFSET/...`."""

    def __init__(self, streams: Mapping[str, bytes]) -> None:
        self._streams = streams
        self._ends = list(ENDS.values())

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"(?i)content-length: *(\d+)", head):
                await reader.readexactly(int(length[1]))
            end, form, offset = head.split(b" ")[1].decode().split("/")[1:4]
            data = self._streams[form][: int(offset)]
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            writer.write(_HEAD + chunk + self._ends[int(end)])
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def told(client: str, base: str, offsets: list[int], modules: Path) -> dict[int, str]:
    """What the client made of each cut."""
    program = ROOT / "bench" / "clients" / "cut_streams.mjs"
    process = await asyncio.create_subprocess_exec(
        "node",
        str(program),
        str(modules),
        client,
        base,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    out, _ = await process.communicate("".join(f"{at}\n" for at in offsets).encode())
    found = {int(at): what for at, what in re.findall(r"(?m)^(\d+) (whole|unfinished|error)$", out.decode())}
    if process.returncode or len(found) != len(offsets):
        raise SystemExit(f"{client}: {len(found)} of {len(offsets)} read, exit {process.returncode}")
    return found


async def main(options: argparse.Namespace) -> int:
    """Run it; the exit code says whether any client was fooled."""
    from tests.recorded_streams import end_of, recorded

    streams = await asyncio.to_thread(lambda: {form: recorded(form) for form, _ in CLIENTS.values()})
    server = await asyncio.start_server(Cutter(streams), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rows, fooled = [], 0
    for client in options.client or CLIENTS:
        form, package = CLIENTS[client]
        raw, enough = streams[form], end_of(form, streams[form])
        offsets = sorted({*range(0, len(raw), options.step), *range(enough - 3, len(raw) + 1)})
        for number, end in enumerate(ENDS):
            begun = time.monotonic()
            base = f"http://127.0.0.1:{port}/{number}/{form}"
            found = await told(client, base, offsets, options.modules)
            early = [at for at in offsets if found[at] == "whole" and at < enough - 1]
            if number == 1 and found[len(raw)] != "whole":
                raise SystemExit(
                    f"{client} does not take the whole stream for whole: the check would prove nothing"
                )
            fooled += len(early)
            count = Counter(found[at] for at in offsets if at < enough - 1)
            rows.append(
                f"| {client} {_version(options.modules, package)} | {form} | {end} | {count.total()} | "
                f"{count['error']} | {count['unfinished']} | **{count['whole']}** |"
            )
            print(rows[-1], f"{time.monotonic() - begun:.0f} s", early[:5] or "", flush=True)
    server.close()
    if options.write:
        _write(rows, streams, options.step)
    return 1 if fooled else 0


def _version(modules: Path, package: str) -> str:
    import json

    found = json.loads((modules / "node_modules" / package / "package.json").read_text())
    return str(found["version"])


def _write(rows: list[str], streams: Mapping[str, bytes], step: int) -> None:
    sizes = ", ".join(f"{form} {len(raw):,}" for form, raw in streams.items())
    every = "at every byte" if step == 1 else f"at every {step}th byte, and at each of the last ones"
    section = "\n".join(
        (
            HEADING,
            "",
            f"A stream with reasoning, text and a tool call, as Stretto sends it ({sizes} bytes), cut {every} and",
            "read over a real connection. *error*: the client raises; *unfinished*: it does not, but has seen no reason to stop;",
            "*whole*: it takes the cut stream for a whole answer, which must not be.",
            "`python -m bench.clients.cut_streams --write` makes this table;",
            "openai-python and anthropic-python are put through the same in `tests/acceptance/test_cut_streams.py`.",
            "",
            "| client | protocol | the stream | cuts | error | unfinished | whole |",
            "|---|---|---|--:|--:|--:|--:|",
            *rows,
            "",
        )
    )
    write_section(HEADING, section.split("\n")[2:])


def write_section(heading: str, lines: Sequence[str]) -> None:
    """Put a section in the place of the one with its heading in bench/CLIENTS.md; the others stay."""
    text = RESULTS.read_text() if RESULTS.exists() else "# Clients and suites that nobody here wrote\n"
    before, found, after = text.partition(f"{heading}\n")
    rest = after[after.index("\n## ") + 1 :] if found and "\n## " in after else ""
    section = "\n".join((heading, "", *lines)).rstrip() + "\n"
    RESULTS.write_text(before.rstrip() + "\n\n" + section + (f"\n{rest}" if rest else ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", type=int, default=1, help="cut at every so many bytes only")
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this one (may be repeated)")
    parser.add_argument("--modules", type=Path, default=ROOT / ".bench" / "clients" / "node")
    parser.add_argument("--write", action="store_true", help="put the table into bench/CLIENTS.md")
    sys.exit(asyncio.run(main(parser.parse_args())))
