"""Wire formats: how requests and answers look outside, towards callers and towards upstreams. One module for each."""

from typing import Final

from stretto.wire import chat, completions, embeddings, messages, responses
from stretto.wire.base import Format

__all__ = ["FORMATS", "form_for", "format_named"]

FORMATS: Final[tuple[Format, ...]] = (chat, responses, messages, completions, embeddings)
"""Every format, in the order in which they are listed."""


def format_named(name: str) -> Format | None:
    """The format of that name in the configuration (`wire = "chat"`)."""
    return next((form for form in FORMATS if name == form.NAME), None)


def form_for(form: Format, want: str) -> Format:
    """The format in which a worker of `form` is asked: OpenAI's all have embeddings beside them."""
    return embeddings if want == "embedding" and form.NAME != "messages" else form
