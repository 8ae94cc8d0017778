"""The command line: one module a command, from options to one library call to its output."""

from pipelines.cli.start import main

__all__ = ["main"]
