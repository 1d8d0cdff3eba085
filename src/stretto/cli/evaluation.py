"""`stretto eval`: on recorded outcomes, tasks of one's own, reasoning-gym, or the sparring problems; and `eval audit`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from stretto.cli.comparing import Wanted, evaluated
from stretto.cli.options import folder_options, json_option, usd_option, writable
from stretto.cli.terminal import dump, short, table

__all__ = ["evaluation"]

_FITS: Final[Mapping[str, tuple[str, ...]]] = {
    "workers": ("recorded", "tasks", "families"),
    "artefact": ("recorded", "tasks", "families", "sparring"),
    "split": ("recorded",),
    "grader": ("tasks",),
    "samples": ("tasks", "families", "sparring"),
    "sets": ("sparring",),
    "pool": ("sparring",),
    "url": ("sparring",),
    "key": ("sparring",),
}
"""What each option that is not for everything is for."""

_LOCAL: Final = (
    "pool",
    "artefact",
    "samples",
    "dial",
    "temperature",
    "max_tokens",
    "limit_usd",
    "config",
    "data",
)
"""What does not go with a gateway that answers: it has its own pool and settings."""


@click.group(
    "eval",
    invoke_without_command=True,
    epilog="\b\nExamples:\n  stretto eval --tasks mine.jsonl --policy stretto,route\n"
    "  stretto eval --recorded outcomes/ --policy sequential@0.2,sequential@0.8 --artefact evidence.json\n"
    "  stretto eval --sparring -n 200 --set mix\n  stretto eval --sparring --policy trinity,conductor --artefact trained/\n"
    "  stretto eval --sparring --pool dominated\n  stretto eval --sparring --url http://127.0.0.1:8700/v1\n"
    "  stretto eval audit evaluation\n",
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
@click.option(
    "-n",
    "--n",
    "count",
    type=click.IntRange(2),
    help="Items; of sparring problems 600, of a gym family 50, else all.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the problems and of every draw.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    help="A policy to compare, NAME or NAME@DIAL; several, or with commas.",
)
@click.option("--worker", "workers", multiple=True, help="Only these workers; default all.")
@click.option(
    "--split",
    type=click.Choice(("dev", "test")),
    help="Report the recorded items of this split only; default all but `train`.",
)
@click.option(
    "--artefact",
    type=click.Path(path_type=Path),
    help="What was learned: a file (of `train evidence`: the policy `sequential`), or a folder of artefacts.",
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
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("evaluation"),
    show_default=True,
    help="Where the report and every answer go.",
)
@click.option("--retry-errors", is_flag=True, help="Ask anew where an earlier run got no answer.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--set",
    "sets",
    multiple=True,
    default=("simple",),
    show_default=True,
    help="Sparring problems: simple, handovers, composite, triples, pairs, wordings, mix; several take turns.",
)
@click.option(
    "--pool", "pool", help="Some sparring workers and families only: `dominated`, or a file in TOML."
)
@click.option(
    "--url", help="Let a running gateway answer the sparring problems, such as http://127.0.0.1:8700/v1."
)
@click.option("--key", envvar="STRETTO_KEY", default="", help="The key for --url (environment STRETTO_KEY).")
@json_option
@folder_options
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
    flag = "gym" if source == "families" else source
    _refuse(ctx, [name for name, fits in _FITS.items() if source not in fits], f"--{flag}")
    if options["url"]:
        _refuse(ctx, _LOCAL, "--url")
    wanted = _wanted(source, options)
    writable(wanted.out / "report.html")
    if not options["url"]:
        evaluated(wanted, options["as_json"])
        return
    from stretto.cli.remote_sparring import evaluated_remotely

    evaluated_remotely(
        options["url"],
        options["key"],
        wanted.policies or ("route", "cascade", "fuse"),
        wanted.sets,
        wanted.n or 600,
        wanted.asking.seed,
        wanted.out,
        wanted.concurrency,
        options["as_json"],
    )


def _refuse(ctx: click.Context, names: Iterable[str], what: str) -> None:
    """Raises `UsageError` if one of these options was given on the command line."""
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = next(max(p.opts, key=len) for p in ctx.command.get_params(ctx) if p.name == name)
            raise click.UsageError(f"{flag} does not go with {what}")


def _wanted(source: str, options: Mapping[str, Any]) -> Wanted:
    from stretto.evaluation.runner import Asking
    from stretto.evaluation.sets import sets_named

    temperature = options["temperature"]
    if temperature is None and source == "sparring":
        temperature = 0.0  # the shipped figures are of greedy answers
    asking = Asking(
        seed=options["seed"],
        dial=options["dial"],
        params={} if temperature is None else {"temperature": temperature},
        max_tokens=options["max_tokens"],
        usd=options["limit_usd"],
    )
    return Wanted(
        source,
        options[source] if source in ("recorded", "tasks") else None,
        options["families"],
        options["count"],
        tuple(name.strip() for given in options["policies"] for name in given.split(",")),
        tuple(name.strip() for given in options["workers"] for name in given.split(",")),
        options["artefact"],
        options["samples"],
        options["grader"],
        options["out"],
        options["concurrency"],
        asking,
        options["config"],
        options["data"],
        sets_named(options["sets"]),
        options["pool"],
        options["retry_errors"],
        options["split"] or "",
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
