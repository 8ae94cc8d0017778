"""Measure the cost of models: arithmetic, seconds, and use of this machine.

Seconds alone mean little on another machine, or beside another program. So all models are timed in turns with
a large matrix product and two published network shapes: their ratios are stable.
"""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from denoise.dsp.windows import padded
from denoise.infer.catalogue import find, load, onnx_file
from denoise.infer.cleaner import Cleaner
from denoise.machine import has_bf16, has_int8
from denoise.models.base import Denoiser, InputSpec
from denoise.models.layers import fold, unfold
from denoise.models.table import PRECISIONS, RUNTIMES
from pipelines.batch.allocation import tune_allocation
from pipelines.benchmark.job import CostJob
from pipelines.report import table

_MATRIX = 2048  # rows and columns of the matrix product
_RATES_HZ = {"image": None, "audio": 16_000.0, "sensor": 250.0}  # for models that accept any rate
_, FLOAT32, BF16, INT8 = PRECISIONS
_PRECISIONS = [FLOAT32, *[BF16] * has_bf16(), *[INT8] * has_int8()]  # that this CPU has
_PROBE = 64  # side of the image in pixels, or blocks of the signal, to count multiply-adds on


@dataclass(frozen=True)
class CostRow:
    """Cost of one model."""

    model: str
    modality: str  # a name in `MODALITIES`
    precision: str  # arithmetic it ran in
    parameters: int  # number of trained parameters
    # thousands of multiply-adds of its layers per pixel or sample; None for classical methods and for models
    # that select per image
    kmac: float | None
    # for a million pixels, or samples of a channel: the median, tiling and conversion included
    seconds: float
    cpu_seconds: float  # the same, of all threads together; it counts no waiting for other programs
    peak_bytes: int | None  # most memory that a run takes beside what is loaded; None where not on Linux
    gflops: float | None  # billions of useful operations a second: what tiles compute twice does not count
    of_matrix: float | None  # the same as a share of that of the matrix product
    # its seconds as a share of those of each shape in `REFERENCES`, for images
    of_reference: dict[str, float]


@dataclass(frozen=True)
class Costs:
    """All rows, and the speed of the machine."""

    rows: tuple[CostRow, ...]  # the models, then the reference shapes
    threads: int  # threads of torch
    matrix_gflops: float  # speed of a float32 matrix product, in the same turns


class PlainShape(Denoiser):
    """Plain stack of convolutions with random weights, to measure its cost alone.

    Args:
        side: Of the cell of pixels folded into channels.
        map_channels: Channels of the noise map that goes in with the image.
    """

    def __init__(self, width: int, layers: int, side: int = 1, map_channels: int = 0) -> None:
        super().__init__()
        self.spec = InputSpec("image", channels=3, multiple_of=side, halo=side * layers)
        self.side, self.map_channels = side, map_channels
        colours = 3 * side**2
        widths = [colours + map_channels, *[width] * (layers - 1), colours]
        modules: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            modules += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*modules[:-1])
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor) -> Tensor:
        """Input minus the output of random layers."""
        x = fold(noisy, self.side)
        if self.map_channels:
            x = torch.cat([x, x.new_full((x.shape[0], self.map_channels, *x.shape[2:]), 0.1)], 1)
        return noisy - unfold(self.layers(x), self.side)


