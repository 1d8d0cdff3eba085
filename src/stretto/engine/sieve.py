"""Place, compliance and ability: which workers a request may use.

Applied before a policy sees the pool, and again at the door.
"""

from collections.abc import Mapping

from stretto.steps import Ask
from stretto.types import Card, Denied, Key, Request

__all__ = ["forbidden", "needs_of", "sieve", "with_key"]

_NOBODY: Mapping[str, str] = {}


def forbidden(
    labels: Mapping[str, str],
    worker: str,
    require: Mapping[str, tuple[str, ...]],
    exclude: Mapping[str, tuple[str, ...]],
) -> str:
    """Why something with these labels may not be used, or "" if it may. The pseudo-label `worker` is the worker's id.

    `require` needs the label to be there with one of the values; `exclude` forbids the values.
    """
    for label, values in require.items():
        value = worker if label == "worker" else labels.get(label)
        if value is None:
            return f"has no label {label!r}, required to be {' or '.join(values)}"
        if value not in values:
            return f"{label} is {value!r}, required to be {' or '.join(values)}"
    for label, values in exclude.items():
        value = worker if label == "worker" else labels.get(label)
        if value in values:
            return f"{label} {value!r} is excluded"
    return ""


def sieve(
    cards: tuple[Card, ...], request: Request, crowded: Mapping[str, str] = _NOBODY
) -> tuple[tuple[Card, ...], tuple[Denied, ...]]:
    """The workers that the request's constraints and needs leave, and the others with the reason.

    `crowded` are workers that it does not fit into, with the reason.
    """
    needs = needs_of(request)
    open_to_all = not request.require and not request.exclude and not crowded
    if open_to_all and all(needs <= card.abilities for card in cards):
        return cards, ()
    eligible, denied = [], []
    for card in cards:
        reason = forbidden(card.labels, card.id, request.require, request.exclude)
        if reason:
            denied.append(Denied(card.id, reason))
        elif lacking := needs - card.abilities:
            denied.append(Denied(card.id, f"cannot do {', '.join(sorted(lacking))}", unable=True))
        elif short := crowded.get(card.id, ""):
            denied.append(Denied(card.id, short, too_long=True))
        else:
            eligible.append(card)
    return tuple(eligible), tuple(denied)


def with_key(
    request: Request, key: Key
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """The request's `require` and `exclude`, made stricter by the key's."""
    require = dict(request.require)
    for label, values in key.require.items():
        both = tuple(v for v in require.get(label, values) if v in values)
        require[label] = both
    exclude = dict(request.exclude)
    for label, values in key.exclude.items():
        exclude[label] = (*exclude.get(label, ()), *values)
    return require, exclude


_TEXT: frozenset[str] = frozenset({"text"})


def needs_of(asked: Request | Ask) -> frozenset[str]:
    """The abilities that a request, or a bound ask, takes."""
    needs: set[str] = {"text" if asked.want == "logprobs" else asked.want}
    if asked.tools:
        needs.add("tools")
    if asked.response_format and asked.response_format.get("type") not in (None, "text"):
        needs.add("json")
    for message in asked.messages or ():
        if isinstance(message.content, tuple):
            for part in message.content:
                if "image" in part.kind:
                    needs.add("vision")
                elif part.kind == "tokens":
                    needs.add("tokens")
    return _TEXT if needs == _TEXT else frozenset(needs)
