"""Mains hum: steady lines at multiples of 50 or 60 Hz that drift together, estimated and subtracted."""

from __future__ import annotations

import numpy as np

from denoise.arrays import Array

MIN_SECONDS = 3.0  # shorter passages have too little resolution
_MAINS_HZ = (50.0, 60.0)
_MAX_OFF_HZ = 0.2  # deviation of the mains frequency: farther off is a note
_GRID_HZ = 0.02
_MAX_LINE_HZ = 1300.0
_LOW_RATE = 2900.0  # Hz at least, of the signal in which lines are measured
_SILENCE_S = 0.05  # of digital silence that parts passages
_WINDOW_S, _HOP_S = 2.0, 0.25  # of the frames in which lines are measured
_PADDED = 4  # zero-padding of their spectra
_CONSTANT_FRAMES = 9  # 2 s
_MAX_PROMINENCE = 1e4  # that counts in the choice of the fundamental
_REFINEMENTS = 3
_MIN_LINES = 2
_MIN_PROMINENCE = 8.0  # median power of a line over the floor beside it
_MIN_STEADINESS = 0.5  # amplitude of a line in its faintest tenth over its median
_ANCHORS = 2  # lowest multiples, one of which must be a line, and steadier than the others need to be
_MIN_ANCHOR_STEADINESS = 0.75
# Certainty of a constant amplitude: of a line too faint to be followed, of one that is, and of an anchor.
_MIN_FAINT_CERTAINTY, _MIN_CERTAINTY, _MIN_ANCHOR_CERTAINTY = 12.0, 8.0, 30.0
_SHORT_HOP_S, _SHORT_HOPS = 0.05, 4  # of frames that show the pauses between notes
_GONE, _MAX_GONE = 0.3, 0.08  # amplitude in a pause over the mean, and share of such frames
_MAX_SHARE = 0.1  # power of hum over that of everything else: more is what the recording is about
_MAX_RISE = 2.0  # of the power of known hum
_SUBHARMONICS = (0.5, 1.5, 1 / 3, 2 / 3, 0.4, 0.8)  # of the mains, where hum has nothing
_MAX_OVER_ANCHOR = 6.0  # power of a line over that of the strongest anchor
_AROUND, _MAX_OVER_AROUND = 3, 10.0  # multiples each way, and power of a line over the strongest of them
_MAX_SWELL = 1.4  # amplitude that is subtracted at most, over the median: what exceeds it is a note
_FLOOR_SHARE = 2.0  # of the floor beside a line that its power loses
_BESIDE_HZ = (1.5, 5.0)  # distance of the floor from its line
_AGREEMENT = (
    0.2,
    0.5,
)  # correlation of two estimates of the same hum: below it there is none, above it all goes


def without_hum(rows: Array, sample_rate: float, part: int) -> Array:
    """Return a recording without hum, which is estimated in windows of two parts that are crossfaded.

    Args:
        rows: The recording, `(C, n)`.
        sample_rate: Hz.
        part: Samples.
    """
    size = rows.shape[1]
    longer = np.pad(rows.astype(np.float64), ((0, 0), (part, part + -size % part)))
    hum, before, is_first = np.zeros_like(longer), np.zeros((len(rows), part)), True
    for start in range(0, longer.shape[1] - part, part):
        window = longer[:, start : start + 2 * part]
        found = mains_hum(window, sample_rate)
        is_last = not window[:, part:].any()
        hum[:, start : start + part] = crossfaded(before, found[:, :part], is_first, is_last)
        before, is_first = found[:, part:], not window[:, :part].any()
    return rows - hum[:, part : part + size]


