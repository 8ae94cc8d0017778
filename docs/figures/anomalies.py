"""Tables of docs/anomalies.md: how well each detector separates anomalies from normal items (AUROC).

    python docs/figures/anomalies.py digits         digits, one class of ten unseen in training
    python docs/figures/anomalies.py textures       brick, grass and gravel with synthetic defects
    python docs/figures/anomalies.py bearings NPZ   vibration of a sound bearing against faulty ones
    python docs/figures/anomalies.py beats NPZ      normal heart beats against ectopic ones

All detectors get the same training items and the same test items. The digits are those of scikit-learn,
the textures those of scikit-image. NPZ is an archive of recordings, one array `(samples, channels)` each: for
`bearings` at 12 kHz, with names that begin with `vib_`, and `Normal` in that of the sound one; for `beats`
named `ecg_` and by the number of a record of the MIT-BIH arrhythmia database, at 360 Hz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from denoise import AnomalyDetector

Array = NDArray[Any]
Scores = Callable[[Array, Array], Array]
Pool = Callable[[Array], Array]


def ours(code_size: int) -> Scores:
    def scores(learned: Array, judged: Array) -> Array:
        return -AnomalyDetector(code_size=code_size).fit(learned).score_samples(judged)

    return scores


def components(kept: float) -> Scores:
    """Residual of an item after principal components that keep this share of the variance."""

    def scores(learned: Array, judged: Array) -> Array:
        learned, judged = learned.reshape(len(learned), -1), judged.reshape(len(judged), -1)
        pca = PCA(kept, svd_solver="full").fit(learned)
        return np.square(judged - pca.inverse_transform(pca.transform(judged))).sum(1)

    return scores


def forest(learned: Array, judged: Array) -> Array:
    machine = IsolationForest(n_estimators=200, random_state=0).fit(learned.reshape(len(learned), -1))
    return -machine.score_samples(judged.reshape(len(judged), -1))


def one_class(learned: Array, judged: Array) -> Array:
    machine = make_pipeline(StandardScaler(), OneClassSVM(nu=0.1, gamma="scale"))
    machine.fit(learned.reshape(len(learned), -1))
    return -machine.decision_function(judged.reshape(len(judged), -1))


OTHERS: dict[str, Scores] = {
    "PCA, 95 %": components(0.95),
    "PCA, 90 %": components(0.9),
    "isolation forest": forest,
    "one-class SVM": one_class,
}
Case = tuple[str, Array, Array, Array]  # a name, training items, test items, and which of these are anomalies


def compare(cases: Iterable[Case], code_size: int, pool: Pool = lambda scores: scores) -> None:
    """Print a row for each case, and their mean."""
    methods = {"denoise anomalies": ours(code_size), **OTHERS}
    print("| | " + " | ".join(methods) + " |")
    print("|---|" + "---|" * len(methods))
    rows: list[list[float]] = []
    for name, learned, judged, anomalous in cases:
        rows.append([roc_auc_score(anomalous, pool(score(learned, judged))) for score in methods.values()])
        show(f"{name} ({len(learned)} learned, {len(anomalous)} judged)", rows[-1])
    if len(rows) > 1:
        show("mean", np.mean(rows, axis=0))


def show(name: str, row: Sequence[float] | Array) -> None:
    best = max(row)
    print(
        f"| {name} | " + " | ".join(f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in row) + " |",
        flush=True,
    )


def digits() -> None:
    """Train on half of nine kinds of digits; test on the other half and the tenth kind."""

    def cases() -> Iterator[Case]:
        pixels, shown = load_digits(return_X_y=True)
        for digit in range(10):
            normal = np.random.default_rng(digit).permutation(np.flatnonzero(shown != digit))
            learned, others = np.split(normal, [len(normal) // 2])
            judged = np.r_[others, np.flatnonzero(shown == digit)]
            yield f"without {digit}", pixels[learned] / 16, pixels[judged] / 16, shown[judged] == digit

    compare(cases(), code_size=8)


SIDE, TILE = 64, 16


def scratched(x: Array, rows: Array, columns: Array, centre: Array, rng: np.random.Generator) -> Array:
    angle, length = rng.uniform(0, np.pi), rng.uniform(24, 48)
    down, right = rows - centre[0], columns - centre[1]
    beside = np.abs(down * np.cos(angle) - right * np.sin(angle))
    along = np.abs(down * np.sin(angle) + right * np.cos(angle))
    return x + 0.5 * rng.choice([-1, 1]) * np.clip(1.5 - beside, 0, 1) * (along < length / 2)


def blotted(x: Array, rows: Array, columns: Array, centre: Array, rng: np.random.Generator) -> Array:
    distance = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return x + 0.5 * rng.choice([-1, 1]) * np.exp(-distance / (2 * rng.uniform(3, 6) ** 2))


def holed(x: Array, rows: Array, columns: Array, centre: Array, rng: np.random.Generator) -> Array:
    half = rng.uniform(6, 10)
    gone = (np.abs(rows - centre[0]) < half) & (np.abs(columns - centre[1]) < half)
    return np.where(gone, rng.uniform(), x)


def textures() -> None:
    """Train on tiles of the left half; score a picture of the right half by the worst of its tiles."""
    tiles = len(range(0, SIDE - TILE + 1, TILE // 2)) ** 2

    def cut(picture: Array, step: int) -> Array:
        return sliding_window_view(picture, (TILE, TILE))[::step, ::step].reshape(-1, 1, TILE, TILE)

    def cases() -> Iterator[Case]:
        rows, columns = np.mgrid[:SIDE, :SIDE]
        for name in ("brick", "grass", "gravel"):
            picture, rng = getattr(skimage.data, name)() / 255, np.random.default_rng(0)
            good = sliding_window_view(picture[:, 256:], (SIDE, SIDE))[:: SIDE // 2, :: SIDE // 2]
            good = good.reshape(-1, SIDE, SIDE)
            bad = [
                np.clip(damage(one, rows, columns, rng.uniform(16, SIDE - 16, 2), rng), 0, 1)
                for damage in (scratched, blotted, holed)
                for one in good
            ]
            learned = rng.permutation(cut(picture[:, :256], 4))[:2500]
            judged = np.concatenate([cut(one, TILE // 2) for one in [*good, *bad]])
            yield name, learned, judged, np.arange(len(good) + len(bad)) >= len(good)

    compare(cases(), code_size=16, pool=lambda scores: scores.reshape(-1, tiles).max(1))


WINDOW = 128


def bearings(archive: Path) -> None:
    """Train on the first seven twelfths of the healthy bearing; test on the rest and on the faulty ones.

    Once with the recorded faults, and once with impacts that are added to the sound bearing: bursts of 3 kHz
    that die away in 0.8 ms, 107.4 a second as from a fault of the outer race, 15 dB below the vibration.
    """
    with np.load(archive) as records:
        sensors = {
            name: np.atleast_2d(records[name].astype(np.float64).T)[0]
            for name in records.files
            if name.startswith("vib_")
        }
    sound = sensors.pop(next(name for name in sensors if "Normal" in name))
    start = len(sound) * 7 // 12
    rng = np.random.default_rng(0)
    burst = np.exp(-np.arange(72) / 9.6) * np.sin(2 * np.pi * np.arange(72) / 4)
    times = np.cumsum(rng.normal(12_000 / 107.4, 1.1, 200))
    impacts = np.zeros(len(sound) - start + 200)
    for time in times[times < len(sound) - start].astype(int):
        impacts[time : time + 72] += burst * rng.uniform(0.7, 1.3)
    impacts = impacts[: len(sound) - start]
    weak = sound[start:] + impacts * sound.std() / impacts.std() * 10 ** (-15 / 20)

    def windows(x: Array, step: int = WINDOW) -> Array:
        return sliding_window_view(x, WINDOW)[::step]

    learned, normal = windows(sound[:start], 8), windows(sound[start:])
    faulty = np.concatenate([windows(x)[:40] for x in sensors.values()])

    def loudness(x: Array) -> Array:
        """Log power at each frequency, independent of the level of the window."""
        level = x.std(axis=1, keepdims=True) + 1e-9
        shape = (x - x.mean(axis=1, keepdims=True)) / level
        return np.log(np.square(np.abs(np.fft.rfft(shape * np.hanning(WINDOW))[:, 1:])) + 1e-3)

    impaired = windows(weak)
    cases = (
        ("recorded faults", learned, normal, faulty),
        ("the same, log spectra", loudness(learned), loudness(normal), loudness(faulty)),
        ("weak impacts, added", learned, normal, impaired),
    )
    compare(
        (
            (name, known, np.concatenate([good, bad]), np.arange(len(good) + len(bad)) >= len(good))
            for name, known, good, bad in cases
        ),
        code_size=8,
    )


RATE_HZ = 360
BEFORE, AFTER, EVERY = 90, 162, 3  # samples around a beat, and the step between kept ones
# Records with atrial fibrillation or flutter, by the directory of the database: timing labels fail there.
FIBRILLATION = {"ecg_201", "ecg_202", "ecg_203", "ecg_210", "ecg_217", "ecg_219", "ecg_221", "ecg_222"}


def peaks_of(lead: Array) -> Array:
    """Detect beats: steep places, then the largest deflection near each (after Pan & Tompkins 1985)."""
    band = sosfiltfilt(butter(2, [5, 15], "bandpass", fs=RATE_HZ, output="sos"), lead)
    steep = np.convolve(np.gradient(band) ** 2, np.ones(43) / 43, "same")
    found, _ = find_peaks(steep, distance=90)
    high = np.sort(steep[found])[-max(10, len(lead) // RATE_HZ) :]
    kept: list[int] = []
    for place in found[steep[found] > 0.25 * np.median(high)]:
        first = max(0, place - 36)
        peak = first + int(np.argmax(np.abs(band[first : place + 36])))
        if not kept or peak - kept[-1] > 72:
            kept.append(peak)
    return np.array(kept)


def ectopic(peaks: Array) -> Array:
    """Label beats: 1 premature and followed by a pause, 0 in time, -1 neither."""
    interval = np.diff(peaks) / RATE_HZ
    pair = (interval[:-1] + interval[1:]) / 2  # in bigeminy as long as in the underlying rhythm
    label = np.full(len(peaks), -1)
    for beat in range(1, len(peaks) - 1):
        usual = np.median(pair[max(0, beat - 9) : beat + 9])
        before, after = interval[beat - 1] / usual, interval[beat] / usual
        if before < 0.85 and after > 1.1 and 1.75 < before + after < 2.3:
            label[beat] = 1
        elif before > 0.92:
            label[beat] = 0
    return label


def beats(archive: Path) -> None:
    """Train on the beats in time of the first half of each record; test on the second half.

    With them all ectopic ones. The labels come from timing alone, the items hold one beat each: 0.25 s before
    its peak to 0.45 s after it.
    """
    learned: list[Array] = []
    normal: list[Array] = []
    premature: list[Array] = []
    with np.load(archive) as records:
        for name in records.files:
            if not name.startswith("ecg_") or name in FIBRILLATION:
                continue
            lead = np.atleast_2d(records[name].astype(np.float64).T)[0]
            peaks = peaks_of(lead)
            label = ectopic(peaks)
            lead = sosfiltfilt(butter(2, [0.5, 40], "bandpass", fs=RATE_HZ, output="sos"), lead)
            lead = lead / np.median(np.abs(lead))
            whole = (peaks >= BEFORE) & (peaks < len(lead) - AFTER)
            peaks, label = peaks[whole], label[whole]
            items = np.array([lead[peak - BEFORE : peak + AFTER : EVERY] for peak in peaks])
            early = peaks < len(lead) // 2
            learned.append(items[early & (label == 0)])
            normal.append(items[~early & (label == 0)])
            premature.append(items[label == 1])
    judged = np.concatenate([*normal, *premature])
    count = sum(map(len, normal))
    compare([("beats", np.concatenate(learned), judged, np.arange(len(judged)) >= count)], code_size=8)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "digits": digits,
        "textures": textures,
        "bearings": bearings,
        "beats": beats,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*map(Path, sys.argv[2:]))
