"""Containers of samples other than numpy's: opened as arrays, and given back as the same type.

They are recognised by their type: no library is imported that the caller has not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from denoise.arrays import Array, with_gaps
from denoise.errors import InputError, UsageError
from denoise.infer.frames import library_of, measurements, rate_of, table_of
from denoise.io.sensor.columns import find_clock

_PILLOW_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")


class Opened(NamedTuple):
    """Samples of a container."""

    array: Array  # the samples
    # puts samples of the same shape and type into a new container like the old one
    restore: Callable[[Array], Any]
    channel_axis: int | None = None  # axis of the channels, if the container tells
    sample_rate: float | None = None  # Hz, if the container tells
    names: tuple[str, ...] = ()  # of the channels, if the container tells


def open_container(samples: Any, modality: str = "") -> Opened:
    """Open an array, a tensor of torch, a picture of Pillow, an array of xarray, or a frame or series.

    The result of a tensor has its device and dtype. Of a frame, the numeric columns are channels, for a model
    of sensors the measurements among them; the time and other columns stay as they are.

    Args:
        samples: The container.
        modality: What the model cleans, if one is to clean it.

    Raises:
        UsageError: It is a path or the bytes of a file.
        InputError: It is a picture of a mode without levels, a frame without numbers, lazy, or one of signals
            for a model of images.
    """
    if isinstance(samples, str | bytes | bytearray | memoryview | os.PathLike):
        named = "bytes" if isinstance(samples, bytes | bytearray | memoryview) else repr(os.fspath(samples))
        raise UsageError(
            f"clean takes samples, not {named}: for a file use denoise.clean_file(source, destination)"
        )
    library = type(samples).__module__.partition(".")[0]
    if library == "torch":
        return _open_tensor(samples)
    if library == "PIL":
        return _open_picture(samples)
    if library == "xarray":
        if not hasattr(samples, "name"):
            raise InputError("a Dataset of xarray has several arrays; expected one, as dataset['name']")
        return Opened(np.asarray(samples), lambda array: samples.copy(data=array))
    if library_of(samples):
        return _open_frame(samples, modality)
    if hasattr(samples, "collect"):  # of polars
        raise InputError("it is a lazy frame; expected a frame in memory: give its collect()")
    if isinstance(samples, np.ma.MaskedArray):
        return _open_masked(samples)
    if isinstance(samples, np.matrix):
        return Opened(np.asarray(samples), lambda array: array.view(np.matrix))
    return Opened(np.asarray(samples), lambda array: array, -1 if hasattr(samples, "columns") else None)


def _open_masked(samples: Any) -> Opened:
    """Open a masked array: what is masked is a gap, and comes back masked, with the value below the mask."""
    mask = np.ma.getmaskarray(samples)

    def restore(array: Array) -> Any:
        kept = np.where(mask, samples.data, array) if mask.any() else array
        values = np.rint(kept) if samples.dtype.kind in "iu" else kept
        return np.ma.array(values.astype(samples.dtype), mask=mask, fill_value=samples.fill_value)

    return Opened(with_gaps(samples), restore)


def _open_tensor(tensor: Any) -> Opened:
    import torch

    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:  # numpy has none
        values = values.float()

    def restore(array: Array) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype=tensor.dtype, device=tensor.device)

    return Opened(values.numpy(), restore)


def _open_picture(picture: Any) -> Opened:
    from PIL import Image

    if picture.mode not in _PILLOW_MODES:
        raise InputError(
            f"the picture is of mode {picture.mode}; expected one of {', '.join(_PILLOW_MODES)}: "
            'see its method convert, such as convert("RGB")'
        )

    def restore(array: Array) -> Any:
        result = Image.fromarray(np.ascontiguousarray(array))
        result.info = dict(picture.info)  # EXIF and profile
        return result

    array = np.asarray(picture)
    return Opened(array, restore, -1 if array.ndim == 3 else None)


def _open_frame(frame: Any, modality: str) -> Opened:
    if modality == "image":
        raise InputError(
            "it is a table of signals, and the model cleans images: for levels give its to_numpy()"
        )
    table = table_of(frame)
    if modality == "sensor":
        places = measurements(table)
    else:
        clock = None if table.is_series else find_clock(table.surveys)
        places = tuple(
            place
            for place, (column, survey) in enumerate(zip(table.columns, table.surveys, strict=True))
            if column is not None and not survey.stamp_type and (clock is None or place != clock.index)
        )
    columns = [column for place in places if (column := table.columns[place]) is not None]
    if not columns:
        raise InputError("the frame has no column of measurements")

    def restore(array: Array) -> Any:
        wide = array[:, None] if table.is_series else array
        return table.with_columns({place: wide[:, n] for n, place in enumerate(places)})

    stacked, rate = np.stack(columns, axis=-1), rate_of(table)
    names = tuple(table.names[place] for place in places) if table.names else ()
    if table.is_series:
        return Opened(stacked[:, 0], restore, sample_rate=rate, names=names)
    return Opened(stacked, restore, -1, rate, names)
