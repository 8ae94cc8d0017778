"""`denoise train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from denoise.errors import printable
from pipelines import report
from pipelines.cli import options

if TYPE_CHECKING:
    from denoise.training.fit import Progress


@click.command()
@click.argument("recipe")
@click.option(
    "--data",
    "folders",
    required=True,
    multiple=True,
    metavar="DIR[:ODDS]",
    help="Folder of clean files; repeat it for several, with the odds of each [default: 1].",
)
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
@click.option("--overwrite", is_flag=True, help="Start anew, and replace the weights and the checkpoint.")
@click.option("--resume", is_flag=True, hidden=True, help="Changes nothing: a run continues by itself.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
def command(
    recipe: str,
    folders: tuple[str, ...],
    validate: Path | None,
    output: Path,
    overwrite: bool,
    resume: bool,  # noqa: ARG001
    overrides: tuple[str, ...],
) -> None:
    """Train a model by RECIPE: the name of a shipped one, or a TOML file.

    The training curve is written beside the weights, as CSV and PNG. An interrupted run continues from its
    checkpoint.

    \b
    Example:
      denoise train photo --data photos/ --validate held-out/ -o mine.safetensors --set fit.batch=16
    """
    from denoise.training import recipe as recipes
    from denoise.training.fit import fit
    from pipelines import curve

    going_on = output.with_suffix(".checkpoint").exists()
    report.check_outputs({output: (".safetensors",)}, (), overwrite or going_on)
    curve.check(output)

    def show(progress: Progress) -> None:
        click.echo(curve.line(progress), err=True)
        if progress.curve:
            curve.write(progress.curve, output)

    data = dict(map(_with_odds, folders))
    card = fit(recipes.load(recipe, overrides), data, validate, output, resume=not overwrite, report=show)
    for sentence in card["training"]["skipped"]:
        click.echo(printable(f"not used: {sentence}"), err=True)
    click.echo(printable(f"wrote {output}"))


def _with_odds(text: str) -> tuple[Path, float]:
    """Split `DIR:ODDS`; a folder may have a colon in its name."""
    folder, separator, odds = text.rpartition(":")
    if separator and not Path(text).exists():
        try:
            if 0.0 < (value := float(odds)) < math.inf:
                return Path(folder), value
        except ValueError:
            pass
        raise click.BadParameter(f"{text!r}: expected a folder, or DIR:ODDS with odds above 0")
    return Path(text), 1.0
