"""Who is calling, and what that key may do. Everything is refused that is not allowed."""

import ipaddress
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from stretto.errors import AccessError, ConfigError, Forbidden
from stretto.types import Key

__all__ = ["Gate", "Keys", "check_listen", "is_loopback", "may_use"]

_KNOWN_HOSTS: Final = 1024
_INVALID: Final = (
    "This key is not valid: it is unknown here, revoked or expired. `stretto keys create NAME` makes another."
)
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::[0-9]*)?")


class Keys(Protocol):
    """Where virtual keys are looked up."""

    def find(self, secret: str) -> Key | None:
        """The key with this secret, revoked and expired ones included; `None` if there is none.

        Must take the same time whether or not one is found (look it up by a digest).
        """
        ...


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and no other."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_listen(host: str, has_keys: bool) -> None:
    """Refuse (`ConfigError`) to listen where others can reach it while no key exists."""
    if has_keys or is_loopback(host):
        return
    raise ConfigError(
        f"refusing to listen on {host} without a key: whoever reaches that address could spend your money. "
        "Create one with `stretto keys create NAME` and start again, or listen on 127.0.0.1 (server.host)."
    )


class Gate:
    """Finds the key of a call. `anonymous` is asked whether callers on loopback need none (there are no keys yet)."""

    def __init__(self, keys: Keys, *, anonymous: Callable[[], bool]) -> None:
        self._keys = keys
        self._anonymous = anonymous
        self._known: dict[bytes, bool] = {}

    def admit(self, headers: Mapping[bytes, bytes]) -> Key | None:
        """The caller's key, or `None` for an anonymous caller on loopback.

        Raises `AccessError`, with one text for wrong, revoked and expired keys alike.
        """
        value = headers.get(b"authorization", b"")
        secret = value[7:].strip() if value[:7].lower() == b"bearer " else b""
        if not secret:
            secret = headers.get(b"x-api-key", b"").strip()
        if secret:
            key = self._keys.find(secret.decode("latin-1"))
            if key is not None and key.revoked is None and (key.expires is None or key.expires > time.time()):
                return key
        if not self._anonymous():
            raise AccessError(_INVALID if secret else "")
        self._refuse_strangers(headers)
        return None

    def _refuse_strangers(self, headers: Mapping[bytes, bytes]) -> None:
        """Keep web pages out of an endpoint without keys: a browser sends them here with a foreign origin or host name."""
        for name, whole in ((b"host", False), (b"origin", True)):
            value = headers.get(name)
            if value is None:
                continue
            known = self._known.get(value)
            if known is None:
                if len(self._known) >= _KNOWN_HOSTS:
                    self._known.clear()
                known = self._known[value] = _names_loopback(value, whole)
            if not known:
                raise Forbidden(
                    f"Without a key only programs on this machine may call; this call's {name.decode()} is "
                    "another one. Create a key with `stretto keys create NAME` and send it."
                )


def _names_loopback(value: bytes, has_scheme: bool) -> bool:
    text = value.decode("latin-1")
    if has_scheme:
        scheme, found, text = text.partition("://")
        if not found or scheme not in ("http", "https"):
            return False
    authority = _AUTHORITY.fullmatch(text)
    return authority is not None and is_loopback(authority[1])


def may_use(key: Key | None, name: str) -> bool:
    """Whether a caller may ask for the model or policy `name`."""
    if key is None or not key.models:
        return True
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in key.models
    )
