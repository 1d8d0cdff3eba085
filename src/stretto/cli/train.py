"""`stretto train`: learn from recorded outcomes what a policy then reads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stretto.cli.options import usd_option, writable
from stretto.cli.progress import progress
from stretto.cli.train_compare import LONGEST, compared, embedded
from stretto.cli.train_conductor import conductor
from stretto.cli.train_route import newcomer, route
from stretto.cli.train_special import special
from stretto.cli.train_trinity import trinity
from stretto.cli.train_verify import verified
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.artifacts import Artifact
    from stretto.cli.train_special import Special
    from stretto.cli.train_verify import Verified
    from stretto.evaluation.tables import Table
    from stretto.learning.evidence.comparing import Comparison
    from stretto.learning.evidence.training import Learned, Matrix, Prompts
    from stretto.policies.evidence.verification import Verifier

__all__ = ["train"]

_STAGES = 9


@click.group()
def train() -> None:
    """Learn from a table of recorded outcomes: who answered what, how good it was, what it cost."""


train.add_command(trinity)
train.add_command(conductor)
train.add_command(route)
train.add_command(newcomer)


@train.command(
    epilog="""\b
Examples:
  stretto train evidence outcomes/ --out evidence.json
  stretto train evidence outcomes/ --worker small --worker big --out evidence.json
  stretto train evidence --ledger --out evidence.json
  stretto train evidence essays/ --compare gpt --limit-usd 2 --out evidence.json
  stretto train evidence programs/ --verify gpt --limit-usd 2 --out evidence.json
  stretto train evidence outcomes/ --worker small,big --by-question --out router.json
  stretto train evidence outcomes/ --chain small,middle,big --out chain.json
\b
Then, in stretto.toml, and under the name `stretto` from the next start on:
  [policy.careful]
  type = "sequential"
  artifact = "evidence.json"
