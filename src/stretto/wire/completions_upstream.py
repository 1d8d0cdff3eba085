"""OpenAI's legacy Completions towards workers without a chat template: one prompt out, its continuation in."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from stretto.types import Card, Delta, Failure, Message, TokenLogprob, Usage
from stretto.wire.base import Completion, Question, Rendered, bounded_json
from stretto.wire.chat_parts import logprobs_of, usage_of
from stretto.wire.chat_upstream import failure_inside
from stretto.wire.reader import EventReader

__all__ = ["CompletionsReader", "parse_reply", "reader", "render_ask"]

_CHAT_ONLY: Final = frozenset({"parallel_tool_calls", "reasoning_effort", "verbosity"})
_LARGEST_SEED: Final = 2**31 - 1
_NO_NAMES: Final[Mapping[str, str]] = {}


def render_ask(
    ask: Question,
    model: str,
    card: Card,
    *,
    stream: bool = False,
    lacks: frozenset[str] = frozenset(),
    renames: Mapping[str, str] = _NO_NAMES,
) -> Rendered:
    """A bound ask as the body of a request: one user message becomes the prompt.

    Raises `ValueError` for a conversation, since how its turns are marked is the model's secret. Tools, response formats and what
    concerns chat alone are dropped and named.
    """
    if ask.want not in ("text", "logprobs"):
        raise ValueError(f"{ask.want} cannot be had over Completions")
    messages = ask.messages or ()
    if len(messages) != 1 or messages[0].role != "user":
        raise ValueError("Completions takes one prompt, and this is a conversation")
    content = messages[0].content
    if isinstance(content, tuple) and any(part.kind != "text" for part in content):
        raise ValueError("Completions takes text only")
    wanted = {**ask.params}
    if wanted.pop("logprobs", False) or ask.want == "logprobs":
        wanted["logprobs"] = min(5, max(1, wanted.pop("top_logprobs", 1)))
    else:
        wanted.pop("top_logprobs", None)
    if ask.max_tokens is not None:
        wanted["max_tokens"] = ask.max_tokens
    given = {"tools": ask.tools, "response_format": ask.response_format}
    dropped = [name for name, value in given.items() if value]
    body: dict[str, Any] = {"model": model, "prompt": messages[0].text}
    for name, value in wanted.items():
        if name in lacks or name in _CHAT_ONLY:
            dropped.append(name)
        elif name == "seed" and type(value) is int:
            body[renames.get(name, name)] = value & _LARGEST_SEED
        else:
            body[renames.get(name, name)] = value
    if ask.wire == "completions":
        for name, value in ask.extra.items():
            if name in lacks:
                dropped.append(name)
            else:
                body.setdefault(name, value)
    if stream:
        body["stream"] = True
        if "stream_options" not in lacks:
            body["stream_options"] = {"include_usage": True}
    try:
        return Rendered("/completions", orjson.dumps(body), tuple(dropped))
    except TypeError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from None


def parse_reply(body: bytes, want: str = "text") -> Completion:
    """The body of an answer with status 200. Never raises: what is wrong is the completion's `error`."""
    try:
        raw = bounded_json(body)
    except ValueError as error:
        return _with_error(Completion(), "protocol", f"the answer is {error}")
    put_together = CompletionsReader()
    put_together.take(raw, [])
    if put_together.error is None and not put_together.finished:
        put_together.finish("stop")  # whole as it came, whether it says why or not
    return put_together.result()


def reader() -> "CompletionsReader":
    """A reader for one streamed answer."""
    return CompletionsReader()


class CompletionsReader(EventReader):
    """Puts `text_completion` events together. A stream is complete only when it has said why it finished."""

    __slots__ = (
        "_finish",
        "_logprobs",
        "_model",
        "_text",
        "usage",
    )

    def __init__(self) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._finish = ""
        self._model = ""
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    def take(self, raw: Any, into: list[Delta]) -> None:
        """Take one `text_completion` object."""
        if type(raw) is not dict:
            self._stop("protocol", "the answer is not a JSON object")
            return
        if raw.get("error"):
            self.error, self._retryable = failure_inside(raw["error"])
            self.done = True
            return
        if type(raw.get("model")) is str:
            self._model = raw["model"]
        self.usage = usage_of(raw.get("usage")) or self.usage
        choices = raw.get("choices")
        choice = choices[0] if type(choices) is list and choices else None
        if type(choice) is not dict:
            return
        text = choice.get("text")
        text, logprobs = text if type(text) is str else "", _logprobs(choice.get("logprobs"))
        if text or logprobs:
            self._text.append(text)
            self._logprobs.extend(logprobs)
            into.append(Delta(text, logprobs=logprobs))
        if type(choice.get("finish_reason")) is str and not self.finished:
            self.finish(choice["finish_reason"])

    def finish(self, reason: str) -> None:
        """The upstream says that the answer is complete, or that it failed."""
        if reason == "error":
            self._stop("upstream_error", "the upstream failed while it answered")
            return
        known = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}
        self.finished, self._finish = True, known.get(reason, "stop")

    def result(self) -> Completion:
        """The answer as far as it came. Its `error` is set unless the stream said that the answer is complete."""
        message = Message("assistant", "".join(self._text))
        found = Completion(message, self._finish, self.usage, self._model, tuple(self._logprobs))
        if self.error is not None:
            found.error, found.retryable = self.error, self._retryable
        elif not self.finished:
            return _with_error(found, "cut", "the stream ended without saying that the answer is complete")
        elif not message.content and self._finish != "content_filter":
            found.error = Failure("empty", "the answer is complete and has no content")
        return found


def _logprobs(raw: Any) -> tuple[TokenLogprob, ...]:
    """The `logprobs` of a choice, in the legacy shape or (llama.cpp) in that of Chat Completions."""
    if type(raw) is not dict:
        return ()
    tokens, numbers, tops = raw.get("tokens"), raw.get("token_logprobs"), raw.get("top_logprobs")
    if type(tokens) is not list or type(numbers) is not list:
        return logprobs_of(raw)
    found = []
    for place, (token, number) in enumerate(zip(tokens, numbers, strict=False)):
        if type(token) is str and type(number) in (int, float):
            top = tops[place] if type(tops) is list and place < len(tops) else None
            others = top.items() if type(top) is dict else ()
            pairs = tuple((name, float(value)) for name, value in others if type(value) in (int, float))
            found.append(TokenLogprob(token, float(number), pairs))
    return tuple(found)


def _with_error(found: Completion, kind: Any, text: str) -> Completion:
    found.error, found.retryable = Failure(kind, text), True
    return found
