"""Format benchmark results as text, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from denoise.metrics import finite_mean, reported
from denoise.signal import MODALITIES
from pipelines.benchmark.protocols import CLEAN, Protocol
from pipelines.benchmark.run import WORSE_DB, BenchmarkRow, FileCase, RealRow
from pipelines.benchmark.significance import Comparison
from pipelines.benchmark.titles import COSTS, SHORT_COSTS, noise_title
from pipelines.report import files as count
from pipelines.report import markdown, table
from pipelines.view.reports import metric_title

_ENOUGH_FILES = 10  # of fewer, drawn anew, the spread is that of too few values
_LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {letter: f"\\{letter}" for letter in "&%$#_{}"}
)


@dataclass(frozen=True)
class Table:
    """Lines of cells below a header, with a title."""

    title: str
    header: list[str]
    lines: list[list[str]]
    words: int = 1  # columns of words, which come first

    def __post_init__(self) -> None:
        for line in self.lines:
            line += [""] * (len(self.header) - len(line))


def as_text(shown: Iterable[Table]) -> str:
    """Format tables for a terminal, with aligned columns."""
    return "\n\n".join(f"{one.title}\n{table(one.header, one.lines, words=one.words)}" for one in shown)


def as_markdown(shown: Iterable[Table]) -> str:
    """Format tables for documents."""
    return "\n".join(f"{one.title}\n\n{markdown(one.header, one.lines, words=one.words)}\n" for one in shown)


def as_latex(shown: Iterable[Table]) -> str:
    """Format tables for papers; they need the package booktabs."""

    def line(cells: Iterable[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells)

    return "\n".join(
        "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{line([one.title])}}}",
                rf"\begin{{tabular}}{{{'l' * one.words}{'r' * (len(one.header) - one.words)}}}",
                r"\toprule",
                rf"{line(one.header)} \\",
                r"\midrule",
                *(rf"{line(cells)} \\" for cells in one.lines),
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )
        for one in shown
    )


def tables(
    rows: Sequence[BenchmarkRow], protocol: Protocol | None, compared: Sequence[Comparison]
) -> list[Table]:
    """Tables of a benchmark: the gains of a protocol, else two per modality; of real pairs three."""
    if protocol:
        return [_gains(rows, protocol)] if rows else []
    shown = []
    for modality, found in _grouped(rows, "modality").items():
        real = [row for row in found if isinstance(row, RealRow)]
        shown += [_real(real), _decisions(real)] if real else [_levels(found)]
        shown += _compared([one for one in compared if one.modality == modality])
    return shown


def _compared(found: Sequence[Comparison]) -> list[Table]:
    """One line per noise and model: mean gain and difference to the first model, with their uncertainty."""
    if not any(one.interval for one in found):
        return []
    lines = []
    for place, one in enumerate(found):
        repeated = place and one.noise == found[place - 1].noise
        line = [
            "" if repeated else noise_title(one.noise),
            one.model,
            _figure(one.gain, "+.2f"),
            _range(one.interval),
        ]
        line += [_figure(one.difference, "+.2f") if one.against else "", _range(one.difference_interval)]
        p_value = one.p_value
        line += ["" if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"]
        lines.append(line)
    few = f", too narrow for fewer than {_ENOUGH_FILES}" if found[0].files < _ENOUGH_FILES else ""
    title = f"{found[0].modality}: mean gain and 95 % interval over {count(found[0].files)}{few}"
    header = ["noise", "model", "gain", "95 %", f"to {found[0].model}", "95 %", "p"]
    width = max(place for line in lines for place, cell in enumerate(line, 1) if cell)
    return [Table(title, header[:width], [line[:width] for line in lines], words=2)]


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _real(rows: Sequence[RealRow]) -> Table:
    """One line per model: the metric of input and output, and the distribution of the gains."""
    headline = MODALITIES[rows[0].modality].headline
    header = ["model", "input", "output", "gain", "median", "worst", f"worse by > {WORSE_DB} dB"]
    usual = reported(rows[0].modality)
    extra = [name for name in rows[0].metrics if name not in usual]
    estimates = ["noise level off by"] if any(row.sigma_error is not None for row in rows) else []
    lines = [
        [
            row.model,
            _figure(row.noisy_headline),
            _figure(row.headline),
            *(_figure(gain, "+.2f") for gain in (row.gain, row.median_gain, row.worst_gain)),
            f"{100 * row.worse_share:.1f} %",
            *(f"{_figure(row.noisy_metrics[name])} -> {_figure(row.metrics[name])}" for name in extra),
            *(_figure(row.sigma_error) for _ in estimates),
            *(f"{value:.3g}" for value in row.cost.values()),
        ]
        for row in rows
    ]
    title = f"{rows[0].modality}, real pairs: {metric_title(headline)}, {count(rows[0].files)}"
    titles = [metric_title(name) for name in extra]
    return Table(title, [*header, *titles, *estimates, *map(SHORT_COSTS.__getitem__, rows[0].cost)], lines)


def _decisions(rows: Sequence[RealRow]) -> Table:
    """One line per model and decision, and one per model that was tried and dropped."""
    lines = []
    for row in rows:
        for name, files in row.decisions.items():
            cases = [case for case in row.cases if case.model == name]
            worst = min(cases, key=lambda case: case.gain)
            gains = (finite_mean(case.gain for case in cases), worst.gain)
            lines.append([row.model, name, str(files), *(_figure(gain, "+.2f") for gain in gains), worst.key])
        lines += [[row.model, f"{name} dropped", str(files)] for name, files in row.dropped.items()]
    filled = [[*line, *[""] * (6 - len(line))] for line in lines]
    return Table("decisions", ["model", "used", "files", "gain", "worst", "worst file"], filled, words=2)


def _levels(rows: Sequence[BenchmarkRow]) -> Table:
    """One line per model: for each level the headline metric and its gain."""
    by_model = _grouped(rows, "model")
    first = {row.noise: row for row in next(iter(by_model.values()))}
    noises = list(dict.fromkeys(row.noise for row in rows))
    headline = metric_title(MODALITIES[rows[0].modality].headline)
    kinds = {noise.partition(":")[0] for noise in noises}
    kind = f"{kinds.pop()}:" if len(kinds) == 1 < len(noises) else ""  # is said once, in the title
    noisy = [cell for noise in noises for cell in (_figure(first[noise].noisy_headline), "")]
    return Table(
        f"{rows[0].modality}{kind and ', '}{kind[:-1]}: {headline}, {count(rows[0].files)}",
        [
            "model",
            *(cell for noise in noises for cell in (noise_title(noise.removeprefix(kind)), "gain")),
            *map(SHORT_COSTS.__getitem__, rows[0].cost),
        ],
        [
            ["(noisy)", *noisy],
            *([model, *_line(found)] for model, found in by_model.items()),
        ],
    )


def _line(rows: Sequence[BenchmarkRow]) -> list[str]:
    cells = [cell for row in rows for cell in (_figure(row.headline), _figure(row.gain, "+.2f"))]
    return cells + [f"{finite_mean(row.cost[name] for row in rows):.3g}" for name in rows[0].cost]


def _gains(rows: Sequence[BenchmarkRow], protocol: Protocol) -> Table:
    """One line per condition: the metric of the input, and the gain (clean files: fidelity) of each model."""
    by_model = _grouped(rows, "model")
    models = list(by_model)
    lines = []
    for group, swept in _grouped(rows, "group").items():
        for noise, found in _grouped(swept, "noise").items():
            level = "" if found[0].level is None else f"{found[0].level:g}"
            cells = (_fidelity if noise == CLEAN else _gain)(found, models)
            lines.append([group, level, *cells])
        if protocol.means and found[0].level is not None:
            lines.append([group, "mean", *_gain(swept, models)])
    for then in filter(None, protocol.then if protocol.means else ()):
        swept = [row for row in rows if row.group.endswith(then)]
        lines.append([f"all + {then}", "mean", *_gain(swept, models)])
    unit = _COSTS[protocol.modality]
    costs = [f"{finite_mean(row.cost[unit] for row in by_model[model]):.2g}" for model in models]
    ratio = MODALITIES[protocol.modality].headline.removesuffix("_db").upper()
    most = " (60 if unchanged)" if protocol.modality == "sensor" else ""
    clean = f"; of `{CLEAN}` the {ratio} of the output{most}" if CLEAN in protocol.sweeps else ""
    families = {family for row in rows for family in row.families}
    over = f"; means over {len(families)} families" if families else ""
    return Table(
        f"gain in {ratio}, dB, {count(max(row.files for row in rows))}{over}{clean}",
        ["degradation", "level", "input", *models],
        [*lines, *_harm(by_model), [COSTS[unit], "", "", *costs]],
    )


_COSTS = {"image": "s_per_mpx", "sensor": "s_per_msample"}
_WORSE_DB = 0.5


def _harm(by_model: Mapping[str, list[BenchmarkRow]]) -> list[list[str]]:
    """Share of sensor cases that became worse, and the worst case."""
    gains = [
        [gain for row in rows for found in row.families.values() for gain in found]
        for rows in by_model.values()
    ]
    if not any(gains):
        return []
    worse = [100.0 * float(np.mean([gain < -_WORSE_DB for gain in found])) for found in gains]
    return [
        [f"worse by > {_WORSE_DB} dB", "", "", *(f"{share:.1f} %" for share in worse)],
        ["worst case", "", "", *(f"{min(found):+.2f}" for found in gains)],
    ]


def _gain(rows: Sequence[BenchmarkRow], models: Iterable[str]) -> list[str]:
    by_model = _grouped(rows, "model")
    noisy = finite_mean(row.noisy_headline for row in rows)
    return [_figure(noisy), *(_figure(finite_mean(row.gain for row in by_model[m]), "+.2f") for m in models)]


def _fidelity(rows: Sequence[BenchmarkRow], models: Iterable[str]) -> list[str]:
    by_model = {row.model: row for row in rows}
    found = (by_model[model] for model in models)
    return ["", *("same" if r.headline is None else _figure(r.fidelity or r.headline) for r in found)]


def _grouped(rows: Iterable[BenchmarkRow], field: str) -> dict[str, list[BenchmarkRow]]:
    groups: dict[str, list[BenchmarkRow]] = {}
    for row in rows:
        groups.setdefault(getattr(row, field), []).append(row)
    return groups


def _figure(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(round(value, 2) + 0.0, form)  # + 0.0 turns -0.00 into 0.00


def as_csv(rows: Sequence[BenchmarkRow]) -> str:
    """One line per row; noisy metrics are prefixed `noisy_`."""
    return _csv(
        {
            **{name: getattr(row, name) for name in ("model", "modality", "noise", "level", "files")},
            **_metrics(row),
            **row.cost,
        }
        for row in rows
    )


def cases_csv(rows: Sequence[BenchmarkRow]) -> str:
    """One line per file, noise drawn for it, and model."""
    return _csv(
        {
            **{name: getattr(row, name) for name in ("model", "modality", "noise", "level")},
            "file": case.key,
            "seed": case.seed,
            **_metrics(case),
            "used": case.model,
        }
        for row in rows
        for case in row.cases
    )


def _metrics(found: BenchmarkRow | FileCase) -> dict[str, float | None]:
    return {**found.metrics, **{f"noisy_{name}": value for name, value in found.noisy_metrics.items()}}


def _csv(rows: Iterable[Mapping[str, object]]) -> str:
    lines = list(rows)
    text = io.StringIO(newline="")
    header = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(text, list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
