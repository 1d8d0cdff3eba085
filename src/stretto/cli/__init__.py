"""The command line. Each command lives in a module of its own that is imported only when the command is used."""

from stretto.cli.main import main

__all__ = ["main"]
