"""`stretto promote`: let what was learned be served, if the figures allow it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import folder_options, json_option, settings_of
from stretto.cli.terminal import dump
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.learning.promotion import Promotions, Verdict

__all__ = ["promote"]

REFUSED = 3
"""The exit code where the figures do not allow it."""


@click.command(
    epilog="""\b
Examples:
  stretto eval --tasks mine.jsonl --policy sequential,stretto --artefact evidence.json --out out/
  stretto promote evidence.json --evaluation out/ --against stretto
  stretto promote evidence.json                 on what it showed, cross-fitted, when it was learned
  stretto promote evidence.json --ledger        on the scored runs on record, against what is served
  stretto promote evidence.json --shadow        on its shadow runs, beside what served the same requests
  stretto promote --undo evidence.json
"""
)
@click.argument("artefact", type=click.Path(path_type=Path))
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of `stretto eval` in which both were asked the same.",
)
@click.option("--ledger", is_flag=True, help="Judge by the scored runs on record instead: off-policy values.")
@click.option("--shadow", is_flag=True, help="Judge by its shadow runs, each beside the run that served.")
@click.option("--policy", default="sequential", show_default=True, help="The candidate's name there.")
@click.option("--against", help="Whose place it takes; default the best single worker.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Points that an equal but cheaper candidate may lose.",
)
@click.option(
    "--least", type=click.IntRange(30), default=300, show_default=True, help="Fewer items prove nothing."
)
@click.option("--undo", is_flag=True, help="Serve again what was served before ARTEFACT.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and change nothing.")
@folder_options
@json_option
def promote(
    artefact: Path,
    evaluation: Path | None,
    ledger: bool,
    shadow: bool,
    policy: str,
    against: str | None,
    margin: float,
    least: int,
    undo: bool,
    dry_run: bool,
    config: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Let `stretto serve` use ARTEFACT (of `stretto train evidence` or `train route`) within seconds where it runs.

    It passes if it is better than what it replaces (the 95 % interval lies above zero), or as good and cheaper: with 95 % it
    loses at most the margin, and the whole interval of its relative cost lies below 1. A tie is refused, and so is what too few
    items speak for. Items that it was learned from do not count.

    What was served before is kept: --undo goes back. Exit code 0: promoted; 3: refused, and why.
    """
    from stretto.learning.promotion import Promise, Promotions

    promotions = Promotions(settings_of(config, data).data)
    if undo:
        _undone(promotions, artefact.name, dry_run, as_json)
        return
    found = _artefact(artefact)
    if [evaluation is not None, ledger, shadow].count(True) > 1:
        raise ConfigError("judge by one of --evaluation, --ledger and --shadow")
    gate = _Gate(policy, against, margin / 100, least)
    if ledger:
        from stretto.cli.promote_ledger import by_ledger

        verdict, base, told = by_ledger(promotions, settings_of(config, data).data, found, gate.margin, least)
    elif shadow:
        from stretto.cli.promote_ledger import by_shadow

        verdict, base, told = by_shadow(settings_of(config, data).data, found, gate.margin, least)
    elif evaluation is not None:
        verdict, base, told = _by_evaluation(evaluation, found, gate)
    else:
        verdict, base, told = _by_training(found, gate)
    if verdict.passed and not dry_run:
        promise = Promise(
            base,
            told,
            verdict.n,
            verdict.score,
            verdict.difference,
            verdict.cost,
            gate.margin,
            verdict.reason,
        )
        promotions.promote(found, promise)
    _tell(found, verdict, base, told, promotions, dry_run, as_json)
    if not verdict.passed:
        raise SystemExit(REFUSED)


@dataclass(frozen=True, slots=True)
class _Gate:
    policy: str
    against: str | None
    margin: float
    least: int


def _artefact(path: Path) -> "Artifact":
    """The artefact, whatever its schema, checked against its hash."""
    from stretto import artifacts

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        schema = "stretto artefact"  # then `read` says what is wrong
    return artifacts.read(path, str(schema))


def _by_evaluation(folder: Path, found: "Artifact", gate: _Gate) -> "tuple[Verdict, str, str]":
    """The gate over the paired answers of an evaluation, without the items that the artefact was learned from."""
    from stretto.learning.promotion import judge

    summary = _json(folder / "summary.json")
    made = summary["provenance"].get("artefact_hash")
    if made is not None and made != found.hash:
        raise ConfigError(f"{folder}: was made with another artefact (hash {made}, not {found.hash})")
    by_name = _results(folder)
    base = gate.against or _best_single(summary, by_name, folder)
    for name in (gate.policy, base):
        if name not in by_name:
            raise ConfigError(
                f"{folder}: has no answers of {name}; there are {', '.join(by_name)}. "
                f"Evaluate both together: stretto eval ... --policy {gate.policy},{gate.against or 'WORKER'}"
            )
    learned = _learned_from(folder, found)
    items = sorted(set(by_name[gate.policy]) & set(by_name[base]) - learned)
    left = len(set(by_name[gate.policy]) & learned)
    ours, theirs = ([by_name[name][item] for item in items] for name in (gate.policy, base))
    verdict = judge(
        [r["score"] for r in ours],
        [r["score"] for r in theirs],
        [r["cost"] for r in ours],
        [r["cost"] for r in theirs],
        margin=gate.margin,
        least=gate.least,
    )
    told = f"{summary.get('title', folder.name)}"
    return verdict, base, f"{told}; {left} items left out, since it was learned from them" if left else told


