"""Build the samples: real files under free licences, cut to size, and corrupted with a stated seed.

The sources are not in the repository; README.md beside this file names them. To rebuild the
samples, unpack the packages named there into one folder and run

    python data/samples/build.py SOURCES data/samples

The noise comes from numpy alone, so changes of the library's corruptions do not change the samples.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import imagecodecs
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]


def find(sources: Path, name: str) -> Path:
    """Find the one file called `name` under `sources`."""
    found = sorted(sources.rglob(name))
    if not found:
        raise SystemExit(f"{sources}: no file called {name}; README.md says which package has it")
    return found[0]


def to_bytes(image: Array) -> NDArray[np.uint8]:
    """Convert 0..1 to 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def load(sources: Path, name: str, size: tuple[int, int], mode: str = "RGB") -> Array:
    """Load a photo in 0..1, scaled down by Lanczos, which also averages out its own noise."""
    with Image.open(find(sources, name)) as image:
        return np.asarray(image.convert(mode).resize(size, Image.Resampling.LANCZOS), np.float64) / 255


def gaussian(clean: Array, sigma: float, seed: int) -> Array:
    """Add white Gaussian noise; `sigma` in 8-bit units."""
    return clean + np.random.default_rng(seed).normal(0, sigma / 255, clean.shape)


def at_snr(clean: Array, noise: Array, snr_db: float) -> Array:
    """Add `noise` to `clean`, scaled so that their variances are `snr_db` apart."""
    gain = float(clean.std() / noise.std()) * 10 ** (-snr_db / 20)
    return clean + noise * gain


def photos(sources: Path, noisy_dir: Path, clean_dir: Path) -> None:
    coffee = load(sources, "coffee.png", (360, 240))
    for folder, image in ((clean_dir, coffee), (noisy_dir, gaussian(coffee, 25, seed=1))):
        Image.fromarray(to_bytes(image)).save(folder / "coffee.png", optimize=True)

    camera = load(sources, "camera.png", (256, 256), "L")
    for folder, image in ((clean_dir, camera), (noisy_dir, gaussian(camera, 15, seed=2))):
        Image.fromarray(to_bytes(image)).save(folder / "camera.tiff", compression="tiff_adobe_deflate")

    # The eye's disc is opaque, its surroundings transparent; noise in the colours only.
    retina = load(sources, "retina.jpg", (224, 224))
    y, x = np.mgrid[:224, :224] - 111.5
    alpha = to_bytes(np.clip(108 - np.hypot(x, y), 0, 1))[..., None]
    for folder, image in ((clean_dir, retina), (noisy_dir, gaussian(retina, 20, seed=3))):
        Image.fromarray(np.concatenate([to_bytes(image), alpha], -1)).save(
            folder / "retina.png", optimize=True
        )

    # Stored rotated; EXIF orientation 6 means "rotate 90 degrees clockwise to display".
    chelsea = np.rot90(load(sources, "chelsea.png", (361, 240)))
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x010E] = 6, "Stefan van der Walt", "Chelsea the cat (CC0)"
    for folder, image in ((clean_dir, chelsea), (noisy_dir, gaussian(chelsea, 20, seed=4))):
        Image.fromarray(to_bytes(image)).save(
            folder / "chelsea.jpg", quality=95, subsampling=0, exif=exif, dpi=(300, 300)
        )

    # Averaged in linear light, for more than 8 bits of depth; photons: 1500 at white.
    with Image.open(find(sources, "rocket.jpg")) as photo:
        light = (np.asarray(photo.convert("RGB"), np.float64) / 255) ** 2.2
    planes = [
        Image.fromarray(light[..., c].astype(np.float32)).resize((240, 160), Image.Resampling.BOX)
        for c in range(3)
    ]
    light = np.stack([np.asarray(plane, np.float64) for plane in planes], -1)
    rng = np.random.default_rng(5)
    exposed = rng.poisson(light * 1500) / 1500 + rng.normal(0, 0.002, light.shape)
    for folder, image in ((clean_dir, light), (noisy_dir, exposed)):
        levels = np.rint(np.clip(image, 0, 1) ** (1 / 2.2) * 65535).astype(np.uint16)
        (folder / "rocket_16bit.png").write_bytes(imagecodecs.png_encode(levels, level=9))

    with Image.open(find(sources, "hubble_deep_field.jpg")) as photo:  # its own noise, so no reference
        part = photo.convert("RGB").crop((560, 300, 848, 588))
        part.save(noisy_dir / "deep_field.jpg", quality=92, subsampling=0)