"""
)
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="TABLE, for scripts that prefer an option.")
@click.option(
    "--ledger",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Learn from the scored runs of a gateway's data folder instead; without DIR the usual one.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Where the artefact goes."
)
@click.option(
    "--worker", "workers", multiple=True, help="Only these workers, as named in the table; default all."
)
@click.option(
    "--size",
    type=click.IntRange(1, 10),
    default=7,
    show_default=True,
    help="At most so many in the shortlist.",
)
@click.option(
    "--prompt/--no-prompt", default=True, show_default=True, help="Whether the text of a prompt counts."
)
@click.option(
    "--last-line", is_flag=True, help="Replies give their working first: the answer is their last line."
)
@click.option(
    "--by-question",
    is_flag=True,
    help="Ask one worker for a prompt, by its text alone: between two a threshold, as in RouteLLM. Needs no answers.",
)
@click.option(
    "--chain",
    metavar="A,B,...",
    help="Ask these in this order, on while the score is below a threshold: a cascade, as in FrugalGPT.",
)
@click.option(
    "--compare",
    metavar="WORKER",
    help="Who says whether free texts amount to the same: an embedding worker, a judge, or `static`; its error is learned.",
)
@click.option(
    "--verify",
    metavar="WORKER",
    help="Who is asked whether replies that cannot be compared are right; its error is learned. Not with --compare.",
)
@click.option(
    "--checks",
    type=click.IntRange(60),
    default=300,
    show_default=True,
    help="So many replies are shown to a verifier.",
)
@click.option(
    "--embed",
    metavar="WORKER",
    help="Read prompts by the vectors of this embedding worker, not by their words; it is asked before each decision.",
)
@click.option(
    "--pairs",
    type=click.IntRange(60),
    default=300,
    show_default=True,
    help="So many pairs are shown to a judge.",
)
@usd_option("--limit-usd", "Ceiling in USD for what each of --compare, --verify and --embed asks.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration file that knows the workers of --compare, --verify and --embed.",
)
def evidence(
    table: Path | None,
    data: Path | None,
    ledger: str | None,
    out: Path,
    workers: Sequence[str],
    size: int,
    prompt: bool,
    last_line: bool,
    by_question: bool,
    chain: str | None,
    compare: str | None,
    verify: str | None,
    checks: int,
    embed: str | None,
    pairs: int,
    limit_usd: int | None,
    config: Path | None,
) -> None:
    """Learn the policy `sequential`: who to ask first, what agreement is worth, and when to stop.

    TABLE is a folder with `items` (item_id, prompt; perhaps task, split) and `outcomes` (item_id, model, score 0..1, answer,
    cost_usd), each as .jsonl, .csv or .parquet. Model names must be the ids of the workers in stretto.toml. Items of split
    `dev` are not learned from. A few hundred items are a start, a few thousand are better.

    Prints for each price what the policy would have brought on items that it had not seen (cross-fitted), beside the best
    single worker.
    """
    if missing := [name for name in ("numpy", "scipy") if not _installed(name)]:
        raise ConfigError(f"learning needs {' and '.join(missing)}: pip install 'stretto[evidence]'")
    writable(out)
    from stretto.evaluation.tables import read

    folder = table or data
    if [folder is not None, ledger is not None].count(True) != 1 or (table and data):
        raise ConfigError("name one folder of recorded outcomes, as TABLE or with --data, or give --ledger")
    if [compare, verify, chain, by_question or None].count(None) < 3:
        raise ConfigError("of --compare, --verify, --by-question and --chain give one")
    if chain is not None and workers:
        raise ConfigError("--chain names its workers: leave --worker out")
    found = read(folder, texts=True) if folder is not None else _of_ledger(ledger or "", last_line)
    links = [] if chain is None else [name.strip() for name in chain.split(",")]
    whole, gaps = _usable(found, links or workers, compared=not by_question)
    limited = special(whole, size, by_question=by_question, chain=links)
    comparing, verifying = None, None
    if verify:
        verifying = partial(
            verified, found, who=verify, checks=checks, limit=limit_usd, last_line=last_line, config=config
        )
        verifying = partial(verifying, kept=out.with_suffix(".verdicts.jsonl"))
    if compare:
        comparing = partial(
            compared, found, who=compare, pairs=pairs, limit=limit_usd, last_line=last_line, config=config
        )
    if compare or verify:
        gaps, size = [], min(size, LONGEST)
    if limited is not None:
        whole, gaps = links or whole, []
    reading = None if not embed else partial(embedded, who=embed, limit=limit_usd, config=config)
    _learn(found, whole, gaps, out, size, prompt, last_line, comparing, reading, verifying, limited)


def _of_ledger(folder: str, last_line: bool) -> "Table":
    """The scored runs of a data folder, as a table."""
    from stretto.cli.options import settings_of
    from stretto.cli.outcomes import of_ledger
    from stretto.learning.own_outcomes import table_of

    data = settings_of(None, Path(folder) if folder else None).data
    found = table_of(of_ledger(data, last_line=last_line), str(data))
    if not found.items:
        raise ConfigError(f"{data}: no run there has a score; see `stretto runs outcomes --help`")
    return found


def _installed(name: str) -> bool:
    """Whether a library can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def _usable(table: "Table", named: Sequence[str], *, compared: bool = True) -> tuple[list[str], list[str]]:
    """The workers to learn from, those with gaps apart: the named ones, else all whose costs are known. `compared`: answers are.

    Those without gaps say which items count. Where none of the named is one, or one knows too few items, those that all of them
    know.
    """
    from stretto.evaluation.tables import PARTLY

    named = [name for given in named for name in given.split(",")]
    if unknown := [name for name in named if name not in table.workers]:
        raise ConfigError(
            f"{table.name}: has no outcomes of {', '.join(unknown)}; there are {', '.join(table.workers)}"
        )
    whole, gaps = ([w for w in named or found if w in found] for found in (table.covering(), table.partly()))
    if named and (not whole or len(whole) + len(gaps) < len(named)):
        whole, gaps = list(named), []
    if not whole:
        raise ConfigError(
            f"{table.name}: no worker has outcomes for 98.5 % of the items; name some with --worker"
        )
    free = [
        w
        for w in whole + gaps
        if any((one := table.said(i.id, w)) is not None and one.cost is None for i in table.items)
    ]
    if free and (named or not set(whole) - set(free)):
        raise ConfigError(
            f"{table.name}: outcomes of {', '.join(free)} have no cost_usd, without which no price can be weighed"
        )
    if free:
        click.echo(f"left out, since outcomes of theirs have no cost_usd: {', '.join(free)}", err=True)
        whole, gaps = [w for w in whole if w not in free], [w for w in gaps if w not in free]
    if len(whole) + len(gaps) < 2:
        raise ConfigError(
            f"{table.name}: {', '.join(whole)} alone leaves nothing to choose; two workers are needed"
        )
    part = table.only(workers=whole, complete=True)
    if len(part.items) < 50:
        raise ConfigError(
            f"{table.name}: {len(part.items)} items were answered by all of {', '.join(whole)}; 50 are needed at least"
        )
    known = [one for w in whole for i in part.items if (one := table.said(i.id, w)) is not None]
    if compared and not any(one.answer for one in known):
        raise ConfigError(
            f"{table.name}: no outcome has an `answer`, and without answers nobody can agree; add that column, or learn from "
            "the scores alone: stretto train route"
        )
    if not any(one.cost for one in known):
        click.echo(
            "nothing cost anything (cost_usd is 0 everywhere), so the whole dial comes to the same: give the workers a `price` "
            "in stretto.toml and evaluate again, or this learns what is right, not what is worth its money",
            err=True,
        )
    if gaps:
        told = f"asked {100 * PARTLY:.0f} % of the items at least, and learned of where they were"
        click.echo(f"{told}: {', '.join(gaps)}", err=True)
    return whole, gaps


