"""OpenAI's legacy Completions: requests in, answers and streams out. (`completions_upstream` is the same format towards workers.)

A prompt is one user message, so any worker and any policy can take it. What only a model without a chat template can do (go on
in the middle of a text, token ids for a prompt) is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from stretto.errors import RequestError
from stretto.types import Answer, Delta, Message, Request, TokenLogprob, Usage
from stretto.wire.base import Incoming, expect_bool, expect_number, expect_object, parse_options
from stretto.wire.base import bearer as credentials
from stretto.wire.chat import render_error, render_usage
from stretto.wire.chat_upstream import parse_failure
from stretto.wire.completions_upstream import parse_reply, reader, render_ask
from stretto.wire.fields import SAMPLING, model_name, read_body, sorted_out

__all__ = [
    "NAME",
    "ROUTE",
    "CompletionsStream",
    "credentials",
    "parse_failure",
    "parse_reply",
    "parse_request",
    "reader",
    "render_ask",
    "render_error",
    "render_response",
    "stream",
]

NAME: Final = "completions"
ROUTE: Final = "/v1/completions"

# --- requests ----------------------------------------------------------------------------------------------------


def parse_request(body: bytes) -> Incoming:
    """A `POST /v1/completions` body. Raises `RequestError`; `param` is the field that is wrong."""
    given = read_body(body)
    params, rest, extra, ignored = sorted_out(given, SAMPLING, _FIELDS)
    prompt = _prompt(rest.get("prompt"))
    if rest.get("suffix"):
        raise RequestError("`suffix` is not served: chat models do not fill in between.", param="suffix")
    for name in ("n", "best_of"):
        if name in rest and expect_number(rest[name], name, least=0, whole=True) > 1:
            raise RequestError(
                f"`{name}` above 1 is not supported: send the request once for each answer.", param=name
            )
    if "logprobs" in rest:
        count = expect_number(rest["logprobs"], "logprobs", least=0, most=5, whole=True)
        params |= {"logprobs": True, "top_logprobs": count}
    max_tokens = None
    if "max_tokens" in rest:
        max_tokens = expect_number(rest["max_tokens"], "max_tokens", least=1, most=2**31 - 1, whole=True)
    options = parse_options(rest.get("stretto"))
    streaming = "stream" in rest and expect_bool(rest["stream"], "stream")
    include_usage = False
    if "stream_options" in rest:
        wish = expect_object(rest["stream_options"], "stream_options").get("include_usage")
        include_usage = streaming and wish is not None and expect_bool(wish, "stream_options.include_usage")
    echo = "echo" in rest and expect_bool(rest["echo"], "echo")
    request = Request(
        messages=(Message("user", prompt),),
        model=model_name(given["model"]),
        params=params,
        max_tokens=max_tokens,
        extra=extra,
        seed=options.seed,
        dial=0.5 if options.dial is None else options.dial,
        limits=options.limits,
        require=options.require,
        exclude=options.exclude,
        wire=NAME,
    )
    more = {"echo": prompt} if echo and prompt else {}
    return Incoming(request, streaming, include_usage, options, ignored, more)


_FIELDS: Final = frozenset(
    {
        "best_of",
        "echo",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "prompt",
        "stream",
        "stream_options",
        "stretto",
        "suffix",
    }
)


def _prompt(value: Any) -> str:
    """The text of a prompt: a string, or a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if value is None:
        raise RequestError("`prompt` is missing.", param="prompt")
    if isinstance(value, int) or (isinstance(value, list) and value and isinstance(value[0], int)):
        raise RequestError(
            "`prompt` holds token ids; every worker has a tokeniser of its own, so send the text.",
            param="prompt",
        )
    if isinstance(value, list) and len(value) > 1:
        raise RequestError(
            f"`prompt` has {len(value)} prompts; one is taken: send the request once for each.",
            param="prompt",
        )
    raise RequestError("`prompt` must be a string, or a list of one string.", param="prompt")


# --- answers -----------------------------------------------------------------------------------------------------


def _id(run: str) -> str:
    return f"cmpl-{run.removeprefix('run_')}"


def _finish(answer: Answer) -> str:
    return answer.finish if answer.finish in ("length", "content_filter") else "stop"


