"""Music, nature, machines: hiss, hum and clicks are removed, and the sound is preserved."""

import numpy as np
import pytest

from denoise.errors import UsageError
from denoise.infer.stream import Stream
from denoise.metrics import si_sdr_db
from denoise.models.classical.restoration import (
    AudioRestoration,
    ClickRepair,
    DropoutRepair,
    HissGate,
)

RATE = 48_000
SECONDS = 8
TIME_S = np.arange(SECONDS * RATE) / RATE


def noise(sigma: float, seed: int = 0) -> np.ndarray:
    return sigma * np.random.default_rng(seed).standard_normal(TIME_S.size)


def hum(hz: float, level: float) -> np.ndarray:
    return sum(level / k * np.sin(2 * np.pi * hz * k * TIME_S + k) for k in (1, 2, 3, 5))


def melody() -> np.ndarray:
    """Plucked notes over a continuous drone."""
    rng = np.random.default_rng(3)
    out = 0.05 * np.sin(2 * np.pi * 146.8 * TIME_S)
    for start in np.arange(0, SECONDS - 1, 0.25):
        after = np.maximum(TIME_S - start, 0)
        hz = 220 * 2 ** (rng.integers(0, 36) / 12)
        out += 0.1 * (after > 0) * np.sin(2 * np.pi * hz * after) * np.exp(-3 * after)
    return out


def level_db(signal: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(signal))))


def fit_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    return si_sdr_db(reference[None], estimate[None])


def test_hiss_is_removed_and_music_preserved() -> None:
    music, model = melody(), AudioRestoration()
    assert fit_db(music, model.denoise(music + noise(0.01))) > fit_db(music, music + noise(0.01)) + 6
    assert fit_db(music, model.denoise(music + noise(1e-5))) > 30  # no harm
    assert level_db(model.denoise(noise(0.01))) < level_db(noise(0.01)) - 10


def test_hum_is_removed() -> None:
    music, added = melody() + noise(1e-4), hum(49.95, 0.005)
    assert fit_db(music, AudioRestoration().denoise(music + added)) > fit_db(music, music + added) + 8


def test_a_drone_on_the_mains_stays() -> None:
    drone = sum(0.1 / k * np.sin(2 * np.pi * 100 * k * TIME_S + k * k) for k in range(1, 13)) + noise(1e-4)
    assert fit_db(drone, AudioRestoration().denoise(drone)) > 20


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_clicks_are_interpolated_at_the_rate_of_the_recording(rate: float) -> None:
    """Clicks of 1 to 8 samples; the model is the whole one, so that nothing is resampled."""
    time_s, rng = np.arange(4 * rate) / rate, np.random.default_rng(1)
    music = sum(0.1 / k * np.sin(2 * np.pi * 220 * k * time_s) * np.exp(-(time_s % 0.5)) for k in range(1, 9))
    music += 0.002 * rng.standard_normal(time_s.size)
    clicked, spots = music.copy(), []
    for at in (0.2 * rate + 0.18 * rate * np.arange(20)).astype(int) + rng.integers(0, 0.1 * rate, 20):
        spots.append(slice(at, at + int(rng.integers(1, 9))))
        size = spots[-1].stop - at
        clicked[spots[-1]] += 0.3 * rng.choice([-1, 1], size)
    model = AudioRestoration().for_sample_rate(rate)._repairs[1]
    repaired = model.denoise(clicked)
    error = [np.square(repaired - music)[at].sum() / np.square(clicked - music)[at].sum() for at in spots]
    assert sum(e < 0.1 for e in error) >= 18
    outside = np.ones(music.size, bool)
    for at in spots:
        outside[at.start - 8 : at.stop + 8] = False
    np.testing.assert_array_equal(repaired[outside], clicked[outside])


def test_onsets_are_not_clicks() -> None:
    attacks = np.sign(np.sin(2 * np.pi * 440 * TIME_S)) * 0.3 * np.exp(-12 * (TIME_S % 0.5)) + noise(0.001)
    np.testing.assert_array_equal(ClickRepair().denoise(attacks), attacks)
    beats = 0.5 * np.exp(-40 * (TIME_S % 0.25)) * noise(1) + 0.01 * np.sin(2 * np.pi * 60 * TIME_S)
    np.testing.assert_array_equal(ClickRepair().denoise(beats), beats)


