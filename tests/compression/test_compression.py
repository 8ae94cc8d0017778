"""Compressed images: bits in files, exact numbers, and files that nobody wrote."""

import io as memory
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageDraw, PngImagePlugin
from torch import nn

from denoise import io
from denoise.compression import file as coding
from denoise.compression import fixed_point, image
from denoise.compression.entropy import Decoder, Encoder, logistic, mixture
from denoise.compression.image import ImageCompressor
from denoise.errors import InputError, TooLargeError, UnreadableError, UnsupportedError, WeightsError
from denoise.io.image.iptc import APP13, packed_record
from denoise.models.layers import ResidualBlock
from denoise.signal import Page
from pipelines.cli.group import cli

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
COFFEE = SAMPLES / "photos" / "coffee.png"


@pytest.fixture(scope="module")
def codec() -> ImageCompressor:
    return ImageCompressor()


def crop(side: int = 192) -> np.ndarray:
    pixels = io.read(SAMPLES / "reference" / "photos" / "coffee.png")[0][:3, :side, -side:]
    assert pixels.shape == (3, side, side)
    return pixels


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def size(coded: image.Coded) -> int:
    return len(coded.hyper) + len(coded.coefficients) + len(coded.excess)


def test_smaller_than_jpeg_at_the_same_error(codec: ImageCompressor) -> None:
    picture = crop(240)
    for quality in (40, 120, 200):
        coded = codec.encode(picture, quality)
        reached = psnr(picture, codec.decode(coded, 240, 240, quality))
        jpeg = memory.BytesIO()
        for level in range(1, 100):
            jpeg = memory.BytesIO()
            Image.fromarray(np.moveaxis(picture, 0, -1)).save(jpeg, "JPEG", quality=level, optimize=True)
            if psnr(picture, np.moveaxis(np.asarray(Image.open(jpeg)), -1, 0)) >= reached:
                break
        assert size(coded) < 0.9 * jpeg.tell()


def test_quality_buys_accuracy_with_bits(codec: ImageCompressor) -> None:
    picture, sizes, errors = crop(), [], []
    for quality in (0, 85, 170, 255):
        coded = codec.encode(picture, quality)
        sizes.append(size(coded))
        errors.append(psnr(picture, codec.decode(coded, *picture.shape[1:], quality)))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert sizes[-1] > 4 * sizes[0]
    assert errors[-1] > errors[0] + 5


def test_the_same_file_from_any_number_of_threads(codec: ImageCompressor) -> None:
    picture, threads = crop(), torch.get_num_threads()
    try:
        coded, exact = [], []
        for count in (1, 2):
            torch.set_num_threads(count)
            coded.append(codec.encode(picture, 128))
            exact.append(codec.decode(coded[0], 192, 192, 128, exact=True))
    finally:
        torch.set_num_threads(threads)
    assert coded[0] == coded[1]
    assert np.array_equal(exact[0], exact[1])
    # The exact decoder is the decoder, but for rounding.
    assert psnr(exact[0], codec.decode(coded[0], 192, 192, 128)) > 50


