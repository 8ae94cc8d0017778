"""Promises of every row of the model table."""

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.infer.apply import apply
from denoise.models.base import Denoiser, SigmaDenoiser
from denoise.models.table import DEFAULT_MODELS, MODELS, build
from denoise.signal import MODALITIES

ROWS = [(name, modality) for name, row in MODELS.items() for modality in row]
LOCAL = [row for row in ROWS if build(*row).spec.halo]
USES_SIGMA = [row for row in ROWS if isinstance(build(*row), SigmaDenoiser)]
TAKES_NO_SIGMA = [row for row in ROWS if row not in USES_SIGMA]

SIZES: dict[str, list[tuple[int, ...]]] = {
    "image": [(1, 1), (1, 17), (13, 1), (2, 3), (31, 47)],
    "audio": [(1,), (2,), (7,), (1001,)],
    "sensor": [(1,), (2,), (7,), (1001,)],
}


def clean_signal(modality: str) -> Tensor:
    """A signal unlike white noise: flat areas and edges, notes and pauses, steps."""
    if modality == "image":
        y, x = np.mgrid[:96, :96] / 96.0
        disc = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.08
        values = np.stack([0.3 + 0.3 * x + 0.2 * disc, 0.3 + 0.3 * y, 0.6 - 0.3 * x + 0.2 * disc])
    else:
        time_s = np.arange(24_000) / 16_000.0
        if modality == "audio":
            sounding = np.sin(2 * np.pi * 2.0 * time_s) > 0
            values = 0.3 * sounding * (np.sin(2 * np.pi * 220 * time_s) + np.sin(2 * np.pi * 557 * time_s))
        else:
            values = 5.0 + np.sin(2 * np.pi * 2.0 * time_s) + (time_s > 0.7)
        values = values[None]
    return torch.from_numpy(values.astype(np.float32))[None]


def noisy_signal(modality: str, sigma: float = 0.1) -> Tensor:
    """The same plus white noise."""
    clean = clean_signal(modality)
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(7))


def run(denoiser: Denoiser, batch: Tensor, sigma: float | None = None) -> Tensor:
    """Denoise, channel by channel if the row takes one channel."""
    given = () if sigma is None else (sigma,)
    out: Tensor
    if denoiser.spec.channels == 1:
        out = denoiser(batch.flatten(0, 1)[:, None], *given).reshape(batch.shape)
    else:
        out = denoiser(batch.expand(-1, 3, *batch.shape[2:]), *given)
    return out


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_keeps_any_size_and_the_input(name: str, modality: str) -> None:
    denoiser = build(name, modality)
    assert denoiser.spec.modality == modality
    for size in SIZES[modality]:
        noisy = torch.rand(2, denoiser.spec.channels, *size, generator=torch.Generator().manual_seed(1)) - 0.2
        before = noisy.clone()
        denoised = denoiser(noisy)
        assert denoised.shape == noisy.shape
        assert denoised.dtype == noisy.dtype
        assert torch.isfinite(denoised).all(), size
        assert torch.equal(noisy, before)
        assert denoised.data_ptr() != noisy.data_ptr()


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_a_constant_stays(name: str, modality: str) -> None:
    denoiser = build(name, modality)
    for size in SIZES[modality]:
        for value in (0.3, -0.7):
            constant = torch.full((1, denoiser.spec.channels, *size), value)
            torch.testing.assert_close(denoiser(constant), constant, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_silence_stays_exactly(name: str, modality: str) -> None:
    denoiser = build(name, modality)
    for size in SIZES[modality]:
        assert not denoiser(torch.zeros(1, denoiser.spec.channels, *size)).any()


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_reduces_white_noise(name: str, modality: str) -> None:
    clean, noisy = clean_signal(modality), noisy_signal(modality)
    before = (noisy - clean).square().mean()
    after = (run(build(name, modality), noisy) - clean).square().mean()
    gain_db = float(10 * torch.log10(before / after))
    if name == "none":
        assert gain_db == 0.0
    else:
        assert gain_db > 2.0


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_items_of_a_batch_do_not_mix(name: str, modality: str) -> None:
    denoiser = build(name, modality)
    one, other = noisy_signal(modality, 0.05), noisy_signal(modality, 0.2)
    both = run(denoiser, torch.cat([one, other]))
    torch.testing.assert_close(both, torch.cat([run(denoiser, one), run(denoiser, other)]), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "modality"), ROWS)
