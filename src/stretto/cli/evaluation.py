"""`stretto eval`: on recorded outcomes, tasks of one's own, reasoning-gym, or the sparring problems; and `eval audit`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stretto.cli.evaluate import evaluate as sparring_command
from stretto.cli.options import settings_of, usd_option
from stretto.cli.progress import progress
from stretto.cli.terminal import dump, short, table
from stretto.errors import ConfigError

if TYPE_CHECKING:
    from stretto.evaluation.comparison import Comparison
    from stretto.evaluation.graders import Grader
    from stretto.evaluation.runner import Asking, Contender, Log, Result
    from stretto.evaluation.tasks import Item
    from stretto.policies.sequential import Sequential
    from stretto.steps import Policy

__all__ = ["evaluation"]

_SHARED = ("count", "seed", "policies", "out", "concurrency", "as_json", "config", "data")
"""Options of the sparring evaluation that every other one has too."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for on the command line."""

    source: str
    path: Path | None
    families: tuple[str, ...]
    n: int | None
    policies: tuple[str, ...]
    workers: tuple[str, ...]
    artefact: Path | None
    samples: int
    grader: str
    out: Path
    concurrency: int
    asking: "Asking"
    config: Path | None
    data: Path | None


class _Eval(click.Group):
    """A command with options of its own and one command below it. It also takes the sparring evaluation's options."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        names = {p.name for p in self.params}
        self.params = [*self.params, *(p for p in sparring_command.params if p.name not in names)]


@click.group(
    "eval",
    cls=_Eval,
    invoke_without_command=True,
    epilog="\b\nExamples:\n  stretto eval --tasks mine.jsonl --policy stretto,route\n"
    "  stretto eval --recorded outcomes/ --policy sequential@0.2,sequential@0.8 --artefact evidence.json\n"
    "  stretto eval --sparring\n  stretto eval audit evaluation\n",
)
@click.option("--sparring", is_flag=True, help="On the held-out sparring problems.")
@click.option(
    "--recorded", type=click.Path(path_type=Path), help="On a folder of recorded outcomes; no model is asked."
)
@click.option(
    "--tasks", type=click.Path(path_type=Path), help="On prompts of your own: JSON lines, CSV or Parquet."
)
@click.option(
    "--gym", "families", multiple=True, metavar="FAMILY", help="On fresh problems of a reasoning-gym family."
)
@click.option("--worker", "workers", multiple=True, help="Only these workers; default all.")
@click.option(
    "--artefact",
    type=click.Path(path_type=Path),
    help="What was learned (train evidence): the policy `sequential`.",
)
@click.option("--grader", default="exact", show_default=True, help="Grades tasks that name no grader.")
@click.option(
    "--samples",
    type=click.IntRange(1, 32),
    default=1,
    show_default=True,
    help="Answers of the best single worker.",
)
@click.option(
    "--dial", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="0 cheapest, 1 best."
)
@click.option("--temperature", type=click.FloatRange(0, 2), help="Default: each model's own.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Bounds every answer.")
@usd_option("--limit-usd", "Ceiling in USD for the whole evaluation.")
@click.pass_context
def evaluation(ctx: click.Context, /, **options: Any) -> None:
    """Compare workers, policies and controls on the same items: quality, money and calls, with paired intervals and a verdict.

    Say on what: one of --recorded, --tasks, --gym, --sparring. Answers are kept in --out as they come: after an interruption the
    same command goes on where it was.
    """
    if ctx.invoked_subcommand is not None:
        return
    sources = [name for name in ("sparring", "recorded", "tasks", "families") if options[name]]
    if len(sources) != 1:
        raise click.UsageError("say on what to evaluate: one of --tasks, --recorded, --gym, --sparring")
    (source,) = sources
    theirs = {str(p.name) for p in sparring_command.params}
    foreign = set(options) - theirs if source == "sparring" else theirs - set(_SHARED)
    for name in foreign - {source}:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = next(max(p.opts, key=len) for p in ctx.command.get_params(ctx) if p.name == name)
            raise click.UsageError(f"{flag} does not go with --{'gym' if source == 'families' else source}")
    if source == "sparring":
        ctx.invoke(sparring_command, **{name: options[name] for name in theirs})
        return
    counted = ctx.get_parameter_source("count") is ParameterSource.COMMANDLINE
    _evaluate(_wanted(source, options, options["count"] if counted else None), options["as_json"])


def _wanted(source: str, options: Mapping[str, Any], n: int | None) -> _Wanted:
    from stretto.evaluation.runner import Asking

    temperature = options["temperature"]
    asking = Asking(
        seed=options["seed"],
        dial=options["dial"],
        params={} if temperature is None else {"temperature": temperature},
        max_tokens=options["max_tokens"],
        usd=options["limit_usd"],
    )
    return _Wanted(
        source,
        options[source] if source != "families" else None,
        options["families"],
        n,
        tuple(name for given in options["policies"] for name in given.split(",")),
        tuple(name for given in options["workers"] for name in given.split(",")),
        options["artefact"],
        options["samples"],
        options["grader"],
        options["out"],
        options["concurrency"],
        asking,
        options["config"],
        options["data"],
    )


def _evaluate(wanted: _Wanted, as_json: bool) -> None:
    from stretto.evaluation.runner import Log

    log = Log(wanted.out / "results.jsonl")
    try:
        run = _recorded if wanted.source == "recorded" else _live
        comparison, names = asyncio.run(run(wanted, log))
    finally:
        log.close()
    if as_json:
        dump(
            {
                "verdict": comparison.verdict,
                "n": comparison.n,
                "best": comparison.best,
                "out": str(wanted.out),
            }
        )
        return
    _show(comparison)
    click.echo(f"\n{comparison.verdict}\n\n{wanted.out}: {', '.join(names)}")


async def _recorded(wanted: _Wanted, log: "Log") -> "tuple[Comparison, list[str]]":
    from stretto.catalog import Catalog
    from stretto.config import Settings
    from stretto.engine.run import Engine
    from stretto.evaluation import tables
    from stretto.evaluation.comparison import compare, recorded_columns
    from stretto.evaluation.recorded import RecordedPool
    from stretto.evaluation.runner import play
    from stretto.evaluation.tasks import recorded_items
    from stretto.ledger.memory import MemoryStore

    assert wanted.path is not None
    whole = tables.read(wanted.path)
    known = whole.only(workers=wanted.workers or whole.covering(), complete=True)
    left = [w for w in whole.workers if w not in known.workers]
    notes = [
        "Answers, scores and costs are the recorded ones; nothing was asked. A call that asks something else than an item (of a "
        "judge, of a verifier) is on no record and fails.",
    ]
    if len(known.items) < len(whole.items) or (left and not wanted.workers):
        lost = len(whole.items) - len(known.items)
        notes.append(
            f"Left out, since not everything is recorded: {lost} items, workers: {', '.join(left) or 'none'}."
        )
    if not known.items or len(known.workers) < 2:
        raise ConfigError(f"{wanted.path}: no two workers were recorded on the same items")
    items = recorded_items(known)
    dev = [i for i in items if i.split != "train"]
    if not dev or len(dev) == len(items):  # no split that could serve: cross-fitted
        items = dev = [replace(i, split="") for i in items]
    if wanted.n is not None:
        dev = dev[: wanted.n]
        kept = {i.id for i in dev}
        items = [i for i in items if i.split == "train" or i.id in kept]
        ids = {i.id for i in items}
        known = known.only(lambda item: item.id in ids)
    pool, store = RecordedPool(known), MemoryStore()
    engine = Engine(pool, store)
    catalog = Catalog(pool.cards(), Settings())
    names = wanted.policies or (("sequential",) if wanted.artefact else ("cascade", "fuse"))
    contenders = _contenders(names, catalog.resolve, wanted)
    with progress(len(dev) * len(contenders), "evaluating") as tick:
        found = await play(
            engine,
            store,
            pool.cards(),
            dev,
            contenders,
            log,
            wanted.asking,
            concurrency=wanted.concurrency,
            tick=tick,
        )
    comparison = compare(items, recorded_columns(known), found, seed=wanted.asking.seed, notes=notes)
    return comparison, _save(wanted, comparison, items, found, f"{known.name}, recorded")


async def _live(wanted: _Wanted, log: "Log") -> "tuple[Comparison, list[str]]":
    from stretto.app import open_world
    from stretto.evaluation.comparison import columns_of, compare
    from stretto.evaluation.graders import judge
    from stretto.evaluation.runner import Contender, play
    from stretto.evaluation.tasks import own_items, reasoning_gym_items
    from stretto.policies.solo import Solo

    async with open_world(settings_of(wanted.config, wanted.data)) as world:

        def judged(worker: str, question: str) -> "Grader":
            world.catalog.resolve(worker)
            return judge(world.engine, worker, lambda answer: question)

        if wanted.path is not None:
            items = own_items(wanted.path, default=wanted.grader, judge=judged)[: wanted.n]
        else:
            items = reasoning_gym_items(wanted.families, wanted.n or 50, wanted.asking.seed)
        cards = [card for card in world.pool.cards() if "text" in card.abilities]
        workers = wanted.workers or tuple(card.id for card in cards)
        solos = [Contender(name, world.catalog.resolve(name), "worker") for name in workers]
        contenders = _contenders(wanted.policies or ("stretto",), world.catalog.resolve, wanted)
        more = (wanted.samples - 1) * len(items)

        async def ask(several: "Sequence[Contender]") -> "dict[str, list[Result]]":
            return await play(
                world.engine,
                world.store,
                world.pool.cards(),
                items,
                several,
                log,
                wanted.asking,
                concurrency=wanted.concurrency,
                tick=tick,
            )

        with progress(len(items) * len(solos + contenders) + more, "evaluating") as tick:
            alone = await ask(solos)
            best = max(alone, key=lambda name: sum(r.score for r in alone[name]))
            again = [Contender(f"{best}#{k}", Solo(best), "worker", k) for k in range(2, wanted.samples + 1)]
            alone |= await ask(again)
            found = await ask(contenders)
        comparison = compare(items, columns_of(items, alone), found, seed=wanted.asking.seed)
    title = wanted.path.name if wanted.path else f"reasoning-gym: {', '.join(wanted.families)}"
    return comparison, _save(wanted, comparison, items, alone | found, title)


def _contenders(names: "Sequence[str]", resolve: Any, wanted: _Wanted) -> "list[Contender]":
    """Policies by name; `NAME@DIAL` sets the dial of one."""
    from stretto.evaluation.runner import Contender

    learned = _learned(wanted.artefact) if wanted.artefact else None
    found = []
    for name in dict.fromkeys(names):
        base, at, dial = name.partition("@")
        try:
            turned = float(dial) if at else None
        except ValueError:
            turned = -1.0
        if turned is not None and not 0 <= turned <= 1:
            raise ConfigError(f'--policy {name}: what follows "@" is the dial, a number from 0 to 1')
        policy: Policy = learned if learned is not None and base == "sequential" else resolve(base)
        found.append(Contender(name, policy, dial=turned))
    return found


def _learned(file: Path) -> "Sequential":
    from stretto import artifacts
    from stretto.policies.sequential import EVIDENCE_SCHEMA, Evidence, Sequential

    return Sequential(Evidence(artifacts.read(file, EVIDENCE_SCHEMA)))


def _save(
    wanted: _Wanted,
    comparison: "Comparison",
    items: "Sequence[Item]",
    results: "Mapping[str, Sequence[Result]]",
    title: str,
) -> list[str]:
    from stretto import __version__
    from stretto.evaluation.report import save

    made = {"stretto": __version__, "seed": wanted.asking.seed, "dial": wanted.asking.dial}
    if wanted.artefact is not None:
        made["artefact"] = wanted.artefact.name
    return save(wanted.out, comparison, items, results, title=title, provenance=made)


def _show(comparison: "Comparison") -> None:
    rows = []
    for r in sorted(comparison.rows, key=lambda r: ("policy", "control", "bound", "worker").index(r.kind)):
        d = r.compared.difference
        gap = f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        cost = "-" if r.compared.cost != r.compared.cost else f"x{r.compared.cost:.2f}"
        rows.append(
            (r.name, r.kind, f"{100 * r.compared.score:.1f}", gap, cost, f"{r.compared.calls:.1f}", r.verdict)
        )
    columns = ("", "kind", "score", "to best single", "cost", "calls", "verdict")
    table(columns, rows, right=("score", "cost", "calls"))
    click.echo(
        f"\n{comparison.n} items; best single worker {comparison.best}, chosen on {comparison.chosen_on}."
    )


@evaluation.command("audit")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-n", "--n", "count", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which are drawn.")
@click.option("--contender", default="", help="Only the answers of this worker or policy.")
@click.option("--wrong/--right", default=None, help="Only what was graded wrong, or right.")
@click.option("--json", "as_json", is_flag=True, help="JSON, for scripts.")
def audit(run: Path, count: int, seed: int, contender: str, wrong: bool | None, as_json: bool) -> None:
    """Show a random sample of grading decisions of the evaluation in folder RUN: question, answer, reference, grade, reason.

    Read them. A grader that is wrong one time in ten moves every figure.
    """
    from dataclasses import asdict

    from stretto.evaluation.report import sample

    found = sample(run, count, seed=seed, contender=contender, wrong=wrong)
    if as_json:
        dump([asdict(one) for one in found])
        return
    for number, one in enumerate(found, 1):
        r = one.result
        click.echo(
            f"{number}. {r.item} {one.task}  {r.contender}  grade {r.score:g} by {one.grader}: {r.why}"
        )
        rows = [("asked", short(one.prompt, 400)), ("reference", short(one.reference, 400))]
        table(("", ""), [*rows, ("answer", short(r.answer or r.error, 400))])
        click.echo()