class _NafBlock(nn.Module):
    """Block of NAFNet: gates in place of activations, and attention to channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand, self.widen = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, 2 * width, 1)
        self.spread = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attend, self.mix, self.merge = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.spread(self.expand(self._normal(x, 0))).chunk(2, 1)
        gated = first * second
        x = x + self.mix(gated * self.attend(gated.mean((2, 3), keepdim=True)))
        first, second = self.widen(self._normal(x, 1)).chunk(2, 1)
        return x + self.merge(first * second)

    def _normal(self, x: Tensor, which: int) -> Tensor:
        normal: Tensor = self.norms[which](x.permute(0, 2, 3, 1))
        return normal.permute(0, 3, 1, 2)


class NafShape(Denoiser):
    """NAFNet (Chen et al. 2022, "Simple baselines for image restoration") with random weights.

    The blocks of each scale are those of its network for camera noise. It takes the whole image.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        counts = (2, 2, 4, 8)  # of the encoder, from the input on
        self.spec = InputSpec("image", channels=3, multiple_of=2 ** len(counts), halo=None)
        widths = [width * 2**scale for scale in range(len(counts) + 1)]

        def stage(scale: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(_NafBlock(widths[scale]) for _ in range(count)))

        self.head, self.tail = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.encoder = nn.ModuleList(itertools.starmap(stage, enumerate(counts)))
        self.inner = stage(len(counts), 12)
        self.decoder = nn.ModuleList(stage(scale, 2) for scale in range(len(counts)))
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.up = nn.ModuleList(nn.Conv2d(2 * w, 4 * w, 1, bias=False) for w in widths[:-1])
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor) -> Tensor:
        """Input plus the output of random layers."""
        x, skips = self.head(noisy), []
        for stage, down in zip(self.encoder, self.down, strict=True):
            skips.append(stage(x))
            x = down(skips[-1])
        x = self.inner(x)
        for stage, up in reversed(list(zip(self.decoder, self.up, strict=True))):
            x = stage(F.pixel_shuffle(up(x), 2) + skips.pop())
        return noisy + self.tail(x)


# The first two Zhang et al. 2017 and Zhang et al. 2018, for colour.
REFERENCES: dict[str, Callable[[], Denoiser]] = {
    "CDnCNN-B shape": lambda: PlainShape(64, 20),
    "FFDNet shape": lambda: PlainShape(96, 12, side=2, map_channels=3),
    "NAFNet-w16 shape": lambda: NafShape(16),
}


class _Times(NamedTuple):
    """Seconds of a run, CPU seconds of all threads, and the memory it took at most."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class _Entrant:
    """Model to time, and the same in float32 to count operations of; `size` in pixels or samples."""

    cleaner: Cleaner
    exact: Cleaner
    run: Callable[[], object]
    size: int


def measure(job: CostJob) -> Costs:
    """Time every model, the reference shapes and the matrix product in turns."""
    tune_allocation()
    with _threads(job.threads):
        entrants = list(_entrants(job))
        matrix = torch.rand(_MATRIX, _MATRIX, generator=torch.Generator().manual_seed(0))
        runs = [entrant.run for entrant in entrants] + [lambda: matrix @ matrix]
        timed = _in_turns(runs, job.rounds)
        matrix_gflops = 2 * _MATRIX**3 / timed[-1].seconds / 1e9
        seconds = {c.cleaner.name: t.seconds / c.size * 1e6 for c, t in zip(entrants, timed, strict=False)}
        references = {name: seconds[name] for name in REFERENCES if name in seconds}
        found = zip(entrants, timed, strict=False)
        rows = tuple(_row(entrant, times, matrix_gflops, references) for entrant, times in found)
        return Costs(rows, torch.get_num_threads(), matrix_gflops)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _entrants(job: CostJob) -> Iterator[_Entrant]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, job.side_px, job.side_px), np.uint8)
    signal = rng.standard_normal((1, job.samples)).astype(np.float32) * np.float32(0.1)
    images = False
    for name in job.models:
        for modality in find(name).modalities:
            images |= modality == "image"
            cleaners: dict[str, Cleaner] = {}  # one that lacks a precision runs in another
            for precision in job.precision or _PRECISIONS:
                cleaner = load(name, modality, precision, ensemble=job.ensemble)
                cleaners.setdefault(_precision(cleaner), cleaner)
            if not job.precision and onnx_file(find(name), modality) and (job.ensemble or 1) == 1:
                cleaner = load(name, modality, runtime=RUNTIMES[1])
                cleaners[_precision(cleaner)] = cleaner
            exact = cleaners.get(FLOAT32) or load(name, modality, FLOAT32, ensemble=job.ensemble)
            for cleaner in cleaners.values():
                yield _entrant(cleaner, exact, image if modality == "image" else signal)
    if images:
        for name, build in REFERENCES.items():
            cleaner = Cleaner(name, build(), digest="")
            yield _entrant(cleaner, cleaner, image)


def _precision(cleaner: Cleaner) -> str:
    return cleaner.precision_of(cleaner.selector.models if cleaner.selector else ()) or "-"


def _entrant(cleaner: Cleaner, exact: Cleaner, array: np.ndarray[Any, Any]) -> _Entrant:
    spec = cleaner.spec
    peak = 255.0 if spec.ndim == 2 else 1.0
    rate = spec.sample_rate or _RATES_HZ[spec.modality]
    size = int(np.prod(array.shape[1:]))
    return _Entrant(cleaner, exact, lambda: cleaner.apply(array, peak=peak, sample_rate=rate), size)


def _in_turns(runs: list[Callable[[], object]], rounds: int) -> list[_Times]:
    """Measure the medians of each; the first turn does not count, but for memory."""
    found: list[list[tuple[float, float]]] = [[] for _ in runs]
    peaks = [_peak_bytes(run) for run in runs]
    for _ in range(rounds):
        for run, times in zip(runs, found, strict=True):
            started, cpu_started = time.perf_counter(), time.process_time()
            run()
            times.append((time.perf_counter() - started, time.process_time() - cpu_started))
    return [
        _Times(statistics.median(s for s, _ in times), statistics.median(c for _, c in times), peak)
        for times, peak in zip(found, peaks, strict=True)
    ]


def _peak_bytes(run: Callable[[], object]) -> int | None:
    """Run once, and return the most memory that it took beside what was there before."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the maximum starts again from here
    before = _resident_bytes("VmRSS")
    run()
    most = _resident_bytes("VmHWM")
    return None if before is None or most is None else max(0, most - before)


