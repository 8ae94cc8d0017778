"""Tables of docs/compression.md and of pretrained codes in docs/autoencoders.md, each made by one command.

    python docs/figures/codes.py rates DIR        rate and distortion of photos beside JPEG, WebP and JPEG XL
    python docs/figures/codes.py noisy DIR        PSNR to the clean photo, of photos with noise
    python docs/figures/codes.py digits           what classifiers make of codes of scikit-learn's digits
    python docs/figures/codes.py textures         tiles of brick, grass and gravel
    python docs/figures/codes.py sounds DIR       ESC-10: files named CLASS_..._FOLD-...
    python docs/figures/codes.py sensors NPZ      recordings named FAMILY_..., `(samples, channels)` each

Photos are compared at equal bits: of each codec the PSNR at several settings, mean of all photos, is
interpolated over the mean bits a pixel. All bytes of each file count, headers too.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from skimage.feature import hog
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

import denoise
from denoise.analysis.encoder import PretrainedEncoder
from denoise.analysis.segments import Segmentation
from denoise.compression import file as dnz
from denoise.compression.image import ImageCompressor

Array = NDArray[Any]
RATES = (0.15, 0.2, 0.288, 0.4, 0.5, 0.648, 0.8, 1.0)
LADDERS: Mapping[str, tuple[float, ...]] = {
    "denoise": (0, 20, 40, 60, 80, 100),
    "JPEG": (3, 6, 10, 15, 20, 30, 40, 55, 70, 80, 88),
    "WebP": (0, 2, 6, 12, 25, 40, 55, 70, 82, 90),
    "JPEG XL": (15, 10, 7, 5, 3.5, 2.5, 1.8, 1.2, 0.8),
}


def psnr_db(one: Array, other: Array) -> float:
    """PSNR of 8-bit pictures."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def coded(name: str, pixels: Array, setting: float, codec: ImageCompressor) -> tuple[int, Array]:
    """Bytes of a file, and the picture in it."""
    if name == "denoise":
        with tempfile.TemporaryDirectory() as folder:
            source, small, back = (Path(folder) / part for part in ("a.png", "a.dnz", "b.png"))
            Image.fromarray(pixels).save(source)
            dnz.compress(source, small, setting, codec)
            dnz.decompress(small, back, codec)
            return small.stat().st_size, np.asarray(Image.open(back))
    if name == "JPEG XL":
        stream = imagecodecs.jpegxl_encode(pixels, distance=setting, usecontainer=False)
        return len(stream), imagecodecs.jpegxl_decode(stream)
    file = io.BytesIO()
    settings = {"optimize": True} if name == "JPEG" else {"method": 6}
    Image.fromarray(pixels).save(file, name, quality=round(setting), **settings)
    return file.tell(), np.asarray(Image.open(file).convert("RGB"))


def photos(folder: Path) -> list[Array]:
    """Pictures of a folder, RGB."""
    return [
        np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir()) if path.is_file()
    ]


def curve(name: str, pairs: list[tuple[Array, Array]], codec: ImageCompressor) -> Array:
    """Mean bits a pixel and mean PSNR of each setting; pairs of what is coded and what is compared with."""
    points = []
    for setting in LADDERS[name]:
        found = [(coded(name, given, setting, codec), clean) for given, clean in pairs]
        bits = np.mean([8 * size / clean[..., 0].size for (size, _), clean in found])
        points.append((bits, np.mean([psnr_db(clean, back) for (_, back), clean in found])))
    return np.array(sorted(points))


def at(points: Array, rate: float) -> str:
    """PSNR at a rate, if the codec has settings on both sides."""
    inside = points[0, 0] <= rate <= points[-1, 0]
    return f"{np.interp(rate, *points.T):.2f}" if inside else "-"


def rates(folder: str) -> None:
    """Rate and distortion."""
    codec, every = ImageCompressor(), photos(Path(folder))
    curves = {name: curve(name, [(p, p) for p in every], codec) for name in LADDERS}
    print(f"{len(every)} photos\n\n| bits a pixel | " + " | ".join(curves) + " |")
    print("|---" * (1 + len(curves)) + "|")
    for rate in RATES:
        print(f"| {rate:g} | " + " | ".join(at(points, rate) for points in curves.values()) + " |")


def noisy(folder: str) -> None:
    """PSNR to the clean photo, of photos with white noise of sigma 25, coded as they are or cleaned first."""
    codec, photo = ImageCompressor(), denoise.load("photo")
    rng, pairs, cleaned = np.random.default_rng(0), [], []
    for clean in photos(Path(folder)):
        given = np.rint(clean + 25 * rng.normal(size=clean.shape)).clip(0, 255).astype(np.uint8)
        pairs.append((given, clean))
        cleaned.append((np.asarray(photo.clean(given)), clean))
    columns = {
        f"{name}{how}": curve(name, those, codec)
        for name in ("JPEG", "denoise")
        for how, those in (("", pairs), (" after `photo`", cleaned))
    }
    print(f"{len(pairs)} photos, noisy {np.mean([psnr_db(b, a) for a, b in pairs]):.2f} dB, cleaned ", end="")
    print(
        f"{np.mean([psnr_db(b, a) for a, b in cleaned]):.2f} dB\n\n| bits a pixel | "
        + " | ".join(columns)
        + " |"
    )
    print("|---" * (1 + len(columns)) + "|")
    for rate in RATES:
        print(f"| {rate:g} | " + " | ".join(at(points, rate) for points in columns.values()) + " |")


