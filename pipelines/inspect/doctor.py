"""Check the installation: its parts, and one small file of each kind."""

from __future__ import annotations

import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import denoise
from denoise import io, weights
from denoise.arrays import Doubles
from denoise.errors import DenoiseError, reason
from denoise.io.formats import FORMATS
from denoise.machine import available_bytes, cores, memory_bytes
from denoise.options import CleanOptions
from denoise.signal import MODALITIES, SignalInfo
from pipelines.batch import run as batch
from pipelines.batch.forecast import bytes_text
from pipelines.batch.jobs import CleanJob
from pipelines.batch.store import Local
from pipelines.inspect.verify import FAULTS, verify

_PACKAGE = "denoise-pipelines"
_MIN_BYTES = 1 << 29  # of memory and of disk: a large photo needs more


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str  # subject of the check
    ok: bool  # true if it passed
    found: str  # the facts, or the problem


class _ProblemError(Exception):
    """A failed check; the message says why."""


def examine() -> Iterator[Check]:
    """Check everything that cleaning needs, without network and without leaving files behind."""
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: f"{platform.python_version()} on {platform.platform()}",
        "packages": _packages,
        "extras": _extras,
        "torch": _torch,
        "machine": _machine,
        "disk": _disk,
        "codecs": _codecs,
        **{f"model {name}": partial(_model, path) for name, path in weights.pretrained().items()},
        **{f"self-test {modality}": partial(_self_test, modality) for modality in MODALITIES},
    }
    for name, check in checks.items():
        try:
            yield Check(name, True, check())
        except (_ProblemError, DenoiseError) as error:
            yield Check(name, False, str(error))
        except Exception as error:  # the other checks still run
            yield Check(name, False, f"unexpected {type(error).__name__}: {reason(error)}")


# ---- installed packages -----------------------------------------------------------------------------------


def _required() -> Mapping[str, list[str]]:
    """Names of packages by the extra that needs them; the empty name holds the required ones."""
    found: dict[str, list[str]] = {"": []}
    try:
        requirements = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise _ProblemError(f"{_PACKAGE} is not installed, expected: pip install {_PACKAGE}") from error
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)", requirement)
        if name and name[0] != _PACKAGE:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> str:
    versions = {name: _version(name) for name in _required()[""]}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        raise _ProblemError(f"not installed: {', '.join(missing)}; expected: pip install {_PACKAGE}")
    versions = {"denoise": denoise.__version__, **versions}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _extras() -> str:
    extras = {extra: names for extra, names in _required().items() if extra not in ("", "dev")}
    sides: dict[str, list[str]] = {"installed": [], "not installed": []}
    for extra, names in extras.items():
        sides["installed" if all(map(_version, names)) else "not installed"].append(extra)
    return "; ".join(f"{side}: {', '.join(names)}" for side, names in sides.items() if names) or "none"


def _torch() -> str:
    import torch

    cuda = torch.version.cuda
    build = f"CUDA {cuda} build, of which the CPU is used" if cuda else "CPU build"
    fast = "with" if torch.backends.mkldnn.is_available() else "without"  # type: ignore[no-untyped-call]
    level = torch.backends.cpu.get_cpu_capability()
    return f"{torch.__version__}, {build}, {torch.get_num_threads()} threads, {level}, {fast} oneDNN"


# ---- the machine -----------------------------------------------------------------------------------------


def _machine() -> str:
    available = available_bytes()
    if available is not None and available < _MIN_BYTES:
        raise _ProblemError(f"{bytes_text(available)} of memory left, expected {bytes_text(_MIN_BYTES)}")
    return machine_text()


def machine_text() -> str:
    """Describe what this process may use, in a container what its limits leave."""
    available, cores_text = available_bytes(), f"{cores()} core{'s' * (cores() != 1)}"
    if available is None:
        return cores_text
    return f"{cores_text}, {bytes_text(available)} of {bytes_text(memory_bytes())} memory left"


