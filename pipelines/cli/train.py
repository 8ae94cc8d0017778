"""`denoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from denoise.errors import printable
from pipelines.cli import options

if TYPE_CHECKING:
    from denoise.training.fit import Progress

__all__ = ["command"]


@click.command()
@click.argument("recipe")
@click.option("--data", required=True, type=options.path_type, metavar="DIR", help="Folder of clean files.")
@click.option(
    "--validate",
    type=options.path_type,
    metavar="DIR",
    help="Held-out clean files, or clean/ and noisy/ pairs: measured while training.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=options.path_type,
    metavar="FILE",
    help="Weights to write, .safetensors.",
)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint of an interrupted run.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
def command(
    recipe: str, data: Path, validate: Path | None, output: Path, resume: bool, overrides: tuple[str, ...]
) -> None:
    """Train a model by RECIPE: the name of a shipped one, or a TOML file.

    The training curve is written beside the weights, as CSV and PNG.

    \b
    Example:
      denoise train photo --data photos/ --validate held-out/ -o mine.safetensors --set fit.batch=16
    """
    from denoise.training import recipe as recipes
    from denoise.training.fit import fit
    from pipelines import curve

    def show(progress: Progress) -> None:
        click.echo(curve.line(progress), err=True)
        if progress.curve:
            curve.write(progress.curve, output)

    fit(recipes.load(recipe, overrides), data, validate, output, resume=resume, report=show)
    click.echo(printable(f"wrote {output}"))
