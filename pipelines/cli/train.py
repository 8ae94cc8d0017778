"""`denoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli import options

if TYPE_CHECKING:
    from denoise.train import Progress

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
    "-o", "--output", required=True, type=options.path_type, metavar="FILE", help="The weights, .safetensors."
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an interrupted run.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
def command(
    recipe: str, data: Path, validate: Path | None, output: Path, resume: bool, overrides: tuple[str, ...]
) -> None:
    """Train a model by RECIPE, a shipped one's name or a TOML file.

    \b
    Example:
      denoise train photo --data photos/ --validate held-out/ -o mine.safetensors --set fit.steps=2000
    """
    from denoise import recipe as recipes
    from denoise.train import fit

    fit(recipes.load(recipe, overrides), data, validate, output, resume=resume, report=_show)
    click.echo(f"wrote {output}")


def _show(progress: Progress) -> None:
    done, rate = f"step {progress.step}/{progress.steps}", f"{progress.samples_per_s:.0f} samples/s"
    line = f"{done}  loss {progress.loss:.3g}  {rate}"
    if progress.value is not None:
        line += f"  {progress.metric} {progress.value:.2f} (noisy {progress.before:.2f})"
    click.echo(line, err=True)
