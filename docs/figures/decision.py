"""Table of docs/speed.md: what the decision of `auto` costs beside the model, on one thread.

    python docs/figures/decision.py 1 12        megapixels

A photo of scikit-image with noise of ISO 6400 is tiled to size; the median of three runs counts.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch

import denoise
from denoise.corruptions import corrupt, parse
from denoise.dsp.scale import sample_range
from denoise.infer.apply import apply

PEAK = 255.0


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    taken, result = [], None
    for _ in range(3):
        started = time.process_time()
        result = run()
        taken.append(time.process_time() - started)
    return statistics.median(taken), result


def measure(megapixels: float) -> list[str]:
    selector = denoise.load("auto", "image").selector
    assert selector is not None
    side = round(1000 * megapixels**0.5)
    photo = np.moveaxis(skimage.data.rocket(), -1, 0).astype(np.float32) / PEAK
    noisy = corrupt(photo, parse("in-camera:iso=6400"), seed=1, peak=1.0)
    tiles = [-(-side // size) for size in noisy.shape[1:]]
    page = np.rint(PEAK * np.tile(noisy.clip(0, 1), (1, *tiles))[:, :side, :side]).astype(np.uint8)
    before, selection = seconds(lambda: (sample_range(page, PEAK), selector.select(page, PEAK))[1])
    repair, repaired = seconds(lambda: selector.repair(selection, page, PEAK))
    model, cleaned = seconds(lambda: apply(selector.models["photo"], repaired, peak=PEAK))
    texture, _ = seconds(lambda: selection.preserve_texture(repaired, cleaned.copy()))
    check, _ = seconds(lambda: selector.reject_reason(selection, repaired, cleaned, PEAK))
    parts = (before, repair, texture, check)
    share = f"{100 * sum(parts) / model:.0f} %"
    return [f"{megapixels:g}", *(f"{part:.2f}" for part in (*parts, model)), share]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| megapixels | estimates | hot pixels | texture | check | `photo` | decision, of `photo` |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in sys.argv[1:]:
        print(f"| {' | '.join(measure(float(size)))} |", flush=True)