def test_tiles_are_seamless(codec: ImageCompressor, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = crop(240)
    whole = codec.decode(codec.encode(picture, 100), 240, 240, 100, exact=True)
    monkeypatch.setattr(image, "_TILE", 64)
    tiled = codec.decode(codec.encode(picture, 100), 240, 240, 100, exact=True)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_fixed_point_does_not_depend_on_the_order_of_sums() -> None:
    torch.manual_seed(0)
    order = torch.randperm(48)
    layers = [nn.Conv2d(48, 32, 3, padding=1), nn.ReLU(), ResidualBlock(2, 32, "relu", bias=True)]
    shuffled = nn.Conv2d(48, 32, 3, padding=1)
    shuffled.load_state_dict({"weight": layers[0].weight[:, order], "bias": layers[0].bias})
    x = fixed_point.on_grid(10 * torch.randn(1, 48, 9, 9))
    one = fixed_point.evaluate(layers, x)
    other = fixed_point.evaluate([shuffled, *layers[1:]], x[:, order])
    assert torch.equal(one, other)
    assert torch.allclose(one, nn.Sequential(*layers)(x.float()).double(), atol=0.02)
    with torch.no_grad():
        layers[0].weight.fill_(1e6)
    with pytest.raises(WeightsError, match="too large for exact"):
        fixed_point.evaluate(layers, x)


def test_exp_is_accurate() -> None:
    x = np.linspace(-40, 40, 1001)
    assert np.allclose(fixed_point.exp(x), np.exp(x), rtol=1e-11)


def test_coded_numbers_take_their_entropy() -> None:
    rng = np.random.default_rng(0)
    encoder, bits = Encoder(), 0.0
    groups = []
    for level in (0, 20, 40, 60):
        counts = logistic(level)
        share = counts / counts.sum()
        numbers = rng.choice(len(counts), 20_000, p=share) - len(counts) // 2
        bits -= np.log2(share[numbers + len(counts) // 2]).sum()
        groups.append((numbers.astype(np.int32), counts))
        encoder.add(*groups[-1])
    coded, excess = encoder.finish()
    assert 8 * len(coded) == pytest.approx(bits, rel=0.001, abs=64)
    decoder = Decoder(coded, excess, 80_000)
    assert all(np.array_equal(decoder.take(20_000, counts), numbers) for numbers, counts in groups)


def test_numbers_outside_their_table() -> None:
    numbers = np.array([0, -5, 4, 100_000, -1, -77], np.int32)
    encoder = Encoder()
    encoder.add(numbers, logistic(0))
    assert np.array_equal(Decoder(*encoder.finish(), 6).take(6, logistic(0)), numbers)


def test_a_mixture_counts_what_its_parts_hold() -> None:
    counts = mixture(np.array([0.0, 1.0, 0.0]), np.array([-9.0, 0.0, 9.0]), np.full(3, -1.0))
    share = counts / counts.sum()
    assert share[63 - 14 : 63 - 4].sum() == pytest.approx(1 / (2 + np.e), rel=0.01)
    assert share[63 - 4 : 63 + 5].sum() == pytest.approx(np.e / (2 + np.e), rel=0.01)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_lossless(codec: ImageCompressor, tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    pixels[..., :3] = np.moveaxis(crop(53)[:, :37], 0, -1)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    found = coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", 30, codec, lossless=True)
    assert found.psnr_db == float("inf")
    coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
    assert np.array_equal(io.read(tmp_path / "a.png")[0], io.read(tmp_path / "b.png")[0])


def drawings() -> dict[str, Image.Image]:
    rows, columns = np.mgrid[:150, :200]
    art = Image.new("RGB", (200, 150), "white")
    pen = ImageDraw.Draw(art)
    for place in range(5, 200, 13):
        pen.line((place, 0, 200 - place, 150), fill=(0, 0, 0))
        pen.text((place // 2, place // 2), "Text and lines", fill=(200, 0, 0))
    window = art.copy()
    window.paste(Image.fromarray(np.moveaxis(crop(60), 0, -1)), (130, 80))
    return {
        "checkers": Image.fromarray(((rows + columns) % 2 * 255).astype(np.uint8)),
        "one bit": art.convert("1"),
        "line art": art,
        "smooth edges": art.resize((100, 75), Image.Resampling.LANCZOS),
        "screen with a photo": window,
        "icon": art.crop((0, 0, 48, 48)),
    }


@pytest.mark.parametrize("name", drawings())
@pytest.mark.parametrize("quality", [10, 50])
def test_drawings_are_no_worse_than_jpeg(
    codec: ImageCompressor, tmp_path: Path, name: str, quality: int
) -> None:
    drawing = drawings()[name]
    drawing.save(tmp_path / "a.png")
    found = coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", quality, codec)
    coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
    pixels = io.read(tmp_path / "a.png")[0]
    back = io.read(tmp_path / "b.png")[0]
    error = np.mean((pixels.astype(float) - back) ** 2)
    assert 255**2 / 10 ** (found.psnr_db / 10) == pytest.approx(error, rel=1e-3)
    assert ("WebP" in "".join(found.notes)) == (name != "smooth edges" or quality > 10)
    number = round(2.55 * quality)
    assert (
        found.bytes_after <= size(codec.encode(np.broadcast_to(pixels, (3, *pixels.shape[1:])), number)) + 40
    )
    best = 0.0
    for level in range(1, 100):
        jpeg = memory.BytesIO()
        drawing.convert("RGB").save(jpeg, "JPEG", quality=level, optimize=True)
        if jpeg.tell() <= found.bytes_after:
            best = max(best, psnr(pixels, np.moveaxis(np.asarray(Image.open(jpeg)), -1, 0)))
    assert found.psnr_db >= best


def test_drawings_without_loss_are_no_larger_than_webp(codec: ImageCompressor, tmp_path: Path) -> None:
    for name in ("line art", "screen with a photo"):
        drawings()[name].save(tmp_path / "a.png")
        drawings()[name].save(tmp_path / "a.webp", lossless=True, quality=100)
        found = coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", 50, codec, lossless=True)
        assert found.bytes_after <= (tmp_path / "a.webp").stat().st_size + 40
        coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
        assert np.array_equal(io.read(tmp_path / "a.png")[0], io.read(tmp_path / "b.png")[0])


def test_photos_are_coded_by_the_transform(codec: ImageCompressor, tmp_path: Path) -> None:
    Image.fromarray(np.moveaxis(crop(), 0, -1)).save(tmp_path / "a.png")
    for quality in (0, 50, 100):
        assert not coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", quality, codec).notes


def test_a_blank_page_of_any_size(codec: ImageCompressor, tmp_path: Path) -> None:
    Image.new("L", (4000, 2500), 255).save(tmp_path / "a.png")
    found = coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", 50, codec)
    assert found.bytes_after < 600
    coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
    assert io.read(tmp_path / "b.png")[0].min() == 255


def test_alpha_and_metadata_are_kept(codec: ImageCompressor, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Kamera"
    pixels = np.dstack([np.moveaxis(crop(64), 0, -1), np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)])
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif, icc_profile=profile(), dpi=(300, 300))
    coding.compress(tmp_path / "a.png", tmp_path / "a.dnz", 50, codec)
    coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        assert after.mode == "RGBA"
        assert after.getexif()[0x0112] == 6
        assert after.getexif()[0x010F] == "Kamera"
        assert after.info["icc_profile"] == before.info["icc_profile"]
        assert after.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert np.array_equal(np.asarray(after)[..., 3], pixels[..., 3])


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module", params=["photo", "drawing"])
def small(request: Any, codec: ImageCompressor, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    photo = Image.fromarray(np.moveaxis(crop(48), 0, -1))
    picture = photo if request.param == "photo" else drawings()["line art"]
    picture.save(folder / "a.png", icc_profile=profile())
    coding.compress(folder / "a.png", folder / "a.dnz", 20, codec)
    return (folder / "a.dnz").read_bytes()


def restored(data: bytes, codec: ImageCompressor, folder: Path) -> None:
    (folder / "a.dnz").write_bytes(data)
    coding.decompress(folder / "a.dnz", folder / "b.png", codec)


def resealed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def test_cut_and_damaged_files_are_refused(codec: ImageCompressor, small: bytes, tmp_path: Path) -> None:
    restored(small, codec, tmp_path)
    rng = np.random.default_rng(0)
    for length in (0, 3, 11, 20, len(small) // 2, len(small) - 1):
        with pytest.raises(InputError, match=r"a\.dnz: (is|has)") as caught:
            restored(small[:length], codec, tmp_path)
        assert "\n" not in str(caught.value)
    for place in rng.integers(0, len(small), 30).tolist():
        flipped = bytearray(small)
        flipped[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(InputError, match=r"a\.dnz: "):
            restored(bytes(flipped), codec, tmp_path)


def test_forged_files_give_a_picture_or_a_sentence(
    codec: ImageCompressor, small: bytes, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(25):
        forged = bytearray(small)
        for place in rng.integers(11, len(small) - 4, 3).tolist():
            forged[place] = int(rng.integers(256))
        with suppress(InputError):
            restored(resealed(bytes(forged)), codec, tmp_path)


def test_a_giant_in_a_kilobyte_is_refused(codec: ImageCompressor, tmp_path: Path) -> None:
    giants = ((20_000, 0, "expected 800000 at least"), (2**34, 0, "limit|sizes"))
    exact, drawn = (1100, coding._LOSSLESS, "expected 24200"), (6000, coding._DRAWN, "expected 120000")
    for side, flags, words in (*giants, exact, drawn):
        numbers = (side, side, 0, 0, 0, 0, 0, 0)
        head = struct.pack("<4sBBB4s", coding.MAGIC, 1, flags, 9, codec.digest)
        data = head + b"".join(map(coding._varint, numbers)) + bytes(4)
        with pytest.raises((TooLargeError, UnreadableError), match=words):
            restored(resealed(data), codec, tmp_path)
    coding._check(Page(3000, 3000, 3, "uint8"), 20_000, 0)  # a photo out of focus


def test_other_weights_and_versions_are_named(codec: ImageCompressor, small: bytes, tmp_path: Path) -> None:
    other = resealed(small[:7] + b"abcd" + small[11:])
    if small[5] & coding._DRAWN:
        restored(other, codec, tmp_path)  # which needs no weights
    else:
        with pytest.raises(UnsupportedError, match="other weights"):
            restored(other, codec, tmp_path)
    with pytest.raises(UnsupportedError, match="version 9"):
        restored(resealed(small[:4] + b"\x09" + small[5:]), codec, tmp_path)
    with pytest.raises(WeightsError, match="no codec"):
        ImageCompressor(Path(image.__file__).parents[1] / "pretrained" / "photo.safetensors")


def test_folders_and_back(tmp_path: Path) -> None:
    run = CliRunner()
    for name in ("a", "sub/b"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(crop(64), 0, -1)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    made = run.invoke(cli, ["compress", str(tmp_path / "in"), "-o", str(tmp_path / "small")])
    assert made.exit_code == 1
    assert "c.png" in made.stderr
    assert "bits/px" in made.stdout
    back = run.invoke(cli, ["decompress", str(tmp_path / "small"), "-o", str(tmp_path / "back")])
    assert back.exit_code == 0, back.output
    assert (tmp_path / "back" / "sub" / "b.png").exists()
    again = run.invoke(cli, ["decompress", str(tmp_path / "small"), "-o", str(tmp_path / "back")])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    one = tmp_path / "back" / "a.jpg"
    single = run.invoke(cli, ["decompress", str(tmp_path / "small" / "a.dnz"), "-o", str(one)])
    assert single.exit_code == 0, single.output
    assert io.probe(one).shape == (3, 64, 64)


def test_a_file_that_grows_has_a_note(codec: ImageCompressor, tmp_path: Path) -> None:
    photo, packed = tmp_path / "photo.jpg", tmp_path / "photo.dnz"
    Image.open(COFFEE).convert("RGB").save(photo, quality=60)
    grown = coding.compress(photo, packed, 50, codec, lossless=True)
    assert grown.bytes_after > grown.bytes_before
    assert "larger than the input, which is compressed already" in grown.notes
    assert not any("larger" in note for note in coding.compress(COFFEE, packed, 50, codec).notes)


def test_a_comment_that_goes_has_a_note(codec: ImageCompressor, tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a")
    picture = Image.fromarray(np.moveaxis(crop(64), 0, -1))
    picture.save(tmp_path / "a.png", pnginfo=texts)
    picture.save(tmp_path / "b.jpg", comment=b"hello")
    record = b"\x1c\x02\x78\0\x05hello"
    content, data = APP13 + packed_record(record), (tmp_path / "b.jpg").read_bytes()
    segment = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    (tmp_path / "c.jpg").write_bytes(data[:2] + segment + data[2:])
    for name, found in (("a.png", "Title"), ("b.jpg", "comment"), ("c.jpg", "comment, IPTC")):
        done = coding.compress(tmp_path / name, tmp_path / "a.dnz", 50, codec)
        assert f"{found}: not kept (.dnz has no place for it)" in done.notes


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-500.0, -250.0)])
def test_floats_of_another_scale_are_not_flattened(
    codec: ImageCompressor, tmp_path: Path, low: float, high: float
) -> None:
    import tifffile

    steps = np.linspace(low, high, 64 * 48, dtype=np.float32).reshape(48, 64)
    tifffile.imwrite(tmp_path / "a.tif", steps)  # type: ignore[no-untyped-call]
    found = coding.compress(tmp_path / "a.tif", tmp_path / "a.dnz", 90, codec)
    coding.decompress(tmp_path / "a.dnz", tmp_path / "b.png", codec)
    with Image.open(tmp_path / "b.png") as picture:
        shown = low + (high - low) * np.asarray(picture.convert("L")) / 255
    np.testing.assert_allclose(shown, steps, atol=0.05 * (high - low))
    assert any("into 255" in note or low == 0 for note in found.notes)