def test_wood_blocks_over_a_bass_are_not_clicks() -> None:
    """Each begins at once, and its sines explain it soon after: like a click with a tail."""
    rng = np.random.default_rng(2)
    beats = 0.3 * np.sin(2 * np.pi * 55 * TIME_S) + 1e-4 * rng.standard_normal(TIME_S.size)
    for start in np.arange(0.2, SECONDS - 0.2, 0.2):
        after = np.maximum(TIME_S - start, 0)
        fading = rng.uniform(0.01, 0.1) * np.exp(-rng.uniform(70, 300) * after)
        beats += fading * sum(np.sin(2 * np.pi * hz * after) for hz in rng.uniform(300, 5000, 5))
    np.testing.assert_array_equal(ClickRepair().denoise(beats), beats)


@pytest.mark.parametrize("rate", [44_100, 96_000])
@pytest.mark.parametrize("left", [0.0, 0.003])
def test_dropouts_are_filled(rate: int, left: float) -> None:
    """Gaps of zeros, or of what is left of the sound, of 1.5 to 20 ms."""
    time_s, rng = np.arange(4 * rate) / rate, np.random.default_rng(1)
    music = sum(0.1 / k * np.sin(2 * np.pi * 220 * k * time_s + k) for k in range(1, 9))
    music *= 1 + 0.3 * np.sin(2 * np.pi * 5 * time_s)
    music += 0.001 * rng.standard_normal(time_s.size)
    broken, spots = music.copy(), []
    for number, ms in enumerate((1.5, 3, 5, 10, 20)):
        at = round((0.5 + 0.6 * number) * rate) + int(rng.integers(500))
        spots.append(slice(at, at + round(ms * rate / 1000)))
        broken[spots[-1]] *= left
    filled = DropoutRepair(rate).denoise(broken)
    for spot in spots:
        assert level_db((filled - music)[spot]) < level_db((broken - music)[spot]) - 5
        broken[spot.start - 24 : spot.stop + 24] = filled[spot.start - 24 : spot.stop + 24]
    np.testing.assert_array_equal(filled, broken)  # nothing else


def test_crackle_with_a_tail_is_interpolated_to_its_end() -> None:
    """Clicks that ring for 0.4 to 0.8 ms, whose end alone is as smooth as music."""
    music, rng = melody() + noise(0.002), np.random.default_rng(5)
    clicked = music.copy()
    spots = np.arange(RATE, 6 * RATE, 12_000) + rng.integers(0, 2000, 20)
    for at in spots:
        time = np.arange(rng.integers(20, 38))
        clicked[at : at + time.size] += (
            0.5 * np.exp(-3 * time / time.size) * np.cos(rng.uniform(0.3, 1.5) * time)
        )
    repaired = ClickRepair().denoise(clicked)
    gains = [
        level_db((clicked - music)[at : at + 40]) - level_db((repaired - music)[at : at + 40]) for at in spots
    ]
    assert np.mean(np.array(gains) > 10) >= 0.5
    assert min(gains) > -1


