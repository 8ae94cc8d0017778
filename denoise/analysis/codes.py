"""Codes of files: computed, archived, optionally quantised, and decoded into files.

The archive is a `.npz` that numpy alone can read:

| array | content |
|---|---|
| `codes` | `(n, code_size)`; float32, or integers q for `low + q * step` |
| `low`, `step` | `(code_size,)`, quantised codes only |
| `file` | `(n,)`, number of the file of each segment |
| `page`, `channel`, `start` | start of each segment; not for quantised codes |
| `offset`, `scale` | standardisation; for quantised codes `log2_scale`, float16 |
| `thumbnails` | `(files, 32, 32)`, gray, of pictures; not with quantised codes |
| `left_out` | numbers of the segments with gaps, which have no code, among all segments |
| `about` | JSON: the segmentation, the files and their pages, the model's digest and path or name |
| `model` | the weights file, if it is not kept elsewhere |
"""

from __future__ import annotations

import csv
import hashlib
import io as memory
import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io, weights
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.encoder import PretrainedEncoder
from denoise.analysis.segments import Page, Place, Segmentation, Segments, assemble, count, places
from denoise.arrays import Array, Floats
from denoise.errors import UnreadableError, UsageError, reason
from denoise.io.archive import arrays_of
from denoise.io.atomic import replacing
from denoise.signal import SignalInfo

FORMAT = 1  # incremented when older archives can no longer be read
BITS = (1, 16)  # minimum and maximum of a quantised number

_BAD = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_BATCH = 256  # segments per call of the model
PRETRAINED = "pretrained:"  # leads the path of a shipped model

Model = str | Path | tuple[AutoencoderEmbedding | PretrainedEncoder, Segmentation]


@dataclass(frozen=True)
class Codes:
    """Codes of one file."""

    name: str  # path of the file below its input folder
    pages: tuple[Page, ...]  # sources of its segments
    codes: Floats  # `(n, code_size)`
    # `(n,)`, number of each segment among all of the file; those with gaps have no code
    index: NDArray[np.int64]
    offset: Floats  # `(n,)`, subtracted from each segment by standardisation
    scale: Floats  # `(n,)`, divisor of each segment after that
    # squared reconstruction error, summed over all values of the model's input
    squared_error: float = math.nan
    energy: float = math.nan  # squared deviation from the mean, summed likewise
    thumbnail: NDArray[np.uint8] | None = None  # that of `Segments`, of a picture

    def places(self, cut: Segmentation) -> list[Place]:
        """List the start of each code's segment."""
        every = list(places(cut, self.pages))
        return [every[index] for index in self.index]


@dataclass(frozen=True)
class CodeArchive:
    """Content of an archive."""

    cut: Segmentation  # segmentation of the files
    files: tuple[Codes, ...]  # their codes
    model_digest: str  # SHA-256 of the weights file
    model_path: str = ""  # path of that file; empty if `model` holds it
    model: bytes = b""  # content of that file, or empty


def embed(
    path: str | Path,
    model: Model,
    options: Mapping[str, Any] | None = None,
) -> Codes:
    """Compute the codes of one file, which is read in parts, and their reconstruction error.

    Args:
        path: Image, recording or sensor log.
        model: Weights file of an autoencoder without skips, or the result of `AutoencoderEmbedding.load`, or
            a `PretrainedEncoder` and its segmentation; that cannot decode, so there is no error.
        options: Options of the reader, such as `columns` for a sensor log.

    Raises:
        InputError: The file cannot be read, is of another kind, or each segment holds a gap.
        UsageError: The model has no bottleneck.
    """
    embedding, cut = model if isinstance(model, tuple) else AutoencoderEmbedding.load(model)
    segments = Segments(path, cut, options)
    found: list[Floats] = []
    places: list[tuple[int, float, float]] = []
    error = energy = total = 0.0
    size = 0
    for batch in segments.batches(_BATCH):
        values = np.stack([segment.values for segment in batch])
        code = embedding.encode(values)
        found.append(code)
        places += [(segment.index, segment.offset, segment.scale) for segment in batch]
        if isinstance(embedding, AutoencoderEmbedding):
            error += float(np.square(values - embedding.inverse_transform(code), dtype=np.float64).sum())
        else:
            error = math.nan
        energy += float(np.square(values, dtype=np.float64).sum())
        total += float(values.sum(dtype=np.float64))
        size += values.size
    index, offset, scale = map(np.array, zip(*places, strict=True))
    return Codes(
        Path(path).name,
        tuple(segments.pages),
        np.concatenate(found),
        index.astype(np.int64),
        offset.astype(np.float32),
        scale.astype(np.float32),
        error,
        energy - total**2 / size,
        segments.thumbnail,
    )


