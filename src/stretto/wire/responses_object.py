"""The response object of OpenAI Responses: what an answer is, beside the fields of the request, which are told back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stretto.types import Answer, Usage
from stretto.wire.base import Incoming
from stretto.wire.chat_parts import finish_reason
from stretto.wire.responses_fields import render_usage
from stretto.wire.responses_items import FUSION, FUSION_ID

__all__ = [
    "SEALS",
    "failure_of",
    "fusion_item",
    "hex_of",
    "response_id",
    "response_object",
    "shows_seals",
    "status_of",
]

SEALS: Final = "reasoning.encrypted_content"
"""The `include` that asks for encrypted reasoning."""

_DEFAULTS: Final[Mapping[str, Any]] = {
    "instructions": None,
    "previous_response_id": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "reasoning": {"effort": None, "summary": None},
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": True,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
    "user": None,
}
"""Fields of the request that every response tells back, and what it says where they were not given."""

_ONLY_GIVEN: Final = ("conversation", "prompt_cache_retention", "prompt")
_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def hex_of(id: str) -> str:
    """What the ids of a run's response and items share."""
    return id.removeprefix("run_")


def response_id(id: str) -> str:
    """The id of the response that the run `id` gives."""
    return f"resp_{hex_of(id)}"


def shows_seals(incoming: Incoming) -> bool:
    """Whether the caller wants encrypted reasoning."""
    return SEALS in incoming.more.get("include", ())


def status_of(answer: Answer) -> tuple[str, Mapping[str, Any] | None]:
    """`completed` or `incomplete`, and why."""
    reason = _REASONS.get(finish_reason(answer.finish, answer.message))
    return ("completed", None) if reason is None else ("incomplete", {"reason": reason})


def failure_of(message: str, type: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The `error` of a failed response. Its codes are the protocol's own: agents decide by them whether to try again."""
    codes = {
        "insufficient_quota": "insufficient_quota",
        "rate_limit_error": "rate_limit_exceeded",
        "invalid_request_error": "invalid_prompt",
    }
    known = codes.get(type, "server_error")
    if code == "context_length_exceeded":
        known = code
    return {"code": known, "message": message, "type": type, "param": param}


def fusion_item(id: str, incoming: Incoming, stretto: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a fusion tells beside its answer, as the item that OpenRouter's clients look for, if this caller asked for fusion."""
    fusion = (stretto or {}).get("fusion")
    if not isinstance(fusion, Mapping):
        return None
    asked = incoming.request.extra.get("plugins") or any(
        str(tool.get("type", "")).endswith(":fusion") for tool in incoming.more.get("tools", ())
    )
    if not asked:
        return None
    told = {name: value for name, value in fusion.items() if name != "status"}
    status = "failed" if fusion.get("status") == "error" else "completed"
    return {"type": FUSION, "id": f"{FUSION_ID}_{hex_of(id)}", "status": status, **told}


def response_object(
    id: str,
    created: int,
    incoming: Incoming,
    status: str,
    *,
    output: Sequence[Mapping[str, Any]] = (),
    usage: tuple[Usage, Usage] | None = None,
    details: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    completed: int | None = None,
    stretto: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The response that the run `id` gives. `status`: queued, in_progress, completed, incomplete, failed or cancelled.

    `usage` is of all attempts and of the one that answered, `completed` when it was complete (Unix seconds).
    """
    more = incoming.more
    body: dict[str, Any] = {
        "id": response_id(id),
        "object": "response",
        "created_at": created,
        "completed_at": completed if status == "completed" else None,
        "status": status,
        "error": error,
        "incomplete_details": details,
        "model": incoming.request.model,
        "output": list(output),
        "usage": None if usage is None else render_usage(*usage),
    }
    for name, otherwise in _DEFAULTS.items():
        given = more.get(name)
        body[name] = otherwise if given is None else given
    for name in _ONLY_GIVEN:
        if more.get(name) is not None:
            body[name] = more[name]
    if stretto is not None:
        body["stretto"] = stretto
    return body
