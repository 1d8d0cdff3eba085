"""Configuration: frozen settings, and the loader of `stretto.toml`.

Precedence: command-line flag, then environment (`STRETTO_CONFIG`, `STRETTO_DATA`, `STRETTO_PORT`), then the file, then
the default.
"""

from stretto.config.schema import KEYS, POLICY_KEYS, load, parse
from stretto.config.settings import (
    EndpointSettings,
    LedgerSettings,
    PolicySettings,
    PoolSettings,
    RuleSettings,
    ServerSettings,
    Settings,
    ShadowSettings,
    WatchSettings,
    WorkerSettings,
    loopback,
)
from stretto.config.toml import near

__all__ = [
    "KEYS",
    "POLICY_KEYS",
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
    "load",
    "loopback",
    "near",
    "parse",
]
