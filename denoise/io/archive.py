"""Arrays of a `.npz` that is no sensor log: codes, labelled tables, prepared recordings."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from denoise.arrays import Array
from denoise.errors import DenoiseError, UnreadableError, reason
from denoise.io.limits import require_few, require_plausible_size


def arrays_of(path: Path, expected: str) -> dict[str, Array]:
    """Read the arrays of a `.npz` by name, none of which may hold pickled objects.

    Args:
        expected: What it should hold, for the message.

    Raises:
        UnreadableError: It is no such file, or damaged.
        TooLargeError: It unpacks to a hundredfold.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe never ends
            raise UnreadableError(f"{path}: is no regular file, expected {expected}")
        with zipfile.ZipFile(path) as parts:
            require_few(len(parts.infolist()), "arrays", f"{path}: ")
            size = sum(part.file_size for part in parts.infolist())
        require_plausible_size(size, path.stat().st_size, f"{size / 1e6:.0f} MB of arrays", f"{path}: ")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UnreadableError(
            f"{path}: cannot be read ({error.strerror or reason(error)}), expected {expected}"
        ) from error
    except DenoiseError:
        raise
    except Exception as error:  # numpy and zipfile let through those of tokenize, ast, zlib and struct
        raise UnreadableError(f"{path}: cannot be read ({reason(error)}), expected {expected}") from error