def reconstruct(codes: Codes, model: str | Path | tuple[AutoencoderEmbedding, Segmentation]) -> list[Floats]:
    """Decode the pages of a file, in its units, size and rate; gaps are NaN.

    Shape:
        Each page as `denoise.analysis.segments.assemble` returns it: channels first.
    """
    embedding, cut = model if isinstance(model, tuple) else AutoencoderEmbedding.load(model)
    every = codes.places(cut)
    on = np.array([place.page for place in every])
    return [
        assemble(cut, page, _decoded(codes, embedding, every, np.flatnonzero(on == number)))
        for number, page in enumerate(codes.pages)
    ]


def _decoded(
    codes: Codes, embedding: AutoencoderEmbedding, every: Sequence[Place], rows: NDArray[np.int64]
) -> Iterator[tuple[Place, Floats]]:
    for part in np.split(rows, range(_BATCH, len(rows), _BATCH)) if len(rows) else ():
        decoded = embedding.inverse_transform(codes.codes[part]).reshape(-1, *embedding.item_shape_)
        for row, values in zip(part, decoded, strict=True):
            yield every[row], values * codes.scale[row] + codes.offset[row]


def save(
    path: str | Path,
    cut: Segmentation,
    files: Sequence[Codes],
    model: Path,
    *,
    keep_model: bool = False,
    bits: int | None = None,
) -> None:
    """Write an archive of codes.

    Args:
        keep_model: Store its content in the archive, not only its path.
        bits: Bits per number, 1 to 16, uniform between its extremes; None keeps float32.

    Raises:
        UsageError: `bits` is out of range.
    """
    if bits is not None and not BITS[0] <= bits <= BITS[1]:
        raise UsageError(f"{bits} bits a number; expected {BITS[0]} to {BITS[1]}")
    codes = np.concatenate([file.codes for file in files])
    arrays: dict[str, Array] = {
        "file": np.repeat(np.arange(len(files), dtype=np.int32), [len(file.codes) for file in files]),
        "left_out": _left_out(cut, files),
    }
    offset = np.concatenate([file.offset for file in files])
    scale = np.concatenate([file.scale for file in files])
    if bits is None:
        where = [place for file in files for place in file.places(cut)]
        arrays |= {"codes": codes, "start": np.array([place.start for place in where], np.int64)}
        arrays |= {
            name: np.array([getattr(p, name) for p in where], np.int32) for name in ("page", "channel")
        }
        if thumbnails := [file.thumbnail for file in files if file.thumbnail is not None]:
            arrays["thumbnails"] = np.stack(thumbnails)
    else:
        low, step = codes.min(axis=0), np.ptp(codes, axis=0) / (2**bits - 1)
        numbers = np.rint((codes - low) / np.where(step > 0, step, 1))
        # Column order puts similar values together, which compresses better.
        arrays["codes"] = np.asfortranarray(numbers, np.uint8 if bits <= 8 else np.uint16)
        arrays |= {"low": low, "step": step.astype(np.float32)}
    if cut.standardise:
        arrays["offset"] = offset
        arrays |= {"scale": scale} if bits is None else {"log2_scale": np.log2(scale).astype(np.float16)}
    data = model.read_bytes()
    if keep_model:
        arrays["model"] = np.frombuffer(data, np.uint8)
    about = {
        "format": FORMAT,
        "cut": asdict(cut),
        "model_digest": hashlib.sha256(data).hexdigest(),
        "model_path": "" if keep_model else _name_of(model),
        "files": [{"name": file.name, "pages": [asdict(page) for page in file.pages]} for file in files],
    }
    text = json.dumps(about).encode()  # ASCII: names of files may be no UTF-8
    arrays["about"] = np.frombuffer(text, np.uint8)
    with replacing(path) as partial:
        _write_npz(partial, arrays)


def _name_of(model: Path) -> str:
    """Return the path of a weights file; the name of a shipped one, which every installation has."""
    shipped = weights.pretrained().get(model.stem) == model
    return PRETRAINED + model.stem if shipped else str(model.resolve())


def _write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write as `numpy.savez_compressed`, but with arrays of any name, at the highest compression."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _left_out(cut: Segmentation, files: Sequence[Codes]) -> NDArray[np.int64]:
    """List the numbers of the segments without a code, among those of all files."""
    gone, before = [], 0
    for file in files:
        every = count(cut, file.pages)
        gone.append(before + np.setdiff1d(np.arange(every), file.index))
        before += every
    return np.concatenate(gone).astype(np.int64)


def load(path: str | Path) -> CodeArchive:
    """Read an archive of `save`.

    Raises:
        UnreadableError: The file is not such an archive, damaged, or of another version.
    """
    path = Path(path)
    arrays = arrays_of(path, "an archive of denoise embed")
    try:
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise UnreadableError(f"{path}: is an archive of format {about['format']}, expected {FORMAT}")
        return _archive(arrays, about)
    except (*_BAD, UsageError) as error:
        raise UnreadableError(
            f"{path}: holds no codes that can be read ({reason(error)}), expected an archive of denoise embed"
        ) from error


