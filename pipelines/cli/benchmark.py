"""`denoise benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from denoise.errors import printable
from pipelines import report
from pipelines.benchmark import protocols
from pipelines.benchmark.job import BenchmarkJob
from pipelines.cli import options


@click.command()
@options.inputs
@options.flags(BenchmarkJob)
@options.json_option
@options.html_option
@options.report_option("--csv", "csv_path", "CSV", "FILE", "Write the rows as CSV.")
@options.report_option(
    "--cases", "cases_path", "CSV", "FILE", "Write a row per file, noise drawn for it, and model, as CSV."
)
@options.report_option(
    "--plot", "plot_path", "picture", "FILE.pdf", "Draw metric over level, and quality against cost."
)
@options.report_option(
    "--markdown", "markdown_path", "Markdown", "FILE.md", "Write the table for a document."
)
@options.report_option("--latex", "latex_path", "LaTeX", "FILE.tex", "Write the tables for a paper.")
@options.report_option(
    "--contact-sheet",
    "sheet_path",
    "picture",
    "FILE.png",
    "Show crops of the first images: clean, input, models, what was removed.",
)
def command(
    json_path: Path | None,
    report_path: Path | None,
    csv_path: Path | None,
    cases_path: Path | None,
    plot_path: Path | None,
    markdown_path: Path | None,
    latex_path: Path | None,
    sheet_path: Path | None,
    **settings: Any,
) -> None:
    """Compare models on clean files: corrupt, clean, measure. Two runs agree in all but time.

    With --protocol real the inputs are pairs of noisy and clean files (a_noisy.jpg and a_clean.jpg, or
    noisy/a.jpg and clean/a.jpg), and nothing is added: denoise benchmark pairs/ --protocol real

    With --protocol anomalies they are labelled tables (.npz with X and y, 1 for an anomaly), and --models are
    detectors: denoise, knn, lof, mahalanobis, one-class-svm, isolation-forest, pca. With --protocol events
    they are logs with a column "label", 1 during events, and detectors of rows: denoise, deviation, random

    \b
    Example:
      denoise benchmark photos/ --noise gaussian --levels 15,25,50 --models photo,nlm,wavelet,none
    """
    from pipelines.benchmark import detection, events, figures, peers
    from pipelines.benchmark import run as benchmark
    from pipelines.benchmark import tables as comparison
    from pipelines.benchmark.contact_sheet import ContactSheet
    from pipelines.benchmark.page import benchmark_page
    from pipelines.benchmark.significance import Comparison, comparisons

    job = BenchmarkJob(**settings)
    texts = json_path, report_path, csv_path, cases_path, markdown_path, latex_path
    compared: list[Comparison] = []
    measured: benchmark.BenchmarkResult | detection.DetectionResult | events.EventResult
    if job.protocol in (protocols.ANOMALIES, protocols.EVENTS):
        not_here = ("levels", "seeds", "peers", "cases_path", "plot_path", "sheet_path", "report_path")
        options.refuse(f"with --protocol {job.protocol}", "noise", *not_here)
        detected = (detection if job.protocol == protocols.ANOMALIES else events).compare(job)
        measured, shown, rows_csv = detected, detected.tables(), detected.as_csv()
    else:
        if plot_path:
            figures.check_plot(plot_path)
        sheet = ContactSheet(sheet_path) if sheet_path else None
        measured = benchmark.benchmark(job, sheet)
        compared = comparisons(measured.rows)
        protocol = protocols.find(job.protocol) if job.protocol else None
        shown = comparison.tables(measured.rows, protocol, compared)
        rows_csv = comparison.as_csv(measured.rows)
        if plot_path:
            figures.plot(measured.rows, compared, plot_path)
        if cases_path:
            report.write_text(cases_path, comparison.cases_csv(measured.rows))
        if sheet:
            sheet.write()
        rows, problems = measured.rows, measured.problems
        options.write_page(report_path, lambda: benchmark_page(rows, problems))
    options.say(comparison.as_text(shown), *texts)
    if job.peers and (packages := peers.missing()):
        click.echo(f"Peers that are not installed: {', '.join(packages)}", err=True)
    for problem in measured.problems:
        options.say(printable(f"Failed: {problem.error}"), *texts)
    if measured.ignored:
        number = report.files(len(measured.ignored))
        options.say(f"Ignored, the noise or the models are not for them: {number}", *texts)
    if json_path:
        found = {"rows": [row.as_dict() for row in measured.rows]}
        report.write_json(json_path, found | {"comparisons": [one._asdict() for one in compared]})
    if csv_path:
        report.write_text(csv_path, rows_csv)
    if markdown_path:
        report.write_text(markdown_path, comparison.as_markdown(shown))
    if latex_path:
        report.write_text(latex_path, comparison.as_latex(shown))
    options.exit_if(measured.problems)
