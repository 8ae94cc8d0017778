"""Camera noise and smoothed noise: their physics, measured."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.corruptions import parse
from denoise.corruptions.camera import Camera


def apply(text: str, clean: Tensor, seed: int = 0) -> Tensor:
    return parse(text)(clean, torch.Generator().manual_seed(seed))


def flat(value: float, channels: int = 3, size: int = 128, items: int = 4) -> Tensor:
    return torch.full((items, channels, size, size), value)


def correlation(one: Tensor, other: Tensor) -> float:
    return float((one * other).mean() / (one.square().mean() * other.square().mean()).sqrt())


def developed(light: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, then a smooth step."""
    x = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(3 * x**2 - 2 * x**3)


LIGHT = np.linspace(0, 1, 10_001)
PIXEL = developed(LIGHT)


@pytest.mark.parametrize(("iso", "tolerance"), [(400, 0.03), (25600, 0.06)])
def test_noise_variance_is_a_line_in_linear_light(iso: float, tolerance: float) -> None:
    shot = iso / 1e6
    read = math.exp(1.2 + 2.18 * math.log(shot))  # Brooks et al. 2019, section 4.4
    for light in (0.2, 0.35, 0.5):
        noisy = apply(f"camera:iso={iso}", flat(float(np.interp(light, LIGHT, PIXEL)), 1))
        found = np.interp(noisy.numpy(), PIXEL, LIGHT)
        assert found.mean() == pytest.approx(light, rel=0.01)
        assert found.var() == pytest.approx(shot * light + read, rel=tolerance)


@pytest.mark.parametrize("demosaic", ["malvar", "bilinear", "none"])
def test_only_demosaiced_noise_is_smooth(demosaic: str) -> None:
    noise = apply(f"camera:iso=800,demosaic={demosaic}", flat(0.5)) - 0.5
    for channel in range(3):
        beside = correlation(noise[:, channel, :, 1:], noise[:, channel, :, :-1])
        if demosaic == "none":
            assert beside == pytest.approx(0, abs=0.02)
        else:
            assert 0.25 < beside < 0.75
    far = correlation(noise[..., 6:], noise[..., :-6])
    assert far == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("demosaic", ["malvar", "bilinear"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mosaic_is_filled_in_with_its_own_colours(
    demosaic: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # "Noise" proportional to each photosite must become that proportion of each colour.
    monkeypatch.setattr(Camera, "_noise", lambda _, raw, __: -raw / 8)
    colour = torch.tensor([0.15, 0.4, 0.7]).view(1, 3, 1, 1).expand(8, 3, 7, 10)
    found, wanted = (apply(f"camera:demosaic={how}", colour, seed) for how in (demosaic, "none"))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (wanted - colour).abs().min() > 0.01


def test_the_mosaic_preserves_detail() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32) < 32).float() * 0.8 + 0.1
    lines = (torch.arange(32) % 2 * 0.6 + 0.2).expand(32, 32)
    fine = torch.stack([board, lines, lines.T])[:, None].expand(3, 3, 32, 32)
    torch.testing.assert_close(apply("camera:iso=0", fine), fine, atol=1e-5, rtol=0)
    # With little noise, the whole remaining error is noise.
    torch.testing.assert_close(apply("camera:iso=1", fine), fine, atol=0.03, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_camera_clips_and_blown_highlights_are_clean(channels: int) -> None:
    for value in (0.0, 0.5, 1.0):
        noisy = apply("camera:iso=25600", flat(value, channels))
        assert noisy.min() >= 0
        assert noisy.max() <= 1
        assert noisy.std() > 0
    middle, white = (apply("camera:iso=1600", flat(v, channels)).sub(v).square().mean() for v in (0.5, 1.0))
    assert white < middle / 50


def test_sqrt_of_iso_is_the_deviation() -> None:
    deviation = [float(apply(f"camera:iso={iso}", flat(0.5)).std()) for iso in (50, 200, 800)]
    assert deviation[1] / deviation[0] == pytest.approx(2, rel=0.03)
    assert deviation[2] / deviation[1] == pytest.approx(2, rel=0.03)


def test_each_image_has_a_camera_of_its_own() -> None:
    noise = apply("camera:iso=400", flat(0.5, items=4)) - 0.5
    red, blue = (noise[:, channel].flatten(1).std(1) for channel in (0, 2))
    assert (red / blue).std() > 0.01
    # The colour matrix spreads noise among the channels, more so without a mosaic.
    pure = apply("camera:iso=400,demosaic=none", flat(0.5)) - 0.5
    assert correlation(pure[:, 0], pure[:, 1]) < -0.1


@pytest.mark.parametrize("width", [0.0, 0.8, 3.0])
def test_correlated_noise_has_its_deviation_and_width(width: float) -> None:
    noise = apply(f"correlated:sigma=20,width_px={width},chroma=1", flat(0.5, size=256)) - 0.5
    assert noise.std().item() * 255 == pytest.approx(20, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.003)
    for shift in (1, 2, 4):
        wanted = math.exp(-((shift / (2 * width)) ** 2)) if width else 0.0
        across = correlation(noise[..., shift:], noise[..., :-shift])
        down = correlation(noise[..., shift:, :], noise[..., :-shift, :])
        assert across == pytest.approx(wanted, abs=0.03)
        assert down == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("chroma", [0.0, 0.3, 1.0])
def test_correlation_of_channels_is_1_minus_chroma(chroma: float) -> None:
    noise = apply(f"correlated:sigma=10,chroma={chroma}", flat(0.5)) - 0.5
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert correlation(noise[:, one], noise[:, other]) == pytest.approx(1 - chroma, abs=0.02)
    assert noise[:, 1].std().item() * 255 == pytest.approx(10, rel=0.02)


def test_correlated_noise_does_not_close_into_a_circle() -> None:
    noise = apply("correlated:width_px=2", flat(0.5, size=64, items=50)) - 0.5
    assert correlation(noise[..., 0], noise[..., -1]) == pytest.approx(0, abs=0.06)
    assert correlation(noise[..., 0, :], noise[..., -1, :]) == pytest.approx(0, abs=0.06)


def test_every_field_of_correlated_noise_is_drawn_per_item() -> None:
    noise = apply("correlated:sigma=5..50,width_px=0..3,chroma=0..1", flat(0.5, items=8)) - 0.5
    beside = [correlation(item[..., 1:], item[..., :-1]) for item in noise]
    shared = [correlation(item[0], item[1]) for item in noise]
    for measured in (noise.flatten(1).std(1).tolist(), beside, shared):
        assert np.std(measured) > 0.03