def _results(folder: Path) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The graded answers of an evaluation by contender and item."""
    file = folder / "results.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}; --evaluation is a folder of `stretto eval`"
        ) from None
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in lines:
        try:
            row = json.loads(line)
            if "begun" not in row:
                found.setdefault(row["contender"], {})[row["item"]] = row
        except (ValueError, KeyError, TypeError):
            continue  # half a line, which a kill leaves
    return found


def _best_single(summary: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    workers = [
        str(row["name"]) for row in summary["rows"] if row["kind"] == "worker" and row["name"] in by_name
    ]
    if summary["best"] in workers:
        return str(summary["best"])
    if not workers:
        raise ConfigError(
            f"{folder}: no worker was asked alone there; name whose place it takes with --against, "
            f"or evaluate again with --policy sequential,{str(summary['best']).partition(' (')[0]}"
        )
    means: dict[str, float] = {
        w: sum(float(r["score"]) for r in by_name[w].values()) / len(by_name[w]) for w in workers
    }
    return max(means, key=means.__getitem__)


def _learned_from(folder: Path, found: "Artifact") -> set[str]:
    """The items of an evaluation that the artefact was learned from."""
    from stretto.learning.promotion import item_mark

    marks = set(str(found.provenance.get("learned_from", "")).split())
    file = folder / "items.jsonl"
    if not marks or not file.exists():
        return set()
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    return {str(r.get("item_id", r.get("id"))) for r in rows if item_mark(str(r["prompt"])) in marks}


def _by_training(found: "Artifact", gate: _Gate) -> "tuple[Verdict, str, str]":
    """The gate over what the artefact's learner saw on items that each part was not learned from."""
    from stretto.learning.promotion import Verdict

    shown = found.provenance.get("cross_fitted")
    if not shown:
        raise ConfigError(
            "the artefact does not say what it showed when it was learned: name an evaluation with --evaluation"
        )
    if gate.against not in (None, shown["against"]):
        raise ConfigError(
            f"it was compared with {shown['against']} when it was learned; evaluate it with --evaluation"
        )
    n = int(shown["n"])
    if why := _nothing_to_serve(found):
        return (
            Verdict(False, why, n),
            str(shown["against"]),
            f"cross-fitted over {n} items when it was learned",
        )
    if n < gate.least:
        return (
            Verdict(False, f"{n} items are too few: {gate.least} are needed", n),
            shown["against"],
            "cross-fitted",
        )
    from stretto.learning.promotion import judge_values

    difference, cost = (tuple(map(float, shown[key])) for key in ("difference", "cost"))
    verdict = judge_values(float(shown["score"]), _three(difference), _three(cost), n, margin=gate.margin)
    return verdict, str(shown["against"]), f"cross-fitted over {n} items when it was learned"


def _nothing_to_serve(found: "Artifact") -> str:
    """Why at the middle of the dial the best single worker would answer alone, or ""."""
    safe = found.data.get("certified")
    if not safe or (safe["u"] is not None and (safe["cost"] < 1 or safe["bound"] < 0)):
        return ""
    return f"{safe['single']} would answer alone: {safe['reason']}"


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    value, low, high = values
    return value, low, high


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read: {error.strerror}; --evaluation is a folder of `stretto eval`"
        ) from None
    except ValueError:
        raise ConfigError(f"{file}: is not JSON") from None


def _undone(promotions: "Promotions", file: str, dry_run: bool, as_json: bool) -> None:
    now = promotions.current(file) if file in _files() else None
    if now is None:
        raise ConfigError(f"{file}: nothing of that name is served; there may be {', '.join(_files())}")
    if dry_run:
        click.echo(f"would go back from {file} {now.hash}")
        return
    record = promotions.back(file, "undone", "stretto promote --undo")
    if as_json:
        dump(asdict(record))
    else:
        click.echo(
            f"{file}: {record.previous} is no longer served; {record.hash or 'nothing'} is from now on"
        )


def _files() -> list[str]:
    from stretto.learning.promotion import FILES

    return list(FILES.values())


def _tell(
    found: "Artifact",
    verdict: "Verdict",
    base: str,
    told: str,
    promotions: "Promotions",
    dry_run: bool,
    as_json: bool,
) -> None:
    if as_json:
        figures = {k: _finite(v) for k, v in asdict(verdict).items()}
        dump(figures | {"hash": found.hash, "against": base, "on": told, "dry_run": dry_run})
        return
    word = ("would be promoted" if dry_run else "promoted") if verdict.passed else "refused"
    click.secho(f"{word}: {verdict.reason}", fg="green" if verdict.passed else "red")
    click.echo(f"against {base}, on: {told}")
    if verdict.passed and not dry_run:
        from stretto.learning.promotion import FILES

        back = f"stretto promote --undo {FILES[found.schema]}"
        click.echo(f"{promotions.folder}: served within seconds; `{back}` goes back")


def _finite(value: Any) -> Any:
    """The same with `None` for what is not known: JSON has no word for it."""
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
