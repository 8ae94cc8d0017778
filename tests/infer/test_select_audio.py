"""Selection of the audio model: speech distinguished from music, machines and nature."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from denoise import io
from denoise.errors import UsageError
from denoise.infer import select_audio
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.select_audio import AudioSelector, kind_probabilities, sample_excerpts
from denoise.models.sound_kind import KINDS
from pipelines.cli.group import cli

Make = Callable[..., Any]

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
READINGS = sorted((SAMPLES / "recordings").iterdir())
RATE = 16_000
TIME_S = np.arange(10 * RATE) / RATE


def white(level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(TIME_S.size)


def since(start_s: float) -> np.ndarray:
    """Seconds since the start; infinite before it, which silences a ringing tone there."""
    return np.where(start_s < TIME_S, TIME_S - start_s, np.inf)


def notes(lowest_hz: float, per_second: float, decay: float, harmonics: int) -> np.ndarray:
    rng, out = np.random.default_rng(3), np.zeros_like(TIME_S)
    for start in np.arange(0, 10, 1 / per_second):
        hz = lowest_hz * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        ringing = np.exp(-decay * since(start))
        for k in range(1, harmonics + 1):
            out += ringing**k**0.5 * np.sin(2 * np.pi * hz * k * TIME_S) / k
    return 0.1 * out


def drums() -> np.ndarray:
    out = np.zeros_like(TIME_S)
    for start in np.arange(0, 10, 0.5):
        out += 0.5 * np.exp(-20 * since(start)) * np.sin(2 * np.pi * 60 * TIME_S)
        out += np.exp(-40 * since(start + 0.25)) * white(0.2)
    return out


def engine() -> np.ndarray:
    fires = sum(np.sin(2 * np.pi * 47 * k * TIME_S + k * k) / k for k in range(1, 40))
    return 0.1 * fires * (1 + 0.2 * np.sin(2 * np.pi * 7 * TIME_S)) + white(0.02)


def siren() -> np.ndarray:
    hz = 600 + 500 * np.sin(2 * np.pi * 0.3 * TIME_S)
    return 0.2 * np.sin(2 * np.pi * np.cumsum(hz) / RATE)


def birds() -> np.ndarray:
    out = white(0.003)
    for start in np.arange(0, 10, 0.37):
        after = np.where(since(start) < 0.12, since(start), 0.0)
        out += 0.2 * np.sin(2 * np.pi * (3500 + 8000 * after) * after) * np.sin(np.pi * after / 0.12)
    return out


OTHER: dict[str, Callable[[], np.ndarray]] = {
    "notes": lambda: notes(196, 4, 6, 8),
    "low notes": lambda: notes(98, 3, 2, 12),
    "drums": drums,
    "engine": engine,
    "siren": siren,
    "birds": birds,
    "hiss": lambda: white(0.1),
    "hum": lambda: 0.1 * sum(np.sin(2 * np.pi * 50 * k * TIME_S) / k for k in (1, 2, 3, 5)),
}


@pytest.fixture(scope="module")
def auto() -> Cleaner:
    return load("auto", "audio")


def selected(auto: Cleaner, samples: np.ndarray, rate: float = RATE) -> str:
    assert isinstance(auto.model, AudioSelector)
    rows = np.atleast_2d(samples)
    return auto.model.select([rows], 1.0, rows.shape[1], rate).model


@pytest.mark.parametrize("path", READINGS, ids=lambda path: path.name)
@pytest.mark.parametrize("gain_db", [0, -40])
def test_readings_are_speech_noisy_or_clean_loud_or_faint(auto: Cleaner, path: Path, gain_db: float) -> None:
    for recording in (path, SAMPLES / "reference" / "recordings" / path.name):
        samples, info = io.read(recording)
        assert info.sample_rate
        assert selected(auto, samples * 10 ** (gain_db / 20), info.sample_rate) == "speech"


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_not_speech_is_not_taken_for_it(auto: Cleaner, kind: str) -> None:
    assert selected(auto, OTHER[kind]()) == "field"


def test_silence_and_a_moment_are_no_speech(auto: Cleaner) -> None:
    assert selected(auto, np.zeros(RATE)) == selected(auto, white(0.1)[:5]) == "field"


def test_what_a_speech_model_would_destroy_decides(auto: Cleaner) -> None:
    """Four of six excerpts with speech are below the bound of 0.7, five are above it."""
    voice, _ = io.read(READINGS[0])
    talk = np.tile(voice[0], 3)[: TIME_S.size]
    for spoken, model in ((4, "field"), (5, "speech")):
        assert selected(auto, np.concatenate([talk] * spoken + [engine()] * (6 - spoken))) == model
    silent = np.zeros_like(talk)
    assert selected(auto, np.concatenate([silent, talk, silent, silent])) == "speech"


def test_excerpts_lie_evenly_and_do_not_depend_on_blocks() -> None:
    ramp = np.arange(100 * 1000, dtype=np.float32)[None] / 1e5
    one = list(sample_excerpts([ramp], ramp.shape[1], 1000))
    many = list(sample_excerpts(np.array_split(ramp, 777, axis=1), ramp.shape[1], 1000))
    assert len(one) == len(many) == 10
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)
    middles = [float(np.median(part)) for part in one]
    np.testing.assert_allclose(np.diff(middles), 0.1, atol=1e-3)
    assert len(list(sample_excerpts([ramp], 10 * ramp.shape[1], 1000))) == 2  # a header that claims too much
    assert len(list(sample_excerpts([np.tile(ramp, 3)], 3 * ramp.shape[1], 1000))) == 12


def test_the_row_says_what_was_decided(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "engine.wav", engine(), RATE)
    (tmp_path / "in" / READINGS[0].name).write_bytes(READINGS[0].read_bytes())
    arguments = ["clean", "in", "-o", "out", "--json", "rows.json", "--workers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = CliRunner().invoke(cli, arguments, prog_name="denoise")
        assert result.exit_code == 0, result.output
        rows = {row["key"]: row for row in json.loads(Path("rows.json").read_text())["rows"]}
    machine, reading = rows["engine.wav"], rows[READINGS[0].name]
    assert (machine["model"], machine["metrics"]["speech_share"]) == ("field", 0.0)
    assert machine["notes"][0].startswith("field: ")
    assert machine["notes"][0].endswith(" in 1 of 1 excerpts")
    assert (reading["model"], reading["metrics"]["speech_share"]) == ("speech", 1.0)


def test_in_memory_it_is_what_was_selected(auto: Cleaner) -> None:
    assert isinstance(auto.model, AudioSelector)
    for samples, model in (
        (engine()[: 3 * RATE], auto.model.models["field"]),
        (io.read(READINGS[0])[0][0][: 3 * RATE], load("speech", "audio").model),
    ):
        expected = Cleaner("expected", model, "").clean(samples, RATE)
        np.testing.assert_array_equal(auto.clean(samples, RATE), expected)
    with pytest.raises(UsageError, match="image and audio, not sensor"):
        load("auto", "sensor")


def test_doubt_is_no_speech(auto: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    for probability, model in ((0.38, "field"), (0.42, "speech")):
        rest = (1 - probability) / (len(KINDS) - 1)
        found = np.array([probability if kind == "speech" else rest for kind in KINDS])
        monkeypatch.setattr(select_audio, "kind_probabilities", lambda _, found=found: found)
        assert selected(auto, white(0.1)) == model


def test_the_kind_does_not_depend_on_level_and_length() -> None:
    voice = io.read(READINGS[0])[0][0]
    loud, faint = (kind_probabilities(voice * gain) for gain in (1.0, 1e-3))
    np.testing.assert_allclose(loud, faint, atol=1e-3)
    assert loud.sum() == pytest.approx(1)
    for size in (3200, 70_000):
        assert kind_probabilities(np.resize(voice, size)).shape == (len(KINDS),)
