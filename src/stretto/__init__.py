"""Stretto: an open orchestration model. A policy proposes steps, one engine executes them, a ledger records everything.

These are the names that a policy of your own is written with; `stretto.testing` has what it is tested with.
"""

from stretto.errors import ConfigError, StrettoError
from stretto.steps import (
    Arrival,
    Ask,
    Begin,
    Choice,
    Fork,
    Next,
    Note,
    Option,
    Outlook,
    Plan,
    Policy,
    Quote,
    Quotes,
    Span,
    put,
)
from stretto.types import Answer, Card, Failure, Limits, Message, Price, Reply, Request, ToolCall, Usage

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "Arrival",
    "Ask",
    "Begin",
    "Card",
    "Choice",
    "ConfigError",
    "Failure",
    "Fork",
    "Limits",
    "Message",
    "Next",
    "Note",
    "Option",
    "Outlook",
    "Plan",
    "Policy",
    "Price",
    "Quote",
    "Quotes",
    "Reply",
    "Request",
    "Span",
    "StrettoError",
    "ToolCall",
    "Usage",
    "__version__",
    "put",
]
