"""What the gateway is told by the composition root, apart from its collaborators."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Settings", "Shadow"]


def _nothing() -> Mapping[str, Any]:
    return {}


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """Which policy answers a `share` of the requests to the name `of` once more, at most for `day` pico-dollars a UTC day.

    `at_once`: so many at a time in this process; those beyond are not run at all.
    """

    policy: str
    of: str
    share: float
    day: int
    at_once: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes in bytes, times in seconds.

    `version` is Stretto's, `config` names the configuration in force. `anonymous` says whether callers are let in without a key;
    only where none but this machine can reach the port (`auth.check_listen`). A stream's head leaves after `first_beat` at the
    latest, once others are asked before the answer is written after `first_word`, followed by a keep-alive every `beat` in which
    nothing else is sent. A caller who leaves is noticed within `notice`; one
    who stops sending its body is waited for as long as `patience`. Responses are kept for `response_lifetime` (0: not at all);
    what happens to one in the background is looked at every `tick`. `health` is asked for what GET /health says besides
    (counts only: it is open to everyone). `shadow`: a candidate that shows beside what serves what it would have answered.
    """

    version: str = ""
    config: str = ""
    anonymous: Callable[[], bool] = _never
    body_limit: int = 20 * 1024 * 1024
    patience: float = 30.0
    first_beat: float = 2.0
    first_word: float = 0.2
    beat: float = 10.0
    notice: float = 0.05
    response_lifetime: float = 30 * 86400.0
    tick: float = 1.0
    health: Callable[[], Mapping[str, Any]] = _nothing
    shadow: Shadow | None = None
