"""Builds the policies over several workers' answers: cascades, panels, and wishes for fusion."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from stretto.catalog.scope import Scope
from stretto.catalog.usual import PANEL, RUNGS, beside, ladder, panel, sure, talkers, usual, wordings
from stretto.config import PolicySettings, near
from stretto.errors import ConfigError, RequestError
from stretto.gateway.wish import Wish
from stretto.policies.cascade import THRESHOLDS_SCHEMA, Cascade, Rung
from stretto.policies.fuse import Fuse, How
from stretto.policies.fusion import Fusion
from stretto.policies.route import Table
from stretto.policies.solo import Solo
from stretto.steps import Policy

__all__ = ["cascade", "fuse", "fusion"]

_FUSED: Final = 3
_WINDOW: Final = 4


def cascade(scope: Scope, own: PolicySettings) -> Policy:
    """From cheap to dear; without `rungs`, over what was learned, else up to three of the usual workers."""
    options = dict(own.options)
    names: Sequence[str] = options.pop("rungs", ())
    where = f"{own.where}.rungs"
    adapts = False
    if not names:
        names = ladder(scope.cards)
        where = own.where or own.name
        everybody = tuple(card.id for card in usual(scope.cards, RUNGS))
        learned = scope.learned.table and scope.learned.thresholds
        if learned and sure(scope.cards, everybody) and not options:
            names, adapts = everybody, True
        elif not sure(scope.cards, names[:-1]):
            names = (names[0], names[-1])[: len(names)]
    scope.known(names, where)
    given: Any = options.pop("check", None)
    check: Literal["confidence", "agreement", "verifier"] = given or _check(scope, own, names)
    if check == "verifier":
        named = "verifier" in options or (given and not beside(scope.cards, "checker"))
        options["verifier"] = (
            scope.one(own, "verifier") if named else beside(scope.cards, "checker") or names[-1]
        )
    thresholds = scope.learned.thresholds if check == "confidence" else None
    table = scope.learned.table if thresholds is not None else None
    if "thresholds" in options:
        del options["thresholds"]
        thresholds, table = scope.artifact(own, "thresholds", THRESHOLDS_SCHEMA), None
    rungs = tuple(
        Rung.of_worker(name, check) if name in scope.workers else Rung(name, scope.policy(name, where))
        for name in names
    )
    known = None if table is None else Table(table)
    options["wordings"] = wordings(scope.cards, options.get("wordings"), options.get("verifier"))
    return Cascade(rungs, check=check, thresholds=thresholds, table=known, adapts=adapts, **options)


def _check(
    scope: Scope, own: PolicySettings, names: Sequence[str]
) -> Literal["confidence", "agreement", "verifier"]:
    """The check of a cascade that names none: the workers' own confidence, else the last rung as a verifier of the others.

    Agreement of resamples is left to those who ask for it: free prose never agrees, so that every rung would be paid.
    """
    if "verifier" in own.options:
        return "verifier"
    if sure(scope.cards, names[:-1]):
        return "confidence"
    return "verifier" if beside(scope.cards, "checker") or names[-1] in scope.workers else "agreement"


def fuse(scope: Scope, own: PolicySettings) -> Policy:
    """A panel, and how its answers become one."""
    options = dict(own.options)
    panel = _panel_of(scope, own)
    for key in ("panel", "samples"):
        options.pop(key, None)
    for key in ("judge", "writer"):
        if key in options:
            options[key] = scope.one(own, key)
    how = options.setdefault("how", _how(own))
    if how in ("select", "pairs") and "judge" not in options and beside(scope.cards, "checker"):
        options["judge"] = beside(scope.cards, "checker")
    if how in ("select", "pairs") and "judge" not in options:
        raise ConfigError(f'{own.where}.how: "{how}" needs a `judge`, the worker that compares')
    if how == "synthesise" and "writer" not in options:
        raise ConfigError(f'{own.where}.how: "synthesise" needs a `writer`, the worker that writes')
    for key in ("sequential", "analysis"):
        if options.get(key) and "writer" not in options:
            raise ConfigError(f"{own.where}.{key}: is for a `writer`, and there is none")
    if how in ("vote", "rank") and "judge" in options and not options.get("analysis"):
        raise ConfigError(f'{own.where}.how: a "{how}" has no judge; leave `judge` out, or use "select"')
    if "quorum" in options and options["quorum"] > len(panel):
        raise ConfigError(f"{own.where}.quorum: is more than the {len(panel)} members of the panel")
    options["window"] = _WINDOW if options.pop("sequential", False) else 0
    options["wordings"] = wordings(
        scope.cards, options.get("wordings"), options.get("judge") or options.get("writer")
    )
    if not own.options and not sure(scope.cards, panel):
        judge = beside(scope.cards, "checker") or panel[0]
        options |= {"how": "select", "judge": judge}  # free prose gets no two equal votes
        options["wordings"] = wordings(scope.cards, own.options.get("wordings"), judge)
    elif "how" not in own.options and "weigh" not in options and how == "vote":
        options["weigh"] = "confidence" if sure(scope.cards, panel) else "count"
    return Fuse(panel, **options)


def _panel_of(scope: Scope, own: PolicySettings) -> tuple[str, ...]:
    """The panel of a fuse, each member as often as it is sampled. `samples` alone samples the dearest usual worker."""
    samples = own.options.get("samples", 1)
    if "panel" in own.options:
        named = scope.some(own, "panel")
    else:
        named = panel(scope.cards, scope.learned.table)
        if "samples" in own.options:
            named = named[:1]
    return tuple(worker for worker in named for _ in range(samples))


def _how(own: PolicySettings) -> How:
    """What a fuse does that does not say: with a writer it writes, with a judge alone the judge picks, else it votes."""
    if "writer" in own.options:
        return "synthesise"
    return "select" if "judge" in own.options else "vote"


def fusion(scope: Scope, wish: Wish) -> Policy:
    """The policy of a request's wish for fusion; what it leaves open is the preset's. Raises `RequestError`."""
    base = _preset(scope, wish.preset)
    able = {card.id for card in talkers(scope.cards)}
    panel = wish.panel or base.panel
    first = next((worker for worker in (*panel, *base.panel) if worker in able), "")
    outer = (
        wish.outer if wish.outer in able else wish.analyst if wish.analyst in able else base.writer or first
    )
    if wish.alone:
        return Solo(outer)
    params: dict[str, Any] = {}
    if wish.temperature is not None:
        params["temperature"] = wish.temperature
    if wish.effort:
        params["reasoning_effort"] = wish.effort
    analyst = wish.analyst or base.judge or outer
    fuse = replace(
        base,
        panel=panel,
        how="synthesise",
        weigh="count",
        judge=analyst,
        writer=outer,
        analysis=True,
        quorum=None if base.quorum is None else min(base.quorum, len(panel)),
        analysis_tokens=wish.max_tokens or base.analysis_tokens,
        draft_tokens=wish.max_tokens or base.draft_tokens,
        draft_params=params,
        wordings=wordings(scope.cards, None, analyst),
    )
    return Fusion(fuse, wish.asks, wish.tool_choice)


def _preset(scope: Scope, name: str) -> Fuse:
    """What a preset stands for: the owner's fuse of that name, else the dearest or the cheapest few of the usual workers."""
    if name in scope.settings.policies:
        own = scope.policy(name, "")
        if isinstance(own, Fuse):
            return own
    ids = [card.id for card in usual(scope.cards, PANEL)]
    if name in ("", "general-high"):
        return Fuse(tuple(ids[: -_FUSED - 1 : -1]))
    if name in ("general-budget", "general-fast"):
        return Fuse(tuple(ids[:_FUSED]))
    fuses = [n for n, p in scope.settings.policies.items() if p.type == "fuse"]
    known = ("general-high", "general-budget", "general-fast", *fuses)
    raise RequestError(
        f'There is no fusion preset "{name}"{near(name, known) or "."} There are: {", ".join(known)}.',
        param="preset",
    )
