"""`denoise models`."""

from __future__ import annotations

import json

import click

from pipelines import report

__all__ = ["command"]


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the models, or show what is known of one.

    \b
    Example:
      denoise models show photo
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models)


@command.command("list")
def list_models() -> None:
    """List every model with what it cleans.

    \b
    Example:
      denoise models list
    """
    from pipelines.catalogue import catalogue

    rows = [
        [row.name, ", ".join(row.modalities), row.kind, f"{row.size_bytes / 1e6:.2f} MB" if row.path else "-"]
        for row in catalogue()
    ]
    click.echo(report.table(["model", "cleans", "kind", "size"], rows, words=3))


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the card of one model: NAME, or a weights file.

    \b
    Example:
      denoise models show photo
    """
    from pipelines.catalogue import find

    row = find(name)
    facts = {
        "name": row.name,
        "cleans": list(row.modalities),
        "kind": row.kind,
        "bytes": row.size_bytes,
        "digest": row.digest,
        **row.card,
    }
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
