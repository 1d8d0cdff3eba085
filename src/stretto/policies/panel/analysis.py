"""Analysis: an analyst compares a panel's answers, point by point. It does not merge them. The result has OpenRouter Fusion's
schema.

The analyst is a language model: what it returns may be wrapped in prose or fences, lack keys, or hold texts where objects
belong. All of that is read; only a reply without any of the five lists is a failure, and then the raw answers stay.
"""

import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from stretto.policies.judging import Wordings, letters, longest
from stretto.policies.outlooks import of_ask
from stretto.policies.panel.members import Asked
from stretto.policies.transcript import shown
from stretto.steps import Ask, Choice, Note, Option, Outlook, Quotes, Step, put
from stretto.types import Answer, Request

__all__ = ["Analyst", "FailureReason", "findings", "outcome", "refused"]

FailureReason = Literal[
    "all_panels_failed",
    "insufficient_credits",
    "rate_limited",
    "fusion_invocation_capped",
    "unexpected_error",
]

_LISTS: Final = ("consensus", "contradictions", "partial_coverage", "unique_insights", "blind_spots")
_MOST: Final = 200
"""Most entries of a list that are kept."""


@dataclass(frozen=True, slots=True)
class Analyst:
    """`worker` compares, at temperature 0, as JSON."""

    worker: str
    wordings: Wordings
    tokens: int

    def analyse(
        self, request: Request, came: Sequence[Answer]
    ) -> Generator[Step, Any, Mapping[str, Any] | None]:
        """One ask. `None` when it failed or its reply cannot be read: that is noted as the choice to go on with the raw
        answers.
        """
        reply = yield from put(self._ask(request, came))
        if reply.error is not None:
            why = f"the analyst {self.worker} failed ({reply.error.kind}: {reply.error.message})"
        else:
            found = findings(reply.text, [a.worker for a in came])
            if found is not None:
                return found
            why = f"the reply of the analyst {self.worker} holds none of the lists that it was asked for"
        options = (Option("analysis", rejected=why), Option("raw answers"))
        yield Note(Choice("raw answers", options, reason=why, by=self.worker))
        return None

    def _ask(self, request: Request, came: Sequence[Answer]) -> Ask:
        card = request.card(self.worker)
        return Ask(
            self.worker,
            self.wordings.analysing(request, came),
            role="judge",
            reason=f"compares {len(came)} answers",
            max_tokens=self.tokens,
            params={"temperature": 0},
            response_format={"type": "json_object"} if card and "json" in card.abilities else None,
        )

    def outlook(self, request: Request, count: int, quotes: Quotes) -> Outlook:
        """One call."""
        return of_ask(*(quotes(self._ask(request, [a] * count)) for a in (Answer(), longest(self.wordings))))


def outcome(panel: Asked, analysis: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The result of a panel: `status` ok with the answers, the analysis if there is one, and who failed; or an error with its
    reason.
    """
    failed = [
        {"model": worker, "error": error.kind if error.kind != "denied" else error.message}
        | ({"status_code": error.status} if error.status is not None else {})
        for worker, error in panel.failed
    ]
    if not panel.came:
        kinds = {a.error.kind for a in panel.answers if a.error is not None}
        reason: FailureReason = "all_panels_failed"
        if kinds == {"limit"}:
            reason = "insufficient_credits"
        elif kinds == {"rate_limited"}:
            reason = "rate_limited"
        elif kinds & {"policy", "unknown"}:
            reason = "unexpected_error"
        return refused(reason, panel.nobody().message) | {"failed_models": failed}
    told: dict[str, Any] = {"status": "ok"}
    if analysis is not None:
        told["analysis"] = analysis
    told["responses"] = [{"model": a.worker, "content": shown(a.message)} for a in panel.came]
    if failed:
        told["failed_models"] = failed
    return told


def refused(reason: FailureReason, error: str) -> dict[str, Any]:
    """The result of a panel that did not come about."""
    return {"status": "error", "error": error, "failure_reason": reason}


# --- reading an analyst's reply ----------------------------------------------------------------------------------


def findings(text: str, workers: Sequence[str]) -> Mapping[str, Any] | None:
    """The five lists of an analyst's reply in their proper shape, letters replaced by `workers`; `None` if there are none."""
    given = _object(text)
    try:
        return (
            None if given is None else _shaped(given, dict(zip(letters(len(workers)), workers, strict=True)))
        )
    except RecursionError:  # nested as no analysis is
        return None


def _shaped(given: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    """The five lists in their proper shape."""

    def model(value: Any) -> str:
        said = re.sub(
            r"^(?:model|answer|response|candidate)\s+", "", _text(value).strip(), flags=re.IGNORECASE
        )
        return names.get(said.upper(), said)

    def stance(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            return {"model": "", "stance": _text(value)}
        who = next((value[k] for k in ("model", "name", "who") if k in value), "")
        return {"model": model(who), "stance": _said(value, ("stance", "position", "view"), ("model",))}

    def contradiction(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {"topic": _text(value), "stances": []}
        stances = value.get("stances", value.get("positions", []))
        if isinstance(stances, dict):
            stances = [{"model": who, "stance": said} for who, said in stances.items()]
        topic = _said(value, ("topic", "point", "issue"), ("stances", "positions"))
        return {"topic": topic, "stances": [stance(s) for s in _items(stances)]}

    def coverage(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {"models": [], "point": _text(value)}
        who = value.get("models", value.get("model", []))
        who = re.split(r"\s*(?:,|;|\band\b|&)\s*", who) if isinstance(who, str) else _items(who)
        return {
            "models": [model(w) for w in who if w],
            "point": _said(value, ("point", "topic"), ("models", "model")),
        }

    def insight(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            return {"model": "", "insight": _text(value)}
        return {
            "model": model(value.get("model", "")),
            "insight": _said(value, ("insight", "point"), ("model",)),
        }

    return {
        "consensus": [_text(item) for item in _items(given.get("consensus"))],
        "contradictions": [contradiction(item) for item in _items(given.get("contradictions"))],
        "partial_coverage": [coverage(item) for item in _items(given.get("partial_coverage"))],
        "unique_insights": [insight(item) for item in _items(given.get("unique_insights"))],
        "blind_spots": [_text(item) for item in _items(given.get("blind_spots"))],
    }


def _object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text that has one of the five keys, itself or one level down; commas too many are forgiven."""
    decoder = json.JSONDecoder()
    for said in (text, re.sub(r",(\s*[}\]])", r"\1", text)):
        for start in [m.start() for m in re.finditer(r"\{", said)][:50]:
            try:
                value, _ = decoder.raw_decode(said, start)
            except (ValueError, RecursionError):
                continue
            for candidate in (value, *value.values()):
                if isinstance(candidate, dict) and any(name in candidate for name in _LISTS):
                    return candidate
    return None


def _items(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [item for item in (value if isinstance(value, list) else [value]) if item not in (None, "")][
        :_MOST
    ]


def _said(value: Mapping[str, Any], keys: Sequence[str], others: Sequence[str]) -> str:
    """The text of an object: under the expected key, else under whatever else it has."""
    for key in keys:
        if key in value:
            return _text(value[key])
    return "; ".join(_text(item) for key, item in value.items() if key not in others)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _said(value, ("point", "text", "topic", "insight"), ())
    return json.dumps(value, ensure_ascii=False)
