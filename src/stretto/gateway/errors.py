"""The one table from what went wrong to what the caller is told: status, body in the shape of the caller's format, headers.

Texts are ours. What an upstream said stays in the receipt of those who may read it; it never becomes an error text here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from stretto.errors import (
    AccessError,
    Forbidden,
    LedgerError,
    RequestError,
    RunError,
    StrettoError,
    TooLarge,
    TooLong,
)
from stretto.types import Failure, FailureKind
from stretto.wire import messages
from stretto.wire.base import Format
from stretto.wire.lengths import too_long_text

__all__ = [
    "CLOSING",
    "FAILURES",
    "INTERNAL",
    "TOO_SLOW",
    "Problem",
    "method_not_allowed",
    "of_exception",
    "of_failure",
    "unknown_path",
]

_TEXT_LIMIT: Final = 2000
_WAIT: Final = 1.0
"""What a 503 gives as `Retry-After` when nobody knows better."""

_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as the caller sees it. `final` tells SDKs not to retry: it was retried here, or no retry would help.

    `retry_after` is in seconds; `allow` names the methods of a path that was asked with another one.
    """

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    final: bool = False
    allow: str = ""
    close: bool = False

    def body(
        self, run_id: str = "", more: Mapping[str, Any] | None = None, form: Format | None = None
    ) -> dict[str, Any]:
        """The JSON body in the shape of `form`, OpenAI's without one; with a run, also where its receipt is, and `more`."""
        if form is None:
            error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
            body: dict[str, Any] = {"error": error}
        else:
            body = orjson.loads(form.render_error(self.message, self.type, self.code, self.param))
        if run_id:
            if form is messages:
                body["request_id"] = run_id
            body["stretto"] = {"run_id": run_id, "receipt": f"/v1/runs/{run_id}", **(more or {})}
        return body

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that go with it, besides content type and length."""
        found: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None:
            found.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after))))
        if self.final or self.status == 401:  # Claude Code tries a refused key for three minutes otherwise
            found.append((b"x-should-retry", b"false"))
        if self.allow:
            found.append((b"allow", self.allow.encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        if self.close:
            found.append((b"connection", b"close"))
        return found


FAILURES: Final[Mapping[FailureKind, tuple[int, str, str, str]]] = {
    "limit": (429, "insufficient_quota", "limit_reached", "A limit refused this call."),
    "denied": (400, _INVALID, "no_candidate", "No worker may be asked under these constraints."),
    "unavailable": (503, _SERVER, "upstream_unavailable", "No endpoint of the model can be reached now."),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded", "The model's provider limits the rate."),
    "overloaded": (503, _SERVER, "upstream_overloaded", "The model's provider is overloaded."),
    "upstream_error": (502, _SERVER, "upstream_error", "The model's server failed."),
    "upstream_auth": (
        502,
        _SERVER,
        "upstream_auth",
        "The model's provider refused this gateway's credentials; its operator has to mend that.",
    ),
    "bad_request": (
        400,
        _INVALID,
        "upstream_bad_request",
        "The model's server refused the request as invalid; its parameters or messages do not suit this model.",
    ),
    "too_long": (400, _INVALID, "context_length_exceeded", "prompt is too long."),
    "timeout": (504, _SERVER, "timeout", "The answer did not come in time."),
    "cut": (502, _SERVER, "upstream_cut", "The model's answer broke off before it was complete."),
    "protocol": (502, _SERVER, "upstream_protocol", "The model's server did not keep to its protocol."),
    "empty": (502, _SERVER, "empty_answer", "The model gave an empty answer."),
    "misfit": (502, _SERVER, "answer_misfit", "The model's answer does not fit `response_format`."),
    "cancelled": (503, _SERVER, "cancelled", "The call was cancelled before it had an answer."),
    "dropped": (502, _SERVER, "dropped", "The step that should have answered was not waited for."),
    "policy": (500, _SERVER, "policy_error", "The policy failed; this is a defect of the policy."),
    "unknown": (502, _SERVER, "outcome_unknown", "The outcome of the call was lost; it may have been made."),
    "not_recorded": (409, _INVALID, "not_recorded", "The record does not hold what this policy asks for."),
}
"""Failure kind -> status, type, code, text. A failed run was retried as far as that is sensible: all are final."""

_THEIRS: Final = frozenset({"upstream_auth", "bad_request", "rate_limited", "overloaded", "upstream_error"})
"""Kinds whose `Failure.message` may hold an upstream's words: our text stands alone, the receipt has theirs."""

INTERNAL: Final = Problem(
    500, _SERVER, "internal_error", "Something is wrong inside the gateway; its log says what."
)
"""What an unexpected exception becomes; the log has the traceback."""

TOO_SLOW: Final = Problem(408, _INVALID, "request_timeout", "The body did not come in time.", close=True)
"""What a call becomes whose body stops on the way."""

CLOSING: Final = Problem(503, _SERVER, "shutting_down", "The gateway is shutting down.", retry_after=_WAIT)
"""What a call becomes that the server cut off when it stopped."""


_LEDGER: Final = "The ledger cannot be written or read now, so no paid call is made. Try again soon."


def of_failure(failure: Failure) -> Problem:
    """The problem a failed run is."""
    status, kind, code, text = FAILURES[failure.kind]
    if failure.kind == "too_long":
        text = too_long_text(failure.message)
    elif failure.message and failure.kind not in _THEIRS:
        text = f"{text[:-1]}: {failure.message[:_TEXT_LIMIT]}"
    wait = failure.retry_after
    if wait is None and status == 503:
        wait = _WAIT
    return Problem(status, kind, code, text, retry_after=wait, final=True)


def of_exception(error: StrettoError) -> Problem:
    """The problem an exception of ours is; one that is none of the caller's business becomes `INTERNAL`."""
    text = str(error)[:_TEXT_LIMIT]
    if isinstance(error, TooLong):
        return of_failure(Failure("too_long", text))
    if isinstance(error, RequestError):
        too_large = isinstance(error, TooLarge)
        return Problem(error.status, _INVALID, error.code, text, error.param, close=too_large)
    if isinstance(error, AccessError):
        kind = "permission_error" if isinstance(error, Forbidden) else "authentication_error"
        return Problem(error.status, kind, error.code, text)
    if isinstance(error, RunError):
        return Problem(error.status, _INVALID, error.code, text)
    if isinstance(error, LedgerError):
        return Problem(503, _SERVER, "ledger_unavailable", _LEDGER, retry_after=_WAIT)
    return INTERNAL


def unknown_path(path: str) -> Problem:
    """404 for a path that is not served here. Most who meet it gave a client an address with /v1 too many, or without it."""
    hint = "GET / tells what there is."
    if path.startswith("/v1/v1/"):
        hint = "This client adds /v1 itself: give it the address without."
    elif not path.startswith("/v1"):
        hint = "Addresses begin with /v1: OpenAI's clients want it at the end of their base URL. " + hint
    return Problem(404, _INVALID, "unknown_url", f"There is nothing at {path[:200]}. {hint}")


def method_not_allowed(method: str, path: str, allow: str) -> Problem:
    """405 for a path that is served, but not with this method."""
    return Problem(
        405, _INVALID, "method_not_allowed", f"{path[:200]} takes {allow}, not {method[:20]}.", allow=allow
    )
