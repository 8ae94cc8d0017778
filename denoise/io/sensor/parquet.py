"""Parquet tables, through pyarrow (the extra `parquet`).

Schema, metadata, row groups and compression are kept; nulls and NaN are gaps and come back as they were.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import TooLargeError, UnreadableError, UsageError, reason
from denoise.io.limits import fits
from denoise.io.sensor.clock import Clock
from denoise.io.sensor.columns import (
    BLOCK,
    ColumnSurvey,
    SensorReader,
    SensorWriter,
    Wanted,
    changed_samples,
    check_page,
    choose,
    describe,
    find_clock,
    fit_dtype,
)
from denoise.signal import SignalInfo

__all__ = ["FORMAT"]

_PACKING = {"UNCOMPRESSED": "NONE"}  # pyarrow's names on reading that it does not take on writing

Array = NDArray[Any]
Floats = NDArray[np.float64]


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: Parquet needs pyarrow, which is not installed; expected the extra: "
            "pip install 'denoise-pipelines[parquet]'"
        ) from error
    return pyarrow


def _open(path: Path) -> Any:
    pyarrow = _pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UnreadableError(f"{path}: {reason(error)}; expected a Parquet table") from error


def _values(column: Any) -> tuple[Array, NDArray[np.bool_]]:
    """A column's numbers in its own dtype, and where they are null."""
    null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    filled = column.fill_null(0) if null.any() else column
    return np.asarray(filled.to_numpy(zero_copy_only=False)), null


def _floats(column: Any) -> Floats:
    """A column's numbers, nulls as NaN; stamps as their count since 1970."""
    pyarrow = _pyarrow(Path())
    kind = column.type
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_time64(kind) or pyarrow.types.is_duration(kind):
        column = column.cast(pyarrow.int64())
    elif pyarrow.types.is_time32(kind):
        column = column.cast(pyarrow.int32())
    values, null = _values(column)
    out = values.astype(np.float64)
    out[null] = np.nan
    return out


def _batches(path: Path, names: list[str] | None = None) -> Iterator[Any]:
    pyarrow = _pyarrow(path)
    with _open(path) as table:
        try:
            yield from table.iter_batches(batch_size=BLOCK, columns=names)
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableError(f"{path}: {reason(error)}; expected a sound Parquet table") from error


def _survey(path: Path, wanted: Wanted) -> SignalInfo:
    types = _pyarrow(path).types
    with _open(path) as table:
        schema, rows = table.schema_arrow, table.metadata.num_rows
    looks = []
    for field in schema:
        is_time = types.is_timestamp(field.type) or types.is_time(field.type) or types.is_duration(field.type)
        look = ColumnSurvey(field.name, field.type.unit if is_time else None, is_time)
        look.numeric = is_time or types.is_integer(field.type) or types.is_floating(field.type)
        look.why_not = "" if look.numeric else str(field.type)
        looks.append(look)
    if not rows:
        raise UnreadableError(f"{path}: a table without rows; expected samples")
    held = path.stat().st_size
    if not fits(rows * len(looks) * np.dtype(np.float64).itemsize, held):
        raise TooLargeError(
            f"{path}: {rows} rows of {len(looks)} columns in {held} bytes, which cannot hold so much; "
            "expected measurements"
        )
    seen = 0
    for batch in _batches(path):
        for look, column in zip(looks, batch.columns, strict=True):
            if look.numeric:
                values = _floats(column)
                if np.isinf(values).any() and not look.infinite:
                    look.infinite = f"row {seen + int(np.argmax(np.isinf(values)))}"
                look.add(values)
        seen += batch.num_rows
    clock = find_clock(looks, wanted.time_unit)
    for look, field in zip(looks, schema, strict=True):
        if look.numeric and not (types.is_integer(field.type) or types.is_floating(field.type)):
            look.numeric, look.why_not = False, str(field.type)
    chosen = choose(path, looks, clock, wanted)
    given = wanted.sample_rate
    return SignalInfo(
        source=path,
        modality="sensor",
        shape=(len(chosen), rows),
        dtype="float64",
        peak=None,
        sample_rate=given or (clock.sample_rate if clock else None),
        notes=describe(looks, chosen, clock, given),
        extra={
            "names": tuple(schema.names),
            "columns": tuple(schema.names[index] for index in chosen),
            "time_column": clock.name if clock else None,
            "time_unit": clock.unit if clock else None,
            "clock": clock,
            "chosen": chosen,
        },
    )