def _learn(
    table: "Table",
    workers: list[str],
    gaps: list[str],
    out: Path,
    size: int,
    prompt: bool,
    last_line: bool,
    comparing: "Callable[[Matrix], Comparison] | None" = None,
    reading: "Callable[[Matrix], Prompts] | None" = None,
    verifying: "Callable[[Matrix], Verified] | None" = None,
    limited: "Special | None" = None,
) -> None:
    from stretto import __version__, artifacts
    from stretto.evaluation.recorded import question
    from stretto.learning.evidence.lengths import foretold
    from stretto.learning.evidence.training import artefact, learn, matrix, summary
    from stretto.learning.evidence.trees import available
    from stretto.policies.situation import forms

    data = matrix(table, workers, gaps=gaps, last_line=last_line)
    if not any(i.split == "train" for i in data.items):
        raise ConfigError(f"{table.name}: no item is of split train")
    held = comparing(data) if comparing is not None else None
    data, believing = (data, None) if held is None else (held.assumed(data), held.lattice)
    judged = verifying(data) if verifying is not None else None
    seen = reading(data) if reading is not None else None
    size = min(size, len(data.workers))
    if limited is not None:
        data, believing = limited.assumed(data), limited.lattice_of
    names = () if limited is None else limited.names
    with progress(_STAGES, "learning") as tick:
        learned = learn(data, size=size, text=prompt, names=names, lattice_of=believing, seen=seen, say=tick)
        provenance = {
            "learned_by": "stretto train evidence",
            "stretto": __version__,
            "table": table.name,
            "items": len(learned.fold),
            "workers": list(data.workers),
        } | ({} if limited is None else {"asks": limited.told})
        made = artefact(learned, provenance, last_line=last_line, say=tick)
        asked = forms(question(item) for item in data.items if item.split == "train")
        made = replace(made, provenance={**made.provenance, **_shown(learned, data, made)})
        made = replace(made, data={**made.data, "forms": asked, **foretold(learned, data)})
        if held is not None:
            made = held.taught(made)
        elif _free(table, list(data.workers), last_line):
            made = replace(made, data={**made.data, "free": True})
    if judged is not None:
        made, crossed, verifier = judged.taught(made, learned, data)
        learned = replace(learned, crossed=crossed)
        if any(verifier.serves):
            made = replace(made, provenance={**made.provenance, **_shown(learned, data, made, verifier)})
    artifacts.write(made, out)
    rows = summary(learned, data)
    if not available():
        click.echo("LightGBM is not installed: the posterior is a logistic regression", err=True)
    click.echo(
        f"shortlist: {', '.join(learned.workers)}; {len(learned.fold)} items of split train, cross-fitted"
    )
    stands = [] if limited is None else limited.stands(learned)
    head = "  answers stand from" if any(stands) else ""
    wide = max(len(name) for name, *_ in rows)
    click.echo(f"{'':{wide}} {'score':>6} {'USD per 1000':>13} {'calls':>6} {'dial':>6}{head}")
    for place, (name, score, cost, calls) in enumerate(rows):
        dial = f"{1 - (place - 1) / max(1, len(rows) - 2):6.2f}" if place else ""
        stand = f"  {stands[place - 1]}" if place and any(stands) else ""
        click.echo(f"{name:{wide}} {100 * score:6.2f} {1000 * cost:13.4f} {calls:6.2f} {dial}{stand}")
    click.echo(_certified(made))
    click.echo(str(out))


