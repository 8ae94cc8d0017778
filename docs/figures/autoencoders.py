"""Figures and tables of docs/autoencoders.md, each made by one command.

    python docs/figures/autoencoders.py tradeoff    the size of the code: too small loses, too large copies
    python docs/figures/autoencoders.py components  digits by codes and by principal components
    python docs/figures/autoencoders.py members     each member of the family on the same digits
    python docs/figures/autoencoders.py digits DIR  the digits as files in ten folders, for denoise embed
    python docs/figures/autoencoders.py rates       pictures: bits a pixel against PSNR, beside PCA and JPEG
    python docs/figures/autoencoders.py beats NPZ   heart beats: error, neighbours, bits a second against SNR

Pictures go beside this file, tables to the terminal, as Markdown. The digits are those of scikit-learn
(installed by the extra `dev`); the pictures are data/samples/reference/photos. `beats` needs an archive of
ECGs, one array `(samples, leads)` for each record, at 360 Hz.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import butter, find_peaks, sosfiltfilt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from denoise import AutoencoderEmbedding

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

Array = NDArray[np.float64]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table as Markdown."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print(
            "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |", flush=True
        )


def picture(name: str, draw: Callable[[Any], None], size: tuple[float, float] = (5.5, 3.6)) -> None:
    """Save a figure, small enough for a repository."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    figure.savefig(HERE / name, dpi=80)
    Image.open(HERE / name).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(
        HERE / name, optimize=True
    )
    print(f"\nwrote {HERE / name}\n")


def digits() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """Load 1200 digits for training and 597 for testing, in 0..1, with their labels."""
    pixels, shown = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    learned, unseen = order[:1200], order[1200:]
    return pixels[learned] / 16, shown[learned], pixels[unseen] / 16, shown[unseen]


def neighbours(codes: Array, names: Any, others: Array, their: Any) -> float:
    """Share of `others` that their five nearest codes classify correctly."""
    return float(KNeighborsClassifier(5).fit(codes, names).score(others, their))


def left(model: Any, given: Array, wanted: Array) -> float:
    """Squared reconstruction error, as a share of the variance about the mean."""
    back = model.inverse_transform(model.transform(given)).reshape(wanted.shape)
    return float(np.square(back - wanted).mean() / wanted.var(axis=0).mean())


def tradeoff() -> None:
    """Plot the error by code size, trained on noisy digits alone and tested against clean ones."""
    learned, _, unseen, _ = digits()
    rng = np.random.default_rng(1)
    noisy, given = (x + rng.normal(0, 0.25, x.shape) for x in (learned, unseen))
    sizes = (1, 2, 4, 8, 16, 32, 64)
    rows = []
    for size in sizes:
        ours = AutoencoderEmbedding(size, steps=1000).fit(noisy)
        pca = PCA(size).fit(noisy)
        rows.append([size, *(left(m, given, w) for m in (ours, pca) for w in (given, unseen))])
    table(["code size", "autoencoder: noisy input", "clean digit", "PCA: noisy input", "clean digit"], rows)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for column, label, style in (
            (1, "autoencoder, from its noisy input", "C0--"),
            (2, "autoencoder, from the clean digit", "C0-o"),
            (3, "PCA, from its noisy input", "C1--"),
            (4, "PCA, from the clean digit", "C1-o"),
        ):
            axes.plot(sizes, [row[column] for row in rows], style, label=label, markersize=4)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="numbers a code", ylabel="error / variance", xticks=sizes, xticklabels=sizes)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")

    picture("tradeoff.png", draw)


def components() -> None:
    """Compare denoising members with principal components: error, and classification by neighbours."""
    learned, shown, unseen, their = digits()
    rows: list[list[object]] = []
    for size in (2, 4, 8, 16):
        for name, model in (
            ("PCA", PCA(size)),
            ("autoencoder", AutoencoderEmbedding(size, noise=0.3, steps=1000)),
        ):
            codes = model.fit(learned).transform(learned)
            found = neighbours(codes, shown, model.transform(unseen), their)
            rows.append([size, name, left(model, unseen, unseen), found])
    table(["code size", "model", "error", "5 neighbours"], rows)


MEMBERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "denoising": {"noise": 0.3},
    "sparse": {
        "config": {
            "code_activation": "sigmoid",
            "penalty": "kl",
            "penalty_weight": 1e-2,
            "target_activation": 0.1,
        }
    },
    "contractive": {"config": {"penalty": "contractive", "penalty_weight": 1e-3}},
    "variational": {"config": {"bottleneck": "variational", "beta": 0.1}},
    "convolutional": {"config": {"backbone": "conv", "widths": (16, 32, 64)}},
}


