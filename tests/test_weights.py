"""A weights file restores the same model; anything else is refused."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from denoise import weights
from denoise.errors import UsageError, WeightsError
from denoise.models.autoencoder import Autoencoder, build


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Autoencoder, Path]:
    torch.manual_seed(0)
    model = build(modality="sensor", widths=[4, 6]).eval()
    path = tmp_path / "mine.safetensors"
    weights.save(path, model, name="mine", architecture="autoencoder", facts={"limits": "a test"})
    return model, path


def test_round_trip(saved: tuple[Autoencoder, Path]) -> None:
    model, path = saved
    again, card = weights.load(path)
    x = torch.randn(1, 1, 16)
    torch.testing.assert_close(again(x), model(x), atol=1e-3, rtol=1e-2)  # stored in half precision
    assert card == weights.card(path)
    assert (card["name"], card["modality"], card["limits"]) == ("mine", "sensor", "a test")
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert again.spec == model.spec


def test_a_card_can_be_added_to(saved: tuple[Autoencoder, Path]) -> None:
    path = saved[1]
    before = weights.load(path)[0].state_dict()
    weights.annotate(path, {"results": {"snr_db": 12.5}, "limits": "ünlike others"})
    again, card = weights.load(path)
    assert (card["results"], card["limits"], card["name"]) == ({"snr_db": 12.5}, "ünlike others", "mine")
    assert all(torch.equal(before[key], value) for key, value in again.state_dict().items())


def test_weights_of_eight_bits_are_half_as_large_and_nearly_the_same(
    saved: tuple[Autoencoder, Path], tmp_path: Path
) -> None:
    model, path = saved[0], tmp_path / "small.safetensors"
    weights.save(path, model, name="small", architecture="autoencoder", facts={}, bits=8)
    again = weights.load(path)[0].state_dict()
    for key, value in model.state_dict().items():
        largest = value.flatten(1).abs().amax(1) if value.ndim > 1 else value.abs()
        error = (again[key] - value).abs()
        error = error.flatten(1).amax(1) if value.ndim > 1 else error
        # Half a step of 1/127, and the half precision of the step size.
        assert (error <= largest * (0.51 / 127 + 2**-10) + 1e-7).all(), key
    card = weights.verify(path)[0]
    assert card["parameters"] == weights.card(saved[1])["parameters"]
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    rows = sum(len(p) for p in model.parameters() if p.ndim > 1)

    def held(file: Path) -> int:  # bytes of tensors
        return file.stat().st_size - 8 - int(struct.unpack("<Q", file.read_bytes()[:8])[0])

    assert held(saved[1]) - held(path) == matrices - 2 * rows


def test_a_scale_for_each_row_of_eight_bits(saved: tuple[Autoencoder, Path]) -> None:
    model, path = saved
    weights.save(path, model, name="small", architecture="autoencoder", facts={}, bits=8)
    whole = load_file(path)
    key = next(name for name in whole if name.endswith(":scale"))
    for scale in (None, whole[key][:-1].clone(), whole[key] * torch.inf):
        changed = {name: value for name, value in whole.items() if name != key or scale is not None}
        if scale is not None:
            changed[key] = scale
        card = {**weights.card(path), "tensors_sha256": ""}
        other = path.with_name("changed.safetensors")
        save_file(changed, other, {"denoise": json.dumps(card)})
        with pytest.raises(WeightsError, match="changed"):
            weights.load(other)


def test_other_bits_are_refused(saved: tuple[Autoencoder, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="4 bits"):
        weights.save(tmp_path / "x", saved[0], name="x", architecture="autoencoder", facts={}, bits=4)


def rewritten(path: Path, **changes: object) -> Path:
    """Copy the file with other values in its card."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header["__metadata__"]["denoise"])
    header["__metadata__"]["denoise"] = json.dumps({**card, **changes})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "weights format 99, expected 1"),
        ({"architecture": "perceptron"}, "unknown architecture 'perceptron'"),
        ({"config": {"modality": "sensor", "widths": [5, 6]}}, "do not fit the model they name"),
        ({"config": {"modality": "sensor", "wits": 3}}, "do not fit the model they name"),
    ],
)
def test_another_card_is_refused(
    saved: tuple[Autoencoder, Path], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(WeightsError, match=r"mine\.safetensors") as caught:
        weights.load(rewritten(saved[1], **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\x80\x04K\x01.", struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 8) + b"not json"],
)
def test_other_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        weights.load(path)


def test_a_truncated_file_a_foreign_file_and_a_missing_file(
    saved: tuple[Autoencoder, Path], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(saved[1].read_bytes()[:-100])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    for path in (cut, foreign, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError, match=path.name):
            weights.load(path)


def test_infinite_weights_are_refused(saved: tuple[Autoencoder, Path]) -> None:
    model, path = saved
    with torch.no_grad():
        next(model.parameters()).fill_(torch.inf)
    weights.save(path, model, name="mine", architecture="autoencoder", facts={})
    with pytest.raises(WeightsError, match="infinite"):
        weights.load(path)


def test_tensors_of_older_files_get_their_present_names() -> None:
    assert weights.current_name("network.into.weight") == "network.encode_proj.weight"
    assert weights.current_name("backbone.cross.0.out_of.weight") == "backbone.cross.0.decode_proj.weight"
    assert weights.current_name("after.weight_ih_l0") == "backward_gru.weight_ih_l0"
