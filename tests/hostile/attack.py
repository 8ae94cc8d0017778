"""Read hostile files one after the other: `python attack.py SAMPLES FIRST STOP KIND`, a line for each breach.

It runs in its own process, because the breaches it detects would end the tests, too: a crash, a hang,
and exhausted memory. The number of each case is written before it starts.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from corpus import case, write_samples

from denoise import io
from denoise.errors import DenoiseError

PADDING = 2048  # samples
CASE_S = 10.0  # of processor time
ADDRESS_BYTES = 1 << 30  # allowed address space beyond that of the libraries
RESIDENT_BYTES = 400 << 20  # allowed resident memory of one case


def main(folder: Path, first: int, stop: int, kind: str) -> None:
    """Run the cases from `first` to before `stop`."""
    warnings.simplefilter("error")
    samples = write_samples(folder, kind)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.fsync = lambda _: None  # power cuts are not tested here
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in samples.items():  # late imports happen before the limit
            if problem := attempt(Path(scratch), f"sound-{name}", data):
                print(json.dumps({"case": name, "problem": f"the sample itself: {problem}"}), flush=True)
        limit = _status("VmSize") + ADDRESS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(first, stop):
            print(number, flush=True)
            name, data = case(samples, number)
            if problem := watched(Path(scratch), name, data):
                print(json.dumps({"case": name, "problem": problem}), flush=True)


def watched(folder: Path, name: str, data: bytes) -> str | None:
    """Describe the breach of a promise by one file; None if there is none."""
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    signal.setitimer(signal.ITIMER_PROF, CASE_S)  # its signal ends the process, even inside a decoder
    started = time.process_time()
    with tempfile.TemporaryFile() as noise:  # some decoders print
        saved = [os.dup(1), os.dup(2)]
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
        try:
            problem = attempt(folder, name, data)
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            for handle in saved:
                os.close(handle)
    signal.setitimer(signal.ITIMER_PROF, 0)
    taken = _status("VmHWM") - before
    if problem is None and taken > RESIDENT_BYTES:
        problem = f"it took {taken >> 20} MiB for {len(data)} bytes"
    if problem is None and time.process_time() - started > CASE_S / 4:
        problem = f"it took {time.process_time() - started:.1f} s"
    return problem


def attempt(folder: Path, name: str, data: bytes) -> str | None:
    """Read a file, write it, read it again; or get one clean sentence."""
    source, copy = folder / name, folder / f"copy-{name}"
    source.write_bytes(data)
    try:
        shapes, info = _read(source)
        copy = folder / f"copy-{io.written_name(source)}"
        with io.writer(copy, info) as sink:
            for page in range(info.pages if info.modality != "image" else 1):
                with io.reader(source, **({"recording": page} if page else {})) as blocks:
                    for block in blocks:
                        sink.write(block)
        again, _ = _read(copy)
        # A damaged table of times may show the padding of a new encoder, which is shorter than this.
        padding = again[0][-1] - shapes[0][-1] if info.modality == "audio" and info.own else 0
        if again != shapes and not 0 < padding < PADDING:
            return f"{shapes} came back as {again}"
    except DenoiseError as error:
        if Path(name).stem not in str(error) or "\n" in str(error) or not str(error).isprintable():
            return f"unclear {type(error).__name__}: {error!s}"
    except BaseException as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/denoise/" in f.filename]
        at = ours[-1] if ours else place
        return f"{type(error).__name__}: {error!s:.200} at {at.filename}:{at.lineno}"
    finally:
        left = [path for path in folder.iterdir() if path.name.endswith(".part")]
        for path in (source, copy, *left):
            path.unlink(missing_ok=True)
    return f"it left {left[0].name}" if left else None


def _read(path: Path) -> tuple[list[tuple[int, ...]], Any]:
    io.probe(path)
    with io.reader(path) as blocks:
        info = blocks.info
        shapes = [block.shape for block in blocks]
    if info.modality != "image":  # block boundaries do not matter
        return [(info.shape[0], sum(shape[1] for shape in shapes))], info
    # An alpha that is opaque everywhere need not be stored.
    return [shape[1:] for shape in shapes], info


def _status(name: str) -> int:
    """Read a size of this process, in bytes, from the kernel."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) << 10


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