def judge(codes: Mapping[str, Array], classes: Array, folds: Array) -> None:
    """Print accuracies of five neighbours by cosine and of a linear probe, folds left out one at a time."""
    print("| codes | numbers | 5 neighbours | linear probe |\n|---|---|---|---|")
    for name, values in codes.items():
        near, linear, size = [], [], 0
        for fold in np.unique(folds):
            known, new = folds != fold, folds == fold
            found = [values[known], values[new]]
            if name.startswith("PCA"):
                model = PCA(32).fit(found[0])
                found = [model.transform(part) for part in found]
            size = found[0].shape[1]
            centre = found[0].mean(0)
            one, other = (normalize(part - centre) for part in found)
            near.append(KNeighborsClassifier(5).fit(one, classes[known]).score(other, classes[new]))
            scaler = StandardScaler().fit(found[0])
            one, other = (scaler.transform(part).clip(-4, 4) for part in found)
            probe = LogisticRegression(C=0.01, max_iter=500).fit(one, classes[known])
            linear.append(probe.score(other, classes[new]))
        print(f"| {name} | {size} | {np.mean(near):.3f} | {np.mean(linear):.3f} |", flush=True)


def pictures(tiles: Array, side: int) -> dict[str, Array]:
    """Codes of gray tiles `(n, side, side)` in 0..1."""
    encoder = PretrainedEncoder("photo", Segmentation("image", (side, side), 3, whole=True))
    resized = [
        np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)) for tile in tiles
    ]
    cell = tiles.shape[1] // 4
    return {
        "pretrained `photo`": encoder.encode(np.repeat(np.array(resized)[:, None], 3, 1)),
        "PCA of pixels": tiles.reshape(len(tiles), -1),
        "HOG": np.array([hog(tile, 9, (cell, cell), (2, 2)) for tile in tiles]),
    }


def digits() -> None:
    """Five folds in the order of the file: other writers."""
    found = load_digits()
    tiles = (found.images / 16).astype(np.float32)
    judge(pictures(tiles, 32), found.target, np.arange(len(tiles)) * 5 // len(tiles))


def textures() -> None:
    """Tiles of 32 pixels; one half of each picture is known, the other new, and the reverse."""
    tiles, classes, folds = [], [], []
    for number, name in enumerate(("brick", "grass", "gravel")):
        whole = getattr(data, name)().astype(np.float32) / 255
        for top in range(0, 512, 32):
            tiles += [whole[top : top + 32, left : left + 32] for left in range(0, 512, 32)]
            classes += [number] * 16
            folds += [int(top >= 256)] * 16
    judge(pictures(np.array(tiles), 32), np.array(classes), np.array(folds))


def spectra(windows: Array, bins: int) -> Array:
    """Logarithms of the power in bands of each window `(n, samples)`, mean and deviation over its frames."""
    frames = np.lib.stride_tricks.sliding_window_view(windows, 2 * bins, 1)[:, ::bins]
    power = np.abs(np.fft.rfft(frames * np.hanning(2 * bins))[..., :bins]) ** 2
    logarithm = np.log(power + 1e-6 * power.mean((1, 2), keepdims=True))
    return np.concatenate([logarithm.mean(1), logarithm.std(1)], 1)


def sounds(folder: str) -> None:
    """Codes of clips of 5 s: the mean of those of their windows of a second."""
    encoder, codes, plain, classes, folds = PretrainedEncoder("speech"), [], [], [], []
    size = encoder.cut.size[0]
    for path in sorted(Path(folder).iterdir()):
        samples = soundfile.read(path, dtype="float32")[0]
        samples = np.pad(samples, (0, max(0, 4 * size - len(samples))))[: 4 * size]
        codes.append(encoder.encode(samples.reshape(4, 1, size)).mean(0))
        plain.append(spectra(samples[None], 256)[0])
        classes.append(path.name.split("_")[0])
        folds.append(int(re.findall(r"(\d)-\d+-\w\.", path.name)[0]))
    codes = {"pretrained `speech`": np.array(codes), "PCA of log spectra": np.array(plain)}
    judge(codes, np.array(classes), np.array(folds))


def sensors(archive: str) -> None:
    """Windows of 512 samples, as many of each family; a third of the recordings is new at a time."""
    rng, windows, classes, folds = np.random.default_rng(0), [], [], []
    with np.load(archive) as records:
        families = [name.split("_")[0] for name in records.files]
        for number, name in enumerate(records.files):
            recording = np.atleast_2d(records[name].astype(np.float32).T)
            for _ in range(max(4, round(400 / families.count(families[number])))):
                if recording.shape[1] <= 512:
                    break
                start = rng.integers(recording.shape[1] - 512)
                window = recording[rng.integers(len(recording)), start : start + 512]
                if window.std() > 1e-6:
                    windows.append((window - window.mean()) / window.std())
                    classes.append(families[number])
                    folds.append(families[:number].count(families[number]) % 3)
    found = np.array(windows, np.float32)
    codes = {
        "pretrained `sensor`": PretrainedEncoder("sensor").encode(found[:, None]),
        "PCA of samples": found,
        "PCA of log spectra": spectra(found, 64),
    }
    judge(codes, np.array(classes), np.array(folds))


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        each.__name__: each for each in (rates, noisy, digits, textures, sounds, sensors)
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
