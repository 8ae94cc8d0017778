"""What can go wrong, as one tree.

    DenoiseError
    ├── UsageError          the call itself is wrong: unknown name, bad option, bad spec text
    ├── InputError          one file or array cannot be cleaned; the rest of a batch goes on
    │   ├── UnreadableError     not what its name says, truncated, empty, no permission
    │   ├── UnsupportedError    readable, but of a kind that is not handled
    │   └── TooLargeError       above a stated limit
    ├── OutputError         a result could not be written; nothing half-written is left
    │   └── StorageError        the disk is full, gone or failing: no other result would fare better
    └── WeightsError        a weights file of another format, version or model

Messages are one sentence: the file, what was found, what was expected.
"""

from __future__ import annotations

__all__ = [
    "DenoiseError",
    "InputError",
    "OutputError",
    "StorageError",
    "TooLargeError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "WeightsError",
    "printable",
    "reason",
]


class DenoiseError(Exception):
    """The root: catch this to catch everything that is raised on purpose."""


class UsageError(DenoiseError):
    """The call is wrong, whatever the files hold."""


class InputError(DenoiseError):
    """One file or array cannot be cleaned."""


class UnreadableError(InputError):
    """The bytes are not what they claim to be, or cannot be had."""


class UnsupportedError(InputError):
    """The file is sound, but of a kind that is not handled."""


class TooLargeError(InputError):
    """The file is above a stated limit."""


class OutputError(DenoiseError):
    """A result could not be written."""


class StorageError(OutputError):
    """The place that results go to takes no more."""


class WeightsError(DenoiseError):
    """A weights file cannot be used."""


def reason(error: BaseException) -> str:
    """What a library's error says, fit for a sentence: its first line, and no control characters.

    Decoders quote the bytes that they stumble over; on a terminal those would be commands.
    """
    return printable(next(iter(str(error).strip().splitlines()), "") or type(error).__name__)


def printable(text: str) -> str:
    """The text with a question mark for each line end and control character, which files may put into it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