def members() -> None:
    """Compare all members on the same digits, with 16 numbers a code."""
    learned, shown, unseen, their = digits()
    rng = np.random.default_rng(1)
    given = unseen + rng.normal(0, 0.25, unseen.shape)
    rows: list[list[object]] = []
    models: dict[str, Any] = {"PCA": PCA(16).fit(learned)}
    for name, settings in MEMBERS.items():
        models[name] = AutoencoderEmbedding(16, modality="image", steps=1000, **settings)
        models[name].fit(learned.reshape(-1, 8, 8))
    for name, model in models.items():
        square = (lambda x: x) if name == "PCA" else (lambda x: x.reshape(-1, 8, 8))
        codes, others, moved = (model.transform(square(x)) for x in (learned, unseen, given))
        rows.append(
            [
                name,
                left(model, square(unseen), square(unseen)),
                left(model, square(given), square(unseen)),
                float(np.square(moved - others).mean() / codes.var(axis=0).mean()),
                float((np.abs(others) > 0.5 * np.abs(others).max()).mean()),
                neighbours(codes, shown, others, their),
            ]
        )
    table(["member", "error", "error, noisy input", "code moves", "units on", "5 neighbours"], rows)
    variational = models["variational"]
    code = np.random.default_rng(2).standard_normal((12, 16))
    drawn = variational.inverse_transform(code).reshape(-1, 8, 8)
    shown_rows = [
        ("digits", unseen[:12].reshape(-1, 8, 8)),
        ("noisy", given[:12].reshape(-1, 8, 8)),
        *(
            (
                name,
                models[name]
                .inverse_transform(models[name].transform(given[:12].reshape(-1, 8, 8)))
                .reshape(-1, 8, 8),
            )
            for name in ("plain", "denoising", "contractive", "variational")
        ),
        ("drawn", drawn),
    ]

    def draw(figure: Any) -> None:
        for axes, (name, row) in zip(figure.subplots(len(shown_rows), 1), shown_rows, strict=True):
            axes.imshow(np.hstack([np.pad(one, 1) for one in row]), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)

    picture("members.png", draw, (5.5, 3.4))


def write_digits(folder: Path) -> None:
    """Write each digit as a PNG, in the folder of its label."""
    pixels, shown = load_digits(return_X_y=True)
    for number, (image, digit) in enumerate(zip(pixels.reshape(-1, 8, 8), shown, strict=True)):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8)).save(
            folder / str(digit) / f"{number:04}.png"
        )


BITS = (3, 4, 5, 6, 8)


