"""Fusion: a panel as a tool of one model, in the manner of OpenRouter's. The outer model decides, or the caller already has.

The outer model may call the panel once. It gets back what an analyst found in the panel's answers, and writes the final text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from stretto.policies.fuse import Fuse
from stretto.policies.outlooks import maybe, of_ask, then
from stretto.steps import Ask, Choice, Note, Option, Outlook, Plan, Quotes, Span, put
from stretto.types import Answer, Message, Request, ToolCall

__all__ = ["Fusion"]

_PROMPT_CHARS: Final = 16000
"""A question that the outer model puts to the panel in its own words is cut here."""

_ALONE: Final = "answer alone"
_PANEL: Final = "ask the panel"


@dataclass(frozen=True, slots=True)
class Fusion:
    """`fuse` is what the panel does: it synthesises, and its writer is the outer model.

    `asks`: the outer model is asked first, and holds the panel as a function beside the caller's tools; `tool_choice` is then
    the caller's. An outer model that cannot call tools, or fails, gets the panel anyway.
    """

    CODE: ClassVar[str] = "1"
    fuse: Fuse
    asks: bool = True
    tool_choice: Any = None

    def plan(self, request: Request) -> Plan:
        """Perhaps one ask that decides; then the panel, the analyst, and the outer model's last ask."""
        if not self._may_ask(request):
            return (yield from self.fuse.plan(request))
        outer = self.fuse.writer
        opening = self._opening(request)
        reply = yield from put(opening)
        if reply.error is not None:
            if reply.error.kind == "limit":
                return Answer(error=reply.error)
            why = f"{outer} failed ({reply.error.kind}: {reply.error.message})"
            yield _noted(_PANEL, why, outer)
            return (yield from self.fuse.plan(request))
        name = opening.tools[0]["function"]["name"]
        calls = [call for call in reply.message.tool_calls if call.name == name]
        if not calls:
            yield _noted(_ALONE, f"{outer} did not call the panel", outer)
            return Answer.of(reply, f"{outer} answered without the panel")
        again = f", {len(calls)} times, which counts once" if len(calls) > 1 else ""
        yield _noted(_PANEL, f"{outer} called the panel{again}", outer)
        return (yield from self.fuse.deliberate(request, _question(request, calls[0])))

    def _may_ask(self, request: Request) -> bool:
        card = request.card(self.fuse.writer)
        return self.asks and card is not None and "tools" in card.abilities

    def _opening(self, request: Request) -> Ask:
        taken = {
            tool["function"].get("name")
            for tool in request.tools
            if tool.get("type") == "function" and isinstance(tool.get("function"), Mapping)
        }
        return Ask(
            self.fuse.writer,
            speaks=True,
            tools=(_function("stretto_fusion" if "fusion" in taken else "fusion"),),
            tool_choice=self.tool_choice,
            reason="answers, or calls the panel",
        )

    def outlook(self, request: Request, quotes: Quotes) -> Outlook:
        """The opening ask if there is one, then the panel and the writer (even odds assumed)."""
        whole = self.fuse.outlook(request, quotes)
        if not self._may_ask(request):
            return whole
        spoken = replace(request, messages=(Message("user", "\N{GRINNING FACE}" * _PROMPT_CHARS),))
        longer = self.fuse.outlook_of(request, spoken, quotes)
        panel = Outlook(
            _most(whole.calls, longer.calls),
            _most(whole.usd, longer.usd),
            _most(whole.seconds, longer.seconds),
        )
        return then(of_ask(quotes(self._opening(request))), maybe(panel, 0.5))


_ABOUT: Final = """Asks a panel of different models the same question and returns how their answers compare: consensus, \
contradictions, what only some cover, unique insights, blind spots. It is slow and costs several times one answer. Call it, at \
most once, only when the task gains from several independent views: research, critique, comparisons, questions where a mistake \
would be costly. Answer short, plain or practical requests yourself."""

_ABOUT_PROMPT: Final = (
    "The question for the panel, complete in itself. Leave it out to show the whole conversation."
)


def _function(name: str) -> Mapping[str, Any]:
    """The panel as a function tool."""
    prompt = {"type": "string", "description": _ABOUT_PROMPT}
    parameters = {"type": "object", "properties": {"prompt": prompt}}
    function = {"name": name, "description": _ABOUT, "parameters": parameters}
    return {"type": "function", "function": function}


def _question(request: Request, call: ToolCall) -> Request:
    """What the panel is asked: the outer model's own words if it found some, else the conversation."""
    try:
        given = json.loads(call.arguments or "{}")
    except ValueError:
        given = None
    prompt = given.get("prompt") if isinstance(given, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        return request
    return replace(request, messages=(Message("user", prompt.strip()[:_PROMPT_CHARS]),))


def _noted(picked: str, why: str, by: str) -> Note:
    options = tuple(Option(name, rejected="" if name == picked else why) for name in (_ALONE, _PANEL))
    return Note(Choice(picked, options, reason=why, by=by))


def _most(one: Span, other: Span) -> Span:
    return replace(one, most=max(one.most, other.most))