def _resident_bytes(field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _row(entrant: _Entrant, timed: _Times, matrix_gflops: float, references: dict[str, float]) -> CostRow:
    cleaner, exact = entrant.cleaner, entrant.exact
    seconds, cpu_seconds = (t / entrant.size * 1e6 for t in timed[:2])
    models = [exact.denoiser] if not exact.selector else exact.selector.models.values()
    shared = {
        id(parameter): parameter
        for model in models
        if isinstance(model, Denoiser)
        for parameter in model.parameters()
    }
    parameters = sum(parameter.numel() for parameter in shared.values())
    kmac = (kmac_per_sample(exact.denoiser) or None) if parameters and not exact.selector else None
    gflops = None if kmac is None else 2 * kmac / seconds
    return CostRow(
        cleaner.name,
        cleaner.spec.modality,
        _precision(cleaner),
        parameters,
        kmac,
        seconds,
        cpu_seconds,
        timed.peak_bytes,
        gflops,
        None if gflops is None else gflops / matrix_gflops,
        {name: seconds / of for name, of in references.items()} if cleaner.spec.modality == "image" else {},
    )


def kmac_per_sample(model: Denoiser) -> float:
    """Thousands of multiply-adds per pixel or sample: of the convolutions and matrix products in a network.

    Activations, sums and Fourier transforms are not counted.
    """
    multiple_of, ndim = model.spec.multiple_of, model.spec.ndim
    side = padded(_PROBE, multiple_of) if ndim == 2 else _PROBE * multiple_of
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.ones(1, model.spec.channels, *[side] * ndim))  # silence might be left out
    return float(counter.get_total_flops()) / 2e3 / float(side**ndim)


def as_table(costs: Costs) -> str:
    """One table per modality, and the speed of the machine."""
    parts = []
    for modality in dict.fromkeys(row.modality for row in costs.rows):
        rows = [row for row in costs.rows if row.modality == modality]
        unit, million = ("px", "MP") if modality == "image" else ("sample", "M samples")
        header = ["model", "precision", "parameters", f"kMAC/{unit}", f"s/{million}", f"CPU s/{million}"]
        header += ["peak MB", "GFLOP/s", "of matrix", *(f"of {name}" for name in rows[0].of_reference)]
        parts.append(f"{modality}\n" + table(header, [_line(row) for row in rows]))
    machine = (
        f"{costs.threads} threads; a float32 matrix product of {_MATRIX}: {costs.matrix_gflops:.0f} GFLOP/s"
    )
    return "\n\n".join([*parts, machine])


def _line(row: CostRow) -> list[str]:
    return [
        row.model,
        row.precision,
        str(row.parameters) if row.parameters else "-",
        "-" if row.kmac is None else f"{row.kmac:.3g}",
        f"{row.seconds:.3g}",
        f"{row.cpu_seconds:.3g}",
        "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
        "-" if row.gflops is None else f"{row.gflops:.0f}",
        "-" if row.of_matrix is None else f"{row.of_matrix:.2f}",
        *(f"{share:.3f}" for share in row.of_reference.values()),
    ]