def _legacy(logprobs: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """The `logprobs` object of a choice; `offset` is how much text stands before its first token."""
    offsets = []
    for token in logprobs:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in logprobs],
        "token_logprobs": [token.logprob for token in logprobs],
        "top_logprobs": [{**dict(token.top), token.token: token.logprob} for token in logprobs],
        "text_offset": offsets,
    }


def render_response(
    id: str,
    created: int,
    incoming: Incoming,
    answer: Answer,
    usage: Usage,
    served: Usage,
    stretto: Mapping[str, Any] | None = None,
) -> bytes:
    """The body of a whole answer: its text, or what it says in refusal."""
    echo = incoming.more.get("echo", "")
    body: dict[str, Any] = {
        "id": _id(id),
        "object": "text_completion",
        "created": created,
        "model": incoming.request.model,
        "choices": [
            {
                "text": echo + (answer.message.text or answer.message.refusal),
                "index": 0,
                "logprobs": _legacy(answer.logprobs, len(echo)) if answer.logprobs else None,
                "finish_reason": _finish(answer),
            }
        ],
        "usage": render_usage(usage, served),
    }
    if stretto is not None:
        body["stretto"] = stretto
    return orjson.dumps(body)


def stream(id: str, created: int, incoming: Incoming) -> "CompletionsStream":
    """A writer for one streamed answer to `incoming`."""
    return CompletionsStream(id, created, incoming)


class CompletionsStream:
    """Renders one answer as `text_completion` events; the prompt comes first if it is to be echoed, usage only if asked for."""

    __slots__ = ("_echo", "_offset", "_open", "_started", "_tail", "_usage")

    def __init__(self, id: str, created: int, incoming: Incoming) -> None:
        base = {
            "id": _id(id),
            "object": "text_completion",
            "created": created,
            "model": incoming.request.model,
        }
        self._open = b"data: " + orjson.dumps(base)[:-1]
        self._usage = incoming.include_usage
        self._tail = b',"usage":null' if incoming.include_usage else b""
        self._echo: str = incoming.more.get("echo", "")
        self._offset = 0
        self._started = False

    def deltas(self, deltas: Sequence[Delta]) -> bytes:
        """One event for each delta that has text."""
        chunks = []
        for delta in deltas:
            text = delta.text + delta.refusal
            if text or delta.logprobs:
                chunks.append(self._begun() + self._chunk(text, delta.logprobs))
        return b"".join(chunks)

    def _begun(self) -> bytes:
        """What comes before the first piece of the answer."""
        if self._started:
            return b""
        self._started = True
        return self._chunk(self._echo) if self._echo else b""

    def _chunk(
        self,
        text: str,
        logprobs: tuple[TokenLogprob, ...] = (),
        finish: str | None = None,
        tail: bytes | None = None,
    ) -> bytes:
        choice = {
            "text": text,
            "index": 0,
            "logprobs": _legacy(logprobs, self._offset) if logprobs else None,
            "finish_reason": finish,
        }
        self._offset += len(text)
        tail = self._tail if tail is None else tail
        return b'%b,"choices":[%b]%b}\n\n' % (self._open, orjson.dumps(choice), tail)

    def end(
        self, answer: Answer, usage: Usage, served: Usage, stretto: Mapping[str, Any] | None = None
    ) -> bytes:
        """The event with `finish_reason` (and the `stretto` block), the usage event if it was asked for, and `[DONE]`."""
        tail = self._tail if stretto is None else self._tail + b',"stretto":' + orjson.dumps(stretto)
        chunks = [self._begun(), self._chunk("", (), _finish(answer), tail)]
        if self._usage:
            counted = orjson.dumps(render_usage(usage, served))
            chunks.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._open, counted))
        chunks.append(b"data: [DONE]\n\n")
        return b"".join(chunks)

    def error(self, message: str, type: str, code: str | None = None, param: str | None = None) -> bytes:
        """An error event, with no `[DONE]` after it."""
        return b"data: " + render_error(message, type, code, param) + b"\n\n"

    def progress(self, text: str) -> bytes:
        """Nothing: this format has no place for it."""
        return b""

    def keep_alive(self) -> bytes:
        """A comment for proxies, and an event without text for clients that count only data."""
        return b": keep-alive\n\n" + self._chunk("")
