"""Codes of files: made, kept in one archive, small if need be, and turned into files again.

The archive is a `.npz` that numpy alone can read:

| array | what it holds |
|---|---|
| `codes` | `(n, code_size)`; float32, or whole numbers q that stand for `low + q * step` |
| `low`, `step` | of each number of a code, where they are quantised |
| `file` | `(n,)`, which file an excerpt is of |
| `page`, `channel`, `start` | where in it the excerpt begins; left out where the codes are quantised |
| `offset`, `scale` | what standardisation took out; where the codes are quantised `log2_scale`, float16 |
| `left_out` | excerpts that hold gaps and have no code, as numbers among all that the files would give |
| `about` | JSON: the cut, the files and their pages, the model's digest and path |
| `model` | the weights file itself, where it is kept nowhere else |
"""

from __future__ import annotations

import csv
import hashlib
import io as memory
import itertools
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Page, Place, Segmentation, Segments, assemble, count, places
from denoise.errors import InputError, UnreadableError, UsageError, reason
from denoise.io.atomic import replacing
from denoise.signal import SignalInfo

__all__ = ["BITS", "CodeArchive", "Codes", "embed", "load", "reconstruct", "save", "suffix_of", "write_pages"]

Floats = NDArray[np.float32]

FORMAT = 1  # raised when an archive of an older kind can no longer be read
BITS = (1, 16)  # fewest and most of a quantised number

_BAD = (ValueError, LookupError, TypeError, AttributeError, EOFError, zlib.error, zipfile.BadZipFile)
_AT_ONCE = 256  # excerpts that go through the model together


@dataclass(frozen=True)
class Codes:
    """The codes of one file.

    Args:
        name: Of the file, below the folder it was found in.
        pages: What its excerpts were cut from.
        codes: `(n, code_size)`.
        index: `(n,)`, which of all excerpts of the file each belongs to; those with gaps have none.
        offset: `(n,)`, what standardisation subtracted from each excerpt, and
        scale: `(n,)`, by what it divided then.
        squared_error: Sum over all values of what the code does not bring back, and
        energy: what is left when there is no code but the mean, both in the values of the model's input.
    """

    name: str
    pages: tuple[Page, ...]
    codes: Floats
    index: NDArray[np.int64]
    offset: Floats
    scale: Floats
    squared_error: float = math.nan
    energy: float = math.nan

    def places(self, cut: Segmentation) -> list[Place]:
        """Where each code's excerpt begins."""
        every = list(places(cut, self.pages))
        return [every[index] for index in self.index]


@dataclass(frozen=True)
class CodeArchive:
    """What an archive holds.

    Args:
        cut: How the files were cut.
        files: Their codes.
        model_digest: SHA-256 of the weights file.
        model_path: Where that was, empty if `model` holds it.
        model: Its bytes, or none.
    """

    cut: Segmentation
    files: tuple[Codes, ...]
    model_digest: str
    model_path: str = ""
    model: bytes = b""


def embed(
    path: str | Path,
    model: str | Path | tuple[AutoencoderEmbedding, Segmentation],
    options: Mapping[str, Any] | None = None,
) -> Codes:
    """The codes of one file, which is read in parts; what the codes do not bring back is measured.

    Args:
        path: An image, a recording or a sensor log.
        model: A weights file of the autoencoder family without skips, or what `AutoencoderEmbedding.load`
            made of one.
        options: For the reader, such as `columns` for a sensor log.

    Raises:
        InputError: The file cannot be read, is of another kind, or has nothing but gaps.
        UsageError: The model has no code that all passes through.
    """
    embedding, cut = model if isinstance(model, tuple) else AutoencoderEmbedding.load(model)
    excerpts = Segments(path, cut, options)
    found: list[Floats] = []
    index: list[int] = []
    levels: list[tuple[float, float]] = []
    error = energy = 0.0
    total = 0.0
    size = 0

    def encode(batch: list[Floats]) -> None:
        nonlocal error, energy, total, size
        values = np.stack(batch)
        code = embedding.transform(values)
        found.append(code)
        error += float(np.square(values - embedding.inverse_transform(code), dtype=np.float64).sum())
        energy += float(np.square(values, dtype=np.float64).sum())
        total += float(values.sum(dtype=np.float64))
        size += values.size

    batch: list[Floats] = []
    for excerpt in excerpts:
        batch.append(excerpt.values)
        index.append(excerpt.index)
        levels.append((excerpt.offset, excerpt.scale))
        if len(batch) == _AT_ONCE:
            encode(batch)
            batch = []
    if batch:
        encode(batch)
    if not found:
        raise InputError(
            f"{path}: each of its {excerpts.left_out} excerpts holds a gap; expected one without"
        )
    level = np.array(levels, np.float32)
    return Codes(
        Path(path).name,
        tuple(excerpts.pages),
        np.concatenate(found),
        np.array(index, np.int64),
        level[:, 0],
        level[:, 1],
        error,
        energy - total**2 / size,
    )


