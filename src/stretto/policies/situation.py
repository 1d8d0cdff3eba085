"""What kind of answer a request is after: that decides which evidence about an answer is of any use.

Read off the request alone, before anything is asked: tools and the response format say it for certain, the wording of a prompt
only likely. A wrong guess costs money, or a check that says nothing.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from stretto.types import Request

__all__ = ["Form", "Situation", "forms", "situation"]

Form = Literal["calls", "object", "value", "text"]
"""`calls`: tools are offered; `object`: JSON by the response format; `value`: short and comparable; `text`: the rest."""

_TOLD: Final[Mapping[str, str]] = {
    "calls": "calls of functions",
    "object": "JSON",
    "value": "something short",
    "text": "texts",
}

_IMAGES: Final = "it was learned from text, and the request shows images"

_SEEN: Final = 0.02
"""A share of requests that is more than a few whose wording misleads."""

_FEW: Final = 48
"""A cap of so few tokens leaves room for a short value only."""

_BIG: Final = 4000
_OPTION_A, _OPTION_B = (re.compile(rf"(?:^|\s)\(?{letter}[.):]\s") for letter in "AB")
_ASKS_VALUE: Final = re.compile(
    r"\b(?:how (?:many|much|old|long|far|tall)|what (?:number|year|day|date|percentage|fraction|letter|word|time)"
    r"|yes or no|true or false|(?:final|correct|right) answer|\\boxed"
    r"|(?:answer|reply|respond) (?:only )?with (?:only )?(?:the |a |an |one |just |yes)"
    r"|(?:one|a single) (?:word|number|letter|line)|which (?:of|one|option|number)"
    r"|(?:calculate|compute|evaluate|solve|convert|classify|decode|simplify|determine|find (?:the|all))\b)",
    re.IGNORECASE,
)
_SHORT_QUESTION: Final = re.compile(
    r"^(?:what(?:'s| is| was| are| were)|who|when|where|is|are|was|were|does|do|did|can)\b[^\n]{0,160}\?$",
    re.IGNORECASE,
)
_ASKS_TEXT: Final = re.compile(
    r"\b(?:write|draft|compose|explain|describe|discuss|summari[sz]e|translate|rewrite|rephrase|improve|refactor|implement"
    r"|story|poem|essay|e-?mail|letter to|blog|article|function|script|code|unit test|list (?:some|the|five|ten|\d+)"
    r"|why|how (?:do|does|can|should|to))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Situation:
    """`form` of the answer, and `why` it is thought so. `images`: whether the request shows any."""

    form: Form
    why: str
    images: bool = False

    @property
    def comparable(self) -> bool:
        """Whether two answers that say the same can be expected to look the same, so that agreement means something."""
        return self.form == "value"

    def unlike(self, forms: Collection[str]) -> str:
        """Why what was learned from requests of these forms says nothing of this, or "". JSON is as good as a value."""
        near = {"value", "object", "text"} if self.form in ("value", "object") else {self.form}
        if near.isdisjoint(forms):
            return f"it was learned from requests for {' and '.join(sorted(_TOLD[f] for f in forms))}, and {self.why}"
        return _IMAGES if self.images else ""

    def unlike_texts(self) -> str:
        """Why what was learned from requests without tools and images says nothing of this, or ""."""
        if self.form == "calls":
            return "it was learned from requests without tools"
        return _IMAGES if self.images else ""


def forms(requests: Iterable[Request]) -> Mapping[Form, float]:
    """Which forms some requests, of which there is at least one, are after, and how often: the shares that count."""
    found = Counter(situation(request).form for request in requests)
    count = found.total()
    return {form: round(n / count, 4) for form, n in sorted(found.items()) if n >= _SEEN * count}


def situation(request: Request) -> Situation:
    """The situation of a request."""
    images = any(
        "image" in part.kind
        for message in request.messages
        if isinstance(message.content, tuple)
        for part in message.content
    )
    form, why = _form(request)
    return Situation(form, why, images)


def _form(request: Request) -> tuple[Form, str]:
    if request.tools and request.tool_choice != "none":
        return "calls", "it offers tools"
    kind = (request.response_format or {}).get("type")
    if kind not in (None, "text"):
        return "object", "it wants JSON"
    if request.max_tokens is not None and request.max_tokens <= _FEW:
        return "value", f"an answer of at most {request.max_tokens} tokens"
    prompt = request.prompt.strip()
    first = _OPTION_A.search(prompt) if len(prompt) <= _BIG * 2 else None
    if first is not None and _OPTION_B.search(prompt, first.end()):
        return "value", "it offers options"
    ends = prompt if len(prompt) <= 600 else f"{prompt[:300]}\n{prompt[-300:]}"
    asks_text = _ASKS_TEXT.search(ends)
    asks_value = _ASKS_VALUE.search(ends)
    if asks_value and not asks_text:
        return "value", f"it asks for something short ({asks_value.group().lower()!r})"
    if asks_text:
        return "text", f"it asks for a text ({asks_text.group().lower()!r})"
    if _SHORT_QUESTION.match(prompt):
        return "value", "a short question"
    return "text", "nothing says that the answer is short"
