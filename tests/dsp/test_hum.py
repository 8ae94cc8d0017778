"""Hum of the mains is found under other sounds, at any rate; drones, notes and pulses are none."""

import numpy as np
import pytest

from denoise.dsp.hum import mains_hum, without_hum

RATE = 48_000


def melody(seconds: int, rate: int = RATE) -> np.ndarray:
    """Plucked notes of soft attack."""
    rng, time_s = np.random.default_rng(3), np.arange(seconds * rate) / rate
    out = np.zeros(time_s.size)
    for start in np.arange(0, seconds - 1, 0.25):
        after = np.maximum(time_s - start, 0)
        hz = 220 * 2 ** (rng.integers(0, 36) / 12)
        out += 0.1 * np.minimum(after / 0.005, 1) * np.sin(2 * np.pi * hz * after) * np.exp(-3 * after)
    return out


def hum(
    seconds: int, mains_hz: float, drift_hz: float = 0.0, level: float = 0.01, rate: int = RATE
) -> np.ndarray:
    time_s = np.arange(seconds * rate) / rate
    cycles = np.cumsum(mains_hz + drift_hz * np.sin(0.5 * time_s)) / rate
    return sum(level / k * np.sin(2 * np.pi * k * cycles + k) for k in (1, 2, 3, 5, 7))


def noise(sigma: float, size: int) -> np.ndarray:
    return sigma * np.random.default_rng(0).standard_normal(size)


def level_db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x)) + 1e-30))


@pytest.mark.parametrize("rate", [8_000, 44_100, RATE, 96_000])
@pytest.mark.parametrize(("mains_hz", "drift_hz"), [(50.0, 0.05), (60.1, 0.0)])
def test_hum_is_estimated_under_music(mains_hz: float, drift_hz: float, rate: int) -> None:
    music, added = melody(7, rate), hum(7, mains_hz, drift_hz, rate=rate)
    found = mains_hum((music + added)[None], rate)[0]
    assert level_db(added - found) < level_db(added) - 12
    np.testing.assert_array_equal(mains_hum(music[None], rate), 0.0)
    odd = (music + added)[None, :-7]
    np.testing.assert_allclose(mains_hum(odd, rate)[0, :-rate], found[: odd.shape[1] - rate], atol=1e-3)


def test_hum_is_removed_from_a_whole_recording() -> None:
    """Make two channels of different hum, of a length that no window divides."""
    music = np.stack([melody(14), noise(0.01, 14 * RATE)])[:, :-1234]
    added = np.array([[0.5], [0.1]]) * hum(14, 49.95)[:-1234]
    left = without_hum(music + added, RATE, 2**18) - music
    for row, share in zip(left, added, strict=True):
        assert level_db(row[RATE:-RATE]) < level_db(share) - 12
    np.testing.assert_array_equal(without_hum(music, RATE, 2**18), music)


def test_a_motor_at_the_start_is_no_hum() -> None:
    """Two windows share each part; hum is what both find."""
    music = melody(16)
    motor = hum(16, 50.0) * (np.arange(16 * RATE) < 5 * RATE)
    part = 5 * RATE
    alone = mains_hum(np.pad(music + motor, (part, 0))[None, : 2 * part], RATE)
    assert level_db(alone) > level_db(motor) - 6  # the first window is deceived
    left = without_hum((music + motor)[None], RATE, part) - music
    assert level_db(left[0] - motor) < level_db(motor) - 20


@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_digital_silence_stays_and_hides_no_hum(offset: float) -> None:
    """A recording that was muted for a second, and ends with silence."""
    music, added = melody(11), hum(11, 50.0)
    for silent in (slice(5 * RATE, 6 * RATE), slice(10 * RATE, None)):
        music[silent] = added[silent] = 0.0
    found = mains_hum((music + added + offset)[None], RATE)[0]
    np.testing.assert_array_equal(found[added == 0.0][1:], 0.0)
    assert level_db(found - added) < level_db(added) - 12


@pytest.mark.parametrize("hz", [49.0, 50.0, 100.0])
def test_a_single_steady_note_is_no_hum(hz: float) -> None:
    note = 0.1 * np.sin(2 * np.pi * hz * np.arange(8 * RATE) / RATE)
    note += noise(0.003, note.size)
    np.testing.assert_array_equal(mains_hum(note[None], RATE), 0.0)


def drone(hz: float) -> np.ndarray:
    time_s = np.arange(8 * RATE) / RATE
    rich = sum(0.1 / k * np.sin(2 * np.pi * k * hz * time_s + k * k) for k in range(1, 13))
    return np.asarray(rich + noise(2e-4, time_s.size))


@pytest.mark.parametrize("hz", [49.0, 50.0, 60.0, 98.0, 100.0, 120.0])
def test_drones_and_bass_lines_on_the_mains_are_no_hum(hz: float) -> None:
    """Keep tones that dominate, pause or lie off the mains, however steady they are."""
    quarters = np.arange(8 * RATE) // (RATE // 4)
    beat = np.isin(quarters % 8, (0, 1, 3, 4, 6))  # two, one and one notes of a bar
    off_hz = 0.1 * drone(hz * 1.01)
    for sound in (
        drone(hz),
        drone(hz) + 0.5 * melody(8),
        0.1 * drone(hz) * beat + melody(8),
        off_hz + melody(8),
    ):
        np.testing.assert_array_equal(mains_hum(sound[None], RATE), 0.0)


def test_a_drone_keeps_its_lines_on_the_mains() -> None:
    """The fifth multiple of 110 Hz is the eleventh of 50 Hz, but stands out from the hum around it."""
    time_s, added = np.arange(8 * RATE) / RATE, hum(8, 50.0)
    steady = sum(0.1 / k * np.sin(2 * np.pi * 110 * k * time_s + k * k) for k in range(1, 13))
    found = mains_hum((steady + noise(2e-4, added.size) + added)[None], RATE)[0]
    assert level_db(found - added) < level_db(added) - 20


def test_hum_that_is_known_goes_where_nothing_else_is_left() -> None:
    pause = noise(1e-3, 8 * RATE) + hum(8, 50.0)
    np.testing.assert_array_equal(mains_hum(pause[None], RATE), 0.0)  # it may be the sound
    power = np.square(hum(8, 50.0)).mean()
    assert level_db(pause - mains_hum(pause[None], RATE, power)[0]) < -55
    np.testing.assert_array_equal(mains_hum(pause[None], RATE, power / 4), 0.0)


def test_ticks_of_a_clock_add_no_lines_to_the_hum_between_them() -> None:
    """A clock that ticks once a second has lines on all multiples of the mains."""
    decay = np.arange(480)
    recording = added = hum(8, 50.0, level=0.003)
    recording = recording + noise(1e-5, added.size)
    for start in range(9000, recording.size, RATE):
        recording[start : start + 480] += 0.8 * np.exp(-decay / 60) * np.cos(1.2 * decay)
    assert level_db(mains_hum(recording[None], RATE)[0] - added) < level_db(added) - 36


def test_a_train_of_pulses_is_no_hum() -> None:
    """Lines at all multiples of 20 Hz, some of which are those of the mains."""
    pulses = 0.4 * (np.arange(8 * RATE) % 2400 < 3)
    np.testing.assert_array_equal(mains_hum(pulses[None], RATE), 0.0)
