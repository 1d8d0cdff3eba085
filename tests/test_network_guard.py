"""The guard that keeps tests on this machine."""

import socket

import pytest


def test_a_connection_elsewhere_is_refused() -> None:
    """Connecting to an address that is not loopback fails before a packet leaves."""
    with socket.socket() as outside, pytest.raises(RuntimeError, match="loopback only"):
        outside.connect(("192.0.2.1", 80))


def test_a_name_elsewhere_is_not_looked_up() -> None:
    """A name lookup fails before a resolver is asked."""
    with pytest.raises(RuntimeError, match="loopback only"):
        socket.getaddrinfo("example.com", 443)