def rate_and_codes(codes: Array, bits: int) -> tuple[float, Array]:
    """Count the bits of all codes packed as by `denoise embed --quantize`; return the restored codes."""
    low, step = codes.min(axis=0), np.ptp(codes, axis=0) / (2**bits - 1)
    numbers = np.rint((codes - low) / step)
    return 8.0 * len(
        zlib.compress(np.asfortranarray(numbers, np.uint8).tobytes("F"), 9)
    ), low + numbers * step


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that no other exceeds in both coordinates."""
    best: list[tuple[float, float]] = []
    for rate, quality in sorted(points):
        if not best or quality > best[-1][1]:
            best.append((rate, quality))
    return best


def rates() -> None:
    """Plot rate against PSNR of one photo in tiles of 8 px, by models trained on four others."""
    photos = {
        path.stem: np.asarray(Image.open(path).convert("L"), np.float64) / 255
        for path in sorted((ROOT / "data" / "samples" / "reference" / "photos").iterdir())
        if path.stem != "rocket_16bit"
    }
    test = photos.pop("coffee")

    def tiles(image: Array) -> Array:
        high, wide = (n // 8 * 8 for n in image.shape)
        cut = image[:high, :wide].reshape(high // 8, 8, wide // 8, 8)
        return cut.swapaxes(1, 2).reshape(-1, 8, 8)

    turned = [np.rot90(photo, turns) for photo in photos.values() for turns in range(4)]
    learned, given = np.concatenate([tiles(photo) for photo in turned]), tiles(test)
    flat = learned.reshape(len(learned), -1)

    def psnr(back: Array) -> float:
        return float(-10 * np.log10(np.square(back.reshape(given.shape).clip(0, 1) - given).mean()))

    found: dict[str, list[tuple[float, float]]] = {"autoencoder": [], "PCA": [], "JPEG": []}
    for size in (2, 4, 8, 16):
        ours = AutoencoderEmbedding(size, modality="image", steps=2000).fit(learned)
        pca = PCA(size).fit(flat)
        for name, model, values in (("autoencoder", ours, given), ("PCA", pca, given.reshape(-1, 64))):
            codes = np.asarray(model.transform(values), np.float64)
            for bits in BITS:
                rate, coarse = rate_and_codes(codes, bits)
                found[name].append((rate / given.size, psnr(model.inverse_transform(coarse))))
    bytes_of_picture = np.rint(test * 255).astype(np.uint8)
    for quality in (2, 5, 10, 20, 30, 45, 60, 75, 85):
        file = io.BytesIO()
        Image.fromarray(bytes_of_picture).save(file, "JPEG", quality=quality, optimize=True)
        back = tiles(np.asarray(Image.open(file), np.float64) / 255)
        found["JPEG"].append((8 * len(file.getvalue()) / test.size, psnr(back)))
    for name, points in found.items():
        print(name)
        table(["bits a pixel", "PSNR, dB"], [list(point) for point in hull(points)])

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, points in found.items():
            axes.plot(*zip(*hull(points), strict=True), "o-", markersize=3, label=name)
        axes.set(xlabel="bits a pixel", ylabel="PSNR, dB", xlim=(0, 2.5))
        axes.grid(alpha=0.3)
        axes.legend()

    picture("rates.png", draw)


RATE_HZ = 360
BEFORE, AFTER = 64, 128  # samples around the peak of a beat


def beats_of(recording: Array) -> Array:
    """Cut windows around the peaks of one lead, each with zero mean and unit variance."""
    lead = sosfiltfilt(butter(2, 0.5, "high", fs=RATE_HZ, output="sos"), recording)
    steep = sosfiltfilt(butter(2, [5, 20], "bandpass", fs=RATE_HZ, output="sos"), lead) ** 2
    steep = np.convolve(steep, np.ones(30) / 30, "same")
    height = 4 * np.median(steep) + 0.2 * np.percentile(steep, 98)
    peaks = [
        c - 20 + np.argmax(np.abs(lead[c - 20 : c + 20]))
        for c in find_peaks(steep[20:], height=height, distance=90)[0] + 20
    ]
    beats = np.array([lead[p - BEFORE : p + AFTER] for p in peaks if BEFORE <= p < len(lead) - AFTER])
    return (beats - beats.mean(axis=1, keepdims=True)) / beats.std(axis=1, keepdims=True)


def beats(archive: Path) -> None:
    """Train on the first three fifths of the beats of each record, and test on the others."""
    learned: list[Array] = []
    unseen: list[Array] = []
    with np.load(archive) as records:
        names = [name for name in records.files if name.startswith("ecg")]
        for name in names:
            found = beats_of(np.atleast_2d(records[name].astype(np.float64).T)[0])
            half = round(0.6 * len(found))
            learned.append(found[:half])
            unseen.append(found[half:])
    whose, theirs = (
        np.repeat(range(len(names)), [len(part) for part in parts]) for parts in (learned, unseen)
    )
    train, test = np.concatenate(learned), np.concatenate(unseen)
    seconds = len(test) * (BEFORE + AFTER) / RATE_HZ
    print(f"{len(train)} beats of {len(names)} records to learn from, {len(test)} to ask for\n")
    rows: list[list[object]] = []
    found_rates: dict[str, list[tuple[float, float]]] = {"autoencoder": [], "PCA": []}
    for size in (4, 8, 16):
        for name, model in (
            ("PCA", PCA(size)),
            ("autoencoder", AutoencoderEmbedding(size, noise=0.1)),
        ):
            codes = model.fit(train).transform(train)
            others = np.asarray(model.transform(test), np.float64)
            rows.append([name, size, left(model, test, test), neighbours(codes, whose, others, theirs)])
            for bits in BITS:
                rate, coarse = rate_and_codes(others, bits)
                error = np.square(model.inverse_transform(coarse) - test).mean()
                found_rates[name].append((rate / seconds, float(-10 * np.log10(error / test.var()))))
    table(["model", "code size", "error", "5 neighbours name the record"], rows)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, points in found_rates.items():
            axes.plot(*zip(*hull(points), strict=True), "o-", markersize=3, label=name)
        axes.set(xlabel="bits a second of beats", ylabel="SNR, dB")
        axes.grid(alpha=0.3)
        axes.legend()

    picture("beats.png", draw)


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {
        "tradeoff": tradeoff,
        "components": components,
        "members": members,
        "digits": write_digits,
        "rates": rates,
        "beats": beats,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*map(Path, sys.argv[2:]))