def crossfaded(before: Array, after: Array, is_first: bool = False, is_last: bool = False) -> Array:
    """Return the hum of a part from the windows that end and begin with it, as far as they agree.

    Hum lasts; a motor, or a note, is found in one of them. A window whose other half is silent knows less
    than the other one, and has no vote.

    Args:
        before: Its hum by the earlier window, `(C, n)`.
        after: By the later one.
        is_first: There is silence before the part.
        is_last: There is silence after it.
    """
    if is_first != is_last:
        return after if is_first else before
    power = max(np.square(before).sum(), np.square(after).sum())
    low, high = _AGREEMENT
    share = np.clip(((before * after).sum() / (power or 1.0) - low) / (high - low), 0, 1)
    fade = np.sin(np.pi / 2 * np.arange(before.shape[1]) / before.shape[1]) ** 2
    hum: Array = share * ((1 - fade) * before + fade * after)
    return hum


def mains_hum(rows: Array, sample_rate: float, known_power: float = 0.0) -> Array:
    """Estimate the hum in a passage of some seconds; zeros if there is none.

    The mains frequency is followed as the common fundamental of all lines. Each line is then shifted to 0 Hz
    and smoothed over 2 s; it is hum if it is steady and exceeds the spectrum beside it throughout. A fainter
    line is hum, of one amplitude, if its phase stays as chance and notes would not leave it. What digital
    silence parts is judged by itself.

    Args:
        rows: The passage, `(C, n)`.
        sample_rate: Hz.
        known_power: Mean power of the hum in the passage before. Hum like that may be all there is, as in a
            pause of the music; elsewhere what makes up a tenth of a recording is the sound.

    Shape:
        `(C, n)`.
    """
    hum = np.zeros(rows.shape)
    decimation = max(1, int(sample_rate / _LOW_RATE))
    for span in _sounding(rows, round(_SILENCE_S * sample_rate)):
        if span.stop - span.start < MIN_SECONDS * sample_rate:
            continue
        passage = rows[:, span]
        low, rate = _decimated(passage, decimation), sample_rate / decimation
        hop = round(_HOP_S * rate)
        size = round(_WINDOW_S / _HOP_S) * hop
        spectra = _spectra(low, rate, hop, size)
        # All are found before one is removed.
        for lines in [_lines(low, rate, spectra, hop, size, mains_hz) for mains_hz in _MAINS_HZ]:
            if lines is None:
                continue
            part = _resampled(lines, decimation)[:, : passage.shape[1]]
            power = np.square(part).sum()
            rest = np.square(passage).sum() - power
            if power < max(_MAX_SHARE * rest, _MAX_RISE * known_power * passage.size):
                hum[:, span] += part
    return hum


def _sounding(rows: Array, longest: int) -> list[slice]:
    """Return the passages between stretches in which nothing changes for more than `longest` samples."""
    at = np.flatnonzero((np.diff(rows) != 0.0).any(axis=0))
    if not at.size:
        return []
    breaks = np.flatnonzero(np.diff(at) > longest)
    starts, stops = at[np.append(0, breaks + 1)], at[np.append(breaks, at.size - 1)]
    return [slice(int(start) + 1, int(stop) + 1) for start, stop in zip(starts, stops, strict=True)]


def _decimated(rows: Array, decimation: int) -> Array:
    missing = -rows.shape[1] % decimation
    return _resampled(np.pad(rows, ((0, 0), (0, missing)), mode="symmetric"), 1 / decimation)


