"""Builds the policies that decide whom to ask: route, sequential, the owner's rules, and `stretto` over them."""

from stretto.catalog.orchestrators import unwrapped
from stretto.catalog.scope import Scope
from stretto.catalog.usual import RUNGS, beside, reputed, wordings
from stretto.config import PolicySettings, RuleSettings
from stretto.errors import ConfigError
from stretto.policies.auto import Auto, Planned, Way
from stretto.policies.conductor import Conductor
from stretto.policies.route import TABLE_SCHEMA, Route, Rule, Table, When
from stretto.policies.unlearned import Unlearned
from stretto.steps import Policy

__all__ = ["route", "rule", "sequential", "stretto"]


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
    from stretto.policies.evidence.equivalence import SHIPPED, Untaught
    from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential

    if "artifact" not in own.options:
        raise ConfigError(f"{own.where}: needs the key `artifact`, a file of `stretto train evidence`")
    found = scope.artifact(own, "artifact", EVIDENCE_SCHEMA)
    same, comparer = own.options.get("same", ""), own.options.get("comparer", "")
    try:
        evidence = Evidence(found, same=same, comparer=comparer, verifier=own.options.get("verifier", ""))
    except Untaught as error:
        raise ConfigError(f"{own.where}.same: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{own.where}.artifact: is not what `stretto train evidence` writes: {error!r}"
        ) from None
    beside = [] if evidence.embedder is None else [evidence.embedder.worker]
    scope.known((*evidence.workers, *beside), f"{own.where}.artifact", policies=False)
    if evidence.comparer is not None and evidence.comparer.worker != SHIPPED:
        scope.known([evidence.comparer.worker], f"{own.where}.comparer", policies=False)
    if evidence.verifier is not None and evidence.verifier.informed:
        scope.known([evidence.verifier.worker], f"{own.where}.verifier", policies=False)
    return Sequential(
        evidence,
        own.options.get("price"),
        own.options.get("explore", 0.0),
        own.options.get("rounds", 1),
        own.options.get("certified", True),
    )


def stretto(scope: Scope) -> Policy:
    """The rules; then a learned workflow for what nobody alone is good at; then evidence, where it fits: the configuration's
    first `sequential`, else what was learned about this pool; else a route table, which knows what to do with strange prompts,
    too; else the prior.
    """
    from stretto.policies.sequential import Evidence, Sequential

    ways: list[Way] = []
    if scope.learned.conductor is not None and scope.learned.table is not None:
        workflow = unwrapped(scope.policy("conductor", ""))
        known = Table(scope.learned.table)
        about = f"nobody alone is known to be right, by the {known.name}"
        planner = workflow.planner if isinstance(workflow, Conductor) else ""
        ways.append(Planned("conductor", workflow, about, True, table=known, planner=planner))
    name = next((n for n, own in scope.settings.policies.items() if own.type == "sequential"), "")
    found: Policy | None = scope.policy(name, "") if name else None
    if found is None and scope.learned.evidence is not None:
        name, found = "sequential", Sequential(Evidence(scope.learned.evidence))
    if isinstance(found, Sequential) and scope.workers & set(found.evidence.workers):
        learned = found.evidence
        ways.append(Way(name, found, f"by {learned.name}", True, learned.workers, learned.forms))
    if scope.learned.table is not None:
        known = Table(scope.learned.table)
        ways.append(Way("route", Route(table=known), f"by the {known.name}"))
    else:
        ids = tuple(card.id for card in reputed(scope.cards, RUNGS))
        verifier = beside(scope.cards, "checker") or (ids[-1] if len(ids) > 1 else "")
        prior = Unlearned(ids, verifier, wordings=wordings(scope.cards, None, verifier))
        ways.append(Way("unlearned", prior, "by a prior, and checks"))
    return Auto(tuple(rule(scope, own) for own in scope.settings.rules), tuple(ways))


def rule(scope: Scope, own: RuleSettings) -> Rule:
    """One of the owner's rules."""
    return Rule(When(**own.when), own.use, scope.policy(own.use, f"{own.where}.use"))
