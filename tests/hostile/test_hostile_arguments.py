"""Files that a command takes besides signals, with any content: a sentence and an exit code, no traceback."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from denoise import weights
from denoise.analysis import codes as coding
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Segmentation
from denoise.errors import InputError, UsageError
from denoise.models.autoencoder import build
from denoise.training import data as training_data
from pipelines.batch.manifest import PENDING_NAME
from pipelines.batch.store import MANIFEST_NAME
from pipelines.cli.group import cli

FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MANY = settings(FEW, max_examples=2000)

numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), -0.0]),
    st.integers(),
    st.floats(),
)
texts = st.one_of(
    st.sampled_from(["", "\0", "..", "/etc/passwd", "a\nb", "\x1b[2J", "x" * 5000]), st.text(max_size=9)
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def run(*arguments: object) -> str:
    """Run a command; return what it shows, after checking that it ends as it should."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    shown = result.stdout + result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert result.exit_code in (0, 1, 2, 3), (arguments, shown)
    assert "unexpected" not in shown, shown
    assert "Traceback" not in shown, shown
    assert all(letter.isprintable() or letter in "\n" for letter in shown), shown
    return shown


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Some bytes of a sound file replaced, removed or put in."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        changed[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(changed[: draw(st.sampled_from([None, None, len(data) // 2]))])


def replaced(data: Any, draw: st.DrawFn) -> Any:
    """One value somewhere inside parsed JSON replaced, or removed."""
    if isinstance(data, dict) and data and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(data)))
        rest = {name: part for name, part in data.items() if name != key}
        return rest if draw(st.integers(0, 5)) == 0 else {**rest, key: replaced(data[key], draw)}
    if isinstance(data, list) and data and draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        return [*data[:at], replaced(data[at], draw), *data[at + 1 :]]
    return draw(values)


# ---- manifests -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cleaned() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "in").mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "in" / "a.png")
        run("clean", root / "in", "-o", root / "out", "--model", "none")
        yield root


def attack_manifest(cleaned: Path, data: st.DataObject) -> None:
    path = cleaned / "out" / MANIFEST_NAME
    sound = path.read_bytes()
    row = replaced(json.loads(sound.splitlines()[-1]), data.draw)
    torn = data.draw(damaged(sound))
    (cleaned / "out" / PENDING_NAME).write_bytes(
        data.draw(st.sampled_from([b"", b"[{}]\n", b"\xff\n", b"1\n"]))
    )
    try:
        path.write_bytes(data.draw(st.sampled_from([json.dumps(row).encode() + b"\n", torn])))
        run("verify", cleaned / "out")
        run("clean", cleaned / "in", "-o", cleaned / "out", "--model", "none")
    finally:
        path.write_bytes(sound)


@FEW
@given(data=st.data())
def test_a_manifest_of_anything(cleaned: Path, data: st.DataObject) -> None:
    attack_manifest(cleaned, data)


@pytest.mark.parametrize("name", [MANIFEST_NAME, PENDING_NAME, ".denoise-claim-0badcafe", "denoise.toml"])
def test_a_text_of_endless_depth_is_read_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    deep = "[" * 100_000 + "\n"
    (tmp_path / ("" if name.endswith("toml") else "out") / name).write_text(
        f"a = {deep}" if name.endswith("toml") else deep
    )
    for _ in range(2):
        run("clean", "a.png", "-o", "out", "--model", "none")
        run("verify", "out")


