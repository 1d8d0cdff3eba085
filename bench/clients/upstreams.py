"""All three conversational formats towards upstreams that nobody here wrote, each cell asserted.

    python -m bench.clients.upstreams [--specification openapi.yaml] [--only llama.cpp] [--record]

llama.cpp's server and the LiteLLM proxy (in front of llama.cpp) are asked over chat, responses and messages; Prism, a mock made
from OpenAI's own specification, over chat and responses: it refuses with 422 what breaks the specification. The model is made
here (`sdks_gguf`): it calls a tool when it is offered one, else it says `Ready.`. What is missing is installed under .bench/.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from bench.clients.sdks_gguf import SAYS, handmade_gguf
from bench.clients.upstreams_servers import KEY, ROOT, litellm, llama, prepare_litellm, prepare_prism, prism
from stretto.app import World, find_workers, open_world
from stretto.config import parse
from tests.asgi import Exchange

__all__ = ["main"]

SERVERS: Final = ("llama.cpp", "litellm", "prism")
WIRES: Final = {"llama.cpp": ("chat", "responses", "messages"), "litellm": ("chat", "responses", "messages")}
PAGE: Final = ROOT / "bench" / "CLIENTS.md"
HEADING: Final = "## Upstreams"

PLACE: Final = {
    "type": "object",
    "properties": {"at": {"enum": ["left", "right"]}},
    "required": ["at"],
    "additionalProperties": False,
}
LOOK: Final = {
    "type": "function",
    "function": {"name": "look", "description": "Look there.", "parameters": PLACE},
}
ASKED: Final = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is it?"}]
FORM: Final = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}


class Asked:
    """One upstream over one wire, asked through the whole gateway by a chat client. `bad` is the same with a wrong key."""

    def __init__(self, world: World, says: str | None) -> None:
        self.world = world
        self.says = says

    async def post(self, **fields: Any) -> tuple[int, Any]:
        """Status and body of a request."""
        done = await self._exchange({"model": "worker", "messages": ASKED, "max_tokens": 200, **fields})
        return done.status, done.json

    async def stream(self, **fields: Any) -> tuple[list[dict[str, Any]], bool]:
        """The chunks of a stream, and whether it ended as a whole answer does."""
        body = {"model": "worker", "messages": ASKED, "max_tokens": 200, "stream": True, **fields}
        done = await self._exchange({**body, "stream_options": {"include_usage": True}})
        lines = b"".join(done.chunks).decode().splitlines()
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(event) for event in events if event.startswith("{")], events[-1:] == ["[DONE]"]

    async def _exchange(self, body: dict[str, Any]) -> Exchange:
        headers = {"content-type": "application/json"}
        call = Exchange(
            self.world.gateway(), "POST", "/v1/chat/completions", json.dumps(body).encode(), headers
        )
        async with asyncio.timeout(120):
            return await call.run()

    def attempts(self, reply: Any) -> list[Any]:
        """The attempts on the receipt of an answer."""
        return list(self.world.reader.receipt(reply["stretto"]["run_id"])["attempts"])


Cell = Callable[[Asked], Awaitable[None]]

# --- cells ---------------------------------------------------------------------------------------------------------


def sure(holds: object, what: object) -> None:
    """Fail the cell unless it holds."""
    if not holds:
        raise AssertionError(f"{what}"[:600])


async def whole(asked: Asked) -> None:
    """An answer in one piece: the text, and how it ended."""
    status, reply = await asked.post()
    sure(status == 200, reply)
    choice = reply["choices"][0]
    sure(choice["finish_reason"] == "stop", choice)
    sure(
        choice["message"]["content"] if asked.says is None else choice["message"]["content"] == asked.says,
        choice,
    )


async def stream(asked: Asked) -> None:
    """The same as it comes."""
    chunks, ended = await asked.stream()
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    sure(ended, chunks[-2:])
    sure("".join(c["delta"].get("content") or "" for c in choices) == asked.says, chunks)
    sure([c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"], chunks)


async def tools(asked: Asked) -> None:
    """A forced call, its result, and the answer; the call once more as a stream."""
    fields = {"tools": [LOOK], "tool_choice": "required"}
    status, reply = await asked.post(**fields)
    sure(status == 200, reply)
    message = reply["choices"][0]["message"]
    (call,) = message["tool_calls"]
    sure(call["function"]["name"] == "look", call)
    sure(json.loads(call["function"]["arguments"])["at"] in ("left", "right"), call)
    sure(reply["choices"][0]["finish_reason"] == "tool_calls", reply)
    result = {"role": "tool", "tool_call_id": call["id"], "content": "It is there."}
    said = {"role": "assistant", "content": message["content"], "tool_calls": [call]}
    status, reply = await asked.post(messages=[*ASKED, said, result], tools=[LOOK])
    sure(status == 200 and reply["choices"][0]["message"]["content"] == asked.says, reply)
    chunks, ended = await asked.stream(**fields)
    pieces = [
        piece
        for chunk in chunks
        for choice in chunk.get("choices", ())
        for piece in choice["delta"].get("tool_calls", ())
    ]
    sure(ended, chunks[-2:])
    arguments = "".join(piece["function"].get("arguments", "") for piece in pieces)
    sure(json.loads(arguments)["at"] in ("left", "right"), chunks)
    sure([piece["index"] for piece in pieces] == [0] * len(pieces), pieces)


async def structured(asked: Asked) -> None:
    """JSON that fits the schema, at the first attempt: the upstream was told of it, and kept to it."""
    status, reply = await asked.post(response_format=FORM)
    sure(status == 200, reply)
    sure(json.loads(reply["choices"][0]["message"]["content"])["at"] in ("left", "right"), reply)
    sure(len(asked.attempts(reply)) == 1, "it was asked twice")


async def caught(asked: Asked) -> None:
    """The upstream does not look at the response format: what does not fit is not handed on, whole or streamed."""
    status, reply = await asked.post(response_format=FORM)
    sure(status == 502 and reply["error"]["code"] == "answer_misfit", (status, reply))
    chunks, ended = await asked.stream(response_format=FORM)
    said = [choice["delta"].get("content") for chunk in chunks for choice in chunk.get("choices", ())]
    sure(not ended and not any(said), chunks)


async def usage(asked: Asked) -> None:
    """Token counts are the upstream's own, whole and streamed, and the same in both."""
    status, reply = await asked.post()
    sure(status == 200, reply)
    told = reply["usage"]
    sure(told["prompt_tokens"] > 0 and told["completion_tokens"] > 0, told)
    sure(not asked.attempts(reply)[0]["usage"].get("estimated"), asked.attempts(reply)[0])
    chunks, _ = await asked.stream()
    counted = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    sure(len(counted) == 1, chunks[-2:])
    sure(
        all(counted[0][name] == told[name] for name in ("prompt_tokens", "completion_tokens")),
        (told, counted),
    )


