"""The errors of this project, as one tree.

    DenoiseError
    ├── UsageError          the call itself is wrong: unknown name, bad option, bad spec text
    ├── InputError          one file or array cannot be cleaned; the rest of a batch continues
    │   ├── UnreadableError     damaged, truncated, empty, no permission, or data of another kind
    │   ├── UnsupportedError    readable, but of a kind that is not handled
    │   ├── TooLargeError       above a stated limit
    │   ├── NothingToCleanError a log whose columns are all of kinds that must not change
    │   └── UnfitReferenceError the noise-free file to measure it by is of another kind or shape
    ├── OutputError         a result could not be written; no partial file is left
    │   └── StorageError        the disk is full, gone or failing, so other results would fail too
    └── WeightsError        a weights file of another format, version or model

A message is one sentence: the file, what was found, what was expected.
"""

from __future__ import annotations

__all__ = [
    "DenoiseError",
    "InputError",
    "NothingToCleanError",
    "OutputError",
    "StorageError",
    "TooLargeError",
    "UnfitReferenceError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "WeightsError",
    "printable",
    "reason",
]


class DenoiseError(Exception):
    """Base of all errors that are raised on purpose."""


class UsageError(DenoiseError):
    """The call is wrong, whatever the files hold."""


class InputError(DenoiseError):
    """One file or array cannot be cleaned."""


class UnreadableError(InputError):
    """The file is damaged, of another kind, or cannot be read."""


class UnsupportedError(InputError):
    """The file is sound, but of a kind that is not handled."""


class TooLargeError(InputError):
    """The file is above a stated limit."""


class NothingToCleanError(InputError):
    """A log holds numbers, but none that a filter may change."""


class UnfitReferenceError(InputError):
    """A noise-free file is of another kind or shape than the file to measure, or cannot be read."""


class OutputError(DenoiseError):
    """A result could not be written."""


class StorageError(OutputError):
    """The disk of the results is full, gone or failing."""


class WeightsError(DenoiseError):
    """A weights file cannot be used."""


_MAX_REASON = 200  # letters


def reason(error: BaseException) -> str:
    """Shorten a library's error for a sentence: the start of its first line, without control characters.

    Decoders quote invalid bytes, which on a terminal could be commands.
    """
    said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
    text = next(iter(said.strip().splitlines()), "") or type(error).__name__
    return printable(text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}...")


def printable(text: str) -> str:
    """Replace each line end and control character, which may come from a file, by a question mark."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def counted(number: int, noun: str) -> str:
    """Format a number of things, such as `1 file` or `3 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