# ---- weights and archives of codes -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive() -> Iterator[Path]:
    """An archive of codes with its model, and a weights file."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        torch.manual_seed(0)
        weights.save(
            root / "w.safetensors",
            build(modality="sensor", widths=[4, 6]),
            name="mine",
            architecture="autoencoder",
            facts={},
        )
        cut = Segmentation("sensor", (16,))
        embedding = AutoencoderEmbedding(code_size=2, modality="sensor", steps=2, seed=0)
        embedding.fit(np.random.default_rng(0).standard_normal((20, 1, 16)).astype(np.float32))
        embedding.save(root / "m.safetensors", "m", cut)
        np.save(root / "a.npy", np.arange(64.0))
        codes = coding.embed(root / "a.npy", root / "m.safetensors")
        coding.save(root / "c.npz", cut, [codes], root / "m.safetensors", keep_model=True)
        yield root


def attack_card(archive: Path, data: st.DataObject) -> None:
    sound = (archive / "w.safetensors").read_bytes()
    length = struct.unpack("<Q", sound[:8])[0]
    header = json.loads(sound[8 : 8 + length])
    card = replaced(json.loads(header["__metadata__"]["denoise"]), data.draw)
    header["__metadata__"]["denoise"] = json.dumps(card)
    if data.draw(st.booleans()):
        header = replaced(header, data.draw)
    text = json.dumps(header).encode()
    path = archive / "bad.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + sound[8 + length :])
    run("models", "show", path)
    run("models", "verify", path)
    run("embed", archive / "a.npy", "--model", path, "-o", archive / "bad.npz", "--overwrite")


@FEW
@given(data=st.data())
def test_a_card_of_anything(archive: Path, data: st.DataObject) -> None:
    attack_card(archive, data)


@pytest.mark.parametrize("fact", [[[]], "", {}, [""], None, " "])
def test_a_fact_without_words_is_left_out_of_a_card(archive: Path, fact: object) -> None:
    sound = (archive / "w.safetensors").read_bytes()
    length = struct.unpack("<Q", sound[:8])[0]
    header = json.loads(sound[8 : 8 + length])
    card = json.loads(header["__metadata__"]["denoise"]) | {"parameters": fact}
    header["__metadata__"]["denoise"] = json.dumps(card)
    text = json.dumps(header).encode()
    path = archive / "bare.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + sound[8 + length :])
    assert "parameters" not in run("models", "show", path)


def attack_archive(archive: Path, data: st.DataObject) -> None:
    with np.load(archive / "c.npz") as whole:
        arrays = dict(whole)
    about = replaced(json.loads(arrays["about"].tobytes()), data.draw)
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(arrays)))
        size = data.draw(st.integers(0, 5))
        arrays[name] = data.draw(
            st.sampled_from([np.full(size, np.nan), np.zeros((size, 2)), np.array(["x"] * size)])
        )
    coding._write_npz(archive / "bad.npz", arrays)
    run("reconstruct", archive / "bad.npz", "-o", archive / "back", "--overwrite")
    (archive / "bad.npz").write_bytes(data.draw(damaged((archive / "c.npz").read_bytes())))
    run("reconstruct", archive / "bad.npz", "-o", archive / "back", "--overwrite")


@FEW
@given(data=st.data())
def test_an_archive_of_anything(archive: Path, data: st.DataObject) -> None:
    attack_archive(archive, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, f: {**a, "files": [{**f, "name": 5}]}, "names of files"),
        (lambda a, f: {**a, "files": [f, f]}, "names of files"),
        (lambda a, f: {**a, "files": [{**f, "name": "../b"}]}, "expected one below the folder"),
        (lambda a, _: {**a, "model_digest": 1}, "names of files"),
    ],
)
def test_names_in_an_archive_are_texts_and_differ(archive: Path, change: Any, words: str) -> None:
    with np.load(archive / "c.npz") as whole:
        arrays = dict(whole)
    about = json.loads(arrays["about"].tobytes())
    changed = change(about, about["files"][0])
    arrays["about"] = np.frombuffer(json.dumps(changed).encode(), np.uint8)
    coding._write_npz(archive / "bad.npz", arrays)
    assert words in run("reconstruct", archive / "bad.npz", "-o", archive / "back", "--overwrite")


def test_codes_that_are_no_numbers_are_refused(archive: Path) -> None:
    with np.load(archive / "c.npz") as whole:
        arrays = dict(whole)
    coding._write_npz(archive / "bad.npz", {**arrays, "codes": arrays["codes"] * np.nan})
    assert "codes that are no numbers" in run("reconstruct", archive / "bad.npz", "-o", archive / "back")


@pytest.mark.parametrize("kind", ["header", "bomb", "zip"])
def test_arrays_of_any_archive_are_read_with_care(archive: Path, kind: str) -> None:
    """A broken header, and what unpacks to a thousandfold, is a sentence of every command that reads it."""
    bad = archive / "bad.npz"
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as parts:
        if kind == "header":  # of Python 2, whose rest numpy passes to tokenize
            parts.writestr("codes.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (1L,\n\n")
        else:
            parts.writestr("codes.npy", bytes(200 << 20))
    if kind == "zip":
        bad.write_bytes(bad.read_bytes()[:-30])
    words = "refusing to decode" if kind == "bomb" else "cannot be read"
    assert words in run("reconstruct", bad, "-o", archive / "back", "--overwrite")
    assert words in run("similar", "--in", bad)
    assert words in run("benchmark", bad, "--protocol", "anomalies", "--models", "mahalanobis")
    with pytest.raises(InputError, match=words):
        list(training_data._read_one(bad, "sensor", 0.0))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
@pytest.mark.parametrize(
    "arguments",
    [
        *("similar --in /dev/zero", "reconstruct /dev/zero -o back", "decompress /dev/zero -o back"),
        *("clean a.png -o out --reference /dev/zero", "clean --files-from /dev/zero -o out"),
        *("models verify /dev/zero", "models show /dev/zero", "info /dev/zero", "clean /dev/zero -o out"),
    ],
)
def test_a_file_without_an_end_is_not_read_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    assert "/dev/zero" in run(*arguments.split())


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="needs a file that blocks and looks regular")
@pytest.mark.parametrize(
    "arguments",
    [
        "clean in -o out --model median",
        "info in/k.wav",
        "decompress in/k.dnz -o a.png",
        "models show in/k.png",
    ],
)
def test_a_file_of_the_kernel_is_not_waited_for(tmp_path: Path, arguments: str) -> None:
    """It says that it is regular and empty, and blocks, or never ends; where it may not be read it fails."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / "a.png")
    for suffix in ("png", "wav", "csv", "edf", "mp4", "dnz"):
        (tmp_path / "in" / f"k.{suffix}").symlink_to("/proc/kmsg")
    words = [sys.executable, "-m", "denoise", *arguments.split()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert found.returncode in (1, 2), found.stderr
    assert "in/k." in found.stdout + found.stderr
    assert (tmp_path / "out" / "a.png").exists() == arguments.startswith("clean")


# ---- recipes ---------------------------------------------------------------------------------------------

RECIPE: dict[str, Any] = {
    "name": "x",
    "modality": "sensor",
    "model": {"architecture": "autoencoder", "config": {"modality": "sensor", "widths": [4]}},
    "data": {"patch": 64, "corruption": "white:snr_db=5"},
    "fit": {"steps": 1, "batch": 2, "threads": 1},
}


@pytest.fixture(scope="module")
def logs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        np.save(Path(folder) / "data" / "a.npy", np.random.default_rng(0).standard_normal(2000))
        yield Path(folder)


def toml(value: Any) -> str:
    """Format a value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return '""' if value is None else json.dumps(value)


def attack_recipe(logs: Path, data: st.DataObject) -> None:
    from dataclasses import fields

    from denoise.training.recipe import Recipe

    section = data.draw(st.sampled_from(["model", "data", "fit", "validate", "config"]))
    recipe = json.loads(json.dumps(RECIPE))
    target = recipe["model"]["config"] if section == "config" else recipe.setdefault(section, {})
    names = ["widths", "blocks", "modality", "channels", "kernel"]
    if section != "config":
        names = [each.name for each in fields(getattr(Recipe(name="", modality=""), section))]
    key = data.draw(st.sampled_from(names))
    target[key] = data.draw(values)
    if recipe["fit"].get("steps") != 1 or recipe["fit"].get("batch") != 2:
        recipe["fit"] |= {"steps": 1, "batch": 2}  # a large number of them is no fault, and takes long
    path = logs / "r.toml"
    path.write_text("\n".join(f"{name} = {toml(part)}" for name, part in recipe.items()), "utf-8", "replace")
    run("train", path, "--data", logs / "data", "-o", logs / "w.safetensors", "--overwrite")


@FEW
@given(data=st.data())
def test_a_recipe_of_anything(logs: Path, data: st.DataObject) -> None:
    attack_recipe(logs, data)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe",
        b"name = ",
        b"[" * 3000,
        b"name = 'x'\nmodality = 'sensor'\ndata = 3",
        b"x = " + b"9" * 6000,
    ],
)
def test_what_is_no_recipe_is_refused(logs: Path, text: bytes) -> None:
    (logs / "bad.toml").write_bytes(text)
    shown = run("train", logs / "bad.toml", "--data", logs / "data", "-o", logs / "w.safetensors")
    assert "bad.toml" in shown


def test_a_setting_that_a_model_does_not_have_is_named(logs: Path) -> None:
    job = ["family/denoising-signal", "--data", logs / "data", "-o", logs / "w.safetensors", "--overwrite"]
    shown = run("train", "--set", "model.config.kernel=3", *job)
    assert shown == "Error: model.config of autoencoder: has no parameter 'kernel'\n"
    with pytest.raises(UsageError, match=r"has no parameter 'a$"):
        weights.build_new("autoencoder", {"a\nb": None})


# ---- outputs of every command ------------------------------------------------------------------------------


def test_no_command_replaces_what_it_did_not_write(logs: Path, archive: Path, tmp_path: Path) -> None:
    photo = tmp_path / "w.curve.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(photo)
    table = tmp_path / "v.curve.csv"
    table.write_text("time,x\n0,1\n")
    onnx = tmp_path / "mine.onnx"
    onnx.write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    recipe = logs / "good.toml"
    recipe.write_text("\n".join(f"{name} = {toml(part)}" for name, part in RECIPE.items()))
    train = ("train", recipe, "--data", logs / "data", "-o")
    assert "is no earlier report" in run(*train, tmp_path / "w.safetensors", "--overwrite")
    assert "is no earlier report" in run(*train, tmp_path / "v.safetensors", "--overwrite")
    assert "exists already" in run("models", "export", archive / "w.safetensors", onnx)
    assert "is written as .onnx" in run("models", "export", archive / "w.safetensors", photo)
    assert "is no regular file" in run(
        "models", "export", archive / "w.safetensors", _device(tmp_path, ".onnx")
    )
    assert "is no regular file" in run("adapt", logs / "data", "-o", _device(tmp_path, ".safetensors"))
    assert "is no regular file" in run("embed", logs / "data", "-o", _device(tmp_path, ".npz"))
    assert {path: path.read_bytes() for path in before} == before


def _device(folder: Path, suffix: str) -> Path:
    """A name of a device with a suffix."""
    path = folder / f"null{suffix}"
    path.symlink_to("/dev/null")
    return path


# ---- the long attacks --------------------------------------------------------------------------------------


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_two_thousand_of_each(cleaned: Path, archive: Path, logs: Path, data: st.DataObject) -> None:
    attack_manifest(cleaned, data)
    attack_card(archive, data)
    attack_archive(archive, data)
    attack_recipe(logs, data)
