"""A scripted upstream for coding agents: two models that speak Chat Completions, one of which can do the task.

`large` reads the file, edits it with the agent's own tools and says so. `small` gives up at once, so that a policy that does not
look at answers, or returns a tool's result to the wrong worker, fails the task. `large` is also judge and verifier.
Every answer is decided by the request alone, since agents ask for titles and the like at the same time.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["BEFORE", "DONE", "GIVES_UP", "TASK", "Upstream"]

TASK = "Make greet() in greet.py end its greeting with an exclamation mark."
BEFORE = (
    'def greet(name):\n    return "Hello, " + name\n\n\nif __name__ == "__main__":\n    print(greet("Ada"))\n'
)
OLD, NEW = '    return "Hello, " + name', '    return "Hello, " + name + "!"'
DONE = "The greeting ends with an exclamation mark now."
GIVES_UP = "I give up: this is beyond me."

Call = tuple[str, Mapping[str, Any]]


def _codex(project: Path) -> list[Call]:
    patch = f"*** Begin Patch\n*** Update File: greet.py\n@@\n-{OLD}\n+{NEW}\n*** End Patch\n"
    return [("exec_command", {"cmd": "cat greet.py"}), ("apply_patch", {"input": patch})]


def _claude(project: Path) -> list[Call]:
    file = str(project / "greet.py")
    return [
        ("Read", {"file_path": file}),
        ("Edit", {"file_path": file, "old_string": OLD, "new_string": NEW}),
    ]


def _opencode(project: Path) -> list[Call]:
    file = str(project / "greet.py")
    return [("read", {"filePath": file}), ("edit", {"filePath": file, "oldString": OLD, "newString": NEW})]


def _llm(project: Path) -> list[Call]:
    return [("read_file", {"path": "greet.py"}), ("replace", {"path": "greet.py", "old": OLD, "new": NEW})]


CALLS = {"codex": _codex, "claude-code": _claude, "opencode": _opencode, "llm": _llm}
"""The tool calls by which each agent does the task. aider has none: it reads edits from the text."""

_EDIT = f"{DONE}\n\ngreet.py\n```python\n<<<<<<< SEARCH\n{OLD}\n=======\n{NEW}\n>>>>>>> REPLACE\n```\n"


@dataclass
class Upstream:
    """A running upstream. `agent` and `project` say whose tools to call, and where; `asked` counts calls by model and role."""

    agent: str = ""
    project: Path = Path()
    asked: dict[str, int] = field(default_factory=dict)
    bodies: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def base_url(self) -> str:
        """For the gateway's configuration."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def begin(self, agent: str, project: Path) -> None:
        """A new task: counts start anew."""
        self.agent, self.project, self.asked, self.bodies = agent, project, {}, []

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, body: Mapping[str, Any]) -> tuple[str, Call | None]:
        """What it says to a request: a text, or a tool call."""
        self.bodies.append(body)
        role, text, call = self._decide(body)
        key = f"{body['model']} {role}"
        self.asked[key] = self.asked.get(key, 0) + 1
        return text, call

    def _decide(self, body: Mapping[str, Any]) -> tuple[str, str, Call | None]:
        messages = body["messages"]
        last = _text(next((m for m in reversed(messages) if m["role"] == "user"), {}))
        tools = {tool["function"]["name"] for tool in body.get("tools") or () if "function" in tool}
        if last.startswith("You compare candidate answers"):
            said = re.findall(r'<candidate name="(\d+)">\n(.*?)\n</candidate>', last, re.S)
            good = [number for number, text in said if text.strip() != GIVES_UP]
            return "judge", good[0] if good else "1", None
        if last.startswith("You check one answer"):
            return "verifier", "no" if GIVES_UP in last else "yes", None
        whole = "\n".join(map(_text, messages))
        works = "SEARCH" in whole if self.agent == "aider" else bool(tools)
        if TASK not in whole or not works:
            return "aside", "Greeting", None
        if body["model"] == "small":
            return "worker", GIVES_UP, None
        if self.agent == "aider":
            return "worker", _EDIT, None
        calls = CALLS[self.agent](self.project)
        step = sum(message["role"] == "tool" for message in messages)
        if step >= len(calls):
            return "worker", DONE, None
        name, arguments = calls[step]
        if name not in tools:
            return "worker", f"There is no tool {name}; there are: {', '.join(sorted(tools))}.", None
        return "worker", "", (name, arguments)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text") or "" for part in content)


def _events(model: str, text: str, call: Call | None, step: int) -> Iterator[Mapping[str, Any]]:
    """The pieces of a streamed answer: texts in words, a call's arguments in three."""

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> Mapping[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
        }

    yield chunk({"role": "assistant", "content": ""})
    if call is None:
        yield from (chunk({"content": piece}) for piece in re.findall(r"\S+\s*|\s+", text))
        yield chunk({}, "stop")
        return
    name, arguments = call[0], json.dumps(call[1])
    head = {"index": 0, "id": f"up_{step}", "type": "function", "function": {"name": name, "arguments": ""}}
    yield chunk({"tool_calls": [head]})
    third = len(arguments) // 3 + 1
    for at in range(0, len(arguments), third):
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + third]}}]})
    yield chunk({}, "tool_calls")


def _handler(upstream: Upstream) -> type[BaseHTTPRequestHandler]:
    usage = {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text, call = upstream.answer(body)
            step = len(body["messages"])
            if body.get("stream"):
                events = [*_events(body["model"], text, call, step), {"choices": [], "usage": usage}]
                data = (
                    b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
                    + b"data: [DONE]\n\n"
                )
                self._send("text/event-stream", data)
                return
            message: dict[str, Any] = {"role": "assistant", "content": text or None}
            if call is not None:
                function = {"name": call[0], "arguments": json.dumps(call[1])}
                message["tool_calls"] = [{"id": f"up_{step}", "type": "function", "function": function}]
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
            whole = {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [choice],
            }
            self._send("application/json", json.dumps(whole | {"usage": usage}).encode())

        def _send(self, kind: str, data: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