def test_units_do_not_matter(name: str, modality: str) -> None:
    denoiser, noisy = build(name, modality), noisy_signal(modality)
    torch.testing.assert_close(run(denoiser, noisy / 8) * 8, run(denoiser, noisy), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("name", "modality"), LOCAL)
def test_nothing_beyond_the_halo_matters(name: str, modality: str) -> None:
    # A crop that ends exactly a halo away from what is kept must give what the whole gives, however loud and
    # however silent the rest is.
    denoiser = build(name, modality)
    halo, unit = denoiser.spec.halo, denoiser.spec.multiple_of
    assert halo is not None
    start = (halo + 500) // unit * unit
    stop = start + unit
    size = stop + halo + 600
    generator = torch.Generator().manual_seed(3)
    shape = (40, size) if modality == "image" else (size,)
    whole = 0.1 * torch.randn(1, 1, *shape, generator=generator)
    whole[..., : start - halo] = 0.0
    whole[..., stop + halo :] *= 8.0
    cut = slice((start - halo) // unit * unit, -(-(stop + halo) // unit) * unit)
    alone = denoiser(whole[..., cut])[..., start - cut.start : stop - cut.start]
    torch.testing.assert_close(alone, denoiser(whole)[..., start:stop], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "modality"), LOCAL)
def test_a_change_is_felt_no_further_than_the_halo(name: str, modality: str) -> None:
    denoiser = build(name, modality)
    halo = denoiser.spec.halo
    assert halo is not None
    size = 2 * halo + 301
    shape = (30, size) if modality == "image" else (size,)
    signal = 0.1 * torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(4))
    before = denoiser(signal)
    for at in (0, 10, size // 2, size - 8, size - 1):  # near the ends some rows have larger halos
        changed = signal.clone()
        changed[..., at] += 1.0
        felt = (denoiser(changed) - before).abs().flatten(0, -2).amax(0) > 1e-6
        distance = (torch.arange(size) - at).abs()
        assert 0 < int(distance[felt].max()) <= halo


@pytest.mark.parametrize(("name", "modality"), USES_SIGMA)
def test_sigma_is_honoured(name: str, modality: str) -> None:
    denoiser, noisy = build(name, modality), noisy_signal(modality)
    removed = [float((run(denoiser, noisy, sigma) - noisy).square().mean()) for sigma in (0.02, 0.1, 0.3)]
    assert removed[0] < removed[1] < removed[2]
    assert torch.equal(run(denoiser, noisy, 0.0), run(build("none", modality), noisy))


@pytest.mark.parametrize(("name", "modality"), USES_SIGMA)
def test_an_estimated_sigma_is_nearly_as_good_as_a_given_one(name: str, modality: str) -> None:
    clean, noisy, denoiser = clean_signal(modality), noisy_signal(modality), build(name, modality)
    blind = (run(denoiser, noisy) - clean).square().mean()
    given = (run(denoiser, noisy, 0.1) - clean).square().mean()
    assert abs(float(10 * torch.log10(blind / given))) < 0.5


@pytest.mark.parametrize(("name", "modality"), TAKES_NO_SIGMA)
def test_sigma_is_refused_where_it_means_nothing(name: str, modality: str) -> None:
    with pytest.raises(UsageError, match="sigma"):
        apply(build(name, modality), noisy_signal(modality)[0].numpy(), peak=1.0, sigma=0.1)


@pytest.mark.parametrize(("name", "modality"), [row for row in ROWS if build(*row).spec.channels == 3])
def test_gray_stays_gray_and_is_cleaned(name: str, modality: str) -> None:
    clean, noisy = clean_signal(modality)[:, :1], noisy_signal(modality)[:, :1]
    denoised = run(build(name, modality), noisy)
    assert (denoised - clean).square().mean() < 0.5 * (noisy - clean).square().mean()
    assert torch.equal(denoised[:, :1].expand(-1, 3, -1, -1), denoised)


def test_every_modality_has_a_default_and_the_row_none() -> None:
    assert set(DEFAULT_MODELS) == set(MODALITIES) == set(MODELS["none"])


def test_an_unknown_row_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="wavelet"):
        build("wavelets", "image")
    with pytest.raises(UsageError, match="nlm' cleans image, not audio"):
        build("nlm", "audio")
