"""`stretto`: the list of commands, the settings that all share, and the one place where an error becomes a line of text."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from stretto import __version__
from stretto.errors import StrettoError

__all__ = ["COMMANDS", "main", "stretto"]

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "serve": ("stretto.cli.serve:serve", "Serve the endpoint: OpenAI- and Anthropic-compatible."),
    "ask": ("stretto.cli.ask:ask", "Ask once and print the answer."),
    "plan": ("stretto.cli.plan:plan", "Show who would play and what it would cost; nothing is called."),
    "runs": (
        "stretto.cli.runs:runs",
        "Recorded runs: list, show, verify, replay, resume, reindex, outcomes, erase.",
    ),
    "pool": ("stretto.cli.pool:pool", "The workers of this deployment: list, check."),
    "connect": (
        "stretto.cli.connect.command:connect",
        "Tell codex, claude-code, opencode, aider or llm to ask this gateway.",
    ),
    "keys": ("stretto.cli.keys:keys", "Virtual keys with scopes and ceilings: create, list, revoke."),
    "eval": (
        "stretto.cli.evaluation:evaluation",
        "Compare workers and policies, with a verdict; audit the grading.",
    ),
    "promote": ("stretto.cli.promote:promote", "Let what was learned be served, if the figures allow it."),
    "demote": ("stretto.cli.demote:demote", "Take back what was promoted and does not keep its promise."),
    "drift": ("stretto.cli.drift:drift", "Which worker has silently got worse; leave it out for a while."),
    "train": ("stretto.cli.train:train", "Learn a policy from recorded outcomes: evidence."),
    "merge": ("stretto.cli.merge:merge", "Merge models of one shape into one, by evolution of their shares."),
    "sparring": (
        "stretto.cli.sparring:sparring",
        "The small models that ship with Stretto: list, problems, train, calibrate.",
    ),
}
"""Command -> where it is, and the line that the list of commands shows for it."""


class _Failed(click.ClickException):
    """An error that was foreseen: one line on stderr, exit code 2."""

    exit_code = 2


class _Commands(click.Group):
    """A group whose commands are imported when they are used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name, or an error with the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from stretto.config import near

            hint = near(args[0], COMMANDS) or "."
            ctx.fail(f'There is no command "{args[0]}"{hint} There are: {", ".join(COMMANDS)}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. The boundary: what Stretto could foresee becomes a message, everything else is a defect."""
        try:
            return super().invoke(ctx)
        except StrettoError as error:
            raise _Failed(str(error)) from error
        except OSError as error:  # a file or folder that the caller named, most likely
            if error.filename is None or isinstance(error, BrokenPipeError):
                raise
            raise _Failed(f"{error.filename}: {error.strerror}") from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nFor a start, without any key:\n"
    '  stretto ask "Spell the word planet backward."\n'
    "  stretto serve\n"
    "  stretto runs show\n"
    "  stretto connect\n",
)
@click.version_option(__version__, prog_name="stretto")
def stretto() -> None:
    """One endpoint in front of a pool of language models you own, with a receipt for every call."""


def main() -> None:
    """The entry point of the `stretto` command."""
    try:
        stretto.main(prog_name="stretto")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left, as `head` does: no reason to complain
        sys.exit(0)
