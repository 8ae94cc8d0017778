"""Selection of the audio model: speech distinguished from music, machines and nature."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from scipy.signal import butter, lfilter, sosfiltfilt

from denoise import io
from denoise.errors import InputError, UsageError
from denoise.infer import select_audio
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import clean_file
from denoise.infer.select_audio import (
    LOOK_AHEAD_STEPS,
    MUSIC,
    OTHER,
    SILENCE,
    SPEECH,
    STEP_S,
    AudioSelection,
    KindTracker,
    band_powers,
    channel_groups,
    kind_probabilities,
    second_look,
)
from denoise.infer.switch import AudioSelector, SwitchedStream
from denoise.models.base import Denoiser, InputSpec
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


@functools.cache
def notes(lowest_hz: float, per_second: float, decay: float, harmonics: int) -> np.ndarray:
    rng, out = np.random.default_rng(3), np.zeros_like(TIME_S)
    for start in np.arange(0, 10, 1 / per_second):
        hz = lowest_hz * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        sounding = slice(int(start * RATE), int((start + 8 / decay) * RATE))  # then it is inaudible
        after_s = TIME_S[sounding] - start
        for k in range(1, harmonics + 1):
            ringing = np.exp(-decay * k**0.5 * after_s)
            out[sounding] += ringing * np.sin(2 * np.pi * hz * k * TIME_S[sounding]) / k
    return 0.1 * out


def drums() -> np.ndarray:
    out = np.zeros_like(TIME_S)
    for start in np.arange(0, 10, 0.5):
        out += 0.5 * np.exp(-20 * since(start)) * np.sin(2 * np.pi * 60 * TIME_S)
        out += np.exp(-40 * since(start + 0.25)) * white(0.2)
    return out


@functools.cache
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


OTHER_SOUNDS: dict[str, Callable[[], np.ndarray]] = {
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


def kinds(samples: np.ndarray, rate: float = RATE) -> list[str]:
    return [kind for (kind,) in KindTracker(rate).feed(np.atleast_2d(samples).mean(0)[None], last=True)]


@functools.cache
def talk() -> np.ndarray:
    return np.tile(io.read(READINGS[0])[0][0], 3)[: TIME_S.size]


class Gain(Denoiser):
    """Multiplies by a gain that says which model it is."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain, self.spec, self.calls = gain, InputSpec("audio", halo=64, joint_channels=True), 0

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        self.calls += noisy.shape[-1]
        return self.gain * noisy


def switched(
    samples: np.ndarray, rate: float = RATE, block: int = 65536
) -> tuple[np.ndarray, AudioSelection, dict[str, Gain]]:
    """Clean with gains in place of models: 0.5 for speech, 0.25 for music, 0.75 for all else."""
    models = {SPEECH: Gain(0.5), MUSIC: Gain(0.25), OTHER: Gain(0.75)}
    rows = np.atleast_2d(samples)
    stream = SwitchedStream(models, len(rows), rate)
    size = rows.shape[1]
    parts = [stream.feed(rows[:, i : i + block], last=i + block >= size) for i in range(0, size, block)]
    return np.concatenate(parts, axis=1), stream.selection, models


@pytest.mark.parametrize("path", READINGS, ids=lambda path: path.name)
@pytest.mark.parametrize("gain_db", [0, -40])
def test_readings_are_speech_noisy_or_clean_loud_or_faint(path: Path, gain_db: float) -> None:
    for recording in (path, SAMPLES / "reference" / "recordings" / path.name):
        samples, info = io.read(recording)
        assert info.sample_rate
        assert set(kinds(samples * 10 ** (gain_db / 20), info.sample_rate)) == {SPEECH}


@pytest.mark.parametrize("kind", OTHER_SOUNDS)
def test_what_is_not_speech_is_not_taken_for_it(kind: str) -> None:
    assert SPEECH not in kinds(OTHER_SOUNDS[kind]())


