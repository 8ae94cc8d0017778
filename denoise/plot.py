"""Figures of samples before and after cleaning, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import InputError
from denoise.infer.containers import open_container

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MIN_SIDE = 16  # samples in both directions of an image
_MIN_AUDIO_HZ = 4000.0
_MAX_TRACES = 6
_RANGE_DB = 80.0


def before_after(before: Any, after: Any, sample_rate: float | None = None, title: str = "") -> Figure:
    """Draw samples before and after: images side by side, sound as spectrograms, other signals as traces.

    Args:
        before: Array, or any container that `Cleaner.clean` takes, or the path of a file.
        after: The same after cleaning.
        sample_rate: Hz; a signal of at least 4 kHz is drawn as a spectrogram.
        title: Title of the figure.

    Returns:
        A figure that belongs to no window: a notebook shows it, and `savefig` writes it.

    Raises:
        InputError: The two have different shapes.
    """
    from matplotlib.figure import Figure

    pair, names = [], tuple[str, ...]()
    for samples in (before, after):
        if isinstance(samples, str | Path):
            from denoise import io

            array, info = io.read(samples)
            sample_rate = sample_rate or info.sample_rate
            array, names = array[: len(array) - info.passthrough_channels], getattr(info, "columns", ())
        else:
            opened = open_container(samples)
            names, sample_rate = opened.names, sample_rate or opened.sample_rate
            array = opened.array.T if names else opened.array  # the columns of a frame
        pair.append(np.asarray(array))
    if pair[0].shape != pair[1].shape:
        raise InputError(f"the shapes are {pair[0].shape} and {pair[1].shape}; expected the same")
    shape = pair[0].shape
    if not shape or pair[0].dtype.kind not in "iufb":
        raise InputError(
            f"the samples are of type {pair[0].dtype} and shape {shape}; expected signals or images"
        )
    figure = Figure(figsize=(10, 4), layout="constrained")
    if len(shape) == 3 or (len(shape) == 2 and min(shape) >= _MIN_SIDE and not names):
        _draw_images(figure, pair)
    else:
        signals = [np.atleast_2d(array) if names else _channels_first(array) for array in pair]
        if sample_rate and sample_rate >= _MIN_AUDIO_HZ:
            _draw_spectrograms(figure, signals, sample_rate)
        else:
            _draw_traces(figure, signals, sample_rate, names)
    if title:
        figure.suptitle(title)
    return figure


def _channels_first(array: Array) -> Array:
    if array.ndim == 1:
        return array[None]
    return array if array.shape[0] <= array.shape[1] else array.T


def _draw_images(figure: Figure, pair: list[Array]) -> None:
    planes = [np.moveaxis(a, 0, -1) if a.ndim == 3 and a.shape[0] <= 4 < a.shape[-1] else a for a in pair]
    planes = [
        a[..., 0] if a.ndim == 3 and a.shape[-1] < 3 else a[..., :3] if a.ndim == 3 else a for a in planes
    ]
    finite = [a.astype(np.float64) for a in planes]
    low, high = (0.0, 255.0) if planes[0].dtype == np.uint8 else (min(0.0, finite[0].min()), finite[0].max())
    for number, (axes, picture) in enumerate(zip(figure.subplots(1, 2), finite, strict=True)):
        axes.imshow(((picture - low) / ((high - low) or 1.0)).clip(0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set(title=("before", "after")[number], xticks=[], yticks=[])


def _draw_spectrograms(figure: Figure, pair: list[Array], sample_rate: float) -> None:
    size = max(64, 1 << round(np.log2(0.032 * sample_rate)))
    powers = []
    for signal in pair:
        mono = np.nan_to_num(signal.astype(np.float64)).mean(axis=0)
        mono = np.pad(mono, (0, max(0, size - len(mono))))
        step = max(size // 4, (len(mono) - size) // 1000 or 1)
        frames = np.lib.stride_tricks.sliding_window_view(mono, size)[::step] * np.hanning(size)
        powers.append(10 * np.log10(np.abs(np.fft.rfft(frames)).T ** 2 + 1e-12))
    top = max(power.max() for power in powers)
    extent = (0, pair[0].shape[-1] / sample_rate, 0, sample_rate / 2000)
    for number, (axes, power) in enumerate(zip(figure.subplots(1, 2, sharey=True), powers, strict=True)):
        axes.imshow(
            power,
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=top - _RANGE_DB,
            vmax=top,
            cmap="inferno",
        )
        axes.set(
            title=("before", "after")[number], xlabel="time, s", ylabel="" if number else "frequency, kHz"
        )


def _draw_traces(
    figure: Figure, pair: list[Array], sample_rate: float | None, names: tuple[str, ...]
) -> None:
    shown = min(len(pair[0]), _MAX_TRACES)
    figure.set_size_inches(10, 1 + 2 * shown)
    x = np.arange(pair[0].shape[-1]) / (sample_rate or 1.0)
    for number, axes in enumerate(figure.subplots(shown, 1, sharex=True, squeeze=False)[:, 0]):
        axes.plot(x, pair[0][number], color="0.65", linewidth=0.8, label="before")
        axes.plot(x, pair[1][number], color="#0a58a8", linewidth=1.0, label="after")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel(names[number] if number < len(names) else "")
    axes.set_xlabel("time, s" if sample_rate else "sample")
    figure.axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0)
