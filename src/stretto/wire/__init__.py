"""Wire formats: how requests and answers look outside, towards callers and towards upstreams. One module for each."""

from typing import Final

from stretto.wire import chat
from stretto.wire.base import Format

__all__ = ["FORMATS", "format_named"]

FORMATS: Final[tuple[Format, ...]] = (chat,)
"""Every format, in the order in which they are listed."""


def format_named(name: str) -> Format | None:
    """The format of that name in the configuration (`wire = "chat"`)."""
    return next((form for form in FORMATS if name == form.NAME), None)
