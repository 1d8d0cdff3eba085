"""An upstream on loopback that speaks Chat Completions, Messages and Responses, and does what a tame model would do.

What it says follows from what it is asked: a tool that the prompt names, or that is forced, is called with arguments that fit its
schema and stand in the prompt; a tool's results are repeated; a schema is filled in; else the question is repeated. It is as
strict as the vendors are: a tool result must follow the call that it answers, under the id that this model gave it.
"""

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.acceptance.speaking import Turn, render, stream

__all__ = ["INPUT", "OUTPUT", "Speakers", "speakers"]

INPUT: Final = 11
OUTPUT: Final = 7
"""The usage of every answer, in tokens."""

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in whatever format, as far as the answer depends on it."""

    prompt: str
    results: tuple[str, ...]
    called: frozenset[str]
    tools: Mapping[str, Mapping[str, Any]]
    choice: Any
    parallel: bool
    schema: Mapping[str, Any] | None


@dataclass
class Speakers:
    """`wrong`: what a strict vendor would have refused. `asked`: requests by model. Models called `critic` say yes or no.

    With `own_ids` an open tool loop must be this upstream's own: the ids of its calls were given by that very model.
    """

    own_ids: bool = True
    wrong: list[str] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    bodies: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    port: int = 0
    _issued: dict[str, set[str]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def base_url(self) -> str:
        """For the configuration."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = int(re.findall(r"(?i)content-length: *(\d+)", head)[0])
                body = json.loads(await reader.readexactly(length))
                writer.write(self._answered(head.split(" ")[1], body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _answered(self, path: str, body: Mapping[str, Any]) -> bytes:
        wire = path.rpartition("/")[2].partition("?")[0]
        model = str(body.get("model"))
        self.asked[model] = self.asked.get(model, 0) + 1
        self.bodies.append((wire, body))
        try:
            asked = {"completions": _chat, "messages": _messages, "responses": _responses}[wire](body)
            self._check(model, wire, body)
            turn = self._decide(model, asked)
        except (KeyError, ValueError, TypeError, AssertionError) as error:
            told = f"{wire} {model}: {type(error).__name__} {error}"
            self.wrong.append(told)
            refusal = json.dumps({"error": {"message": told, "type": "invalid_request_error"}}).encode()
            return _head(400, "application/json", refusal)
        if not body.get("stream"):
            return _head(200, "application/json", json.dumps(render(wire, model, turn)).encode())
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return _head(200, "text/event-stream", stream(wire, model, turn, usage))

    def _check(self, model: str, wire: str, body: Mapping[str, Any]) -> None:
        """What a vendor checks of a transcript, and what must never leave the gateway."""
        assert "stretto" not in body, "the caller's options went out"
        open_calls: set[str] = set()
        links = list(_links(wire, body))
        question = max((at for at, (kind, _) in enumerate(links) if kind == "user"), default=-1)
        for at, (kind, id) in enumerate(links):
            if kind == "call":
                own = (
                    not self.own_ids or at < question or id in self._issued.get(model, ())
                )  # an earlier loop may be another's
                assert own, f"the call id {id} is not this model's"
                open_calls.add(id)
            elif kind == "result":
                assert id in open_calls, f"a result for {id}, which was not called before it"
                open_calls.remove(id)
            else:
                assert not open_calls, f"no result for {open_calls}"

    def _decide(self, model: str, asked: Asked) -> Turn:
        forced = asked.choice not in (None, "auto", "none")
        left = [name for name in asked.tools if name not in asked.called]
        wanted: list[str] = []
        if isinstance(asked.choice, Mapping):
            wanted = [asked.choice["name"]]
            assert wanted[0] in asked.tools, f"the forced tool {wanted[0]} is not offered"
        elif forced and asked.tools:
            wanted = [next(iter(left), next(reversed(asked.tools)))]
        elif asked.tools and asked.choice != "none" and not asked.results:
            low = asked.prompt.casefold()
            wanted = [n for n in left if any(len(w) > 3 and w in low for w in n.casefold().split("_"))][:1]
        if wanted:
            return Turn(calls=tuple(self._calls(model, wanted[0], asked)))
        if model.startswith("critic"):
            return Turn("Yes." if re.search(r"[{}]", asked.prompt) else "No.")
        if asked.results:
            return Turn(f"The tools say: {'; '.join(asked.results)}")
        if asked.schema:
            return Turn(json.dumps(filled(asked.schema, asked.prompt)))
        if asked.schema is not None or re.search(r"\bJSON\b", asked.prompt):
            return Turn(json.dumps(dict.fromkeys(_quoted(asked.prompt), "text")))
        return Turn(f"You said: {asked.prompt}")

    def _calls(self, model: str, name: str, asked: Asked) -> Iterator[tuple[str, str, str]]:
        schema = asked.tools[name]
        places = [n for n in _choices(schema) if n.casefold() in asked.prompt.casefold()]
        for place in places if asked.parallel and len(places) > 1 else [""]:
            id = f"call_{model}_{next(self._numbers)}"
            self._issued.setdefault(model, set()).add(id)
            yield id, name, json.dumps(filled(schema, place or asked.prompt), ensure_ascii=False)


def filled(schema: Any, prompt: str, root: Any = None) -> Any:
    """A value that fits a schema; texts and numbers are taken from the prompt where it has some."""
    root = schema if root is None else root
    if not isinstance(schema, Mapping):
        return "text"
    if "$ref" in schema:
        node = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            node = node[step]
        return filled(node, prompt, root)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            options = [option for option in schema[several] if option.get("type") != "null"]
            return filled(options[0], prompt, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        found = (v for v in schema["enum"] if str(v).casefold() in prompt.casefold())
        return next(found, schema["enum"][0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = next(k for k in kind if k != "null") if isinstance(kind, list) else kind
    if kind == "object":
        return {name: filled(inner, prompt, root) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [filled(schema.get("items", {}), prompt, root)] * max(1, schema.get("minItems", 1))
    if kind in ("integer", "number"):
        numbers = re.findall(r"\d+", prompt)
        return int(numbers[0]) if numbers else 3
    if kind in ("boolean", "null"):
        return True if kind == "boolean" else None
    return next(iter(_quoted(prompt)), prompt.split("\n")[0][:40] or "text")


def _quoted(prompt: str) -> list[str]:
    return [one or two for one, two in re.findall(r"(?<!\w)'([^']+)'|\"([^\"]+)\"", prompt)]


def _choices(schema: Mapping[str, Any]) -> list[str]:
    return [str(v) for p in (schema.get("properties") or {}).values() for v in p.get("enum", ())]


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return " ".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def _chat(body: Mapping[str, Any]) -> Asked:
    prompt, results, called = "", list[str](), set[str]()
    for message in body["messages"]:
        assert message["role"] in _ROLES, message["role"]
        if message["role"] == "user":
            prompt, results, called = _text(message["content"]), [], set()
        elif message["role"] == "tool":
            results.append(_text(message["content"]))
        called |= {call["function"]["name"] for call in message.get("tool_calls") or ()}
    functions = [tool["function"] for tool in body.get("tools", ())]
    choice = body.get("tool_choice")
    form = body.get("response_format") or {}
    schema = (
        (form.get("json_schema") or {}).get("schema", {}) if form.get("type") != "text" and form else None
    )
    return Asked(
        prompt,
        tuple(results),
        frozenset(called),
        {f["name"]: f.get("parameters") or {} for f in functions},
        choice["function"] if isinstance(choice, Mapping) else choice,
        body.get("parallel_tool_calls") is not False,
        schema,
    )


def _messages(body: Mapping[str, Any]) -> Asked:
    assert isinstance(body["max_tokens"], int)
    prompt, results, called = "", list[str](), set[str]()
    for message in body["messages"]:
        assert message["role"] in ("user", "assistant"), message["role"]
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found = [_text(block.get("content")) for block in blocks if block["type"] == "tool_result"]
        if found:
            results += found
        elif message["role"] == "user":
            prompt, results, called = _text(blocks), [], set()
        called |= {block["name"] for block in blocks if block["type"] == "tool_use"}
    choice = body.get("tool_choice") or {}
    named: Any = {"auto": "auto", "any": "required", "none": "none"}.get(choice.get("type", "auto"), choice)
    form = (body.get("output_config") or {}).get("format")
    return Asked(
        prompt,
        tuple(results),
        frozenset(called),
        {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())},
        named,
        not choice.get("disable_parallel_tool_use"),
        form["schema"] if form else None,
    )


def _responses(body: Mapping[str, Any]) -> Asked:
    prompt, results, called = "", list[str](), set[str]()
    given = body["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type", "message")
        if kind == "message" and item["role"] == "user":
            prompt, results, called = _text(item["content"]), [], set()
        elif kind == "function_call":
            called.add(item["name"])
        elif kind == "function_call_output":
            results.append(_text(item["output"]))
    form = (body.get("text") or {}).get("format") or {}
    return Asked(
        prompt,
        tuple(results),
        frozenset(called),
        {tool["name"]: tool.get("parameters") or {} for tool in body.get("tools", ())},
        body.get("tool_choice"),
        body.get("parallel_tool_calls") is not False,
        form.get("schema", {}) if form.get("type", "text") != "text" else None,
    )


def _links(wire: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Calls, results and questions in their order."""
    if wire == "completions":
        for message in body["messages"]:
            for call in message.get("tool_calls") or ():
                yield "call", call["id"]
            if message["role"] == "tool":
                yield "result", message["tool_call_id"]
            elif message["role"] == "user":
                yield "user", ""
    elif wire == "messages":
        for message in body["messages"]:
            blocks = message["content"] if isinstance(message["content"], list) else []
            for block in blocks:
                if block["type"] == "tool_use":
                    yield "call", block["id"]
                elif block["type"] == "tool_result":
                    yield "result", block["tool_use_id"]
            if message["role"] == "user" and all(block["type"] != "tool_result" for block in blocks):
                yield "user", ""
    else:
        for item in body["input"] if isinstance(body["input"], list) else ():
            if item.get("type") in ("function_call", "function_call_output"):
                yield "call" if item["type"] == "function_call" else "result", item["call_id"]
            elif item.get("role") == "user":
                yield "user", ""


def _head(status: int, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextlib.asynccontextmanager
async def speakers(*, own_ids: bool = True) -> AsyncIterator[Speakers]:
    """A running upstream."""
    it = Speakers(own_ids)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, backlog=256)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
