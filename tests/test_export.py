"""ONNX graphs give the outputs of the models."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from denoise import weights
from denoise.errors import UsageError
from denoise.export import export_onnx
from denoise.infer.catalogue import load
from denoise.models.base import CausalDenoiser
from denoise.models.field.chain import FieldChain
from denoise.models.sensor.chain import SensorChain
from pipelines.cli.group import cli


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def hop_by_hop(run: Any, hops: np.ndarray) -> np.ndarray:
    """Outputs of a graph with state for consecutive hops."""
    names = [given.name for given in run.get_inputs()]
    state = [np.zeros(given.shape, np.float32) for given in run.get_inputs()[1:]]
    answers = []
    for hop in hops:
        answer, *state = run.run(None, dict(zip(names, [hop, *state], strict=True)))
        answers.append(answer)
    return np.concatenate(answers, -1)


@pytest.mark.parametrize("name", sorted({*weights.pretrained()} - {"photo-sharp", "speech"}))
def test_shipped_models_answer_the_same_in_onnx(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, model = tmp_path / "model.onnx", load(name, precision="float32").model
    model = model.network if isinstance(model, SensorChain | FieldChain) else model
    result = CliRunner().invoke(cli, ["models", "export", name, str(path)])
    assert result.exit_code == 0, result.output
    assert not result.stderr + capfd.readouterr().err  # the exporter prints a lot
    onnx.checker.check_model(onnx.load(path))
    assert (
        str(Path(weights.__file__).parent).encode() not in path.read_bytes()
    )  # no paths of the exporting machine
    run, rng = session(path), np.random.default_rng(0)
    facts = run.get_modelmeta().custom_metadata_map
    assert facts["name"] == name
    assert {key: int(facts[key]) for key in ("channels", "multiple_of", "opset")} == {
        "channels": model.spec.channels,
        "multiple_of": model.spec.multiple_of,
        "opset": onnx.load(path).opset_import[0].version,
    }
    if isinstance(model, CausalDenoiser):
        hops = rng.normal(0, 0.1, (4, 1, 1, model.hop)).astype(np.float32)
        with torch.inference_mode():
            whole, _ = model.step(torch.from_numpy(hops.reshape(1, 1, -1)), model.initial_state(1))
        assert facts["state"] == ", ".join(i.name for i in run.get_inputs()[1:])
        np.testing.assert_allclose(hop_by_hop(run, hops), whole.numpy(), atol=1e-4)
        return
    assert int(facts["halo"]) == model.spec.halo
    for sides in ((3, 5), (7, 2)):
        shape = (1, model.spec.channels, *(model.spec.multiple_of * k for k in sides[: model.spec.ndim]))
        noisy = rng.random(shape, np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(noisy)).numpy()
        np.testing.assert_allclose(run.run(None, {"noisy": noisy})[0], expected, atol=1e-4)


@pytest.mark.parametrize(("name", "reason"), [("median", "classical"), ("auto", "whole image")])
def test_what_is_no_graph_is_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        export_onnx(load(name, "image").denoiser, tmp_path / "model.onnx", name)
    assert not list(tmp_path.iterdir())


def test_without_its_packages_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoise.export.find_spec", lambda _: None)
    assert importlib.util.find_spec("onnx")
    with pytest.raises(UsageError, match=r'pip install "denoise-pipelines\[onnx\]"'):
        export_onnx(load("sensor").model, tmp_path / "model.onnx", "sensor")


def test_a_network_in_fewer_bits_has_no_graph(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="photo is in bf16; expected one loaded in float32"):
        export_onnx(load("photo", precision="bf16").denoiser, tmp_path / "model.onnx", "photo")