def _free(table: "Table", workers: Sequence[str], last_line: bool) -> bool:
    """Whether most replies are free texts, whose values do not tell who says the same."""
    from stretto.policies.answers import comparable, said
    from stretto.types import Message

    answers = [(one.answer or "") for w in workers for i in table.items[:500] if (one := table.said(i.id, w))]
    if last_line:
        free = sum(said(Message("assistant", text), last_line=True) is None for text in answers)
    else:
        free = sum(not comparable(text) for text in answers)
    return free > len(answers) / 2


def _certified(made: "Artifact") -> str:
    """Which price is safe, and so what the middle of the dial and all above it never go beyond."""
    verifying = made.data.get("verifying")
    found = verifying["certified"] if verifying and any(verifying["serves"]) else made.data.get("certified")
    if found is None:
        return "no price is certified: the best single worker is not in the shortlist"
    if found["u"] is None:
        return f"no price is certified ({found['reason']}): from dial 0.5 on {found['single']} answers alone"
    if found["cost"] >= 1 and found["bound"] >= 0:
        return f"{found['reason']}: at dial 0.5 {found['single']} answers alone"
    return f"price {found['u']} is certified: {found['reason']}"


def _shown(
    learned: "Learned", data: "Matrix", made: "Artifact", verifier: "Verifier | None" = None
) -> dict[str, Any]:
    """What it brought at the middle of the dial on items that each part was not learned from: `stretto promote` reads it.

    At the certified price, if that is lower, since that is what serves there; with a verifier, if one serves.
    """
    from stretto.learning.evidence.training import PRICES, cross_walk
    from stretto.learning.promotion import shown

    train = [place for place, item in enumerate(data.items) if item.split == "train"]
    u = PRICES[round(0.5 * (len(PRICES) - 1))]
    certified = made.data.get("certified", {}) if verifier is None else verifier.certified or {}
    if (safe := certified.get("u")) is not None:
        u = min(u, safe)
    if verifier is None:
        (went,) = cross_walk(learned.train, [u / learned.unit if learned.unit else 0.0], rich=learned.rich)
    else:
        went = list(learned.crossed)[learned.prices.index(u)]
    base = data.scores[train, learned.best], data.costs[train, learned.best]
    prompts = [data.items[place].prompt for place in train]
    outcomes = went.score, base[0], went.cost, base[1]
    return shown(learned.pool[learned.best], u, outcomes, prompts)