def _disk() -> str:
    facts = []
    for name, path in (("working folder", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        size = Local(path).free_bytes()
        facts.append(f"{name} {path}: {'?' if size is None else bytes_text(size)} left")
        if size is not None and size < _MIN_BYTES:
            raise _ProblemError(f"{facts[-1]}, expected {bytes_text(_MIN_BYTES)}")
    return ", ".join(facts)


def _codecs() -> str:
    """Write and read a small file in every writable format whose package is installed."""
    import PIL
    import soundfile

    kinds = [
        row
        for row in FORMATS.values()
        if row.modality != "sensor" and row.writable and (not row.package or find_spec(row.package))
    ]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"sample{kind.suffixes[0]}"
            try:
                _write(path, kind.modality, _SAMPLES[kind.modality](), _CODEC_RATE_HZ)
                io.read(path)
            except DenoiseError as error:
                failed.append(f"{kind.name} ({error})")
    if failed:
        raise _ProblemError(f"these do not work: {'; '.join(failed)}")
    names = ", ".join(kind.name for kind in kinds)
    return f"{names}; by Pillow {PIL.__version__}, libsndfile {soundfile.__libsndfile_version__}"


def _model(path: Path) -> str:
    weights.verify(path)
    return f"whole, and it runs; sha256 {weights.digest(path)}"


# ---- the work itself -------------------------------------------------------------------------------------


_RATES_HZ = {"audio": 16_000.0, "sensor": 100.0}
_CODEC_RATE_HZ = 48_000.0  # every codec takes it
_NOISE = {"image": 20.0, "audio": 0.02, "sensor": 0.2}  # standard deviation
_SUFFIXES = {"image": ".png", "audio": ".wav", "sensor": ".csv"}


def _picture() -> Doubles:
    """A disc on a slope, in three colours."""
    y, x = np.mgrid[:96, :96]
    disc = np.hypot(x - 48, y - 48) < 30
    return np.stack([60.0 + x, 180.0 - y + 40 * disc, 90.0 + 70 * disc])


def _vowels() -> Doubles:
    """Pulses of a falling voice through three formants, and pauses between them."""
    from scipy.signal import lfilter

    rate = _RATES_HZ["audio"]
    time_s = np.arange(int(1.5 * rate)) / rate
    turns = np.cumsum(140 - 20 * time_s) / rate
    sound = np.diff(np.floor(turns), prepend=0.0)
    for formant_hz, width_hz in ((700, 90), (1200, 110), (2500, 170)):
        radius, angle = np.exp(-np.pi * width_hz / rate), 2 * np.pi * formant_hz / rate
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], sound)
    spoken = np.clip(3 * np.sin(2 * np.pi * 2 * time_s), 0, 1)
    return 0.5 * (spoken * sound / np.abs(sound).max())[None]


def _swing() -> Doubles:
    """Two slow oscillations."""
    time_s = np.arange(2000) / _RATES_HZ["sensor"]
    return (np.sin(2 * np.pi * 0.5 * time_s) + 0.5 * np.sin(2 * np.pi * 1.3 * time_s))[None]


_SAMPLES: Mapping[str, Callable[[], Doubles]] = {"image": _picture, "audio": _vowels, "sensor": _swing}


def _write(path: Path, modality: str, signal: Doubles, audio_hz: float = _RATES_HZ["audio"]) -> None:
    if modality == "sensor":
        rows = (f"{n / _RATES_HZ[modality]:.2f},{value:.5f}\n" for n, value in enumerate(signal[0]))
        path.write_text("time_s,x\n" + "".join(rows), encoding="ascii")
        return
    dtype, peak = ("uint8", 255.0) if modality == "image" else ("float32", 1.0)
    info = SignalInfo(
        path, modality, signal.shape, dtype, peak, {**_RATES_HZ, "audio": audio_hz}.get(modality)
    )
    io.write(path, signal.astype(np.float32), info)


def _self_test(modality: str) -> str:
    """Clean a small noisy file with a known reference, as `denoise clean` does."""
    started = time.perf_counter()
    truth = _SAMPLES[modality]()
    noise = np.random.default_rng(0).normal(0.0, _NOISE[modality], truth.shape)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, signal in (("noisy", truth + noise), ("truth", truth)):
            (folder / kind).mkdir()
            _write(folder / kind / f"sample{_SUFFIXES[modality]}", modality, signal)
        options = CleanOptions(reference=folder / "truth")
        job = CleanJob(inputs=(folder / "noisy",), output=folder / "out", options=options)
        (entry,) = batch.run(job).entries
        if entry.error:
            raise _ProblemError(entry.error)
        faults = [checked.key for checked in verify(job.output) if checked.status in FAULTS]
    headline = MODALITIES[modality].headline
    before, after = (entry.metrics[key] or 0.0 for key in (f"{headline}_before", headline))
    if faults or after <= before:
        raise _ProblemError(f"{headline} went from {before:.1f} to {after:.1f}, expected more; {faults}")
    seconds = time.perf_counter() - started
    return f"{entry.model}: {headline} {before:.1f} -> {after:.1f}, in {seconds:.1f} s"
