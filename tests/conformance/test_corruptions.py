"""Promises of every row of the corruption table."""

import dataclasses
import inspect
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from denoise.corruptions import CORRUPTIONS, Corruption, RandomLevel, corrupt, parse, with_level
from denoise.corruptions.levels import Number, Word
from denoise.errors import UsageError
from denoise.registry import lookup
from denoise.signal import MODALITIES

SAMPLE_RATE = 16000.0  # Hz
SIZES = {"image": [(1, 1), (1, 9), (7, 5), (33, 48)], "audio": [(1,), (3,), (257,), (2000,)]}
SIZES["sensor"] = SIZES["audio"]
# No randomness of their own: only a random level makes two draws differ.
DETERMINISTIC = {"quantise", "gaussian-blur", "defocus", "jpeg", "clip", "band-limit"}
# At one level they vary from item to item by more than a level's range shows: each is another camera.
SCATTERED = {"in-camera"}
# A range in which each step of the level is noticeable, for levels with a wide domain.
LEVELS = {
    "photons": (5, 500),
    "bits": (1, 6),
    "high_hz": (500, 7000),
    "quality": (1, 90),
    "snr_db": (-5, 20),
    "radius_px": (1, 4),
    "iso": (100, 6400),
}

CASES = [
    (name, modality)
    for name in CORRUPTIONS
    for modality in lookup(CORRUPTIONS, name, "corruption").modalities
]
every_case = pytest.mark.parametrize(("name", "modality"), CASES)
every_row = pytest.mark.parametrize("name", CORRUPTIONS)


def example(name: str, modality: str) -> Corruption:
    """A row with its defaults and its required fields."""
    row = parse(name)
    if name == "gaussian":
        return with_level(row, 20, modality)
    if name == "background":
        return dataclasses.replace(row, noise=torch.randn(2, 900, generator=seeded(9)))
    return row


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(modality: str, size: tuple[int, ...], items: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """A rough signal, which a blur, a band limit or a hold cannot leave unchanged."""
    clean = torch.rand((items, 3, *size), generator=seeded(5))
    return (clean if modality == "image" else 2 * clean - 1).to(dtype)


def same_items(modality: str) -> Tensor:
    """One item, four times; differences in the output were drawn per item."""
    return batch(modality, SIZES[modality][-1], items=1).expand(4, -1, *SIZES[modality][-1])


def apply(corruption: Corruption, clean: Tensor, seed: int = 0) -> Tensor:
    return corruption(clean, seeded(seed), SAMPLE_RATE)


@every_row
def test_is_documented_with_its_level_and_fields(name: str) -> None:
    kind = lookup(CORRUPTIONS, name, "corruption")
    text = inspect.getdoc(kind) or ""
    assert kind.name == name
    assert set(kind.modalities) <= set(MODALITIES)
    assert kind.level in kind.text_fields
    assert re.match(r"[A-Z].*[.:]", text)
    assert "Args:" in text
    for field, mark in kind.text_fields.items():
        assert re.search(rf"^ +{field}: [A-Z0-9d]", text, re.MULTILINE), f"{field} is not documented"
        assert mark.unit if isinstance(mark, Number) else isinstance(mark, Word)


@every_row
def test_text_form_round_trips(name: str) -> None:
    kind = lookup(CORRUPTIONS, name, "corruption")
    rows = [parse(name)]
    for field, mark in kind.text_fields.items():
        if isinstance(mark, Word):
            values: list[object] = [*mark.choices] or ['a folder/with, odd (signs)+"quotes"|and = more']
        else:
            high = min(mark.high, 77.125)
            low = min(max(mark.low, 1.25), high)
            values = [low, high] if mark.fixed else [low, high, RandomLevel(low, high)]
        rows += [kind(**{field: value}) for value in values]
    for row in rows:
        assert parse(str(row)) == row
        assert str(parse(str(row))) == str(row)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CORRUPTIONS)), st.floats(0, 1), st.floats(0, 1))
def test_any_level_round_trips_exactly(name: str, one: float, other: float) -> None:
    kind = lookup(CORRUPTIONS, name, "corruption")
    mark = kind.text_fields[kind.level]
    start, span = max(mark.low, 0.0), min(mark.high, 1e6) - max(mark.low, 0.0)
    low, high = sorted((start + one * span, start + other * span))
    for level in (low, RandomLevel(low, high)):
        row = with_level(parse(name), level)
        assert parse(str(row)) == row


@every_row
def test_unknown_field_names_the_known_ones(name: str) -> None:
    kind = lookup(CORRUPTIONS, name, "corruption")
    with pytest.raises(UsageError, match=rf"no field '{kind.level}x'; did you mean {kind.level}") as caught:
        parse(f"{name}:{kind.level}x=1")
    assert all(field in str(caught.value) for field in kind.text_fields)


