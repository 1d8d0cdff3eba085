"""`stretto promote --ledger`: a candidate judged by what is on record, without asking anybody."""

from pathlib import Path
from typing import TYPE_CHECKING

from stretto.errors import ConfigError
from stretto.types import PICO

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.learning.offpolicy import Value
    from stretto.learning.promotion import Promotions, Verdict
    from stretto.steps import Policy

__all__ = ["by_ledger", "by_shadow"]


def by_ledger(
    promotions: "Promotions", data: Path, found: "Artifact", margin: float, least: int
) -> "tuple[Verdict, str, str]":
    """The gate over off-policy values of the scored runs that the artefact now served has decided."""
    from stretto.cli.outcomes import of_ledger
    from stretto.learning.offpolicy import against, values
    from stretto.learning.promotion import FILES, Verdict, judge_values

    file = FILES.get(found.schema)
    now = promotions.current(file) if file else None
    if now is None:
        raise ConfigError(
            "nothing of its kind is served yet, so no run was decided by it: judge by --evaluation"
        )
    runs = [r for r in of_ledger(data, ("serve",)) if any(now.hash in by for by in r.by)]
    told = f"{len(runs)} runs that {file} {now.hash} decided"
    scored = [r for r in runs if r.score is not None and r.request is not None]
    if len(scored) < least:
        why = f"{len(scored)} of {len(runs)} runs have a score and kept texts: {least} are needed"
        return Verdict(False, why, len(scored)), now.hash, told
    told = f"{told}, {len(scored)} of them scored"
    compared = against(_policy(found), _policy(now), scored)
    if isinstance(compared, str):
        return Verdict(False, f"no value is claimed: {compared}", len(scored)), now.hash, told
    score, difference, cost, warning = compared
    verdict = judge_values(score, difference, cost, len(scored), margin=margin)
    worth = values(_policy(found), scored)
    return verdict, now.hash, f"{told}{'; ' + warning if warning else ''}{_told(worth)}"


def _told(worth: "tuple[Value, ...] | str") -> str:
    """The candidate's own value by each of the three estimators, and how many equally weighted runs speak for it."""
    if isinstance(worth, str):
        return ""
    each = ", ".join(
        f"{v.method} {v.value:.3f} [{v.low:.3f}, {v.high:.3f}]"
        for v in worth
        if v.value is not None and v.low is not None and v.high is not None
    )
    return f"; its score by them: {each} (as good as {worth[0].ess:.0f} runs of its own)" if each else ""


def by_shadow(data: Path, found: "Artifact", margin: float, least: int) -> "tuple[Verdict, str, str]":
    """The gate over the artefact's shadow runs. Its answers that differ and have no score count as wrong."""
    from stretto.cli.shadows import pairs_of
    from stretto.learning.promotion import judge
    from stretto.learning.shadows import scores

    pairs = pairs_of(data, by=found.hash)
    worst, _, base, kept = scores(pairs)
    told = f"{len(pairs)} shadow runs, {len(kept)} of them beside a scored run; unscored differences count as wrong"
    ours, theirs = [p.shadow.cost / PICO for p in kept], [p.served.cost / PICO for p in kept]
    served = sorted({p.served.policy for p in kept})
    return judge(worst, base, ours, theirs, margin=margin, least=least), ", ".join(served), told


def _policy(artifact: "Artifact") -> "Policy":
    from stretto.policies.route import TABLE_SCHEMA, Route, Table
    from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential

    if artifact.schema == EVIDENCE_SCHEMA:
        return Sequential(Evidence(artifact))
    if artifact.schema == TABLE_SCHEMA:
        return Route(table=Table(artifact))
    raise ConfigError(
        f"a policy of {artifact.schema} cannot be followed through the record: judge by --evaluation"
    )
