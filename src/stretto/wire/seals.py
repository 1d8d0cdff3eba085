"""Sealed reasoning on its way through callers: each seal says whose it is, so that it finds back and nothing is kept here.

A seal (a signature, redacted thinking, encrypted reasoning) is opaque to callers, who send it back as it came. Ours has a head,
`stretto.HEAD.SEAL`, with the format that knows the seal, the worker that made it, and the block's id.
"""

import base64
import binascii
from typing import Final

import orjson

from stretto.types import Thought

__all__ = ["closed", "opened"]

_TAG: Final = "stretto."


def closed(thought: Thought, native: str) -> str:
    """The seal of `thought` for a caller who speaks the format `native`: with a head, unless its maker is not known."""
    seal = thought.signature or thought.sealed
    if not thought.worker and thought.wire == native:
        return seal
    head = orjson.dumps([thought.wire, thought.worker, thought.id, bool(thought.signature)])
    return f"{_TAG}{base64.urlsafe_b64encode(head).decode().rstrip('=')}.{seal}"


def opened(seal: str, text: str = "") -> Thought | None:
    """The thought that a seal of ours belongs to, with its `text`; `None` for any other seal."""
    if not seal.startswith(_TAG):
        return None
    head, found, rest = seal[len(_TAG) :].partition(".")
    try:
        wire, worker, id_, signed = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return None
    if not found or not (isinstance(wire, str) and isinstance(worker, str) and isinstance(id_, str)):
        return None
    return Thought(text, rest if signed else "", "" if signed else rest, id_, wire, worker)
