"""What upstreams say of a request that is longer than the model's context, and how that is told.

There is no common code for it: each server has words of its own, some have a code beside them. What is recognised here was taken
from OpenAI, Anthropic, llama.cpp, vLLM, SGLang, LiteLLM, OpenRouter, Mistral, xAI, Gemini, Bedrock and LM Studio. How it is told
holds the words that agents look for: Anthropic's come first (Claude Code matches them from the start), OpenAI's after them.
"""

import re
from typing import Final, NamedTuple

from stretto.types import Failure, FailureKind
from stretto.wire.base import Format, cause_of_status

__all__ = ["Length", "is_too_long", "length_in", "refusal", "too_long", "too_long_text"]


class Length(NamedTuple):
    """Tokens of a prompt, and the most that fit. `output`: what was asked for beside it, where the two do not fit together."""

    prompt: int
    most: int
    output: int = 0

    def __str__(self) -> str:
        """Anthropic's words."""
        if self.output:
            both = f"{self.prompt} + {self.output} > {self.most}"
            return f"input length and `max_tokens` exceed context limit: {both}"
        return f"prompt is too long: {self.prompt} tokens > {self.most} maximum"


_SAID: Final = re.compile(
    r"context_length_exceeded|model_context_window_exceeded|exceed_context_size|ContextWindowExceeded"
    r"|maximum (?:context|prompt|model) length|maximum context window|model's context (?:length|window)"
    r"|(?:exceeds?|exceeded|than) (?:the )?(?:available |maximum |model's )?context[ _](?:size|length|window|limit)"
    r"|context (?:size|length|window|limit) (?:has been |was )?exceeded"
    r"|exceeds the context window|(?:prompt|input) is too long|input token count\W.{0,40}exceeds"
    r"|reduce the length of the (?:messages|prompt|input)|too large for model with",
    re.IGNORECASE,
)
_N: Final = r"\d[\d,]{0,14}"
_BOTH: Final = (
    re.compile(rf"context limit: (?P<prompt>{_N}) \+ (?P<output>{_N}) > (?P<most>{_N})"),  # Anthropic
    re.compile(
        rf"length is (?P<most>{_N}) tokens.{{0,80}}?"
        rf"\((?P<prompt>{_N}) (?:in the messages|of text input)[^)]*?(?P<output>{_N}) in the"
    ),  # OpenAI, OpenRouter
    re.compile(
        rf"too large: (?P<output>{_N})\. .{{0,40}}?length is (?P<most>{_N}) tokens and your request has (?P<prompt>{_N})"
    ),  # vLLM
)
_PROMPT: Final = (
    re.compile(rf"too long: ({_N}) tokens > ({_N})"),  # Anthropic
    re.compile(rf"\(({_N}) tokens\) exceeds the available context size \(({_N}) tokens\)"),  # llama.cpp
    re.compile(rf'"n_prompt_tokens"\s*:\s*({_N}).{{0,40}}?"n_ctx"\s*:\s*({_N})'),  # llama.cpp, older
    re.compile(rf"\(({_N}) tokens\) is longer than the model's context length \(({_N}) tokens\)"),  # SGLang
    re.compile(rf"\(length ({_N})\) is longer than the maximum model length of ({_N})"),  # vLLM
    re.compile(rf"contains ({_N}) tokens.{{0,60}}?model with ({_N}) maximum context"),  # Mistral
    re.compile(rf"token count \(({_N})\) exceeds .{{0,60}}?\(({_N})\)"),  # Gemini
)
_MOST_FIRST: Final = (
    re.compile(
        rf"length is ({_N}) tokens.{{0,80}}?(?:resulted in|requested(?: about)?|has) ({_N}) (?:input )?tokens"
    ),  # OpenAI, vLLM
    re.compile(rf"prompt length is ({_N}) but the request contains ({_N}) tokens"),  # xAI
)


def is_too_long(said: str) -> bool:
    """Whether an upstream's refusal, codes included, is about the length of the prompt."""
    return _SAID.search(said) is not None


def length_in(said: str) -> Length | None:
    """The numbers in such a refusal, where it has some."""
    for pattern in _BOTH:
        if found := pattern.search(said):
            prompt, most, output = (_number(found[name]) for name in ("prompt", "most", "output"))
            return Length(prompt, most) if prompt >= most else Length(prompt, most, output)
    for pattern in _PROMPT:
        if found := pattern.search(said):
            return Length(_number(found[1]), _number(found[2]))
    for pattern in _MOST_FIRST:
        if found := pattern.search(said):
            return Length(_number(found[2]), _number(found[1]))
    return None


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))


def too_long_text(said: str) -> str:
    """What a caller is told: the numbers of `said` in both vendors' words, and none of its other words."""
    length = length_in(said)
    if length is None:
        return "prompt is too long for the model's maximum context length. Please reduce the length of the messages."
    advice = "Reduce the length of the messages" + (" or `max_tokens`." if length.output else ".")
    return f"{length}. This model's maximum context length is {length.most} tokens. {advice}"


# --- towards the engine ------------------------------------------------------------------------------------------


def refusal(status: int, body: bytes, form: Format) -> tuple[FailureKind, str, bool]:
    """What an HTTP error in `form` means, what it says, and whether the same request may succeed elsewhere."""
    kind, retryable = cause_of_status(status)
    said = form.parse_failure(body)
    failure = too_long(Failure(kind, said), body.decode(errors="replace"))
    return (kind, said, retryable) if failure is None else (failure.kind, failure.message, False)


def too_long(failure: Failure, said: str) -> Failure | None:
    """The failure that an upstream's refusal really is if what it `said` is about length; else `None`.

    A rate limit on tokens and a wrong key are what they are, whatever words come with them.
    """
    if failure.kind not in ("bad_request", "upstream_error") or not is_too_long(said):
        return None
    length = length_in(said)
    return Failure("too_long", failure.message if length is None else str(length), status=failure.status)
