"""Builds the policies that decide whom to ask: route, sequential, the owner's rules, and `stretto` over them."""

from stretto.catalog.scope import Scope
from stretto.config import PolicySettings, RuleSettings
from stretto.errors import ConfigError
from stretto.policies.auto import Auto
from stretto.policies.route import TABLE_SCHEMA, Route, Rule, Table, When
from stretto.steps import Policy

__all__ = ["evidence", "route", "rule", "sequential"]


def route(scope: Scope, own: PolicySettings) -> Policy:
    """The owner's rules, then the table, then the default."""
    table = scope.learned.table
    if "table" in own.options:
        table = scope.artifact(own, "table", TABLE_SCHEMA)
    return Route(
        rules=tuple(rule(scope, own) for own in scope.settings.rules),
        table=None if table is None else Table(table),
        default=scope.one(own, "default") if "default" in own.options else "",
        among=scope.some(own, "among") if "among" in own.options else (),
        explore=own.options.get("explore", 0.0),
    )


def sequential(scope: Scope, own: PolicySettings) -> Policy:
    """Evidence bought answer by answer, by the artefact that the option names."""
    from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential

    if "artifact" not in own.options:
        raise ConfigError(f"{own.where}: needs the key `artifact`, a file of `stretto train evidence`")
    found = scope.artifact(own, "artifact", EVIDENCE_SCHEMA)
    try:
        evidence = Evidence(found)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{own.where}.artifact: is not what `stretto train evidence` writes: {error!r}"
        ) from None
    scope.known(evidence.workers, f"{own.where}.artifact", policies=False)
    return Sequential(evidence, own.options.get("price"), own.options.get("explore", 0.0))


def evidence(scope: Scope) -> Policy | None:
    """What `stretto` is where the configuration has a `sequential` policy, the first one of it."""
    name = next((n for n, own in scope.settings.policies.items() if own.type == "sequential"), None)
    if name is None:
        return None
    rules = tuple(rule(scope, own) for own in scope.settings.rules)
    return Auto(rules, name, scope.policy(name, ""))


def rule(scope: Scope, own: RuleSettings) -> Rule:
    """One of the owner's rules."""
    return Rule(When(**own.when), own.use, scope.policy(own.use, f"{own.where}.use"))