@every_case
def test_shape_dtype_and_finiteness_at_every_size(name: str, modality: str) -> None:
    for size in SIZES[modality]:
        for dtype in (torch.float32, torch.float64, torch.float16):
            clean = batch(modality, size, dtype=dtype)
            noisy = apply(example(name, modality), clean)
            assert (noisy.shape, noisy.dtype, noisy.device) == (clean.shape, dtype, clean.device)
            assert noisy.isfinite().all(), (size, dtype)


@every_case
def test_input_and_global_randomness_are_left_alone(name: str, modality: str) -> None:
    clean = batch(modality, SIZES[modality][-1])
    before, state = clean.clone(), torch.get_rng_state()
    row = example(name, modality)
    for level in (getattr(row, row.level_for(modality) or ""), identity_of(row, modality)):
        noisy = apply(row if level is None else with_level(row, level, modality), clean)
        noisy += 1  # the output is the caller's own
        assert torch.equal(clean, before)
        assert torch.equal(torch.get_rng_state(), state)


@every_case
def test_a_seed_decides_everything(name: str, modality: str) -> None:
    clean = batch(modality, SIZES[modality][-1])
    row = example(name, modality)
    first = apply(row, clean, seed=1)
    assert torch.equal(first, apply(row, clean, seed=1))
    assert torch.equal(first, apply(row, clean, seed=2)) == (name in DETERMINISTIC)
    assert not torch.equal(first, clean)


def identity_of(row: Corruption, modality: str) -> float | None:
    return math.inf if row.level_for(modality) == "snr_db" else row.identity


@every_case
def test_identity_level_changes_nothing(name: str, modality: str) -> None:
    row = example(name, modality)
    identity = identity_of(row, modality)
    if identity is None:
        # JPEG is lossy at every quality; the others draw ranges log-uniformly, above zero.
        assert name in {"jpeg", "in-camera", "film-grain"}
        return
    row = dataclasses.replace(with_level(row, identity, modality))
    for size in SIZES[modality]:
        clean = batch(modality, size)
        torch.testing.assert_close(apply(row, clean), clean, atol=1e-6, rtol=0)


@every_case
def test_items_and_channels_get_noise_of_their_own(name: str, modality: str) -> None:
    clean = same_items(modality)
    error = (apply(example(name, modality), clean) - clean).flatten(1)
    if name in DETERMINISTIC:
        torch.testing.assert_close(error[0], error[1])
        return
    assert any(not torch.equal(error[0], other) for other in error[1:])


@every_case
def test_a_range_is_drawn_per_item(name: str, modality: str) -> None:
    row = example(name, modality)
    field = row.level_for(modality) or ""
    low, high = LEVELS.get(field, (0.1, 0.9))
    clean = same_items(modality)
    noisy = apply(with_level(row, RandomLevel(low, high), modality), clean)
    size = (noisy - clean).flatten(1).square().mean(1)
    assert size.unique().numel() == 4
    if name in SCATTERED:
        return
    # All levels lie within the range: one outside would exceed its ends.
    ends = [
        (apply(with_level(row, end, modality), clean) - clean).flatten(1).square().mean()
        for end in (low, high)
    ]
    assert min(ends) * 0.7 < size.min()
    assert size.max() < max(ends) * 1.4


@every_case
def test_gaps_stay_gaps_and_do_not_spread(name: str, modality: str) -> None:
    clean = batch(modality, SIZES[modality][-1])
    clean[0, 0, ..., 10:20] = math.nan
    clean[1] = math.nan
    noisy = apply(example(name, modality), clean)
    assert torch.equal(noisy.isnan(), clean.isnan())


@every_case
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_arrays_keep_shape_and_dtype(name: str, modality: str, dtype: str) -> None:
    peak = float(np.iinfo(dtype).max) if "int" in dtype else 1.0
    size = SIZES[modality][-1]
    array = (batch(modality, size)[0].numpy() * peak).clip(0).astype(dtype)
    before = array.copy()
    noisy = corrupt(array, example(name, modality), seed=3, peak=peak, sample_rate=SAMPLE_RATE)
    again = corrupt(array, example(name, modality), seed=3, peak=peak, sample_rate=SAMPLE_RATE)
    assert (noisy.shape, noisy.dtype) == (array.shape, array.dtype)
    assert np.array_equal(noisy, again)
    assert np.array_equal(array, before)
    assert not np.array_equal(noisy, array)


@every_row
def test_other_kinds_of_input_are_refused(name: str) -> None:
    row = example(name, "image" if "image" in parse(name).modalities else "audio")
    with pytest.raises(UsageError, match=r"expected a floating-point batch .* got int64 \(2, 3, 4, 4\)"):
        apply(row, torch.zeros(2, 3, 4, 4, dtype=torch.int64))
    with pytest.raises(UsageError, match="floating-point batch"):
        apply(row, torch.zeros(3, 4))
    if "image" not in row.modalities:
        with pytest.raises(UsageError, match="not for an image"):
            apply(row, torch.zeros(1, 1, 4, 4))
    if row.modalities == ("image",):
        with pytest.raises(UsageError, match="for a signal"):
            apply(row, torch.zeros(1, 1, 4))
