"""Damaged weights files: loaded unchanged, or refused in one sentence."""

import contextlib
import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from denoise import weights
from denoise.errors import WeightsError
from denoise.models.autoencoder import build
from pipelines.cli.group import cli

Header = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    model = build(modality="sensor", widths=[4, 6])
    weights.save(path, model, name="mine", architecture="autoencoder", facts={})
    return path


def parts(path: Path) -> tuple[Header, Header, bytes]:
    """Header, card and tensors."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["denoise"]), data[8 + length :]


def put(path: Path, header: Header, card: Header, tensors: bytes) -> None:
    header["__metadata__"] = {"denoise": json.dumps(card)}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def refused(path: Path) -> str:
    """Sentence with which both `load` and the command refuse a file."""
    with pytest.raises(WeightsError, match=path.name) as caught:
        weights.load(path)
    sentence = str(caught.value)
    assert sentence.isprintable()
    run = CliRunner().invoke(cli, ["models", "verify", str(path)])
    assert run.exit_code == 1, run.output
    assert isinstance(run.exception, SystemExit)
    return sentence


def first(header: Header) -> Header:
    """The entry of one tensor."""
    return header["backbone.head.weight"]


def rename(header: Header, card: Header) -> None:
    header["other"] = header.pop("backbone.head.weight")
    del card["tensors_sha256"]


CHANGES: dict[str, tuple[Callable[[Header, Header], None], str]] = {
    "a shape that needs gigabytes": (
        lambda h, _: first(h).update(shape=[2**20] * 3),
        "do not fit its header",
    ),
    "a negative size": (lambda h, _: first(h).update(shape=[-4, -1, 3]), "do not fit its header"),
    "a size that is true": (lambda h, _: first(h).update(shape=[True, 1]), "do not fit its header"),
    "offsets beyond the end": (lambda h, _: first(h).update(data_offsets=[2**40, 2**40 + 24]), "tensor"),
    "offsets the wrong way": (lambda h, _: first(h).update(data_offsets=[24, 0]), "do not fit its header"),
    "another dtype": (lambda h, _: first(h).update(dtype="I16"), "dtype I16, expected one of F16"),
    "a tensor of nothing": (lambda h, _: h.update(extra=None), "do not fit its header"),
    "a missing tensor": (lambda h, _: h.pop("backbone.head.weight"), "tensor"),
    "a tensor under another name": (rename, "do not fit the model"),
    "no tensors": (lambda h, _: h.clear(), "do not fit its header"),
    "an unknown model": (lambda _, c: c.update(architecture="abc"), "unknown architecture 'abc'"),
    "no model": (lambda _, c: c.pop("architecture"), "lacks architecture"),
    "an unknown modality": (lambda _, c: c.update(modality="smell"), "the modality 'smell'"),
    "another modality": (lambda _, c: c.update(modality="audio"), "its card says audio, its config sensor"),
    "a config that is a list": (lambda _, c: c.update(config=[1]), "lacks config"),
    "a million layers": (lambda _, c: c["config"].update(blocks=10**6), "more than its"),
    "a terabyte of width": (lambda _, c: c["config"].update(widths=[10**6, 10**6]), "has shape"),
    "a fold of nothing": (lambda _, c: c["config"].update(fold=0), "sizes must be positive"),
    "a width in words": (lambda _, c: c["config"].update(widths=["wide"]), "do not fit"),
    "a size of a billion": (lambda _, c: c["config"].update(fold=10**9), "number 1e+09, expected 1048576"),
    "a width of infinity": (lambda _, c: c["config"].update(widths=[float("inf")]), "do not fit"),
    "another digest": (lambda _, c: c.update(tensors_sha256="0" * 64), "its tensors were changed"),
    "a digest that is a list": (lambda _, c: c.update(tensors_sha256=[1]), "its tensors were changed"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_header_that_lies_is_refused(path: Path, name: str) -> None:
    change, words = CHANGES[name]
    header, card, tensors = parts(path)
    change(header, card)
    put(path, header, card, tensors)
    assert words in refused(path)


def test_a_dilation_does_not_take_gigabytes(tmp_path: Path) -> None:
    path, config = tmp_path / "a.safetensors", {"widths": [4], "code": 4, "memory": 4, "layers": 1}
    model = weights.build("spectral-bigru", {**config, "backward": 4, "hidden": 4, "dilations": [1, 3]})
    weights.save(path, model, name="a", architecture="spectral-bigru", facts={})
    header, card, tensors = parts(path)
    card["config"]["dilations"] = [600_000, 3]
    put(path, header, card, tensors)
    assert "needs 1024 frames of context at most" in refused(path)


@pytest.mark.parametrize("rate", [[600_000, 3], "16000", -1, 0, {}])
def test_a_sample_rate_is_a_positive_number(tmp_path: Path, rate: object) -> None:
    path = tmp_path / "a.safetensors"
    model = weights.load(weights.pretrained()["field"])[0]
    weights.save(path, model, name="a", architecture="floor-gain", facts={})
    header, card, tensors = parts(path)
    card["config"]["sample_rate"] = rate
    put(path, header, card, tensors)
    assert refused(path)


def test_more_tensors_than_any_model_has_are_refused(path: Path) -> None:
    header, card, _ = parts(path)
    header = {
        f"t{n}": {"dtype": "F16", "shape": [1], "data_offsets": [2 * n, 2 * n + 2]} for n in range(20_000)
    }
    del card["tensors_sha256"]
    put(path, header, card, bytes(40_000))
    assert "20000 tensors, expected 10000" in refused(path)


def test_tensors_that_overlap_leave_gaps_or_end_early_are_refused(path: Path) -> None:
    header, card, tensors = parts(path)
    entries = sorted((v for k, v in header.items() if k != "__metadata__"), key=lambda v: v["data_offsets"])
    for shift in (-2, 2):
        moved = copy.deepcopy(header)
        for name, entry in moved.items():
            if name != "__metadata__" and entry["data_offsets"] == entries[-1]["data_offsets"]:
                entry["data_offsets"] = [offset + shift for offset in entry["data_offsets"]]
        put(path, moved, card, tensors + bytes(2))
        assert "do not fit its header" in refused(path)
    for changed in (tensors + b"more", tensors[:-2]):
        put(path, header, card, changed)
        assert "do not fit its header" in refused(path)
    put(path, {}, card, b"")
    assert "holds no tensors" in refused(path)


def test_changed_and_infinite_numbers_are_found(path: Path) -> None:
    header, card, tensors = parts(path)
    put(path, header, card, bytes([tensors[0] ^ 1]) + tensors[1:])
    assert "were changed" in refused(path)
    del card["tensors_sha256"]
    put(path, header, card, b"\x00\x7e" + tensors[2:])  # a NaN in half precision
    assert "NaN or infinite" in refused(path)


def test_a_pickle_is_never_opened(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path)
    assert "is a pickle" in refused(path)


def test_deep_nesting_is_no_way_in(path: Path) -> None:
    text = b"[" * 200_000
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert "no denoise header" in refused(path)


def test_random_damage_is_refused_or_harmless(path: Path) -> None:
    data = path.read_bytes()
    before = weights.load(path)[0].state_dict()
    rng = np.random.default_rng(0)
    for number in range(150):
        broken = bytearray(data)
        if number % 3 == 0:
            broken = broken[: int(rng.integers(len(data)))]
        elif number % 3 == 1:
            for place in rng.integers(0, len(data), rng.integers(1, 9)):
                broken[place] ^= 1 << int(rng.integers(8))
        else:
            start = int(rng.integers(8, len(data) // 2))
            broken[start : start + 20] = rng.bytes(int(rng.integers(40)))
        path.write_bytes(broken)
        with contextlib.suppress(WeightsError):
            after = weights.load(path)[0].state_dict()  # the damage was in words of the card
            assert all(torch.equal(after[name], value) for name, value in before.items())


def test_loading_leaves_the_random_numbers_of_the_caller(path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    weights.load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sound_file_is_said_to_be_sound(path: Path) -> None:
    run = CliRunner().invoke(cli, ["models", "verify", str(path)])
    assert run.exit_code == 0, run.output
    lines = run.output.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["ok", f"{word}:"] for word in ("header", "tensors", "digest", "model", "run")
    ]
    assert parts(path)[1]["tensors_sha256"] in lines[2]
    assert weights.digest(path) in lines[-1]


def test_what_has_no_weights_is_a_wrong_call() -> None:
    run = CliRunner().invoke(cli, ["models", "verify", "median"])
    assert run.exit_code == 2
    assert "has no weights" in run.output


@pytest.mark.parametrize("name", sorted(weights.pretrained()))
def test_what_ships_verifies(name: str) -> None:
    _, checked = weights.verify(weights.pretrained()[name])
    assert "sha256" in checked[2]