async def errors(asked: Asked) -> None:
    """A prompt beyond the context is the caller's error, and the receipt says why; a wrong key is the operator's, and kept."""
    status, reply = await asked.post(messages=[{"role": "user", "content": "where? " * 4000}])
    sure((status, reply["error"]["code"]) == (400, "context_length_exceeded"), (status, reply))
    sure(asked.attempts(reply)[-1]["error"]["kind"] == "too_long", asked.attempts(reply))
    await wrong_key(asked)


async def wrong_key(asked: Asked) -> None:
    """The error of an upstream that does not know the key."""
    status, reply = await asked.post(model="wrong")
    sure(status == 502 and reply["error"]["code"] == "upstream_auth", (status, reply))
    sure("sk-wrong" not in json.dumps(reply), reply)


async def errors_without_database(asked: Asked) -> None:
    """LiteLLM passes the first error on; of a key that it does not know it says, without a database, 400 and only that."""
    status, reply = await asked.post(messages=[{"role": "user", "content": "where? " * 4000}])
    sure((status, reply["error"]["code"]) == (400, "context_length_exceeded"), (status, reply))
    status, reply = await asked.post(model="wrong")
    sure(status == 400 and "sk-wrong" not in json.dumps(reply), (status, reply))
    sure("No connected db" in asked.attempts(reply)[-1]["error"]["message"], asked.attempts(reply))


# --- Prism: requests are checked against the specification, answers are its examples -------------------------------

EVERYTHING: Final = {
    "messages": [
        *ASKED,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a map"},
        {"role": "user", "content": "And now?"},
    ],
    "tools": [LOOK],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "temperature": 0.5,
    "top_p": 0.9,
    "parallel_tool_calls": False,
}


