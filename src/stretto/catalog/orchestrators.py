"""Builds the orchestrators: TRINITY, the conductor, which works untrained as well, and ultra, which checks the conductor."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from stretto.artifacts import Artifact
from stretto.catalog.panels import fuse
from stretto.catalog.scope import Scope
from stretto.catalog.usual import beside, blend, panel, sure, talkers, wordings
from stretto.config import PolicySettings
from stretto.errors import ConfigError
from stretto.policies.conductor import CONDUCTOR_SCHEMA, Conductor
from stretto.policies.coordinator import TRINITY_SCHEMA
from stretto.policies.forms import FORMS
from stretto.policies.outright import Outright
from stretto.policies.route import Table
from stretto.policies.trinity import Trinity
from stretto.policies.ultra import Ultra
from stretto.steps import Policy

__all__ = ["conductor", "trinity", "ultra", "unwrapped"]

_TRAINED: Final = 0.5
"""How often a worker must be right to answer alone, before what was trained for the pool; chosen on calibration problems."""

_GENERAL: Final = 0.9
"""The same for `ultra`, whose checks may help below that (measured: no difference), and for planners that nobody has measured."""

_DOUBT: Final = 0.9
"""Below this confidence a step of ultra's workflow gets a second worker; chosen on the sparring pool's calibration problems."""


def trinity(scope: Scope, own: PolicySettings) -> Policy:
    """The artefact that the option names, else the one that was learned about this pool."""
    artifact = _artifact(scope, own, scope.learned.trinity, TRINITY_SCHEMA)
    if artifact is None:
        raise ConfigError(f"{own.where}: needs the key `artifact`, a trinity.json of `stretto train trinity`")
    options = {key: value for key, value in own.options.items() if key not in ("artifact", "alone")}
    if "otherwise" in options:
        options["otherwise"] = scope.one(own, "otherwise")
    try:
        made = Trinity.of(artifact, backbone=_brought(scope, artifact), **options)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{own.where or own.name}: is not what `stretto train trinity` writes: {error}"
        ) from None
    return _outright(scope, own, made, _TRAINED, temperature=made.temperature)


def conductor(scope: Scope, own: PolicySettings) -> Policy:
    """With an artefact the planner that it brings; else a general one: the named worker, or the dearest usual one."""
    options: dict[str, Any] = {
        key: value for key, value in own.options.items() if key not in ("artifact", "alone")
    }
    table = None if scope.learned.table is None else Table(scope.learned.table)
    options |= {"table": table, "otherwise": scope.policy("route", "") if table is not None else None}
    if "forms" in options:
        options["forms"] = FORMS[options["forms"]]
    named = "planner" in options
    if named and "artifact" in own.options:
        raise ConfigError(
            f"{own.where}: an `artifact` brings its planner; leave `planner` out, or the artefact"
        )
    artifact = None if named else _artifact(scope, own, scope.learned.conductor, CONDUCTOR_SCHEMA)
    options["seats"] = _seats(scope, own, options.pop("seats", ()), artifact)
    if artifact is not None:
        if "among" in options:
            raise ConfigError(f"{own.where}.among: a trained planner knows the workers of its artefact only")
        try:
            made = Conductor.trained(artifact, _brought(scope, artifact), **options)
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{own.where or own.name}: is not what `stretto train conductor` writes: {error}"
            ) from None
        return _outright(scope, own, made, _TRAINED, temperature=made.temperature)
    dearest = max(talkers(scope.cards), key=blend, default=None)
    planner = scope.one(own, "planner") if named else dearest.id if dearest is not None else ""
    options.pop("planner", None)
    options["workers"] = scope.some(own, "among") if options.pop("among", ()) else ()
    return _outright(scope, own, Conductor(planner, **options), _GENERAL, among=options["workers"])


def unwrapped(policy: Policy) -> Policy:
    """What plans, without the question whether somebody alone is known to be right: for those who have asked it themselves."""
    return policy.policy if isinstance(policy, Outright) else policy


def _outright(
    scope: Scope,
    own: PolicySettings,
    policy: Policy,
    usual: float,
    *,
    among: tuple[str, ...] = (),
    temperature: float | None = None,
) -> Policy:
    """The policy for what nobody alone is known to be right at; for everything with `alone = 1`, or where nothing was learned."""
    least = own.options.get("alone", usual)
    if scope.learned.table is None or least >= 1:
        return policy
    return Outright(Table(scope.learned.table), policy, own.name, least, among, temperature)


def ultra(scope: Scope, own: PolicySettings) -> Policy:
    """The conductor, checked: by its workers' own confidence where all tell it and something was learned of the pool, else by the
    checker or the dearest other worker. (Of long texts the least sure token says little.)

    A pool of one worker has nothing to conduct: there it is resampled, and its answers are fused.
    """
    options: dict[str, Any] = {key: value for key, value in own.options.items() if key != "alone"}
    name = str(options.pop("conductor", "conductor"))
    base = unwrapped(scope.policy(name, f"{own.where}.conductor"))
    if len(talkers(scope.cards)) < 2 or not isinstance(base, Conductor):
        if "conductor" in own.options and not isinstance(base, Conductor):
            raise ConfigError(f'{own.where}.conductor: "{name}" is no policy of type conductor')
        return fuse(scope, PolicySettings(own.name, "fuse"))
    for key in ("verifier", "writer"):
        if key in options:
            options[key] = scope.one(own, key)
    members = scope.some(own, "panel") if "panel" in options else panel(scope.cards, scope.learned.table)
    telling = scope.learned.table is not None and sure(scope.cards, (*members, *base.workers))
    check = options.setdefault("check", "verifier" if "verifier" in options or not telling else "confidence")
    if check == "confidence":
        doubt = options.pop("doubt", base.doubt or _DOUBT)
        # without a plan the best single worker answers, and tells how sure it is, so that this is checked, too
        checked = replace(base, doubt=doubt, want="logprobs", otherwise=None)
        made = Ultra(checked, **options | {"panel": members})
        return _outright(
            scope, own, made, _GENERAL, temperature=None if base.planning.cards else base.temperature
        )
    reader = options.setdefault("verifier", beside(scope.cards, "checker") or members[0])
    options.setdefault("writer", members[0])
    options["wordings"] = wordings(scope.cards, options.get("wordings"), reader)
    made = Ultra(replace(base, doubt=options.pop("doubt", base.doubt)), **options | {"panel": members})
    return _outright(
        scope, own, made, _GENERAL, temperature=None if base.planning.cards else base.temperature
    )


def _seats(
    scope: Scope, own: PolicySettings, pairs: Sequence[str], artifact: Artifact | None
) -> dict[str, str]:
    """`NEW=TRAINED`: which worker of the pool may sit in the place of which one of the artefact; and those that it names."""
    found = {new: place for new, _, place in (pair.partition("=") for pair in pairs)}
    if not all(found.values()):
        raise ConfigError(f'{own.where}.seats: each is "NEW=TRAINED", two ids of workers')
    scope.known(found, f"{own.where}.seats", policies=False)
    if artifact is None:
        if found:
            raise ConfigError(
                f"{own.where}.seats: a general planner has no seats; name its workers with `among`"
            )
        return {}
    trained = artifact.data.get("workers", ())
    if strange := [place for place in found.values() if place not in trained]:
        raise ConfigError(
            f'{own.where}.seats: the planner was not trained with "{strange[0]}"; its workers are {", ".join(trained)}'
        )
    return {**artifact.data.get("seats", {}), **found}


def _artifact(scope: Scope, own: PolicySettings, learned: Artifact | None, schema: str) -> Artifact | None:
    return scope.artifact(own, "artifact", schema) if "artifact" in own.options else learned


def _brought(scope: Scope, artifact: Artifact) -> str:
    """The id of the worker that an artefact brought along; "" where it names one of the pool."""
    rows = artifact.data.get("beside", ())
    return scope.learned.beside.get(rows[0]["sha256"], "") if rows else ""
