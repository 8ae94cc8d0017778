"""Clean an array in memory: an image in tiles, a signal in blocks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from denoise.arrays import Array
from denoise.dsp.windows import Window, padded, plan
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer.progress import report_share
from denoise.infer.stages import DEFAULT_BLOCK
from denoise.infer.tiles import MEMORY, band_shape, bytes_per_pixel, tile_shape
from denoise.machine import release_memory
from denoise.models.contract import Model, check_request

if TYPE_CHECKING:  # images do without torch
    from denoise.infer.stream import Stream
    from denoise.infer.switch import SwitchedStream

_BAND_ROWS = 256  # rows that are blended at a time
_SIGMA_PEAK = 255.0  # sigma of images is in 8-bit units, whatever the scale of the image


def apply(
    model: Model,
    array: Array,
    *,
    peak: float | None,
    keep: int = 0,
    sample_rate: float | None = None,
    strength: float = 1.0,
    sigma: float | None = None,
    tile: int | None = None,
) -> Array:
    """Clean an array; the model is put into evaluation mode, the array is not modified.

    Values become float tile by tile (or block by block), so the memory needed beside the array and its result
    depends on the model and the tile alone. Constant channels and clipped areas stay as they are.

    Args:
        model: A denoiser for as many axes as the array has after its channels.
        array: Integers or floats; an integer result is rounded and clipped.
        peak: Full-scale value; None for the array's own units.
        keep: Number of trailing channels to copy (alpha).
        sample_rate: Hz, for signals; needed by a model that has a rate of its own.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation, for a model that uses it: images on the 8-bit scale (25 means 25/255
            of the peak), signals in their own units.
        tile: Pixels or samples per side to keep of one run of the model; by default as many as memory allows
            (`denoise.infer.tiles`). A model that needs the whole input always gets it.

    Shape:
        `(C, H, W)` or `(C, T)` in and out.

    Raises:
        UsageError: The model is for another number of axes, or cannot honour `strength`, `sigma` or
            `sample_rate`.
        InputError: A value is not a finite number (in a sensor's signal, NaN is a gap).
    """
    spec = model.spec
    check_request(type(model).__name__, model, strength, sigma)
    if array.ndim != spec.ndim + 1:
        raise UsageError(
            f"the array has shape {array.shape}; the model {type(model).__name__} takes channels "
            f"and {spec.ndim} more {'axis' if spec.ndim == 1 else 'axes'}"
        )
    if tile is not None and tile < 1:
        raise UsageError(f"tile is {tile}; it must be at least 1")
    cleaned = array.shape[0] - keep
    result = np.empty_like(array, subok=False)  # in the same memory order: an interleaved image stays so
    result[cleaned:] = array[cleaned:]
    copied = model.is_identity and array.dtype.kind != "f"  # floats are checked to be finite
    if strength == 0 or not array.size or copied:
        result[...] = array
        return result
    array, out = array[:cleaned], result[:cleaned]
    if spec.ndim == 1:
        _clean_signal(model, array, out, peak, sample_rate, strength, sigma, tile)
        return result
    peak = peak or 1.0
    level = None if sigma is None else sigma / _SIGMA_PEAK
    model = model.eval().prepare(array, peak)
    windows, band = _windows(model, array, tile)
    done_px: list[int] = []

    def clean(window: tuple[Window, Window]) -> None:
        for rows, columns, denoised in _denoised(model, array, *window, band, peak, level):
            dry = array[:, rows, columns]
            values: Array = dry.astype(_wide(array))
            removed = np.divide(dry, peak, dtype=values.dtype).astype(np.float32, copy=False)
            removed -= denoised
            removed *= strength * peak
            values -= removed
            out[:, rows, columns] = as_dtype(array.dtype, values)
            if MEMORY.is_short:
                release_memory()
            done_px.append(values[0].size)
            report_share(sum(done_px) / array[0].size)

    _in_threads(clean, windows, model.threads)
    for plane, cleaned_plane in zip(array, out, strict=True):
        _keep_clipped(plane, cleaned_plane, peak)
    return result


def blend(noisy: Array, cleaned: Array, share: float) -> Array:
    """Apply a share of a correction: 1 returns the cleaned image, 0 a copy of the noisy one.

    Shape:
        `(C, H, W)`, both.
    """
    if share == 1:
        return cleaned
    result = noisy.copy(order="K")
    for top in range(0, noisy.shape[1] if share else 0, _BAND_ROWS):
        rows = np.s_[:, top : top + _BAND_ROWS]
        removed = np.subtract(noisy[rows], cleaned[rows], dtype=np.float64)
        result[rows] = as_dtype(noisy.dtype, noisy[rows] - share * removed)
    return result


def _keep_clipped(plane: Array, cleaned: Array, peak: float) -> None:
    """Keep clipped areas, which are at the minimum or maximum of a channel, and constant channels."""
    darkest, brightest = plane.min(), plane.max()
    if darkest == brightest:
        cleaned[...] = plane
        return
    limits = ([darkest] if darkest <= _BLACK * peak else []) + (
        [brightest] if brightest >= _WHITE * peak else []
    )
    tops = range(0, max(0, len(plane) - 2 * _MARGIN), _BAND_ROWS)
    for limit, top in product(limits, tops):  # by bands: masks of the whole would take three bytes a pixel
        inside = plane[top : top + _BAND_ROWS + 2 * _MARGIN] == limit
        for axis in (0, 1):
            inside = _eroded(inside, axis)
        height, width = inside.shape
        within = cleaned[top + _MARGIN : top + _MARGIN + height, _MARGIN : _MARGIN + width]
        np.copyto(within, limit, where=inside)


_BLACK, _WHITE = 0.01, 0.9  # shares of the peak: clipped areas are darker or brighter
_MARGIN = 2  # pixels: the edges of a clipped area are cleaned


def _eroded(mask: Array, axis: int) -> Array:
    """Remove `_MARGIN` pixels from the areas of a mask along an axis, and from the mask itself."""
    size = max(0, mask.shape[axis] - 2 * _MARGIN)
    mask = np.moveaxis(mask, axis, 0)
    parts = (mask[start : start + size] for start in range(2 * _MARGIN + 1))
    return np.moveaxis(functools.reduce(np.logical_and, parts), 0, axis)


def _windows(model: Model, array: Array, tile: int | None) -> tuple[list[tuple[Window, Window]], int]:
    """Return the row and column windows that cover an image, and fit into memory unless `tile` is given.

    The number is that of the rows of a band, for a model that runs by bands, or 0.
    """
    (height, width), halo, multiple_of = array.shape[1:], model.spec.halo, model.spec.multiple_of
    held, threads, band = 2 * array.nbytes, model.threads, 0
    runs = MEMORY.runs(threads)
    if halo is None:  # one window that holds everything
        tall, wide, halo = height, width, 0
    elif tile:
        tall = wide = tile
    elif model.row_stream():
        per_px = bytes_per_pixel(model)

        def max_px(running: int) -> float:
            return MEMORY.for_network(held, running) / per_px

        band, wide = band_shape(height, width, halo, multiple_of, max_px, threads, runs)
        tall = height
    else:
        most_px = MEMORY.for_network(held, runs) / bytes_per_pixel(model)
        tall, wide = tile_shape(height, width, halo, multiple_of, most_px)
    windows = product(plan(height, tall, halo, multiple_of), plan(width, wide, halo, multiple_of))
    return list(windows), band


def _in_threads(
    clean: Callable[[tuple[Window, Window]], None], windows: list[tuple[Window, Window]], threads: int
) -> None:
    """Clean windows side by side, each with its share of the threads.

    Threads inside one layer wait for each other: beside another program they are slower than one alone.
    """
    workers = min(MEMORY.runs(threads), len(windows))
    if workers == 1:
        for window in windows:
            clean(window)
        return
    import torch

    with ThreadPoolExecutor(workers, "tile", torch.set_num_threads, (threads // workers,)) as pool:
        contexts = [copy_context() for _ in windows]  # progress is shown by this thread's
        list(pool.map(lambda context, window: context.run(clean, window), contexts, windows))


def _denoised(
    model: Model,
    array: Array,
    rows: Window,
    columns: Window,
    band: int,
    peak: float,
    sigma: float | None,
) -> Iterator[tuple[slice, slice, Array]]:
    """Yield rows and columns of an image, and the result of the model for them."""
    wide, kept = _wide(array), slice(columns.start, columns.stop)

    def noisy(rows: Window) -> Array:
        dry = _read(array, rows, columns, model.spec.edge_padding)
        return np.divide(dry, peak, dtype=wide).astype(np.float32, copy=False)

    if not band:
        run = model.run if sigma is None else partial(model.run, sigma=sigma)
        result = _denoise(model, noisy(rows), itertools.repeat(run))
        assert result is not None
        yield slice(rows.start, rows.stop), kept, result[:, rows.kept, columns.kept]
        return
    start, height, multiple_of = 0, array.shape[1], model.spec.multiple_of
    streams = [model.row_stream() for _ in range(len(array))]
    # The last band is longer than its padding, which mirrors it.
    for top in (tops := range(0, max(1, height - multiple_of), band)):
        last = top == tops[-1]
        stop = height if last else top + band
        runs = [partial(stream.run, last=last) for stream in streams if stream]
        result = _denoise(model, noisy(Window(top, stop, top, padded(stop, multiple_of))), runs)
        if result is not None:
            stop = min(height, start + result.shape[1])
            yield slice(start, stop), kept, result[:, : stop - start, columns.kept]
            start = stop


def _wide(array: Array) -> type[np.float32] | type[np.float64]:
    """Return the type that holds every value: float32 also of 16-bit images, float64 of wider numbers."""
    return np.float64 if np.result_type(array.dtype, np.float32) == np.float64 else np.float32


def _read(
    array: Array, rows: Window, columns: Window, edge_padding: Literal["reflect", "edge", "none"]
) -> Array:
    """Return the pixels of a tile, padded past the lower and right edge to the model's multiple."""
    inside = array[:, rows.read_start : rows.read_stop, columns.read_start : columns.read_stop]
    if array.dtype.kind == "f" and not np.isfinite(inside).all():
        channel, row, column = (int(i[0]) for i in np.nonzero(~np.isfinite(inside)))
        raise InputError(
            f"the pixel at row {rows.read_start + row}, column {columns.read_start + column} is "
            f"{inside[channel, row, column]}; expected finite numbers"
        )
    below = rows.read_stop - rows.read_start - inside.shape[1]
    right = columns.read_stop - columns.read_start - inside.shape[2]
    if edge_padding == "none" or not (below or right):
        return inside
    return np.pad(inside, ((0, 0), (0, below), (0, right)), mode=edge_padding)


def _denoise(model: Model, noisy: Array, runs: Iterable[Callable[[Array], Array | None]]) -> Array | None:
    """Run the model on `(C, H, W)`; None while it waits for more rows.

    If C is not the model's number of channels, each channel is repeated and run alone, and the results are
    averaged.

    Args:
        runs: Of the model, one for each channel that runs alone.
    """
    channels = model.spec.channels
    alone = len(noisy) != channels
    answers: list[Array] = []
    planes = (np.repeat(plane[None], channels, axis=0) for plane in noisy) if alone else [noisy]
    for pixels, run in zip(planes, runs, strict=False):
        result = run(pixels[None])
        if result is None:
            continue
        answer = result[0]
        if not np.isfinite(answer).all():
            raise DenoiseError("the model returned a value that is not a finite number")
        answers.append(answer.mean(axis=0, keepdims=True) if alone else answer)
    return np.concatenate(answers) if len(answers) > 1 else answers[0] if answers else None


def _clean_signal(
    model: Model,
    array: Array,
    result: Array,
    peak: float | None,
    sample_rate: float | None,
    strength: float,
    sigma: float | None,
    tile: int | None,
) -> None:
    from denoise.infer.stream import Levels, Stream
    from denoise.models.base import Denoiser

    assert isinstance(model, Denoiser)
    channels, samples = array.shape
    levels = Levels(channels)
    for start in range(0, samples, DEFAULT_BLOCK):
        levels.update(array[:, start : start + DEFAULT_BLOCK])
    offset, scale = levels.offset_and_scale(model.spec, *zero_and_full_scale(array, peak))
    ends = (levels.bounds, levels.usual) if model.spec.modality == "sensor" else (None, None)
    stream = Stream(
        model,
        channels,
        sample_rate,
        strength,
        sigma,
        offset,
        scale,
        tile or DEFAULT_BLOCK,
        bounds=ends[0],
        usual=ends[1],
    )
    apply_stream(stream, array, result)


def apply_stream(stream: Stream | SwitchedStream, array: Array, result: Array) -> None:
    """Clean a signal `(C, n)` by a stream into an array of the same type."""
    done, samples = 0, array.shape[1]
    for start in range(0, samples, DEFAULT_BLOCK):
        block = array[:, start : start + DEFAULT_BLOCK]
        cleaned = stream.feed(block, last=start + DEFAULT_BLOCK >= samples)
        result[:, done : done + cleaned.shape[1]] = as_dtype(array.dtype, cleaned)
        done += cleaned.shape[1]


def zero_and_full_scale(array: Array, peak: float | None) -> tuple[float, float]:
    """Return the value of silence, which is mid-range of unsigned audio, and full scale."""
    return (peak or 0.0) if array.dtype.kind == "u" else 0.0, 1.0 if peak is None else peak


def as_dtype(dtype: np.dtype[Any], values: Array) -> Array:
    """Convert floats to `dtype`: integers by rounding and clipping."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits, rounded = np.iinfo(dtype), np.rint(values)
    return np.clip(rounded, limits.min, limits.max, out=rounded).astype(dtype)
