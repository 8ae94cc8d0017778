"""Picture of the README: a photo, a recording and a log of data/samples, before and after `denoise clean`.

python docs/figures/before_after.py docs/figures/before_after.jpg
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

import denoise
from denoise import io

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
PHOTO, RECORDING, LOG = "photos/chelsea.jpg", "recordings/reading_16k.wav", "sensors/ecg_200hz.csv"
CROP = slice(20, 240), slice(90, 390)  # rows and columns
LOG_S = 4.0
NOISY, CLEAN = "#8a94a0", "#0a58a8"


def spectrogram(signal: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power in dB, of 32 ms at 16 kHz."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, 512)[::128] * np.hanning(512)
    return 10 * np.log10(np.abs(np.fft.rfft(frames)).T ** 2 + 1e-9)


def main(path: Path) -> None:
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "axes.titlesize": 10})
    figure, axes = plt.subplots(2, 3, figsize=(11, 4.4), layout="constrained")
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name in (PHOTO, RECORDING, LOG):
            results[name] = Path(folder) / Path(name).name
            denoise.clean_file(SAMPLES / name, results[name])
        top = -np.inf  # of the colours, the same before and after
        for row, title in enumerate(("before", "after")):
            photo, sound, log = ((SAMPLES / name, results[name])[row] for name in (PHOTO, RECORDING, LOG))
            axes[row, 0].imshow(np.asarray(ImageOps.exif_transpose(Image.open(photo)))[CROP])
            axes[row, 0].set(xticks=[], yticks=[], ylabel=title)
            signal, info = io.read(sound)
            power = spectrogram(signal[0] / info.peak)
            top = max(top, power.max())
            extent = (0, signal.shape[1] / 16000, 0, 8)
            axes[row, 1].imshow(
                power, origin="lower", aspect="auto", extent=extent, vmin=top - 75, vmax=top, cmap="inferno"
            )
            axes[row, 1].set(ylabel="kHz", xlabel="s" if row else "")
            values, facts = io.read(log)
            shown = slice(0, int(LOG_S * facts.sample_rate))
            seconds = np.arange(values.shape[1])[shown] / facts.sample_rate
            axes[row, 2].plot(seconds, values[0][shown], color=CLEAN if row else NOISY, linewidth=0.9)
            axes[row, 2].set(ylabel="mV", xlabel="s" if row else "", xlim=(0, LOG_S))
            axes[row, 2].spines[["top", "right"]].set_visible(False)
    axes[1, 2].set_ylim(axes[0, 2].get_ylim())
    for column, title in enumerate(("a photo", "a recording of speech", "an ECG")):
        axes[0, column].set_title(title)
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 90, "subsampling": 0})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
