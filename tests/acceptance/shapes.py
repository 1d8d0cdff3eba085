"""An upstream on loopback that answers in every shape there is: the model's name says which. And a configuration for it."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Shapes", "config"]

CALLS = [
    {
        "index": number,
        "id": f"call_{city}",
        "type": "function",
        "function": {"name": "weather", "arguments": f'{{"city":"{city}"}}'},
    }
    for number, city in enumerate(("Paris", "Rome"))
]
PATCH = {
    "index": 0,
    "id": "call_patch",
    "type": "function",
    "function": {"name": "patch", "arguments": '{"input":"*** Begin\\n\\"a\\""}'},
}
LOGPROB = {
    "token": "four",
    "logprob": -0.25,
    "bytes": [102],
    "top_logprobs": [{"token": "4", "logprob": -1.5, "bytes": [52]}],
}

DELTAS: Mapping[str, list[dict[str, Any]]] = {
    "text": [{"content": "two and"}, {"content": " two is "}, {"content": "four"}],
    "thoughts": [{"reasoning_content": "let me "}, {"reasoning_content": "see"}, {"content": "four"}],
    "tools": [{"content": "I look."}, {"tool_calls": [CALLS[0]]}, {"tool_calls": [CALLS[1]]}],
    "patch": [{"tool_calls": [PATCH]}],
    "refusal": [{"refusal": "I will "}, {"refusal": "not."}],
    "json": [{"content": '{"ok":'}, {"content": " true}"}],
    "short": [{"content": "it goes on and"}],
    "filtered": [{"content": "some"}],
    "cut": [{"content": "some"}],
    "judge": [{"content": "1"}],
}
"""What a worker says, by its model's name; any other says what `text` says."""

FINISHES = {"tools": "tool_calls", "patch": "tool_calls", "short": "length", "filtered": "content_filter"}

POLICIES = """
[policy.panel]
type = "fuse"
panel = ["text", "thoughts", "tools"]
writer = "text"
[policy.picked]
type = "fuse"
panel = ["text", "thoughts"]
judge = "judge"
[policy.ladder]
type = "cascade"
rungs = ["json", "text"]
check = "agreement"
[policy.pick]
type = "route"
among = ["text"]
"""
ABLE = '"text", "tools", "json", "vision", "logprobs", "reasoning"'


def config(url: str) -> str:
    """Workers by shape, and policies of each kind."""
    workers = [
        f'[[worker]]\nid = "{name}"\nabilities = [{ABLE}]\nendpoints = [{{ base_url = "{url}" }}]\n'
        f"price = {{ input = {price}, output = {price} }}\n"
        for price, name in enumerate([*DELTAS, "broken"], 1)
    ]
    return "".join(workers) + POLICIES


def _message(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """The deltas as one message."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for delta in deltas:
        for name, value in delta.items():
            message[name] = value if message.get(name) is None else message[name] + value
    return message


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Shapes"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        model = asked["model"] if asked["model"] in (*DELTAS, "broken") else "text"
        if self.path.endswith("/embeddings"):
            return self._embed(asked)
        if model == "broken":
            return self._whole(400, {"error": {"message": "no", "type": "invalid_request_error"}})
        deltas = DELTAS[model]
        if asked.get("response_format") and model not in FINISHES and self.server.fitting is not None:
            deltas = [{"content": self.server.fitting(asked["response_format"])}]
        shown = {"content": [LOGPROB]} if asked.get("logprobs") else None
        finish = FINISHES.get(model, "stop")
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        if not asked.get("stream"):
            if model == "cut":
                return self._cut()
            choice = {"index": 0, "message": _message(deltas), "finish_reason": finish, "logprobs": shown}
            return self._whole(200, {"id": "x", "model": model, "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for delta in deltas:
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": shown}]})
            shown = None
        if model == "cut":
            return self._cut()
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        self._event({"choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        return self._chunk(b"")

    def _embed(self, asked: Mapping[str, Any]) -> None:
        given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        vector = [0.5] * asked.get("dimensions", 2)
        vectors = [{"object": "embedding", "index": at, "embedding": vector} for at, _ in enumerate(given)]
        usage = {"prompt_tokens": len(given), "total_tokens": len(given)}
        self._whole(200, {"object": "list", "model": asked["model"], "data": vectors, "usage": usage})

    def _whole(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _event(self, body: Mapping[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(body).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _cut(self) -> None:
        self.close_connection = True


class Shapes(ThreadingHTTPServer):
    """The upstream, on a thread from `with` to its end. `asked` are the bodies that came in.

    `fitting`, if given, writes the text of an answer that has to fit a response format.
    """

    daemon_threads = True

    def __init__(self, fitting: Callable[[Mapping[str, Any]], str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.fitting = fitting
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """For the configuration."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "Shapes":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers may leave."""

    def __exit__(self, *args: Any) -> None:
        with suppress(OSError):
            self.shutdown()
        self.server_close()
