"""`denoise completion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

VARIABLE = "_DENOISE_COMPLETE"  # set by the shell while it completes
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, models and noises in a SHELL.

    Bash: eval "$(denoise completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: into
    ~/.config/fish/completions/denoise.fish.

    \b
    Example:
      denoise completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "denoise", VARIABLE)
    click.echo(ShellComplete.source(made))  # that of bash starts bash to ask for its version


def complete(name: str) -> Complete | None:
    """Completion of an option by its name; None if its type knows best."""
    known = {
        "model": (_models, ","),
        "models": (_models, ","),
        "noise": (_noises, "+"),
        "metric": (_metrics, ","),
        "extra": (_metrics, ","),
    }
    if name not in known:
        return None
    names, separator = known[name]
    return lambda _ctx, _parameter, typed: _matches(names(), typed, separator)


def complete_model(_ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete the name of a model."""
    return _matches(_models(), typed, ",")


def _matches(names: Iterable[str], typed: str, separator: str) -> list[CompletionItem]:
    """Names that continue the last part of what is typed."""
    head, mark, tail = typed.rpartition(separator)
    return [CompletionItem(head + mark + name) for name in names if name.startswith(tail)]


def _models() -> list[str]:
    from denoise.infer.catalogue import catalogue

    return [row.name for row in catalogue()]


def _noises() -> list[str]:
    from denoise.corruptions.spec import CORRUPTIONS

    return list(CORRUPTIONS)


def _metrics() -> list[str]:
    from denoise.metrics import METRICS

    return list(METRICS)
