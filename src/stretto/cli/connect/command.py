"""`stretto connect`: point a coding agent at this gateway, and back."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from stretto.cli.connect.gateway import Gateway, configured, served, with_choice
from stretto.cli.connect.record import Change, Record
from stretto.cli.connect.tools import TOOLS, Home, Tool
from stretto.cli.options import folder_options, settings_of
from stretto.cli.terminal import columns
from stretto.config import near

__all__ = ["connect"]

_SHOWN: Final = 40
_WIDE: Final = 160
"""Lines of a new file, and characters of each, that are shown unasked."""


@click.command(
    epilog="\b\nExamples:\n"
    "  stretto connect                                 which programs there are, and which are connected\n"
    "  stretto connect codex                           show what would be written, the beginning of long files\n"
    "  stretto connect codex --write\n"
    "  stretto connect claude-code --model stretto-ultra --small stretto --write\n"
    "  stretto connect aider --url https://stretto.example/v1 --key-env TEAM_KEY --write\n"
    "  stretto connect codex --undo\n"
)
@click.argument("tool", required=False)
@click.option("--write", "mode", flag_value="write", help="Write it, each file after a backup of it.")
@click.option(
    "--print", "mode", flag_value="print", default="", help="Only show what would be written, all of it."
)
@click.option("--undo", "mode", flag_value="undo", help="Take back what was written.")
@click.option("--model", default="stretto", show_default=True, help="The name that the program asks for.")
@click.option("--small", help="The name for its small tasks, such as titles; default the same.")
@click.option("--url", help="Address of a gateway that runs; default where the configuration says.")
@click.option("--key-env", metavar="NAME", help="Environment variable with the gateway's key (STRETTO_KEY).")
@folder_options
def connect(
    tool: str | None,
    mode: str,
    model: str,
    small: str | None,
    url: str | None,
    key_env: str | None,
    config: Path | None,
    data: Path | None,
) -> None:
    """Tell TOOL (codex, claude-code, opencode, aider, llm) to ask this gateway. Keys are never written, only their variable."""
    record = Record(settings_of(config, data).data)
    if tool is None:
        _list(record)
        return
    if tool not in TOOLS:
        raise click.UsageError(
            f'There is no tool "{tool}"{near(tool, TOOLS) or "."} There are: {", ".join(TOOLS)}.'
        )
    if mode == "undo":
        _tell_undone(record.undo(tool))
        return
    found = served(url, key_env, os.environ) if url else configured(config, data, key_env)
    gateway = with_choice(found, model, small)
    edits = TOOLS[tool].edits(gateway, Home(Path.home(), os.environ))
    if mode == "write":
        _tell_written(TOOLS[tool], gateway, record.write(tool, edits))
    else:
        _show(record.plan(tool, edits), whole=bool(mode))
        if not mode:
            click.echo(f"Nothing is written yet. To write it: stretto connect {tool} --write", err=True)
    _warn(TOOLS[tool], gateway)


def _list(record: Record) -> None:
    rows = [
        ("", tool.name, tool.about, "connected" if record.has(tool.name) else "-") for tool in TOOLS.values()
    ]
    click.echo("\n".join(columns(rows)))


def _show(changes: Sequence[Change], *, whole: bool) -> None:
    """New files, and what changes in others; without `whole` the beginning of what is long (Codex's catalogue is)."""
    for change in changes:
        if change.same:
            click.echo(f"# {change.path}: nothing changes")
        elif change.before is None:
            text = change.after or ""
            click.echo(f"# {change.path}: new\n{text if whole else _beginning(text)}")
        else:
            lines = difflib.unified_diff(
                change.before.splitlines(),
                (change.after or "").splitlines(),
                "as it is",
                "as it would be",
                lineterm="",
            )
            click.echo("\n".join((f"# {change.path}: changed", *lines)))


def _beginning(text: str) -> str:
    lines = text.splitlines()
    cut = [line if len(line) <= _WIDE else line[:_WIDE] + "…" for line in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        cut.append(f"... {len(lines) - _SHOWN} more lines; --print shows all")
    return "\n".join((*cut, ""))


def _tell_written(tool: Tool, gateway: Gateway, changes: Sequence[Change]) -> None:
    for change in changes:
        if change.same:
            click.echo(f"{change.path}: nothing to change")
        elif change.after is None:
            click.echo(f"{change.path}: removed")
        else:
            kept = f" (as it was: {change.backup.name})" if change.backup else ""
            click.echo(f"{change.path}: written{kept}")
    if gateway.key and not os.environ.get(gateway.key):
        click.echo(f"Before you start it: export {gateway.key}=sk-stretto-...", err=True)
    click.echo("Try it:")
    for line in tool.then(gateway):
        click.echo(f"  {line}")


def _tell_undone(changes: Sequence[Change]) -> None:
    for change in changes:
        done = (
            "was gone already"
            if change.before is None
            else "removed"
            if change.after is None
            else "as it was"
        )
        kept = f" (changed since; the backup stays: {change.backup.name})" if change.backup else ""
        click.echo(f"{change.path}: {done}{kept}")


def _warn(tool: Tool, gateway: Gateway) -> None:
    """What will not work."""
    chosen = gateway.chosen
    if tool.needs_tools and "tools" not in chosen.abilities:
        click.echo(
            f"{tool.name} works by tool calls, and no worker behind {chosen.id} has the ability `tools`: its requests will be "
            "refused. Add a worker that has it, or name another model with --model.",
            err=True,
        )
    elif tool.needs_tools and chosen.context is not None and chosen.context < 16_000:
        click.echo(
            f"{chosen.id} holds {chosen.context} tokens; the instructions of {tool.name} alone may be longer.",
            err=True,
        )
