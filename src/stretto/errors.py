"""Every error Stretto raises, as one tree. An error's docstring is its default text.

A failed model call is not here: it is data (`types.Failure` on a reply). These are for callers, configuration and
broken programs.

    StrettoError
    ├── ConfigError              a setting is wrong; names file, key and the fix
    ├── RequestError             the caller's request cannot be served as it is (HTTP 400)
    │   ├── UnknownModel         no worker or policy has that name (404)
    │   ├── NoCandidate          the constraints leave no worker (400; lists the denied set)
    │   ├── TooLong              it fits into the context of no worker that the constraints leave (400; with the numbers)
    │   └── TooLarge             the body passes a size limit (413)
    ├── AccessError              no key, or a key that may not (401)
    │   └── Forbidden            the key is known but its scopes exclude this (403)
    ├── RunError                 something asked about a recorded run cannot be done
    │   ├── RunNotFound          no such run, or not this key's (404)
    │   ├── ContentNotKept       the run's texts were not kept (409)
    │   ├── VersionChanged       the policy is not the one that was recorded (409)
    │   └── Diverged             the plan asked for something other than the record (409)
    ├── PolicyError              a plan broke the rules of the engine
    ├── LocalModelError          a GGUF file cannot be served
    └── LedgerError              the record cannot be written or read
        ├── LedgerUnavailable    it cannot be written now; paid calls are refused (503)
        ├── LedgerCorrupt        what is on disk is not what was written
        └── LedgerBusy           another process holds what this one needs
"""

__all__ = [
    "AccessError",
    "ConfigError",
    "ContentNotKept",
    "Diverged",
    "Forbidden",
    "LedgerBusy",
    "LedgerCorrupt",
    "LedgerError",
    "LedgerUnavailable",
    "LocalModelError",
    "NoCandidate",
    "PolicyError",
    "PreviousNotFound",
    "RequestError",
    "ResponseNotFound",
    "RunError",
    "RunNotFound",
    "StrettoError",
    "TooLarge",
    "TooLong",
    "UnknownModel",
    "VersionChanged",
]


class StrettoError(Exception):
    """Stretto could not do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n", 1)[0])


class ConfigError(StrettoError):
    """The configuration is wrong."""


class RequestError(StrettoError):
    """The request is not valid."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str = "", *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(RequestError):
    """There is no worker or policy of that name; GET /v1/models lists them."""

    status = 404
    code = "model_not_found"


class NoCandidate(RequestError):
    """No worker of the pool satisfies the request's constraints."""

    code = "no_candidate"


class TooLong(RequestError):
    """The request fits into no worker's context."""

    code = "context_length_exceeded"


class TooLarge(RequestError):
    """The request body is too large."""

    status = 413
    code = "request_too_large"


class ResponseNotFound(RequestError):
    """There is no such response, its time has passed, or it is not visible to this key."""

    status = 404
    code = "response_not_found"


class PreviousNotFound(RequestError):
    """The response that this one was to go on from is not stored."""

    code = "previous_response_not_found"


class AccessError(StrettoError):
    """A valid key is needed: send it as `Authorization: Bearer ...` or `x-api-key`. `stretto keys create NAME` makes one."""

    status = 401
    code = "invalid_api_key"


class Forbidden(AccessError):
    """This key may not do that."""

    status = 403
    code = "forbidden"


class RunError(StrettoError):
    """That cannot be done with this run."""

    status = 409
    code = "run_error"


class RunNotFound(RunError):
    """There is no such run, or it is not visible to this key."""

    status = 404
    code = "run_not_found"


class ContentNotKept(RunError):
    """The texts of this run were not kept, so it cannot be replayed."""

    code = "content_not_kept"


class VersionChanged(RunError):
    """The policy has changed since this run was recorded, so it cannot be resumed."""

    code = "version_changed"


class Diverged(RunError):
    """The plan asked for something other than what the ledger holds at this step."""

    code = "diverged"


class PolicyError(StrettoError):
    """A plan broke the rules of the engine."""


class LocalModelError(StrettoError):
    """The local model cannot be served."""


class LedgerError(StrettoError):
    """The ledger cannot do that."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot be written now, so no paid call is made."""


class LedgerCorrupt(LedgerError):
    """The ledger on disk is not what was written."""


class LedgerBusy(LedgerError):
    """Another process holds what this one needs."""
