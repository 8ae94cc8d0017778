"""Name the noises and costs of a benchmark in words with units, for tables, plots and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipelines.benchmark.run import BenchmarkRow

COSTS: Mapping[str, str] = {
    "s_per_mpx": "seconds a megapixel",
    "real_time_factor": "seconds a second of signal",
    "s_per_msample": "seconds a million samples",
}
SHORT_COSTS: Mapping[str, str] = {
    "s_per_mpx": "s/megapixel",
    "real_time_factor": "s/s",
    "s_per_msample": "s/million samples",
}
_UNITS: Mapping[str, str] = {"db": " dB", "px": " px", "hz": " Hz", "s": " s"}
_FIELD = re.compile(rf"(\w+?)(?:_({'|'.join(_UNITS)}))?=([^,+]+)")


def main_cost(row: BenchmarkRow) -> str:
    """Name the cost of a row that all of its modality have, one of `COSTS`; empty if it has none."""
    return [*row.cost, ""][max(0, len(row.cost) - 1)]


def noise_title(spec: str) -> str:
    """Put a noise, or fields of one, in words: `gaussian:snr_db=5` as `gaussian, SNR 5 dB`."""

    def words(found: re.Match[str]) -> str:
        name, unit, value = found.groups()
        return f"{_words(name)} {value}{_UNITS.get(unit, '')}"

    return re.sub(r"[:,]", ", ", _FIELD.sub(words, spec)).replace("+", " + ")


def swept_title(row: BenchmarkRow) -> str:
    """Name the level of a sweep with its unit: `gaussian: sigma, 8-bit units`."""
    from denoise.corruptions import Chain, parse

    noise = parse(row.noise)
    if isinstance(noise, Chain):  # the first is swept, the others stay
        noise = noise.parts[0]
    field = noise.level_for(row.modality) or ""
    words = _words(re.sub(f"_({'|'.join(_UNITS)})$", "", field))
    unit = str(noise.text_fields[field])
    if words in unit.casefold():  # the ISO of a camera, the IJG quality of a JPEG
        return f"{noise.name}: {unit}"
    return f"{noise.name}: {words}{' ' if unit.startswith('of ') else ', '}{unit}"


def _words(name: str) -> str:
    return re.sub(r"\bsnr\b", "SNR", name.replace("_", " "))
