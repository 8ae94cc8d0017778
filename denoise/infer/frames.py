"""Tables of pandas and polars, recognised by their type: no library is imported that the caller has not.

A `Table` gives the columns of any of them as numbers, and puts cleaned columns into a copy of the same type,
with the same index, names and dtypes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise.analysis.estimator import LIBRARIES
from denoise.arrays import Doubles, with_gaps
from denoise.errors import InputError, NothingToCleanError
from denoise.io.sensor.base import LogOptions
from denoise.io.sensor.columns import choose, find_clock
from denoise.io.sensor.npy import MAX_CHANNELS_FIRST
from denoise.io.sensor.survey import ColumnSurvey
from denoise.signal import SECONDS


def library_of(table: object) -> str:
    """Name the library of a frame or series; empty for others."""
    name = type(table).__module__.partition(".")[0]
    return name if name in LIBRARIES and type(table).__name__ in ("DataFrame", "Series") else ""


def _is_frame(table: object) -> bool:
    return type(table).__name__ == "DataFrame"


@dataclass(frozen=True)
class Table:
    """A table, column by column."""

    source: Any  # what the caller gave
    library: str  # `pandas`, `polars`, or empty for an array
    names: tuple[str, ...] | None  # names of the columns; None for those of an array
    columns: Sequence[Doubles | None]  # numbers of each column; None for columns of other things
    surveys: Sequence[ColumnSurvey] = ()  # statistics of each column of a frame; empty for an array
    index: ColumnSurvey | None = None  # statistics of a pandas index of stamps, if there is one

    @property
    def is_series(self) -> bool:
        """True for one column without a table around it."""
        return bool(self.library) and not _is_frame(self.source)

    def with_columns(self, new: Mapping[int, Doubles]) -> Any:
        """Copy the table, with some columns replaced."""
        if not self.library:
            out = np.array(np.stack([column for column in self.columns if column is not None], axis=1))
            for index, values in new.items():
                out[:, index] = values
            return out
        replace = _pandas_with if self.library == "pandas" else _polars_with
        return replace(self.source, new, self.is_series)


def table_of(table: Any) -> Table:
    """Open a table: an array `(samples, features)`, or a frame or series of pandas or polars.

    Raises:
        InputError: It is no table of numbers, or its axes are those of channels and samples.
    """
    library = library_of(table)
    if library:
        read = _read_pandas if library == "pandas" else _read_polars
        found = read(table)
        if not found.columns or not len(table):
            raise InputError(f"X is an empty table of shape {table.shape}; expected samples x features")
        return found
    if hasattr(table, "toarray"):  # of scipy
        raise InputError("X is sparse; expected an array: give X.toarray()")
    if hasattr(table, "collect"):  # of polars
        raise InputError("X is a lazy frame; expected a frame in memory: give X.collect()")
    array = with_gaps(table)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"X contains a value that is not a number: {error}; expected real numbers"
            ) from error
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: X is an array of {array.dtype}; expected real numbers")
    if array.ndim == 1:
        raise InputError(
            f"X has one axis, of {len(array)} numbers; expected samples x features. "
            "Reshape your data: X[:, None] is one signal"
        )
    if array.ndim == 2 and not array.shape[1]:
        raise InputError(f"X has 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    if array.ndim != 2 or array.dtype.kind not in "iufb" or not array.size:
        raise InputError(
            f"X is an array of {array.dtype} of shape {array.shape}; "
            "expected real numbers, samples x features"
        )
    samples, features = array.shape
    if 1 < samples <= MAX_CHANNELS_FIRST and samples * 8 < features:
        raise InputError(
            f"X has shape {array.shape}, which looks like {samples} channels of {features} samples; "
            "expected samples x features: give X.T"
        )
    return Table(table, "", None, list(array.astype(np.float64).T))


def measurements(
    table: Table, columns: Iterable[str] | None = None, exclude: Iterable[str] = ()
) -> tuple[int, ...]:
    """Select the columns to clean, as the command line does for a log; of an array or a series, all.

    Args:
        table: Any table.
        columns: Names or globs of the columns to clean; None takes the measurements.
        exclude: Names or globs of columns to leave as they are.

    Raises:
        InputError: It is a series without numbers.
        UsageError: There is no column of such a name.
    """
    if not table.library or table.is_series:
        if table.columns[0] is None:
            raise InputError(f"X is a series of {table.surveys[0].reject_reason}; expected real numbers")
        return tuple(range(len(table.columns)))
    clock = find_clock(table.surveys)
    for survey in table.surveys:
        if survey.stamp_type and survey.numeric:  # stamps are no measurements
            survey.numeric, survey.reject_reason = False, survey.stamp_type
    options = LogOptions(columns=columns, exclude=exclude, only_measurements=True)
    try:
        return choose(Path("X"), table.surveys, clock, options)
    except NothingToCleanError:
        return ()


def rate_of(table: Table) -> float | None:
    """Return the sample rate of the stamps of a table, in its index or a column; None without stamps."""
    stamps = [survey for survey in table.surveys if survey.stamp_type]
    for surveys in ([table.index] if table.index else [], stamps, table.surveys):
        for survey in surveys:
            survey.numeric = survey.numeric or bool(survey.stamp_type)
        clock = find_clock(surveys)
        if clock:
            return clock.sample_rate
    return None


def as_frame(table: Any, library: str, names: Sequence[str]) -> Any:
    """Convert a result to a frame of a library; a frame or series of it stays as it is."""
    found = library_of(table)
    if found == library:
        return table
    module: Any = importlib.import_module(library)
    if not found:
        return module.DataFrame({name: table[:, index] for index, name in enumerate(names)})
    if not _is_frame(table):
        return module.Series(
            name=table.name, **{"data" if library == "pandas" else "values": table.to_numpy()}
        )
    columns = [table[name] for name in table.columns]
    return module.DataFrame({str(column.name): column.to_numpy() for column in columns})


# ---- pandas ----------------------------------------------------------------------------------------------


def _read_pandas(table: Any) -> Table:
    pandas: Any = importlib.import_module("pandas")
    types = pandas.api.types
    series = [table] if not _is_frame(table) else [table.iloc[:, place] for place in range(table.shape[1])]
    names = tuple("" if column.name is None else str(column.name) for column in series)
    columns: list[Doubles | None] = []
    surveys = []
    for name, column in zip(names, series, strict=True):
        dtype, values = column.dtype, None
        if (
            types.is_numeric_dtype(dtype)
            and not types.is_bool_dtype(dtype)
            and not types.is_complex_dtype(dtype)
        ):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        columns.append(values)
        is_stamp = types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype)
        surveys.append(_survey(name, values, _seconds(column) if is_stamp else None, str(dtype)))
    stamps = isinstance(table.index, pandas.DatetimeIndex | pandas.TimedeltaIndex)
    index = _survey("index", None, _seconds(table.index.to_series()), "time") if stamps else None
    return Table(table, "pandas", names, columns, surveys, index)


def _seconds(stamps: Any) -> Doubles:
    """Seconds since the first stamp; NaN for a missing one."""
    known = stamps.dropna()
    if known.empty:
        return np.full(len(stamps), np.nan)
    return np.asarray((stamps - known.iloc[0]).dt.total_seconds().to_numpy(dtype=np.float64))


def _pandas_with(table: Any, new: Mapping[int, Doubles], is_series: bool) -> Any:
    pandas: Any = importlib.import_module("pandas")

    def column(old: Any, values: Doubles) -> Any:
        is_whole = pandas.api.types.is_integer_dtype(old.dtype)
        floats = pandas.Series(np.rint(values) if is_whole else values, index=old.index, name=old.name)
        return floats.astype(old.dtype)

    if is_series:
        return column(table, new[0]) if new else table.copy()
    out = table.copy()
    for index, values in new.items():
        out.isetitem(index, column(table.iloc[:, index], values))
    return out


# ---- polars ----------------------------------------------------------------------------------------------


def _read_polars(table: Any) -> Table:
    polars: Any = importlib.import_module("polars")
    series = table.get_columns() if _is_frame(table) else [table]
    columns: list[Doubles | None] = []
    surveys = []
    for column in series:
        is_number = column.dtype.is_numeric()
        values = column.cast(polars.Float64).to_numpy().astype(np.float64) if is_number else None
        columns.append(values)
        seconds = None
        if isinstance(column.dtype, polars.Datetime | polars.Duration):
            ticks = column.to_physical().cast(polars.Float64).to_numpy().astype(np.float64)
            seconds = (ticks - np.nanmin(ticks)) * SECONDS[column.dtype.time_unit]
        surveys.append(_survey(column.name, values, seconds, str(column.dtype)))
    return Table(table, "polars", tuple(column.name for column in series), columns, surveys)


def _polars_with(table: Any, new: Mapping[int, Doubles], is_series: bool) -> Any:
    polars: Any = importlib.import_module("polars")

    def column(old: Any, values: Doubles) -> Any:
        whole = np.rint(values) if old.dtype.is_integer() else values
        return polars.Series(old.name, whole, nan_to_null=old.null_count() > 0).cast(old.dtype)

    if is_series:
        return column(table, new[0]) if new else table.clone()
    parts = table.get_columns()
    return polars.DataFrame([column(old, new[i]) if i in new else old for i, old in enumerate(parts)])


def _survey(name: str, values: Doubles | None, seconds: Doubles | None, dtype: str) -> ColumnSurvey:
    survey = ColumnSurvey(name, "s" if seconds is not None else None, dtype if seconds is not None else "")
    survey.numeric = values is not None or seconds is not None
    survey.reject_reason = "" if survey.numeric else dtype
    given = seconds if seconds is not None else values
    if given is not None:
        survey.add(given)
    return survey
