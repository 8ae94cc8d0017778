"""`denoise adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from denoise.errors import printable
from pipelines import report
from pipelines.cli import options

if TYPE_CHECKING:
    from denoise.training.fit import Progress


@click.command()
@click.argument("noisy", type=options.path_type, metavar="NOISY_DIR")
@click.option(
    "--pairs",
    type=options.path_type,
    metavar="CLEAN_DIR",
    help="Clean files of the same names, for training and evaluation.",
)
@click.option(
    "--model", metavar="NAME", help="Model to adapt, or a weights file.  [default: by kind of file]"
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=options.path_type,
    metavar="FILE",
    help="Weights to write, .safetensors.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the recipe, such as fit.steps=500.",
)
def command(
    noisy: Path,
    pairs: Path | None,
    model: str | None,
    output: Path,
    overwrite: bool,
    overrides: tuple[str, ...],
) -> None:
    """Fine-tune a model on your own noisy files, and save it if it cleans held-out files better.

    Training targets are the clean files of --pairs, else repeated shots of one scene in a folder, else the
    noisy files themselves if their noise allows it. Exit code 1 if the model did not improve.

    \b
    Example:
      denoise adapt scans/ -o mine.safetensors
    """
    from denoise.training.adapt import adapt
    from denoise.training.self_supervised import TARGET_METHODS
    from pipelines import curve

    report.check_outputs({output: (".safetensors",)}, (), overwrite)

    def show(progress: Progress) -> None:
        click.echo(curve.line(progress), err=True)

    found = adapt(
        noisy, output, pairs=pairs, model=model, overrides=overrides, overwrite=overwrite, report=show
    )
    for note in found.notes:
        click.echo(printable(f"skipped  {note}"), err=True)
    rows = [["held out", *(f"{value:.2f}" for value in (found.noisy, found.before, found.after))]]
    if found.clean_after is not None:
        rows.append(["clean files, minimum", "", f"{found.clean_before:.2f}", f"{found.clean_after:.2f}"])
    click.echo(f"{TARGET_METHODS[found.way].description}: {found.files} files, {found.held_out} held out")
    click.echo(report.table([found.metric, "as it is", "before", "adapted"], rows))
    click.echo(printable(f"wrote {output}"))