@pytest.mark.parametrize(
    ("samples", "first", "is_speech"),
    [
        (lambda: talk() + white(talk().std()), (0.3, 0.1, 0.1, 0.5), True),
        (lambda: talk() + white(talk().std()), (0.3, 0.5, 0.1, 0.1), None),  # may be a song
        (birds, (0.7, 0.0, 0.0, 0.3), False),
        (lambda: white(0.1), (0.3, 0.1, 0.1, 0.5), False),
        (lambda: notes(196, 4, 6, 8), (0.3, 0.1, 0.1, 0.5), None),
    ],
    ids=["voice in noise", "song in noise", "birds", "noise", "notes"],
)
def test_what_a_model_for_speech_leaves_decides_in_doubt(
    samples: Callable[[], np.ndarray], first: tuple[float, ...], is_speech: bool | None
) -> None:
    """A level far from full scale changes nothing."""
    window = 1e-3 * samples()[: 4 * RATE]
    second = second_look(window, np.array(first))
    assert second.sum() == pytest.approx(1.0, abs=1e-6)
    if is_speech is None:
        assert second == pytest.approx(first)
    else:
        assert (second[0] > 0.5) == is_speech
        assert is_speech or second[0] == 0


def vowel(seconds: float, end: float) -> np.ndarray:
    """A short sound of a game: harmonics of 150 Hz and up through two formants, which glide to `end`."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * 150 * np.cumsum(1 + (end - 1) * time_s / seconds) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 20))
    for hz in (500, 1500):
        radius = np.exp(-np.pi * 90 / RATE)
        sound = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hz / RATE), radius**2], sound)
    return sound / np.abs(sound).max() * np.minimum(time_s / 0.02, 1) * np.exp(-3 * time_s / seconds)


@pytest.mark.parametrize("silence_s", [0, 5])
@pytest.mark.parametrize(("seconds", "end"), [(0.4, 0.5), (0.4, 2.0), (0.8, 0.5)])
def test_short_sounds_stay_though_they_resemble_a_voice(
    auto: Cleaner, seconds: float, end: float, silence_s: int
) -> None:
    sound = np.pad(0.3 * vowel(seconds, end), (silence_s * RATE // 2, silence_s * RATE))
    error = auto.clean(sound, RATE) - sound
    assert (error @ error) < 10**-3.5 * (sound @ sound)


def test_a_word_in_noise_is_speech() -> None:
    for seconds in (1.0, 2.0):
        word = talk()[RATE // 2 :][: round(seconds * RATE)]
        assert set(kinds(word + white(0.2 * word.std())[: word.size])) == {SPEECH}


def test_silence_and_a_moment_are_no_speech() -> None:
    assert set(kinds(np.zeros(RATE))) == set(kinds(white(0.1)[:5])) == {SILENCE}


def test_talk_song_and_talk_each_get_their_model() -> None:
    """Only some seconds at the borders are mixed, the song is never given to the model for speech."""
    song = np.tile(notes(196, 4, 6, 8), 3)
    recording = np.concatenate([talk(), talk(), song, talk(), talk()])
    cleaned, selection, models = switched(recording)
    gains = cleaned[0] / np.where(recording == 0, np.nan, recording)
    per_second = np.nanmedian(gains.reshape(-1, RATE), axis=1)
    assert (per_second[:16] == 0.5).all()
    assert (per_second[-16:] == 0.5).all()
    assert (per_second[20:50] < 0.5).sum() >= 28
    np.testing.assert_allclose(per_second[24:46], 0.25, atol=1e-6)
    spoken, sung = models[SPEECH].calls, models[MUSIC].calls
    assert spoken < 1.7 * 40 * RATE  # each runs on its passages and their context, with its own padding
    assert sung < 1.7 * 30 * RATE
    assert selection.model == "speech and field"
    assert selection.reason.startswith("0:00-0:")
    assert " speech, 0:" in selection.reason
    assert " field (music), 0:" in selection.reason
    assert selection.speech_share == pytest.approx(40 / 70, abs=0.08)


def test_talk_after_a_song_is_cleaned_like_talk_alone(auto: Cleaner) -> None:
    """A song that the model for speech hears before a voice would count as its noise."""
    voice = np.tile(io.read(SAMPLES / "reference" / "recordings" / READINGS[0].name)[0][0], 3)[: TIME_S.size]
    voice = voice + white(voice.std() * 10 ** (-26 / 20))
    song = np.tile(notes(196, 4, 6, 8), 2)
    late = auto.clean(np.concatenate([song, voice]), RATE)[song.size :]
    alone = auto.clean(voice, RATE)
    # Without the rumble of the room, which stays or goes with little cause.
    difference = sosfiltfilt(butter(6, 90, "high", fs=RATE, output="sos"), late - alone)
    part = slice(2 * RATE, 9 * RATE)  # the border is up to 2 s off
    assert 10 * np.log10(np.square(difference[part]).sum() / np.square(voice[part]).sum()) < -42


def test_the_blocks_do_not_matter() -> None:
    recording = np.concatenate([talk(), notes(196, 4, 6, 8), notes(98, 3, 2, 12), talk()])
    whole, selection, _ = switched(recording, block=recording.size)
    for block in (65536, 12_345):
        cleaned, again, _ = switched(recording, block=block)
        np.testing.assert_allclose(cleaned, whole, atol=1e-6)
        assert again == selection


def test_a_crossfade_is_smooth() -> None:
    """The gain changes by no more per sample than a fade of half a second does."""
    recording = np.concatenate([talk(), talk(), np.tile(notes(196, 4, 6, 8), 2)])
    cleaned, _, _ = switched(recording)
    loud = np.abs(recording) > 1e-3
    gains = (cleaned[0] / np.where(loud, recording, 1.0))[loud]
    steps = np.abs(np.diff(gains)) / np.diff(np.flatnonzero(loud))
    assert steps.max() < 1.1 * 0.5 / (0.5 * RATE)


def test_memory_and_delay_are_bounded() -> None:
    models = {kind: Gain(0.5) for kind in (SPEECH, MUSIC, OTHER)}
    stream = SwitchedStream(models, 1, RATE)
    fed = done = longest = 0
    for block in [talk()] * 6 + [notes(196, 4, 6, 8)] * 6:
        fed += block.size
        done += stream.feed(block[None]).shape[1]
        longest = max(longest, fed - done)
    assert longest < (LOOK_AHEAD_STEPS * STEP_S + 20) * RATE


def test_each_group_of_channels_has_its_models() -> None:
    """5.1 with music left and right, speech in the centre, hum on the channel of the bass, engines behind."""
    voice, music, hum = talk(), notes(196, 4, 6, 8), OTHER_SOUNDS["hum"]()
    rows = np.stack([music, 0.5 * music, voice, hum, engine(), engine()])
    cleaned, selection, _ = switched(rows)
    np.testing.assert_allclose(cleaned[:2], 0.25 * rows[:2], atol=1e-6)
    np.testing.assert_allclose(cleaned[2], 0.5 * rows[2], atol=1e-6)
    np.testing.assert_allclose(cleaned[4:], 0.75 * rows[4:], atol=1e-6)
    assert "channel 1-2: field: music throughout; channel 3: speech: speech throughout;" in selection.reason
    for channels in range(1, 11):
        covered = [c for rows in channel_groups(channels) for c in range(rows.start, rows.stop)]
        assert covered == list(range(channels))


@pytest.mark.parametrize(("other", "gain"), [("notes", 0.25), ("birds", 0.75)])
def test_a_voice_on_one_side_does_not_cost_the_sound_of_the_other(other: str, gain: float) -> None:
    rows = np.stack([OTHER_SOUNDS[other](), talk()])
    cleaned, selection, _ = switched(rows)
    np.testing.assert_allclose(cleaned, np.array([[gain], [0.5]]) * rows, atol=1e-6)
    assert selection.reason.startswith("channel 1: field: ")
    assert selection.reason.endswith("channel 2: speech: speech throughout")
    assert selection.speech_share == 0.5


@pytest.mark.parametrize("side", [0.0, 0.3, -1.0])
def test_one_scene_has_one_model(side: float) -> None:
    """A voice, louder on one side or upside down there, in noise that differs between the sides."""
    rows = np.stack([talk() + white(0.01), side * talk() + white(0.01, 1)])
    cleaned, selection, _ = switched(rows)
    if side:
        np.testing.assert_allclose(cleaned, 0.5 * rows, atol=1e-6)
        assert selection.reason == "speech: speech throughout"
    else:
        np.testing.assert_allclose(cleaned, np.array([[0.5], [0.75]]) * rows, atol=1e-6)


def test_a_silent_channel_follows_the_other_and_sides_may_change() -> None:
    """A voice on the left, then on the right beside notes."""
    voice, song, none = talk(), notes(196, 4, 6, 8), np.zeros_like(TIME_S)
    rows = np.stack([np.concatenate([voice, voice, song, song]), np.concatenate([none, none, voice, voice])])
    cleaned, selection, _ = switched(rows)
    np.testing.assert_allclose(cleaned[:, : 14 * RATE], 0.5 * rows[:, : 14 * RATE], atol=1e-6)
    np.testing.assert_allclose(cleaned[0, 26 * RATE :], 0.25 * rows[0, 26 * RATE :], atol=1e-6)
    np.testing.assert_allclose(cleaned[1], 0.5 * rows[1], atol=1e-6)
    assert selection.reason.endswith("channel 2: speech: speech throughout")


def test_an_offset_is_removed_and_put_back_without_a_pass_before() -> None:
    models = {kind: Gain(0.5) for kind in (SPEECH, MUSIC, OTHER)}
    for model in models.values():
        model.spec = InputSpec("audio", halo=64, joint_channels=True, removes_offset=True)
    stream = SwitchedStream(models, 1, RATE)
    tone = 0.1 * np.sin(2 * np.pi * 440 * TIME_S)
    cleaned = stream.feed((tone + 0.3)[None], last=True)
    np.testing.assert_allclose(cleaned[0], 0.5 * tone + 0.3, atol=1e-4)


def test_a_bad_sample_is_named_by_its_place() -> None:
    rows = np.zeros((6, 30 * RATE))
    rows[2, 25 * RATE] = np.nan
    with pytest.raises(InputError, match=f"sample {25 * RATE} of channel 3 is nan"):
        switched(rows)


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
    assert machine["notes"][0] == "field: other sounds throughout"
    assert (reading["model"], reading["metrics"]["speech_share"]) == ("speech", 1.0)


def test_fast_takes_the_live_model_for_speech(tmp_path: Path) -> None:
    report = clean_file(READINGS[0], tmp_path / "out.wav", fast=True)
    assert (report.model, report.notes[0]) == ("speech-live", "speech-live: speech throughout")
    (cleaned,) = io.read(tmp_path / "out.wav")[0]
    noisy = io.read(READINGS[0])[0][0]
    expected = load("speech-live").clean(noisy, RATE)
    np.testing.assert_allclose(cleaned, expected, atol=1e-4)


def test_in_memory_it_is_what_was_selected(auto: Cleaner) -> None:
    assert isinstance(auto.model, AudioSelector)
    for samples, model in (
        (engine()[: 3 * RATE], auto.model.models[OTHER]),
        (notes(196, 4, 6, 8)[: 3 * RATE], load("field", "audio").model),
        (io.read(READINGS[0])[0][0][: 3 * RATE], load("speech", "audio").model),
    ):
        expected = Cleaner("expected", model, "").clean(samples, RATE)
        np.testing.assert_array_equal(auto.clean(samples, RATE), expected)
    with pytest.raises(UsageError, match="image and audio, not sensor"):
        load("auto", "sensor")


def test_doubt_is_no_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_audio, "second_look", lambda _, first: first)
    for probability, kind in ((0.38, OTHER), (0.42, SPEECH)):
        found = np.array([probability, 0.1, 0.1, 0.8 - probability])
        monkeypatch.setattr(select_audio, "kind_probabilities", lambda _, found=found: found[None])
        assert set(kinds(white(0.1))) == {kind}


@pytest.mark.parametrize("order", [1, -1])
def test_ends_are_decided_on_by_ten_seconds(monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    """Two windows alone are not enough, neither at the start nor at the end."""
    speech = iter([0.1, 0.2, 0.3, 0.45, 0.45][::order])
    monkeypatch.setattr(select_audio, "second_look", lambda _, first: first)
    monkeypatch.setattr(
        select_audio, "kind_probabilities", lambda _: np.array([[p := next(speech), 0.0, 0.0, 1 - p]])
    )
    assert kinds(np.resize(white(0.1), 11 * RATE)) == 6 * [OTHER]


def test_frames_that_windows_share_are_computed_once() -> None:
    first, second = talk()[None, :64_000], talk()[None, 32_000:][:, :64_000]
    shared = band_powers(second, band_powers(first))
    torch.testing.assert_close(shared, band_powers(second), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(kind_probabilities(shared), kind_probabilities(band_powers(second)), atol=1e-4)


def test_the_kind_does_not_depend_on_level_and_length() -> None:
    voice = io.read(READINGS[0])[0][0]
    loud, faint = (kind_probabilities(band_powers(voice[None, :64_000] * gain)) for gain in (1.0, 1e-3))
    np.testing.assert_allclose(loud, faint, atol=1e-3)
    assert loud.sum() == pytest.approx(1)
    for size in (3200, 64_000):
        assert kind_probabilities(band_powers(np.resize(voice, (1, size)))).shape == (1, len(KINDS))
