"""Series of docs/anomalies.md: synthetic logs whose events are known, in the manner of the Numenta benchmark.

    python docs/figures/events.py FOLDER
    denoise benchmark --protocol events FOLDER

Days of a machine that is on and off (in ten of the forms that Lavin & Ahmad 2015 describe, four of them
without an event), counts of messages with bursts, rides of a taxi, and the temperature of a machine that
drifts. The column `label` is 1 in the window of an event; the windows of a log are a tenth of it together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Series = tuple[str, float, NDArray[Any], list[int]]  # name, minutes per row, values, row amid each event
SEED = 2  # the evidence was chosen with seeds 0 and 1


def days(rng: np.random.Generator) -> Iterator[Series]:
    """Two weeks of a load that is on for half of each day; the event is one other day, or many spikes."""
    day, rows = 288, 4032
    time = np.arange(rows)
    on = (time % day > 90) & (time % day < 216)
    noise = rng.uniform(0, 8, rows)
    for name, level in (("jump_up", 160), ("off", 10), ("dead", 0), ("no_jump", 20)):
        values, start = 20.0 + 60 * on + noise, int(rng.integers(9, 13)) * day
        values[start + 91 : start + 216] += level - 80
        yield name, 5, values, [start + 153]
    spikes = np.zeros(rows)
    spikes[rng.choice(rows, 90, replace=False)] = 20
    spikes[2900:3020:4] = 20
    yield "dense_spikes", 5, spikes, [2940]
    load, start = rng.exponential(0.05, rows), int(rng.integers(2600, 3000))
    load[rng.choice(rows, 60, replace=False)] += rng.uniform(0.3, 1.5, 60)
    load[start + rng.choice(300, 40, replace=False)] += rng.uniform(1, 3, 40)
    yield "higher_spikes", 5, load, [start + 100]
    sine = 20 + 60 * np.clip(np.sin(2 * np.pi * (time % day - 90) / 252), 0, 1)
    normal = {"noise": noise, "flat": 0 * sine + 45, "noisy": 20.0 + 60 * on + noise, "sine": sine}
    yield from ((name, 5, values, []) for name, values in normal.items())


def messages(rng: np.random.Generator) -> Iterator[Series]:
    """Counts with a rhythm of the day and small bursts; the events are large ones."""
    rows = 8000
    for number in range(4):
        mean = np.exp(rng.uniform(1.5, 3.5))
        rhythm = 1 + 0.7 * np.sin(2 * np.pi * np.arange(rows) / 288)
        wander = np.exp(0.5 * np.cumsum(rng.normal(0, 0.01, rows)))
        counts = rng.poisson(mean * rhythm * wander * rng.gamma(3, 1 / 3, rows)).astype(float)
        for place in rng.choice(rows, 12, replace=False):
            counts[place : place + 3] += mean * rng.uniform(2, 5)
        events = []
        for place in np.sort(rng.choice(np.arange(1800, rows - 600, 900), 3, replace=False)):
            start, size = int(place + rng.integers(200)), int(rng.integers(6, 40))
            decay = np.exp(-3 * np.arange(size) / size)
            counts[start : start + size] += mean * rng.uniform(8, 25) * decay
            events.append(start + size // 4)
        yield f"messages_{number}", 5, np.round(counts), events


def rides(rng: np.random.Generator) -> Iterator[Series]:
    """Half-hours of a taxi company; the events are a day of few, an evening of many, a flat day."""
    rows, day = 5160, 48
    time = np.arange(rows)
    for number in range(2):
        values = 15000 + 9000 * np.sin(2 * np.pi * (time - 18) / day) + rng.normal(0, 700, rows)
        values += 3000 * np.sin(4 * np.pi * (time - 10) / day)
        values += (time // day % 7 >= 5) * 2500 * np.sin(2 * np.pi * (time - 30) / day)
        values = np.maximum(values, 200)
        events = []
        for place in np.sort(rng.choice(np.arange(30, 100, 8), 3, replace=False)) * day:
            kind, part = rng.integers(3), slice(place, place + day)
            if kind == 0:
                values[part] *= 0.55
            elif kind == 1:
                values[place + 20 : place + 44] *= 1.5
            else:
                values[part] = 0.7 * values[part].mean() + rng.normal(0, 700, day)
            events.append(int(place) + day // 2)
        yield f"rides_{number}", 30, values, events


def temperatures(rng: np.random.Generator) -> Iterator[Series]:
    """A temperature that drifts; the events are slow drops."""
    rows = 9000
    for number in range(2):
        drift = np.convolve(np.cumsum(rng.normal(0, 0.25, rows)), np.ones(12) / 12, "same")
        values = 85 + 0.6 * drift + 4 * np.sin(2 * np.pi * np.arange(rows) / 288) + rng.normal(0, 1, rows)
        events = []
        for start in np.sort(rng.choice(np.arange(2500, rows - 900, 1300), 3, replace=False)):
            size = int(rng.integers(100, 400))
            values[start : start + size] -= rng.uniform(12, 35) * np.hanning(2 * size)[:size]
            events.append(int(start) + size // 2)
        yield f"temperature_{number}", 5, values, events


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    for make in (days, messages, rides, temperatures):
        for name, minutes, values, events in make(rng):
            label = np.zeros(len(values), int)
            half = len(values) // (20 * max(len(events), 1))
            for event in events:
                label[max(event - half, 0) : event + half] = 1
            start = np.datetime64("2026-01-01T00:00:00")
            stamps = start + np.arange(len(values)) * np.timedelta64(int(60 * minutes), "s")
            cells = zip(stamps, values, label, strict=True)
            lines = "".join(f"{stamp},{value:.6g},{mark}\n" for stamp, value, mark in cells)
            (folder / f"{name}.csv").write_text("timestamp,value,label\n" + lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