def ticks(starts_s: np.ndarray, tick: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    out = noise(0.0003)
    for start_s, amplitude in zip(starts_s, amplitudes, strict=True):
        at = round(start_s * RATE)
        out[at : at + tick.size] += amplitude * tick
    return out


def burning(rng: np.random.Generator) -> np.ndarray:
    """A fire: bursts of noise of 0.3 to 6 ms over a rumble."""
    out = 0.01 * np.sin(2 * np.pi * 40 * TIME_S) + noise(0.002)
    for start in rng.uniform(0.1, SECONDS - 0.1, 60):
        size, at = round(rng.uniform(0.0003, 0.006) * RATE), round(start * RATE)
        burst = rng.standard_normal(size) * np.exp(-4 * np.arange(size) / size)
        out[at : at + size] += 0.3 * rng.lognormal(-0.7, 0.9) * burst
    return out


def sounds_of_clicks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    decay = np.arange(144) / RATE
    geiger = np.exp(-decay / 0.0002) * np.cos(2 * np.pi * 3500 * decay)
    lasting = np.arange(0.1, SECONDS - 0.1, 0.5)
    trains = np.concatenate([start + np.arange(0, 0.4, 0.03 - 0.003 * start) for start in range(7)])
    return {
        "Geiger counter": ticks(rng.uniform(0.1, SECONDS - 0.1, 80), geiger, 0.4 * rng.uniform(0.8, 1.2, 80)),
        "clock": ticks(lasting, geiger, 0.1 + 0.05 * (np.arange(lasting.size) % 2)),
        "dolphin": ticks(trains, np.array([0.2, 0.9, -1, 0.5, -0.2, 0.1]), np.full(trains.size, 0.3)),
        "fire": burning(rng),
        "saw": 0.3 * (2 * (110 * TIME_S % 1) - 1),
        "square": 0.2 * np.sign(np.sin(2 * np.pi * 220 * TIME_S + 0.1)),
        "pulses over music": melody() + 0.2 * (np.arange(TIME_S.size) % 12_000 < 3),
    }


@pytest.mark.parametrize("name", sounds_of_clicks())
def test_clicks_that_are_the_sound_stay(name: str) -> None:
    """Regular ones, ones that are alike, more of them than of all else, and short ones amid long ones."""
    sound = sounds_of_clicks()[name]
    change = ClickRepair().denoise(sound) - sound
    assert level_db(change + 1e-9) < level_db(sound) - 25


def test_gates_and_telegraphy_are_no_dropouts() -> None:
    rng, tone = np.random.default_rng(7), 0.3 * np.sin(2 * np.pi * 600 * TIME_S)
    music = tone * (1 + 0.3 * np.sin(2 * np.pi * 220 * TIME_S))
    gated = music * (TIME_S % 0.25 < 0.238)
    units = np.concatenate([np.append(np.ones(length), 0) for length in rng.choice([1, 3], 160)])
    telegraphy = tone * np.resize(np.repeat(units, RATE // 50), TIME_S.size)
    many = music.copy()
    for start in rng.uniform(0.2, SECONDS - 0.2, 80):
        many[round(start * RATE) : round((start + 0.012) * RATE)] = 0.0
    for sound in (gated, telegraphy, many):
        np.testing.assert_array_equal(DropoutRepair().denoise(sound), sound)


def test_pauses_are_no_dropouts() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 330 * TIME_S)
    gated = tone * (TIME_S % 0.04 < 0.025)  # a gate of 25 Hz
    faded = tone * (1 - np.exp(-(((TIME_S % 0.5 - 0.25) / 0.02) ** 2)))
    pulses = 0.3 * (TIME_S % 0.01 < 0.003)
    attacks = np.where(TIME_S % 0.25 < 0.01, 0.0, tone * np.exp(-30 * (TIME_S % 0.25 - 0.01)))
    hiss = noise(0.1)
    hiss[RATE : RATE + 480] = 0.0  # cannot be predicted
    for sound in (gated, faded, pulses, attacks, hiss):
        np.testing.assert_array_equal(DropoutRepair().denoise(sound), sound)


@pytest.mark.parametrize("silent_s", [0.0, 1.0])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_hiss_goes_up_to_the_end_and_beside_digital_silence(silent_s: float, offset: float) -> None:
    """Hum included, whose filter would ring into the silence, and at a length that no frame divides."""
    sound = (noise(0.01) + hum(50.0, 0.003))[: 5 * RATE + 777]
    recording = np.concatenate([sound, np.zeros(round(silent_s * RATE))]) + offset
    stream = Stream(AudioRestoration(), sample_rate=RATE)
    cleaned = stream.feed(recording[None].astype(np.float32), last=True)[0] - offset
    last = slice(sound.size - RATE, sound.size - RATE // 100)
    assert level_db(cleaned[last]) < level_db(noise(0.01)) - 10
    assert level_db(cleaned[2 * RATE : 3 * RATE]) < level_db(noise(0.01)) - 10


def test_a_noise_profile_removes_noise_without_pauses() -> None:
    """Broad noise under a steady roar can be separated by a noise profile only."""
    music, hiss = melody(), noise(0.02)
    model = AudioRestoration().with_profile(noise(0.02, seed=5)[None, : 2 * RATE])
    assert fit_db(music, model.denoise(music + hiss)) > fit_db(music, music + hiss) + 8
    quieter = AudioRestoration().with_profile(noise(1e-4, seed=5)[None])
    assert level_db(quieter.denoise(hiss)) == pytest.approx(level_db(hiss), abs=0.1)
    with pytest.raises(UsageError, match=r"lasts 0\.010 s"):
        AudioRestoration().with_profile(np.zeros((1, 480)))


def test_the_floor_of_white_noise_is_its_power() -> None:
    gate = HissGate()
    spectrum = gate._analyse(noise(1.0))
    power = spectrum.real**2 + spectrum.imag**2
    found = gate.floor_bias * gate._floor(power, np.zeros(len(power), bool))[30:-30, 20:-20].mean()
    assert 10 * np.log10(found / power[30:-30, 20:-20].mean()) == pytest.approx(0, abs=0.5)


def test_channels_share_one_gain() -> None:
    left = melody() + noise(0.01)
    pair = np.stack([left, -0.25 * left])
    cleaned = HissGate().denoise(pair)
    np.testing.assert_allclose(cleaned[1], -0.25 * cleaned[0], atol=1e-12)
