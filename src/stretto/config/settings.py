"""What an operator can set, as frozen values. Money is in pico-dollars; durations are seconds."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stretto.types import Limits, Price

__all__ = [
    "EndpointSettings",
    "LedgerSettings",
    "PolicySettings",
    "PoolSettings",
    "RuleSettings",
    "ServerSettings",
    "Settings",
    "ShadowSettings",
    "WatchSettings",
    "WorkerSettings",
    "loopback",
]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the gateway listens and keeps its data.

    `workers` is the number of gateway processes, `grace` the seconds that open calls have when it stops. `anonymous` lets callers
    in without a key; `None`: only on loopback and as long as no key was ever made.
    """

    host: str = "127.0.0.1"
    port: int = 8700
    data: Path = Path("~/.stretto")
    workers: int = 1
    grace: float = 30.0
    anonymous: bool | None = None


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One place where a worker is served. `api_key_env` names the environment variable that holds the key."""

    base_url: str
    api_key_env: str = ""
    insecure: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """One model that can be asked: over `endpoints`, or as a local GGUF file at `path`.

    `price`, `abilities`, `context` and `max_output` override what the shipped profiles know (`None`: look there).
    """

    id: str
    wire: str = "chat"
    model: str = ""
    endpoints: tuple[EndpointSettings, ...] = ()
    path: Path | None = None
    price: Price | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    abilities: frozenset[str] | None = None
    context: int | None = None
    max_output: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """A name on the wire: the policy's type and its options as written; `where` says where, for later errors."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """A rule of `route`: if everything in `when` holds, use the worker or policy called `use`."""

    use: str
    when: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What is in the pool beside the configured workers.

    `discover`: look for provider keys and local servers when no worker is configured. `sparring`: `None` adds the sparring
    models only if there is nothing else, `True` always, `False` never.
    """

    discover: bool = True
    sparring: bool | None = None


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How safely and how much is recorded. `content=None`: `full` when listening on loopback, else `digest`.

    `state_lifetime` is the seconds that a tool loop may rest before it is forgotten which worker it belongs to,
    `response_lifetime` the seconds that a stored response is kept after it was last gone on from (0: none is; `None`: 30 days
    where texts are kept, else one day).
    """

    durability: str = "process"
    content: str | None = None
    state_lifetime: float = 1800.0
    response_lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """A candidate policy that answers a `share` of the requests to the name `of` once more, beside what serves.

    `usd_per_day` is its ceiling in pico-dollars a UTC day, `at_once` how many may be under way in one process.
    """

    policy: str
    usd_per_day: int
    of: str = "stretto"
    share: float = 0.05
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What the gateway looks after by itself, every so many `hours` (0: never).

    `demote`: takes back what was promoted and does not keep its promise. `mask`: leaves out for `mask_hours` a worker that the
    drift monitor has named.
    """

    hours: float = 1.0
    demote: bool = True
    mask: bool = False
    mask_hours: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator has set. `source` is the file it came from, if any."""

    server: ServerSettings = ServerSettings()
    workers: tuple[WorkerSettings, ...] = ()
    pool: PoolSettings = PoolSettings()
    policies: Mapping[str, PolicySettings] = field(default_factory=dict)
    limits: Limits = Limits()
    rules: tuple[RuleSettings, ...] = ()
    ledger: LedgerSettings = LedgerSettings()
    shadow: ShadowSettings | None = None
    watch: WatchSettings = WatchSettings()
    source: Path | None = None

    @property
    def data(self) -> Path:
        """The data folder, `~` expanded."""
        return self.server.data.expanduser()

    @property
    def keeps_content(self) -> bool:
        """Whether texts of runs are kept, so that they can be shown, replayed and resumed."""
        if self.ledger.content is not None:
            return self.ledger.content == "full"
        return loopback(self.server.host)

    @property
    def keeps_responses(self) -> float:
        """How many seconds a stored response is kept."""
        if self.ledger.response_lifetime is not None:
            return self.ledger.response_lifetime
        return 30 * 86400.0 if self.keeps_content else 86400.0


def loopback(host: str) -> bool:
    """Whether `host` can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