def recordings(sources: Path, noisy_dir: Path, clean_dir: Path) -> None:
    def write(name: str, clean: Array, noisy: Array, rate: int, subtype: str, **tags: str) -> None:
        for folder, samples in ((clean_dir, clean), (noisy_dir, noisy)):
            kind = {
                "samplerate": rate,
                "channels": 1 if samples.ndim == 1 else samples.shape[1],
                "subtype": subtype,
            }
            with soundfile.SoundFile(folder / name, "w", **kind) as file:
                for tag, text in tags.items():
                    setattr(file, tag, text)
                file.write(samples)

    austen = "sense_and_sensibility_01_austen_64kb-{}.wav"
    speech, _ = soundfile.read(find(sources, austen.format("0890")))
    sauna, rate = soundfile.read(find(sources, "ambi_sauna.flac"))
    stove = soxr.resample(sauna.mean(1), rate, 16_000, "VHQ")
    write("reading_16k.wav", speech, at_snr(speech, stove[: len(speech)], 5), 16_000, "PCM_16")

    speech, _ = soundfile.read(find(sources, austen.format("0930")))
    speech = soxr.resample(speech, 16_000, 44_100, "VHQ")
    panned = np.stack([0.9 * speech, 0.5 * speech], -1)
    vinyl, _ = soundfile.read(find(sources, "vinyl_hiss.flac"))
    noisy = at_snr(panned, vinyl[: len(panned)], 5)
    write(
        "reading_stereo_44k.flac",
        panned,
        noisy,
        44_100,
        "PCM_16",
        title="Sense and Sensibility, chapter 1",
        artist="LibriVox",
    )

    voice, _ = soundfile.read(find(sources, "voice.wav"))
    voice = soxr.resample(voice, 44_100, 48_000, "VHQ")
    rng = np.random.default_rng(6)
    time_s = np.arange(len(voice)) / 48_000
    harmonics = np.array([[1], [3], [5], [7]])
    hum = (np.sin(2 * np.pi * 50 * harmonics * time_s + harmonics) / harmonics).sum(0)
    noise = hum / hum.std() + rng.normal(size=len(voice))  # as much hum as hiss
    write("voice_24bit_48k.wav", voice, at_snr(voice, noise, 8), 48_000, "PCM_24")


def sensors(sources: Path, noisy_dir: Path, clean_dir: Path) -> None:
    def write(name: str, header: str, stamps: list[str], columns: Array, decimals: int) -> None:
        cells = [["" if np.isnan(v) else f"{v:.{decimals}f}" for v in row] for row in columns]
        lines = [header, *(",".join([stamp, *row]) for stamp, row in zip(stamps, cells, strict=True))]
        Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    # 16-bit counts to millivolt: 3 V range, gain 1000 (the sensor's data sheet).
    counts = np.loadtxt(find(sources, "ecg_sample.txt"))[:, 2]
    ecg = ((counts / 2**16 - 0.5) * 3)[:, None]
    start = datetime(2017, 1, 17, 14, 50, 32, 316_000)
    stamps = [
        (start + timedelta(milliseconds=5 * n)).isoformat(timespec="milliseconds") for n in range(len(ecg))
    ]
    rng = np.random.default_rng(7)
    noisy = at_snr(ecg, rng.normal(size=ecg.shape), 6)
    noisy[1200:1290] = np.nan  # the electrode came off for 0.45 s
    for folder, columns in ((clean_dir, ecg), (noisy_dir, noisy)):
        write(str(folder / "ecg_200hz.csv"), "time,ecg_mv", stamps, columns, 4)

    # 1 kHz to 100 Hz by the mean of ten: the reference has a third of the sensor's own noise.
    counts = np.loadtxt(find(sources, "signal_sample_single_hub_cACC_2017_1_20.txt"))[2000:18_000, 2:]
    swing = counts.reshape(-1, 10, 3).mean(1)
    rng = np.random.default_rng(8)
    noisy = swing + rng.normal(size=swing.shape) * swing.std(0) * 10 ** (-8 / 20)
    spikes = rng.random(swing.shape) < 0.004
    noisy = np.where(spikes, rng.choice([0.0, 65_535.0], swing.shape), noisy)
    stamps = [f"{n / 100:.2f}" for n in range(len(swing))]
    for folder, columns in ((clean_dir, swing), (noisy_dir, noisy)):
        write(
            str(folder / "accelerometer_100hz.csv"), "time_s,x_counts,y_counts,z_counts", stamps, columns, 1
        )


def main(sources: Path, out: Path) -> None:
    for make in (photos, recordings, sensors):
        noisy_dir, clean_dir = out / make.__name__, out / "reference" / make.__name__
        noisy_dir.mkdir(parents=True, exist_ok=True)
        clean_dir.mkdir(parents=True, exist_ok=True)
        make(sources, noisy_dir, clean_dir)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
