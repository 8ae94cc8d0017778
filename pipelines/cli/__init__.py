"""The command line: one module a command, from options to one library call to its output."""

from pipelines.cli.group import COMMANDS, cli, main

__all__ = ["COMMANDS", "cli", "main"]
