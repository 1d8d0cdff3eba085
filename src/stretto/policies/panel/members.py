"""A panel: several workers, or one several times, are asked the same side by side. What came, and what became of the others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from stretto.policies.judging import Wordings
from stretto.policies.transcript import flat
from stretto.steps import Ask, Want
from stretto.types import Answer, Failure, Request

__all__ = ["Asked", "because", "draft", "members"]

_CALLERS_OWN: Final = ("logprobs", "top_logprobs", "parallel_tool_calls", "n")
"""Parameters that concern the answer to the caller, not what it is made of."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a panel: `absent` are members that this request may not use."""

    members: tuple[Ask, ...]
    answers: tuple[Answer, ...]
    absent: tuple[str, ...] = ()

    @property
    def came(self) -> tuple[Answer, ...]:
        """The answers, in the order of the panel."""
        return tuple(a for a in self.answers if a.error is None)

    @property
    def failed(self) -> tuple[tuple[str, Failure], ...]:
        """Who gave none, and why."""
        absent = (
            (w, Failure("denied", "is not among the workers this request may use")) for w in self.absent
        )
        pairs = zip(self.members, self.answers, strict=True)
        return (*((m.worker, a.error) for m, a in pairs if a.error is not None), *absent)

    @property
    def lost(self) -> str:
        """The same in words; "" if all answered. Members that the request's constraints leave out are not missed."""
        return "; ".join(
            f"{m.worker} {_lost(a.error.kind)}"
            for m, a in zip(self.members, self.answers, strict=True)
            if a.error is not None
        )

    def nobody(self) -> Failure:
        """The one failure of a panel without an answer. It names each cause, without upstreams' own words; of one kind if they
        are.
        """
        if not self.members:
            return Failure(
                "denied", f"nobody of the panel may be used for this request: {', '.join(self.absent)}"
            )
        errors = [a.error for a in self.answers if a.error is not None]
        told = "; ".join(
            f"{m.worker}: {e.kind}" + (f": {e.message}" if e.kind in ("limit", "denied", "too_long") else "")
            for m, e in zip(self.members, errors, strict=True)
        )
        kind = errors[0].kind if len({e.kind for e in errors}) == 1 else "unavailable"
        return Failure(kind, f"nobody of the panel answered ({told})")


def members(
    request: Request,
    panel: Sequence[str],
    *,
    speaks: bool,
    want: Want,
    temperature: float,
    wordings: Wordings,
    params: dict[str, Any],
    max_tokens: int | None,
    before: Sequence[Answer] = (),
    where: str = "",
) -> tuple[tuple[Ask, ...], tuple[str, ...]]:
    """The asks of a panel, and who is absent from it. `before`: answers of the layer before, which each member sees, anonymous.

    `speaks`: whether an answer may go to the caller as it is; else they are drafts, asked without tools, with `params` over the
    caller's and at most `max_tokens` (else the caller's). A worker named more than once is resampled at `temperature`.
    """
    able = [w for w in panel if request.card(w)]
    often = Counter(able)
    asks = []
    for number, worker in enumerate(able, 1):
        again = often[worker] > 1
        reason = f"panel member {number} of {len(able)}{where}{', a resample' if again else ''}"
        warm = {"temperature": temperature, **params} if again else params
        if speaks:
            ask = Ask(worker, want=want, speaks=True, params=warm, reason=reason)
            if before:
                ask = replace(ask, messages=wordings.writing(request, before, tools=True))
        else:
            ask = draft(request, worker, reason, warm, max_tokens)
            ask = replace(ask, want=want)
            if before:
                ask = replace(ask, messages=wordings.writing(request, before, tools=False))
        asks.append(replace(ask, seed="step") if again else ask)
    absent = tuple(w for w in dict.fromkeys(panel) if not request.card(w))
    return tuple(asks), absent


def draft(
    request: Request, worker: str, reason: str, params: dict[str, Any], max_tokens: int | None = None
) -> Ask:
    """An ask for an answer that others work on: like the caller's own, but without tools, so that the one who speaks decides.

    It keeps the response format and the cap, since it is what the caller gets if the one who should speak cannot.
    """
    own = {name: value for name, value in request.params.items() if name not in _CALLERS_OWN}
    return Ask(
        worker,
        flat(request.messages),
        reason=reason,
        max_tokens=max_tokens if max_tokens is not None else request.max_tokens,
        params={**own, **params},
        response_format=request.response_format,
    )


def because(answer: Answer, why: str, lost: str = "") -> Answer:
    """The answer with the reason why it stands, and who was lost on the way."""
    return replace(answer, why="; ".join(w for w in (why, lost) if w))


def _lost(kind: str) -> str:
    """What became of a member without an answer."""
    if kind == "dropped":
        return "was not waited for"
    return f"was refused ({kind})" if kind in ("limit", "denied") else f"failed ({kind})"