def reconstruct(codes: Codes, model: str | Path | tuple[AutoencoderEmbedding, Segmentation]) -> list[Floats]:
    """The pages of a file from its codes, in the file's units, size and rate; NaN where gaps were.

    Args:
        codes: Of one file.
        model: That made them, as for `embed`.

    Shape:
        Each as `denoise.analysis.segments.assemble` gives it: channels first.
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
    for part in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)) if len(rows) else ():
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
        path: `.npz`.
        cut: How the files were cut.
        files: Their codes.
        model: The weights file that made them.
        keep_model: Put its bytes into the archive, rather than its path.
        bits: Of each number of a code, 1 to 16, evenly from the least to the largest; None keeps float32.

    Raises:
        UsageError: `bits` is out of its range.
        OutputError: It cannot be written.
    """
    if bits is not None and not BITS[0] <= bits <= BITS[1]:
        raise UsageError(f"{bits} bits a number; expected {BITS[0]} to {BITS[1]}")
    codes = np.concatenate([file.codes for file in files])
    arrays: dict[str, NDArray[Any]] = {
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
    else:
        low, step = codes.min(axis=0), np.ptp(codes, axis=0) / (2**bits - 1)
        numbers = np.rint((codes - low) / np.where(step > 0, step, 1))
        # Number by number, and not code by code: what is alike lies together, and is packed smaller.
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
        "model_path": "" if keep_model else str(model.resolve()),
        "files": [{"name": file.name, "pages": [asdict(page) for page in file.pages]} for file in files],
    }
    text = json.dumps(about, ensure_ascii=False).encode()
    arrays["about"] = np.frombuffer(text, np.uint8)
    with replacing(path) as partial:
        _write_npz(partial, arrays)


def _write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """What `numpy.savez_compressed` does, for arrays of any name, packed as small as deflate can."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _left_out(cut: Segmentation, files: Sequence[Codes]) -> NDArray[np.int64]:
    """Numbers of the excerpts without a code, counted through all files."""
    gone, before = [], 0
    for file in files:
        every = count(cut, file.pages)
        gone.append(before + np.setdiff1d(np.arange(every), file.index))
        before += every
    return np.concatenate(gone).astype(np.int64)


def load(path: str | Path) -> CodeArchive:
    """Read what `save` wrote.

    Raises:
        UnreadableError: It is no such archive, damaged, or of another version.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays["about"].tobytes())
        if about["format"] != FORMAT:
            raise UnreadableError(f"{path}: is an archive of format {about['format']}, expected {FORMAT}")
        return _archive(arrays, about)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror}), expected codes") from error
    except (*_BAD, UsageError) as error:
        raise UnreadableError(
            f"{path}: holds no codes that can be read ({reason(error)}), expected an archive of denoise embed"
        ) from error


def _archive(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> CodeArchive:
    cut = Segmentation(**{**about["cut"], "size": tuple(about["cut"]["size"])})
    codes = arrays["codes"]
    if "step" in arrays:
        codes = arrays["low"] + codes * arrays["step"]
    codes, rows = codes.astype(np.float32), len(codes)
    scale = (
        np.exp2(arrays["log2_scale"].astype(np.float32)) if "log2_scale" in arrays else arrays.get("scale")
    )
    offset = arrays.get("offset", np.zeros(rows, np.float32))
    scale = np.ones(rows, np.float32) if scale is None else scale
    pages = [tuple(map(_page, file["pages"])) for file in about["files"]]
    counts = [count(cut, each) for each in pages]
    if not len(offset) == len(scale) == rows == sum(counts) - len(arrays["left_out"]):
        raise ValueError(f"{rows} codes for {sum(counts)} excerpts")
    present = np.setdiff1d(np.arange(sum(counts)), arrays["left_out"])
    if len(present) != rows:
        raise ValueError(f"{rows} codes for {len(present)} excerpts without gaps")
    files = []
    for file, own, number, before in zip(
        about["files"], pages, counts, itertools.accumulate(counts, initial=0), strict=False
    ):
        part = slice(*np.searchsorted(present, (before, before + number)))
        files.append(Codes(file["name"], own, codes[part], present[part] - before, offset[part], scale[part]))
    model = arrays["model"].tobytes() if "model" in arrays else b""
    return CodeArchive(cut, tuple(files), about["model_digest"], about["model_path"], model)


def _page(stored: Mapping[str, Any]) -> Page:
    return Page(**{**stored, "shape": tuple(stored["shape"]), "channels": tuple(stored["channels"])})


def suffix_of(codes: Codes, modality: str) -> str:
    """Of the file that a reconstruction becomes.

    Images become PNG of 8 bits, or TIFF where they have several pages; recordings WAV of 24 bits; sensor logs
    CSV, or NPZ where their arrays differ in length.
    """
    return _SUFFIXES[modality][len(codes.pages) > 1]


_SUFFIXES = {"image": (".png", ".tif"), "audio": (".wav", ".wav"), "sensor": (".csv", ".npz")}


def write_pages(path: Path, pages: Sequence[Floats], codes: Codes, modality: str) -> None:
    """Write what `reconstruct` gave as a file of a common format.

    Args:
        path: With the suffix that `suffix_of` names.
        pages: Of one file.
        codes: Of the same file: rates and names.
        modality: Of the same file.

    Raises:
        OutputError: It cannot be written.
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
