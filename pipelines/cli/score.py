"""`denoise score`."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines import report
from pipelines.cli import options


@click.command()
@click.argument("reference", type=options.path_type)
@click.argument("estimate", type=options.path_type)
@click.option(
    "--metric", "extra", multiple=True, metavar="NAME", help="One more metric, such as pesq or estoi."
)
@options.json_option
@options.html_option
def command(
    reference: Path, estimate: Path, extra: tuple[str, ...], json_path: Path | None, report_path: Path | None
) -> None:
    """Measure ESTIMATE against REFERENCE: two files, or two folders paired by relative path.

    \b
    Example:
      denoise score originals/ cleaned/ --json scores.json
    """
    from pipelines.score import score
    from pipelines.view.reports import scores_page

    scores = score(reference, estimate, extra)
    options.say(report.scores(scores), json_path, report_path)
    if json_path:
        report.write_json(json_path, scores.as_dict())
    options.write_page(report_path, lambda: scores_page(scores))
    options.exit_if(scores.failed)
