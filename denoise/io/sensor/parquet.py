"""Parquet tables, through pyarrow (the extra `parquet`).

Schema, metadata, row groups, encodings and compression are kept; nulls and NaN are gaps and stay as they are.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Array, Doubles, Mask
from denoise.errors import UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few, require_plausible_size
from denoise.io.sensor.base import (
    BLOCK,
    LogOptions,
    SensorFormat,
    SensorReader,
    SensorWriter,
    changed_samples,
    check_recording,
    fit_dtype,
    naming_damage,
    with_gaps,
)
from denoise.io.sensor.columns import table_info
from denoise.io.sensor.survey import ColumnSurvey
from denoise.signal import Clock, SensorInfo

_ENCODINGS = frozenset(
    {"BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"}
)
_PACKING = {"UNCOMPRESSED": "NONE"}  # pyarrow reads one name and writes another


def _pyarrow(path: Path) -> Any:
    pyarrow = optional_package("Parquet", f"{path}: ")
    importlib.import_module("pyarrow.parquet")
    return pyarrow


def _open(path: Path) -> Any:
    pyarrow = _pyarrow(path)
    with naming_damage(str(path), "a Parquet table"):
        return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)


def _values(column: Any) -> tuple[Array, Mask]:
    """Read a column's numbers in its own dtype, and a mask of nulls."""
    null = np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    filled = column.fill_null(0) if null.any() else column
    return np.asarray(filled.to_numpy(zero_copy_only=False)), null


def _floats(column: Any) -> Doubles:
    """Read a column's numbers, nulls as NaN; stamps as their count since 1970."""
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
    with _open(path) as table, naming_damage(str(path), "a sound Parquet table"):
        yield from table.iter_batches(batch_size=BLOCK, columns=names)


def _survey(path: Path, options: LogOptions) -> SensorInfo:
    types = _pyarrow(path).types
    with _open(path) as table:
        schema, rows = table.schema_arrow, table.metadata.num_rows
        require_few(len(schema), "columns", f"{path}: ")
        # Not of each column: pyarrow ends the process where the statistics of one are damaged.
        unpacked = sum(table.metadata.row_group(n).total_byte_size for n in range(table.num_row_groups))
    require_plausible_size(unpacked, path.stat().st_size, f"{unpacked} bytes of cells", f"{path}: ")
    surveys = []
    for field in schema:
        is_time = types.is_timestamp(field.type) or types.is_time(field.type) or types.is_duration(field.type)
        survey = ColumnSurvey(
            field.name, field.type.unit if is_time else None, str(field.type) if is_time else ""
        )
        survey.numeric = is_time or types.is_integer(field.type) or types.is_floating(field.type)
        survey.reject_reason = "" if survey.numeric else str(field.type)
        surveys.append(survey)
    if not rows:
        raise UnreadableError(f"{path}: a table without rows; expected samples")
    claim, claimed_bytes = f"{rows} rows of {len(surveys)} columns", rows * len(surveys) * 8
    require_plausible_size(claimed_bytes, path.stat().st_size, claim, f"{path}: ")
    seen = 0
    for batch in _batches(path):
        for survey, column in zip(surveys, batch.columns, strict=True):
            if survey.numeric:
                values = _floats(column)
                if np.isinf(values).any() and not survey.infinite:
                    survey.infinite = f"row {seen + int(np.argmax(np.isinf(values)))}"
                survey.add(values)
        seen += batch.num_rows
    info, chosen = table_info(path, surveys, rows, options)
    return replace(info, own=chosen)


class ParquetReader(SensorReader):
    """Reads the chosen columns of a table."""

    def pieces(self) -> Iterator[Doubles]:
        """Yield one piece for each batch."""
        for batch in _batches(self.info.source):
            yield np.stack([_floats(batch.column(index)) for index in self.info.own])

    def stamp_pieces(self, clock: Clock) -> Iterator[Doubles]:
        """Yield one piece for each batch."""
        for batch in _batches(self.info.source, [clock.name]):
            yield _floats(batch.column(0))[None]


class ParquetWriter(SensorWriter):
    """Writes the table again, row group by row group, with the chosen columns replaced."""

    def __init__(self, path: Path, info: SensorInfo) -> None:
        super().__init__(path, info, [(info.shape[0], info.shape[1])])
        self._held: list[Doubles] = []  # samples of the incomplete row group
        self._group = 0
        self._changed = False

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Open the source, and a table of the same schema."""
        pyarrow = _pyarrow(self.path)
        self._temporary = temporary
        self._source = stack.enter_context(_open(self.info.source))
        metadata = self._source.metadata
        group = metadata.row_group(0)
        chunks = [group.column(index) for index in range(metadata.num_columns)]
        cleaned = {self._source.schema_arrow.names[index] for index in self.info.own}
        order = takewhile(
            lambda by: chunks[by.column_index].path_in_schema not in cleaned, group.sorting_columns
        )
        distinct = {"ndv": max(group.num_rows, 1)}
        filtered = {
            chunk.path_in_schema: distinct for chunk in chunks if getattr(chunk, "bloom_filter_length", None)
        }
        in_dictionary = {chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page}
        encodings = {
            chunk.path_in_schema: encoding
            for chunk in chunks
            for encoding in _ENCODINGS.intersection(chunk.encodings)
            if chunk.path_in_schema not in in_dictionary
        }
        physical = {chunk.physical_type for chunk in chunks}
        decimals = {
            schema.column(n).physical_type
            for n in range(metadata.num_columns)
            if (schema := metadata.schema).column(n).logical_type.type == "DECIMAL"
        }
        self._table = stack.enter_context(
            pyarrow.parquet.ParquetWriter(
                temporary,
                self._source.schema_arrow,
                compression={
                    chunk.path_in_schema: _PACKING.get(chunk.compression, chunk.compression)
                    for chunk in chunks
                },
                use_dictionary=[*in_dictionary] if group.num_rows else True,
                column_encoding=encodings or None,
                version=metadata.format_version,
                sorting_columns=[*order] or None,
                write_page_index=any(chunk.has_column_index for chunk in chunks),
                use_deprecated_int96_timestamps="INT96" in physical,
                **({"store_decimal_as_integer": True} if decimals & {"INT32", "INT64"} else {}),
                **({"bloom_filter_options": filtered} if filtered else {}),
            )
        )

    def put(self, block: Doubles, _recording: int, _start: int) -> None:
        """Write each row group that the next samples complete."""
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
        """Add the metadata that is not of the schema; copy the source byte for byte if nothing changed."""
        of_schema = {b"ARROW:schema", *(self._source.schema_arrow.metadata or {})}
        added = {k: v for k, v in (self._source.metadata.metadata or {}).items() if k not in of_schema}
        if added:
            self._table.add_key_value_metadata(added)
        self._table.close()
        if not self._changed:
            shutil.copyfile(self.info.source, self._temporary)

    def _write_group(self, values: Doubles) -> None:
        pyarrow = _pyarrow(self.path)
        table = self._source.read_row_group(self._group)
        for index, new, domain in zip(self.info.own, values, self.info.domains, strict=True):
            field, column = table.schema.field(index), table.column(index).combine_chunks()
            old, null = _values(column)
            changed = changed_samples(with_gaps(_floats(column), domain), new)
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


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> ParquetReader:
    check_recording(path, recording, 1)
    return ParquetReader(_survey(path, options), block)


FORMAT = SensorFormat(_reader, ParquetWriter)
