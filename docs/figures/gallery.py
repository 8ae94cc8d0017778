"""Pictures of docs/gallery.md: samples before and after `denoise clean`, by `denoise.plot`.

python docs/figures/gallery.py docs/figures
"""

import sys
import tempfile
from pathlib import Path

import denoise

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
NAMES = (
    "photos/retina.png",
    "photos/deep_field.jpg",
    "recordings/reading_stereo_44k.flac",
    "sensors/accelerometer_100hz.csv",
)

with tempfile.TemporaryDirectory() as folder:
    for name in NAMES:
        result = Path(folder) / Path(name).name
        denoise.clean_file(SAMPLES / name, result)
        figure = denoise.plot.before_after(SAMPLES / name, result)
        figure.savefig(Path(sys.argv[1]) / f"gallery_{result.stem}.jpg", dpi=90)