class ParquetReader(SensorReader):
    """Reads the chosen columns of a table."""

    def pieces(self) -> Iterator[Floats]:
        """One piece a batch."""
        for batch in _batches(self.info.source):
            yield np.stack([_floats(batch.column(index)) for index in self.info.extra["chosen"]])

    def stamp_pieces(self, clock: Clock) -> Iterator[Floats]:
        """One piece a batch."""
        for batch in _batches(self.info.source, [clock.name]):
            yield _floats(batch.column(0))[None]


class ParquetWriter(SensorWriter):
    """Writes the table again, row group by row group, with the chosen columns replaced."""

    def __init__(self, path: Path, info: SignalInfo) -> None:
        super().__init__(path, info, info.shape[1])
        self._held: list[Floats] = []  # samples of the row group that is not yet whole
        self._group = 0
        self._changed = False

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Open the source, and a table of the same schema."""
        pyarrow = _pyarrow(self.path)
        self._temporary = temporary
        self._source = stack.enter_context(_open(self.info.source))
        metadata = self._source.metadata
        chunks = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
        self._table = stack.enter_context(
            pyarrow.parquet.ParquetWriter(
                temporary,
                self._source.schema_arrow,
                compression={
                    chunk.path_in_schema: _PACKING.get(chunk.compression, chunk.compression)
                    for chunk in chunks
                },
                version=metadata.format_version,
            )
        )

    def put(self, block: Floats) -> None:
        """Take the next samples; write each row group that they complete."""
        self.check_channels(block, self.info.shape[0])
        self._held.append(block.copy())
        while self._group < self._source.num_row_groups:
            rows = self._source.metadata.row_group(self._group).num_rows
            if sum(part.shape[1] for part in self._held) < rows:
                return
            values = np.concatenate(self._held, axis=1)
            self._held = [values[:, rows:]]
            self._write_group(values[:, :rows])
            self._group += 1

    def finish(self) -> None:
        """Give the source back byte for byte if nothing changed."""
        self._table.close()
        if not self._changed:
            shutil.copyfile(self.info.source, self._temporary)

    def _write_group(self, values: Floats) -> None:
        pyarrow = _pyarrow(self.path)
        table = self._source.read_row_group(self._group)
        for index, new in zip(self.info.extra["chosen"], values, strict=True):
            field, column = table.schema.field(index), table.column(index).combine_chunks()
            old, null = _values(column)
            changed = changed_samples(_floats(column), new)
            if not changed.any():
                continue
            self._changed = True
            gap = changed & np.isnan(new)
            fitted, clipped = fit_dtype(new[changed & ~gap], old.dtype, self.path)
            self.clipped += clipped
            out = old.copy()
            out[changed & ~gap] = fitted
            null = (null & ~changed) | gap
            table = table.set_column(index, field, pyarrow.array(out, type=field.type, mask=null))
        self._table.write_table(table, row_group_size=max(table.num_rows, 1))


def _reader(path: Path, wanted: Wanted, page: int, block: int) -> ParquetReader:
    check_page(path, page, 1)
    return ParquetReader(_survey(path, wanted), block)


def _writer(path: Path, info: SignalInfo) -> ParquetWriter:
    return ParquetWriter(path, info)


FORMAT: Any = SimpleNamespace(reader=_reader, writer=_writer)
