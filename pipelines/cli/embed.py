"""`denoise embed`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoise.errors import counted
from pipelines import report
from pipelines.batch.forecast import bytes_text
from pipelines.cli import options
from pipelines.explore.jobs import EmbedJob

if TYPE_CHECKING:
    from pipelines.explore.embed import EmbedResult


_MOST_NOTES = 5


@click.command()
@options.inputs
@options.flags(EmbedJob)
@options.html_option
def command(report_path: Path | None, **settings: Any) -> None:
    """Compute a small code for each picture, or each window of recordings and sensor logs.

    The report is a map: similar files are near each other, and named where the pointer rests.

    \b
    Example:
      denoise embed holiday/ -o codes.npz --pretrained photo --report map.html
    """
    from pipelines.explore.embed import embed
    from pipelines.explore.page import embed_page

    job = EmbedJob(**settings)
    if job.model:
        options.refuse("with --model", "code_size", "steps", "window", "seed")
    if job.pretrained:
        options.refuse("with --pretrained", "code_size", "steps", "seed")
    done = embed(job)
    options.say_sentences(_lines(done, job.output), report_path)
    options.write_page(report_path, lambda: embed_page(done, job.projection))
    options.report_failures(done.files.problems)


def _lines(done: EmbedResult, output: Path) -> Iterator[str]:
    cut = done.cut
    unit = "px" if cut.modality == "image" else "samples"
    size = f"{' x '.join(map(str, cut.size))} {unit}"
    codes = f"{counted(done.count, 'code')} of {counted(done.code_size, 'number')}"
    yield f"{cut.modality}: {report.files(len(done.codes))}, {codes}"
    yield f"one code per picture, resized to {size}" if cut.whole else f"one code per {size}"
    yield from report.ignored_lines(done.files.ignored)
    if done.left_out:
        yield f"left out, because they hold gaps: {done.left_out}"
    yield from done.notes[:_MOST_NOTES]
    if (more := len(done.notes) - _MOST_NOTES) > 0:
        yield f"and {counted(more, 'more such note')}"
    if done.snr_db == done.snr_db:  # codes of --pretrained are not decoded
        source = f"model fitted on {counted(done.n_train, 'window')}" if done.n_train else "given model"
        yield f"{source}; SNR of the reconstruction: {done.snr_db:.1f} dB"
    yield f"{output}: {bytes_text(done.bytes_written)}"