def _resampled(rows: Array, ratio: float) -> Array:
    """Resample a passage by one transform, which costs less than a filter; mirrored, it has no edges."""
    from scipy.fft import irfft, next_fast_len, rfft

    unit = 1 if ratio > 1 else round(1 / ratio)
    samples = rows.shape[1]
    size = unit * next_fast_len(-(-(samples + samples // 32) // unit), real=True)
    spectrum = rfft(np.pad(rows, ((0, 0), (0, size - samples)), mode="symmetric").astype(np.float32), axis=1)
    out: Array = irfft(spectrum[:, : round(size * ratio) // 2 + 1], round(size * ratio), axis=1)
    return out[:, : round(samples * ratio)].astype(np.float64) * ratio


def _spectra(low: Array, rate: float, hop: int, size: int) -> Array:
    """Return the power of frames up to the highest line and what is beside it, `(C, frames, bins)`."""
    from scipy.fft import rfft

    frames = np.lib.stride_tricks.sliding_window_view(low, size, axis=1)[:, ::hop]
    windowed = (frames * np.hanning(size + 1)[:-1]).astype(np.float32)
    stop_hz = _MAX_LINE_HZ * (1 + _MAX_OFF_HZ / min(_MAINS_HZ)) + _BESIDE_HZ[1] + 1
    stop = round(stop_hz * _PADDED * size / rate)
    power: Array = np.abs(rfft(windowed, _PADDED * size)[..., :stop]) ** 2
    return power


def _lines(low: Array, rate: float, spectra: Array, hop: int, size: int, mains_hz: float) -> Array | None:
    """Return the lines of one mains frequency in a signal at the low rate, or None.

    Args:
        low: The signal.
        rate: Hz.
        spectra: Of its frames.
        hop: Samples between frames.
        size: Samples of a frame.
        mains_hz: 50 or 60 Hz.
    """
    from scipy.ndimage import minimum_filter1d

    window = np.hanning(size + 1)[:-1]
    power = spectra.sum(axis=0)  # (frames, bins)
    per_hz = _PADDED * size / rate
    multiples = np.arange(1, int(_MAX_LINE_HZ / mains_hz) + 1)
    beside = np.arange(round(_BESIDE_HZ[0] * per_hz), round(_BESIDE_HZ[1] * per_hz))
    centres = np.round(multiples * mains_hz * per_hz).astype(int)
    around = np.concatenate([-beside[::-1], beside])
    # The common fundamental of each frame: the multiples that exceed their surroundings most.
    offsets = np.arange(-_MAX_OFF_HZ, _MAX_OFF_HZ + _GRID_HZ / 2, _GRID_HZ)
    places = np.round(multiples * (mains_hz + offsets[:, None]) * per_hz).astype(int)  # (offsets, lines)
    for lines in (slice(0, _ANCHORS), slice(None)):  # without an anchor there is no hum
        stop = places[:, lines].max() + beside[-1] + 1
        constant = minimum_filter1d(power[:, :stop], _CONSTANT_FRAMES, axis=0, mode="nearest")  # notes end
        beside_constant = np.median(constant[:, centres[lines, None] + around], axis=2) + 1e-20
        prominence = constant[:, places[:, lines]] / beside_constant[:, None]
        if np.median(prominence[..., :_ANCHORS].max(axis=1), axis=0).max() < _MIN_PROMINENCE:
            return None
    score = np.log(np.clip(prominence, 1.0, _MAX_PROMINENCE)).sum(axis=2)
    path = _best_path(score)
    if np.median(prominence[np.arange(len(path)), path], axis=0)[:_ANCHORS].max() < _MIN_PROMINENCE:
        return None
    mains = mains_hz + _smooth(offsets[path][:, None], 5)[:, 0]

    floors = np.median(spectra[:, :, centres[:, None] + around], axis=3) + 1e-20  # (C, frames, lines)
    middles = (np.arange(len(power)) * hop + size / 2) / rate
    time = np.arange(low.shape[1]) / rate
    cycles = np.cumsum(np.interp(time, middles, mains)) / rate
    # In the same units as the amplitudes: a line of amplitude a has the power (a sum(window) / 2)^2.
    floor = floors.swapaxes(1, 2) / window.sum() ** 2  # (C, lines, frames)
    for _ in range(_REFINEMENTS):
        # Where phases still turn, the fundamental is off; steady lines tell.
        amplitude = _demodulated(low, cycles, multiples, hop, size)  # (C, lines, frames)
        steadiness, prominent = _steadiness(amplitude, floor)
        trust = (steadiness > _MIN_STEADINESS / 2) & prominent
        turn = (amplitude[..., 1:] * np.conj(amplitude[..., :-1])).sum(axis=0)
        weight = np.where(trust, multiples * steadiness**2, 1e-6)[:, None] * np.abs(turn) ** 0.25
        slope = (weight * np.angle(turn)).sum(axis=0) / ((weight * multiples[:, None]).sum(axis=0) + 1e-30)
        correction = np.interp(time, (middles[1:] + middles[:-1]) / 2, _smooth(slope[:, None], 5)[:, 0]) / hop
        cycles = cycles + np.cumsum(correction) / (2 * np.pi)
    amplitude = _demodulated(low, cycles, multiples, hop, size)
    steadiness, prominent = _steadiness(amplitude, floor)
    constant, certainty = _constant(amplitude, hop / size)
    strong = (steadiness > _MIN_STEADINESS) & prominent & (certainty > _MIN_CERTAINTY)
    is_hum = strong | (certainty > _MIN_FAINT_CERTAINTY)
    envelope = np.where(strong[:, None], amplitude, constant[..., None])
    is_hum[is_hum] = _lasting(low, rate, cycles, multiples[is_hum], envelope[:, is_hum], middles)
    strong &= is_hum
    off_hz = np.median(np.abs(np.diff(cycles) * rate - mains_hz))
    if off_hz > _MAX_OFF_HZ:  # a note beside the mains frequency
        return None
    # Faint lines alone may be the room of a low chord: they count beside a strong one.
    anchors = strong & ((steadiness > _MIN_ANCHOR_STEADINESS) | (certainty > _MIN_ANCHOR_CERTAINTY))
    if is_hum.sum() < _MIN_LINES or not anchors[:_ANCHORS].any():
        return None
    loudness = np.median((np.abs(amplitude) ** 2).sum(axis=0), axis=1)
    loudest = loudness[:_ANCHORS][anchors[:_ANCHORS]].max()
    highest = np.full(loudness.size, _MAX_OVER_ANCHOR * loudest)
    highest[_ANCHORS:] = np.minimum(highest, _MAX_OVER_AROUND * _around(loudness))[_ANCHORS:]
    is_hum &= loudness < highest
    for share in _SUBHARMONICS:
        between = _demodulated(low, share * cycles, np.array([1]), hop, size)
        middle, sure = _constant(between, hop / size)
        if sure[0] > _MIN_ANCHOR_CERTAINTY and (np.abs(middle) ** 2).sum() > loudest / _MAX_OVER_ANCHOR:
            return None  # a train of pulses, whose lines are closer
    levels = np.abs(amplitude) + 1e-30
    ratio, median = levels**2 / floor, np.median(levels, axis=2, keepdims=True)
    kept = np.clip(1 - _FLOOR_SHARE / ratio, 0, 1) * np.minimum(1, _MAX_SWELL * median / levels)
    follows = strong[:, None] & (np.median(ratio, axis=2, keepdims=True) > _MIN_PROMINENCE)
    envelope = np.where(follows, kept * amplitude, constant[..., None])
    out = np.zeros(low.shape)
    for line in np.flatnonzero(is_hum):
        turning = np.exp(2j * np.pi * multiples[line] * cycles)
        for channel, row in enumerate(envelope[:, line]):
            out[channel] += 2 * (_interpolated(time, middles, row) * turning).real
    return out


def _around(loudness: Array) -> Array:
    """Return the strongest of the lines beside each, `(lines,)`: one that stands out is not of the mains."""
    beside = np.delete(np.arange(-_AROUND, _AROUND + 1), _AROUND)
    loudest: Array = np.pad(loudness, _AROUND)[np.arange(loudness.size)[:, None] + _AROUND + beside].max(
        axis=1
    )
    return loudest


def _best_path(score: Array) -> Array:
    """Return the offset of each frame along the path of the highest sum, which moves one step at most."""
    best, came = score[0], []
    for row in score[1:]:
        near = np.stack([np.concatenate([[-np.inf], best[:-1]]), best, np.concatenate([best[1:], [-np.inf]])])
        step = near.argmax(axis=0)
        step = np.where(near[1] >= near.max(axis=0), 1, step)
        came.append(np.arange(len(best)) + step - 1)
        best = near.max(axis=0) + row
    path = [int(best.argmax())]
    for before in reversed(came):
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])


def _steadiness(amplitude: Array, floor: Array) -> tuple[Array, Array]:
    """Return the steadiness of each line over all channels, and whether it exceeds its floor, `(lines,)`."""
    power = (np.abs(amplitude) ** 2).sum(axis=0)
    levels = np.sqrt(power)
    steadiness = np.quantile(levels, 0.1, axis=1) / (np.median(levels, axis=1) + 1e-30)
    return steadiness, np.median(power / floor.sum(axis=0), axis=1) > _MIN_PROMINENCE


def _lasting(
    low: Array, rate: float, cycles: Array, multiples: Array, amplitude: Array, middles: Array
) -> Array:
    """Return whether each line is there without pauses, `(lines,)`, as a repeated note is not.

    Args:
        low: The signal at the low rate.
        rate: Hz.
        cycles: Of the fundamental, at each sample.
        multiples: Of the lines.
        amplitude: Of the lines in long frames.
        middles: Of these, in seconds.
    """
    lasting = np.zeros(len(multiples), bool)
    hop = round(_SHORT_HOP_S * rate)
    for line, multiple in enumerate(multiples):
        short = _demodulated(low, multiple * cycles, np.array([1]), hop, _SHORT_HOPS * hop)[:, 0]
        time = (np.arange(short.shape[1]) + _SHORT_HOPS / 2) * hop / rate
        slow = np.stack([_interpolated(time, middles, row) for row in amplitude[:, line]])
        power = (np.abs(slow) ** 2).sum(axis=0) + 1e-30
        gone = (np.abs(short) ** 2).sum(axis=0) < _GONE**2 * power
        lasting[line] = gone.mean() < _MAX_GONE
    return lasting


def _interpolated(time: Array, at: Array, row: Array) -> Array:
    complex_row: Array = np.interp(time, at, row.real) + 1j * np.interp(time, at, row.imag)
    return complex_row


def _constant(amplitude: Array, overlap: float) -> tuple[Array, Array]:
    """Return a constant amplitude of each line `(C, lines)`, and its certainty `(lines,)`, of all channels.

    Medians, because notes come and go.
    """
    middle = np.median(amplitude.real, axis=2) + 1j * np.median(amplitude.imag, axis=2)
    spread = np.median((np.abs(amplitude - middle[..., None]) ** 2).sum(axis=0), axis=1) + 1e-30
    frames = amplitude.shape[2] * overlap  # that are independent
    return middle, frames * (np.abs(middle) ** 2).sum(axis=0) / spread


def _demodulated(low: Array, cycles: Array, multiples: Array, hop: int, size: int) -> Array:
    """Return the complex amplitude of each multiple under Hann windows, `(C, lines, frames)`."""
    pieces, count = size // hop, low.shape[1] // hop
    time = np.arange(count * hop)
    turning = np.exp(-2j * np.pi * cycles[time]).astype(np.complex64)
    turned = np.empty((len(multiples), *low[:, time].shape), np.complex64)
    turned[0] = low[:, time] * turning
    for line in range(1, len(multiples)):  # multiples are consecutive
        np.multiply(turned[line - 1], turning, out=turned[line])
    harmonics = np.array([-1, 0, 1])  # of the window
    phases = np.exp(2j * np.pi * harmonics * np.arange(hop)[:, None] / size).astype(np.complex64)
    sums = turned.reshape(len(multiples), len(low), count, hop) @ phases  # from the start of each hop
    turns = np.exp(2j * np.pi * harmonics * np.arange(pieces)[:, None] * hop / size)
    frames = np.lib.stride_tricks.sliding_window_view(sums, pieces, axis=2)  # (lines, C, frames, 3, pieces)
    weights = np.array([-0.25, 0.5, -0.25]) * turns  # (pieces, 3)
    amplitude: Array = np.einsum("lcfhp,ph->clf", frames, weights) / (size / 2)
    return amplitude


def _smooth(x: Array, size: int) -> Array:
    from scipy.ndimage import uniform_filter1d

    smooth: Array = uniform_filter1d(x, size, axis=0, mode="nearest")
    return smooth
