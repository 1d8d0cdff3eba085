"""What holds for every test: nothing but loopback, no settings from outside, no clock in a property test."""

import ipaddress
import os
import sys
from typing import Any

from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

for name in list(os.environ):
    if name.startswith("STRETTO_") or name.endswith("_API_KEY"):
        del os.environ[name]


def local(host: object) -> bool:
    """Whether a host can be spoken to from a test: this machine, or a name that never resolves (RFC 6761)."""
    if isinstance(host, bytes):
        host = host.decode()
    if not isinstance(host, str) or host in ("", "localhost") or host.endswith(".invalid"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_only(event: str, args: tuple[Any, ...]) -> None:
    """Refuse every connection, datagram and look-up that leaves this machine."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if isinstance(address, tuple) and not local(address[0]):
            raise RuntimeError(f"a test tried to reach {address[0]}; tests talk to loopback only")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not local(args[0]):
        raise RuntimeError(f"a test tried to look up {args[0]!r}; tests talk to loopback only")


sys.addaudithook(loopback_only)