def _archive(arrays: Mapping[str, Array], about: Mapping[str, Any]) -> CodeArchive:
    cut = Segmentation(**{**about["cut"], "size": tuple(about["cut"]["size"])})
    codes = arrays["codes"]
    if "step" in arrays:
        codes = arrays["low"] + codes * arrays["step"]
    codes, rows = codes.astype(np.float32), len(codes)
    if not np.isfinite(codes).all():
        raise ValueError("codes that are no numbers")
    scale = (
        np.exp2(arrays["log2_scale"].astype(np.float32)) if "log2_scale" in arrays else arrays.get("scale")
    )
    offset = arrays.get("offset", np.zeros(rows, np.float32))
    scale = np.ones(rows, np.float32) if scale is None else scale
    names = [file["name"] for file in about["files"]]
    texts = (*names, about["model_digest"], about["model_path"])
    if len(set(names)) < len(names) or not all(isinstance(text, str) for text in texts):
        raise ValueError("names of files that are no texts, or twice the same")
    pages = [tuple(map(_page, file["pages"])) for file in about["files"]]
    counts = [count(cut, each) for each in pages]
    if not len(offset) == len(scale) == rows == sum(counts) - len(arrays["left_out"]):
        raise ValueError(f"{rows} codes for {sum(counts)} segments")
    present = np.setdiff1d(np.arange(sum(counts)), arrays["left_out"])
    if len(present) != rows:
        raise ValueError(f"{rows} codes for {len(present)} segments without gaps")
    thumbnails = arrays.get("thumbnails", [None] * len(names))
    if len(thumbnails) != len(names):
        raise ValueError(f"{len(thumbnails)} thumbnails of {len(names)} files")
    files = []
    for name, own, number, before, thumbnail in zip(
        names, pages, counts, itertools.accumulate(counts, initial=0), thumbnails, strict=False
    ):
        part = slice(*np.searchsorted(present, (before, before + number)))
        values = (codes[part], present[part] - before, offset[part], scale[part])
        files.append(Codes(name, own, *values, thumbnail=thumbnail))
    model = arrays["model"].tobytes() if "model" in arrays else b""
    return CodeArchive(cut, tuple(files), about["model_digest"], about["model_path"], model)


def _page(stored: Mapping[str, Any]) -> Page:
    return Page(**{**stored, "shape": tuple(stored["shape"]), "channels": tuple(stored["channels"])})


def suffix_of(codes: Codes, modality: str) -> str:
    """Choose the suffix of a reconstruction.

    Images become 8-bit PNG, or TIFF of several pages; recordings 24-bit WAV; sensor logs CSV, or NPZ if their
    arrays differ in length.
    """
    return _SUFFIXES[modality][len(codes.pages) > 1]


_SUFFIXES = {"image": (".png", ".tif"), "audio": (".wav", ".wav"), "sensor": (".csv", ".npz")}


def write_pages(path: Path, pages: Sequence[Floats], codes: Codes, modality: str) -> None:
    """Write the pages of `reconstruct` as a file of a common format.

    Args:
        codes: Codes of the same file, for rates and names.
    """
    if modality == "sensor":
        _write_log(path, pages, codes)
        return
    first = pages[0]
    image = modality == "image"
    info = SignalInfo(
        Path(codes.name),
        modality,
        first.shape,
        "uint8" if image else "float32",
        255.0 if image else 1.0,
        codes.pages[0].sample_rate,
        pages=len(pages) if image else 1,
    )
    with io.writer(path, info) as sink:
        for page in pages:
            sink.write(np.rint(np.clip(page, 0, 1) * 255).astype(np.uint8) if image else page)


def _write_log(path: Path, pages: Sequence[Floats], codes: Codes) -> None:
    with replacing(path) as partial:
        if len(pages) > 1:
            named: dict[str, Floats] = {}
            for number, (page, values) in enumerate(zip(codes.pages, pages, strict=True)):
                for name, channel in zip(page.channels, values, strict=True):
                    named[name if name not in named else f"{name}_{number}"] = channel
            _write_npz(partial, named)
            return
        (page,), (values,) = codes.pages, pages
        columns, names = list(values), list(page.channels)
        if page.sample_rate:
            columns = [np.arange(page.length) / page.sample_rate, *columns]
            names = ["time_s", *names]
        text = memory.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(
            ["" if math.isnan(value) else f"{value:.9g}" for value in row]
            for row in zip(*columns, strict=True)
        )
        partial.write_text(text.getvalue(), encoding="utf-8")
