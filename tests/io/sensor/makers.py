"""Small files of instruments, made by the libraries of their fields, for the tests of formats."""

import datetime
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

START = datetime.datetime(2024, 3, 30, 22, 0)


def make_xlsx(path: Path, log: Floats, names: tuple[str, ...] = ("x", "y"), clock: bool = False) -> None:
    """Write a sheet: names, then a row for each sample of `(C, n)`, with a clock of a second if wanted."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append([*(["Time"] if clock else []), *names])
    for row, values in enumerate(log.T.tolist()):
        stamp = [START + datetime.timedelta(seconds=row)] if clock else []
        sheet.append([*stamp, *values])
    book.save(path)


def make_tdms(path: Path, log: Floats, **properties: Any) -> None:
    """Write the channels of a group, in two segments."""
    from nptdms import ChannelObject, GroupObject, RootObject, TdmsWriter

    with TdmsWriter(str(path)) as writer:
        writer.write_segment([RootObject({"author": "me"}), GroupObject("run", {"rig": 3})])
        for half in np.array_split(log, 2, axis=1):
            channels = [
                ChannelObject("run", name, np.ascontiguousarray(values), properties)
                for name, values in zip("xy", half, strict=False)
            ]
            writer.write_segment(channels)


def make_mseed(path: Path, log: NDArray[Any], rate_hz: float = 100.0, pause_s: float = 0.0) -> None:
    """Write a trace of each channel, packed as Steim-2 if its numbers are whole; a pause splits them."""
    import pymseed

    kind, encoding = ("i", pymseed.DataEncoding.STEIM2) if log.dtype.kind == "i" else ("d", 5)
    path.unlink(missing_ok=True)
    for name, values in zip("ZN", log, strict=False):
        for number, part in enumerate(np.array_split(values, 2 if pause_s else 1)):
            with pymseed.MS3TraceList() as traces:
                start = START.replace(tzinfo=datetime.UTC).timestamp()
                start += number * (part.size / rate_hz + pause_s)
                part = np.ascontiguousarray(part)
                traces.add_data(f"FDSN:XX_STA__B_H_{name}", part, kind, rate_hz, starttime_seconds=start)
                traces.to_file(path, max_record_length=512, encoding=pymseed.DataEncoding(encoding))


def make_fif(path: Path, log: Floats, rate_hz: float = 100.0) -> None:
    """Write two EEG channels (in volts) and a trigger."""
    import mne

    info = mne.create_info(["Cz", "Pz", "STI"], rate_hz, ["eeg", "eeg", "stim"], verbose="error")
    trigger = np.zeros((1, log.shape[1]))
    trigger[0, 50] = 3
    raw = mne.io.RawArray(np.concatenate([log, trigger]), info, verbose="error")
    raw.save(path, fmt="double", overwrite=True, verbose="error")


def make_fit(path: Path, power: NDArray[Any], second: NDArray[Any] | None = None) -> None:
    """Write an activity: a record a second with heart rate, cadence and power (FIT protocol 2.0).

    Args:
        second: Another power in the same records.
    """
    from fitdecode.utils import compute_crc

    def message(number: int, fields: list[tuple[int, int, int]]) -> bytes:
        head = struct.pack("<BBBHB", 0x40, 0, 0, number, len(fields))
        return head + b"".join(struct.pack("BBB", *field) for field in fields)

    powers = np.stack([power] if second is None else [power, second], axis=1).tolist()
    fields = [(253, 4, 0x86), (3, 1, 0x02), (4, 1, 0x02), *[(7, 2, 0x84)] * len(powers[0])]
    body = message(20, fields)  # record
    epoch = datetime.datetime(1989, 12, 31)
    start = int((START - epoch).total_seconds())
    for row, values in enumerate(powers):
        body += struct.pack(f"<BIBB{len(values)}H", 0, start + row, 120 + row // 60, 85, *values)
    head = struct.pack("<BBHI4s", 14, 0x20, 2100, len(body), b".FIT")
    head += struct.pack("<H", compute_crc(head))
    path.write_bytes(head + body + struct.pack("<H", compute_crc(head + body)))