async def example(asked: Asked) -> None:
    """The specification's example of an answer, which has everything: text, a call, a refusal."""
    status, reply = await asked.post()
    sure(status == 200, reply)
    message = reply["choices"][0]["message"]
    sure(message["content"] and message["tool_calls"] and message["refusal"], message)
    sure(reply["choices"][0]["finish_reason"] == "tool_calls", reply)


async def one_body(asked: Asked) -> None:
    """Prism answers a request for a stream with one JSON body. That is an answer all the same, and it goes out as a stream."""
    chunks, ended = await asked.stream()
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    sure(ended and any(choice["delta"].get("content") for choice in choices), chunks)


async def accepted(asked: Asked) -> None:
    """Everything that a request may hold goes out as the specification has it: 422 would be the answer otherwise."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    shown = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}
    status, reply = await asked.post(**{**EVERYTHING, "messages": [*EVERYTHING["messages"], shown]})
    sure(status == 200, reply)


async def accepted_form(asked: Asked) -> None:
    """So does a response format."""
    status, reply = await asked.post(response_format=FORM)
    sure(status == 200, reply)


async def no_usage(asked: Asked) -> None:
    """The example's counts are all 0, which cannot be: the tokens are estimated, and marked so."""
    status, reply = await asked.post()
    sure(status == 200 and reply["usage"]["total_tokens"] > 0, reply)
    sure(asked.attempts(reply)[0]["usage"]["estimated"], asked.attempts(reply)[0])


def understood(**fields: Any) -> Cell:
    """The request keeps to the specification. Prism then fails by itself: the answer that it makes up does not."""

    async def cell(asked: Asked) -> None:
        status, reply = await asked.post(**fields)
        error = asked.attempts(reply)[-1]["error"]
        sure(status == 502 and "answered 500" in error["message"], (status, error))

    return cell


CELLS: Final[dict[str, Cell]] = {
    "whole": whole,
    "stream": stream,
    "tools": tools,
    "structured": structured,
    "usage": usage,
    "errors": errors,
}
PRISM: Final[dict[str, dict[str, Cell]]] = {
    "chat": {
        "whole": example,
        "stream": one_body,
        "tools": accepted,
        "structured": accepted_form,
        "usage": no_usage,
        "errors": wrong_key,
    },
    "responses": {
        "whole": understood(),
        "tools": understood(**EVERYTHING),
        "structured": understood(response_format=FORM),
        "errors": wrong_key,
    },
}
MARKS: Final[dict[Cell, str]] = {
    caught: "caught",
    **dict.fromkeys((cell for name, cell in PRISM["responses"].items() if name != "errors"), "valid"),
}
IGNORED: Final = {(server, wire) for server in ("llama.cpp", "litellm") for wire in ("responses", "messages")}
"""Upstreams that take a response format over this wire and do nothing with it."""


def cells_of(server: str, wire: str) -> dict[str, Cell]:
    """What an upstream is asked over a wire."""
    if server == "prism":
        return PRISM[wire]
    cells = {**CELLS, "structured": caught} if (server, wire) in IGNORED else CELLS
    return {**cells, "errors": errors_without_database} if server == "litellm" else cells


@contextlib.asynccontextmanager
async def gateway(folder: Path, wire: str, base: str, wrong: str) -> AsyncIterator[World]:
    """Stretto over one upstream, twice: with the key and with a wrong one (`wrong`: the name of its variable)."""
    text = "[pool]\ndiscover = false\nsparring = false\n"
    for id, key in (("worker", "UPSTREAM_KEY"), ("wrong", wrong)):
        named = f', api_key_env = "{key}"' if key else ""
        text += f"""
[[worker]]
id = "{id}"
wire = "{wire}"
model = "handmade"
endpoints = [{{ base_url = "{base}"{named} }}]
price = {{ input = 1, output = 2 }}
abilities = ["text", "tools", "json", "vision"]
"""
    file = folder / "stretto.toml"
    file.write_text(text + f'[server]\ndata = "data-{wire}"\n')
    environment = {"UPSTREAM_KEY": KEY, "WRONG_KEY": "sk-wrong-000000000000"}
    settings = parse(file.read_text(), file=str(file))
    async with open_world(settings, await find_workers(settings, environment)) as world:
        yield world


