"""The catalogue: names, files and digests, without loading a model."""

from pathlib import Path

import pytest

from denoise import weights
from denoise.errors import UsageError
from denoise.infer.catalogue import catalogue, find, load, weights_path
from denoise.models.table import AUTO, AUTO_FAST, COMPANIONS, MODELS, PICKS
from denoise.options import CleanOptions
from pipelines.batch.jobs import CleanJob


def test_it_lists_every_shipped_and_classical_model_once() -> None:
    names = [row.name for row in catalogue()]
    assert names == [*PICKS, *weights.pretrained(), *MODELS]
    assert {row.kind for row in catalogue()} == {"automatic", "learned", "classical"}


@pytest.mark.parametrize(
    ("name", "modality", "other"),
    [
        ("sensor", "sensor", "ecg"),
        ("photo-sharp", "image", "photo"),
        (AUTO, "image", "photo"),
        (AUTO, "audio", "field"),
        (AUTO_FAST, "image", "photo-fast"),
        (AUTO_FAST, "audio", "speech-live"),
    ],
)
def test_a_digest_follows_each_file_that_the_result_depends_on(
    name: str, modality: str, other: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A changed companion or selectable model changes the fingerprint."""
    shipped = weights.pretrained()
    changed = tmp_path / f"{other}.safetensors"
    changed.write_bytes(shipped[other].read_bytes())
    weights.annotate(changed, {"trained": "again"})
    job = CleanJob(inputs=(tmp_path,), output=tmp_path / "out", options=CleanOptions(model=name))
    digest, fingerprint, loaded = find(name).digest, job.fingerprint(modality), load(name, modality).digest
    monkeypatch.setattr(weights, "pretrained", lambda: {**shipped, other: changed})
    assert find(name).digest != digest == loaded
    assert job.fingerprint(modality) != fingerprint
    assert load(name, modality).digest == find(name).digest


def test_other_models_keep_the_digest_of_their_file() -> None:
    for name, path in weights.pretrained().items():
        if name not in COMPANIONS:
            assert find(name).digest == weights.digest(path)


def test_weights_are_found_by_name_or_path(tmp_path: Path) -> None:
    shipped = weights.pretrained()
    assert weights_path("photo") == shipped["photo"]
    assert weights_path(str(shipped["ecg"])) == shipped["ecg"]
    with pytest.raises(UsageError, match="unknown trained model 'median'"):
        weights_path("median")
    with pytest.raises(UsageError, match=r"gone\.safetensors: no such weights file"):
        weights_path(str(tmp_path / "gone.safetensors"))
    (tmp_path / "mine.safetensors").touch()
    for slip in ("mine.safetensor", "mien.safetensors"):
        with pytest.raises(
            UsageError, match=rf"{slip}: no such weights file; did you mean .*mine\.safetensors\?"
        ):
            find(str(tmp_path / slip))
    with pytest.raises(UsageError, match=r"mine\.safetensor: no such weights file$"):
        find("mine.safetensor")
