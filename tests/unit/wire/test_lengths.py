"""Refusals of requests that are too long: recognised in each server's words, told in the words that agents act on."""

from typing import Any

import orjson
import pytest

from stretto.types import FailureKind
from stretto.wire import chat, messages, responses
from stretto.wire.base import Format
from stretto.wire.lengths import Length, is_too_long, length_in, refusal, too_long_text

OPENAI = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
ASKED = "maximum context length is 4096 tokens. However, you requested"
SAID: dict[str, tuple[str, Length | None]] = {
    "openai": (OPENAI, Length(9000, 8192)),
    "openai-responses": ("Your input exceeds the context window of this model. Please adjust it.", None),
    "anthropic": ("prompt is too long: 210000 tokens > 200000 maximum", Length(210000, 200000)),
    "anthropic-output": (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
        Length(190000, 200000, 20000),
    ),
    "llama.cpp": (
        "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
        Length(9412, 8192),
    ),
    "llama.cpp-older": ("the request exceeds the available context size, try increasing it", None),
    "llama.cpp-fields": (
        '{"type":"exceed_context_size_error","n_prompt_tokens":100,"n_ctx":64}',
        Length(100, 64),
    ),
    "vllm": (
        f"This model's {ASKED} 5000 tokens (4000 in the messages, 1000 in the completion).",
        Length(4000, 4096, 1000),
    ),
    "vllm-newer": (
        "'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request "
        "has 100 input tokens (5000 > 4096 - 100).",
        Length(100, 4096, 5000),
    ),
    "vllm-prompt": (
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        Length(5000, 4096),
    ),
    "sglang": (
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        Length(5000, 4096),
    ),
    "litellm": (f"litellm.ContextWindowExceededError: OpenAIException - {OPENAI}", Length(9000, 8192)),
    "openrouter": (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens "
        "(130000 of text input, 10000 in the output).",
        Length(130000, 131072, 10000),
    ),
    "gemini": (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        Length(1200000, 1048576),
    ),
    "mistral": (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        Length(40000, 32768),
    ),
    "xai": (
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        Length(200000, 131072),
    ),
    "bedrock": ("Input is too long for requested model.", None),
}


@pytest.mark.parametrize(("said", "length"), SAID.values(), ids=SAID)
def test_what_servers_say_is_recognised_with_its_numbers(said: str, length: Length | None) -> None:
    """Each server's own words; what a caller is told holds both vendors' words, and reads back to the same numbers."""
    assert is_too_long(said)
    assert length_in(said) == length
    told = too_long_text(said)
    assert "maximum context length" in told
    assert length_in(told) == length
    assert told.startswith(
        "input length and `max_tokens`" if length and length.output else "prompt is too long"
    )


@pytest.mark.parametrize(
    "said",
    [
        "no such parameter",
        "max_tokens is too large: 5000",
        "context_management is not supported",
        "the image is too large",
        "Request too large for gpt-4 on tokens per min (TPM): Limit 30000, Requested 40000",
        "messages.0.content: Input should be a valid string",
    ],
)
def test_other_refusals_are_not(said: str) -> None:
    """Words that come near it."""
    assert not is_too_long(said)


@pytest.mark.parametrize(
    ("form", "status", "body", "kind", "message"),
    [
        (
            chat,
            400,
            {"error": {"message": "nope", "code": "context_length_exceeded"}},
            "too_long",
            "nope",
        ),
        (
            chat,
            400,
            {
                "error": {
                    "message": "it exceeds",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 9,
                    "n_ctx": 8,
                }
            },
            "too_long",
            "prompt is too long: 9 tokens > 8 maximum",
        ),
        (
            chat,
            500,
            {"error": {"message": OPENAI}},
            "too_long",
            "prompt is too long: 9000 tokens > 8192 maximum",
        ),
        (responses, 413, {"error": {"message": "x", "code": "context_length_exceeded"}}, "too_long", "x"),
        (
            messages,
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": SAID["anthropic"][0]}},
            "too_long",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ),
        (chat, 429, {"error": {"message": OPENAI}}, "rate_limited", OPENAI),
        (chat, 401, {"error": {"message": OPENAI}}, "upstream_auth", OPENAI),
        (chat, 400, {"error": {"message": "no such model"}}, "bad_request", "no such model"),
    ],
)
def test_a_refusal_says_what_it_is(
    form: Format, status: int, body: dict[str, Any], kind: FailureKind, message: str
) -> None:
    """By code or words, at whatever status but those of rate limits and keys; its words give way to its numbers."""
    found, said, retryable = refusal(status, orjson.dumps(body), form)
    assert (found, said) == (kind, message)
    assert retryable == (kind == "rate_limited")
