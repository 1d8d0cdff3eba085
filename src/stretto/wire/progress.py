"""How progress of an orchestrated run looks as reasoning, and how it is told from reasoning when it comes back.

Clients show it where they show what a model thinks, and some send that back with the next request. A line of ours begins with
a mark, so that none of it ever reaches a model.
"""

import re
from typing import Final

__all__ = ["line_of", "without_progress", "without_shown_progress"]

_MARK: Final = "[stretto] "
_LONGEST: Final = 200
_LINES: Final = re.compile(r"\A(?:\s*\[stretto\] [^\n]*(?:\n|\Z))+")
_TAGGED: Final = re.compile(r"\A\s*<(think|thinking)>(?:\s*\[stretto\] (?:(?!</\1>)[^\n])*\n?)+")


def line_of(text: str) -> str:
    """What is being done, as one marked line with its end."""
    told = " ".join(text.split())
    return f"{_MARK}{told if len(told) <= _LONGEST else told[: _LONGEST - 1] + '…'}\n"


def without_progress(reasoning: str) -> str:
    """Reasoning as a client sent it back, without the lines of progress ahead of it."""
    return _LINES.sub("", reasoning) if _MARK in reasoning else reasoning


def without_shown_progress(text: str) -> str:
    """An assistant's text as a client sent it back, without progress that it put there between `<think>` tags."""
    if _MARK not in text or (found := _TAGGED.match(text)) is None:
        return text
    tag, rest = found[1], text[found.end() :].lstrip()
    end = f"</{tag}>"
    return rest.removeprefix(end).lstrip() if rest.startswith(end) else f"<{tag}>\n{rest}"