async def column(server: str, wire: str, base: str, folder: Path) -> dict[str, str]:
    """The cells of one upstream and wire."""
    found: dict[str, str] = {}
    bare = server == "prism"
    async with gateway(folder, wire, base, "" if bare else "WRONG_KEY") as world:
        for name, cell in cells_of(server, wire).items():
            try:
                await cell(Asked(world, None if bare else SAYS))
                found[name] = MARKS.get(cell, "pass")
            except Exception as error:
                found[name] = f"FAIL: {type(error).__name__}: {error}"
            print(f"{server:10} {wire:10} {name:10} {found[name]}", flush=True)
    return found


async def measure(only: str, specification: Path | None) -> dict[tuple[str, str], dict[str, str]]:
    """Every cell of every upstream that was asked for."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if only in ("", "llama.cpp", "litellm"):
            async with llama(handmade_gguf(folder / "handmade.gguf")) as base:
                if only != "litellm":
                    for wire in WIRES["llama.cpp"]:
                        found["llama.cpp", wire] = await column("llama.cpp", wire, f"{base}/v1", folder)
                if only != "llama.cpp":
                    async with litellm(await prepare_litellm(), f"{base}/v1") as proxy:
                        for wire in WIRES["litellm"]:
                            found["litellm", wire] = await column("litellm", wire, f"{proxy}/v1", folder)
        if only in ("", "prism") and specification is not None:
            async with prism(await prepare_prism(), specification) as base:
                for wire in ("chat", "responses"):
                    found["prism", wire] = await column("prism", wire, base, folder)
    return found


def record(found: dict[tuple[str, str], dict[str, str]]) -> None:
    """Put the table into its section of bench/CLIENTS.md."""
    rows = [
        f"| {server} | {wire} | {' | '.join(cells.get(name, '-').partition(':')[0] for name in CELLS)} |"
        for (server, wire), cells in found.items()
    ]
    head = f"| upstream | wire | {' | '.join(CELLS)} |\n|---|---|{'---|' * len(CELLS)}"
    before, _, rest = PAGE.read_text().partition(f"{HEADING}\n")
    _, mark, after = rest.partition("\n## ")
    table = "\n".join([head, *rows])
    PAGE.write_text(f"{before.rstrip()}\n\n{HEADING}\n\n{ABOUT.strip()}\n\n{table}\n{mark and mark + after}")


ABOUT: Final = """
`python -m bench.clients.upstreams --specification openapi.yaml --record` (some minutes; the first run installs): a chat client
asks through the whole gateway, and a worker of each wire answers. Upstreams: llama.cpp's server (PyPI `xllamacpp`) with a model
that is made on the spot, the LiteLLM proxy 1.106.2 in front of it (its own Responses and Messages), Prism 5.14.2 on OpenAI's
specification.

- **whole, stream**: the text, `finish_reason`, `[DONE]`. **tools**: a forced call, its result, the answer; the call again as a
  stream. **structured**: fits the schema at the first attempt; *caught*: the upstream takes a schema over this wire and ignores
  it, and what does not fit is not handed on (502 `answer_misfit`). **usage**: the upstream's own counts, the same whole and
  streamed. **errors**: a prompt beyond the context is a 400, and the receipt has the upstream's own words; a wrong key is
  `upstream_auth`, without the key (LiteLLM without a database answers 400, and the receipt has its words).
- Prism refuses requests that break the specification (422) and answers with examples. There **tools** is a request with
  everything in it, accepted; **structured** one with a schema, accepted; **stream**: Prism sends one JSON body, which goes out
  as a stream; **usage**: its counts are all 0, so they are estimated, and marked. *valid*: the request keeps to the
  specification, and then Prism fails by itself (500), since the answer that it makes up does not. (A message with parts matches
  two schemas of a `oneOf` there, so Responses with pictures cannot be checked.)
"""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--specification",
        type=lambda given: Path(given).resolve(),
        help="OpenAI's openapi.yaml, for Prism (else left out)",
    )
    parser.add_argument("--only", choices=SERVERS, default="", help="this upstream alone")
    parser.add_argument("--record", action="store_true", help="write the table into bench/CLIENTS.md")
    args = parser.parse_args()
    found = asyncio.run(measure(args.only, args.specification))
    if args.record:
        record(found)
    failed = [cell for cells in found.values() for cell in cells.values() if cell.startswith("FAIL")]
    print(f"{sum(map(len, found.values()))} cells, {len(failed)} failed")
    sys.exit(1 if failed or not found else 0)


if __name__ == "__main__":
    main()
