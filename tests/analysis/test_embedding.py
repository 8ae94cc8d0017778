"""Autoencoder codes compared with principal components of the same size; the protocol of scikit-learn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import denoise
from denoise import weights
from denoise.analysis.segments import Segmentation
from denoise.errors import InputError, UsageError, WeightsError
from denoise.models.autoencoder import build

Embedding = denoise.AutoencoderEmbedding
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)) @ RNG.normal(size=(2, 16)) + 100
SMALL = {"code_size": 2, "steps": 30, "config": {"widths": (8,)}}


def test_on_digits_it_beats_principal_components_of_the_same_size() -> None:
    pixels, digit = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    learned, unseen = order[:1200], order[1200:]
    pca = PCA(8).fit(pixels[learned])
    ours = Embedding(code_size=8, noise=0.3, steps=400).fit(pixels[learned])

    def found(codes: np.ndarray, others: np.ndarray) -> float:
        return float(KNeighborsClassifier(5).fit(codes, digit[learned]).score(others, digit[unseen]))

    left = np.square(pixels[unseen] - pca.inverse_transform(pca.transform(pixels[unseen]))).mean()
    assert ours.reconstruction_error(pixels[unseen]).mean() < 0.7 * left
    by_pca = found(pca.transform(pixels[learned]), pca.transform(pixels[unseen]))
    assert found(ours.transform(pixels[learned]), ours.transform(pixels[unseen])) >= by_pca


def test_it_learns_a_flat_of_two_dimensions_in_any_unit() -> None:
    ours = Embedding(code_size=2, steps=200, lr=1e-2, config={"activation": "linear", "widths": (8,)})
    error = ours.fit(X).reconstruction_error(X).mean()
    assert error < 0.01 * X.var(0).mean()
    again = clone(ours).fit(1000 * X)
    assert again.reconstruction_error(1000 * X).mean() == pytest.approx(1e6 * error, rel=0.1)


def test_it_is_a_transformer_to_scikit_learn() -> None:
    ours = Embedding(**SMALL)
    twin = clone(ours)
    assert twin is not ours
    assert twin.get_params() == ours.get_params()
    codes = ours.fit_transform(X)
    assert codes.shape == (60, 2)
    assert ours.get_feature_names_out().tolist() == ["code0", "code1"]
    np.testing.assert_array_equal(twin.fit(X).transform(X), codes)  # the seed determines the result
    assert not np.allclose(clone(ours).set_params(seed=1).fit_transform(X), codes)
    classifier = make_pipeline(clone(ours), KNeighborsClassifier(3)).fit(X, X[:, 0] > 100)
    classifier.set_params(autoencoderembedding__code_size=1).fit(X, X[:, 0] > 100).predict(X)
    assert ours.inverse_transform(codes).shape == X.shape


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 20])
def test_any_number_of_steps_trains(steps: int) -> None:
    embedding = denoise.AutoencoderEmbedding(code_size=2, steps=steps)
    assert np.isfinite(embedding.fit_transform(np.eye(8))).all()


def test_set_output_selects_the_type_of_the_codes() -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 8)), index=range(100, 120))
    embedding = denoise.AutoencoderEmbedding(code_size=2, steps=2)
    codes = embedding.fit_transform(X)
    named = clone(embedding).set_output(transform="pandas").fit_transform(X)
    assert list(named.columns) == ["code0", "code1"]
    assert list(named.index) == list(X.index)
    np.testing.assert_array_equal(named, codes)
    with config_context(transform_output="pandas"):  # what else needs the codes is not disturbed
        assert embedding.reconstruction_error(X).shape == (20,)


@pytest.mark.parametrize(
    ("shape", "modality", "config"),
    [
        ((12,), None, {"widths": (8,)}),
        ((8, 8), None, {"widths": (8,)}),
        ((3, 8, 8), None, {"widths": (8,), "activation": "relu"}),
        ((1, 16), "audio", {"widths": (8,), "bottleneck": "variational"}),
        ((32,), "sensor", {"backbone": "conv", "widths": (4, 4, 4)}),
        ((16, 8), "image", {"backbone": "conv", "widths": (4, 4, 4)}),
    ],
    ids=str,
)
def test_items_of_every_shape_get_a_code_and_come_back(
    shape: tuple[int, ...], modality: str | None, config: dict[str, object]
) -> None:
    items = RNG.normal(size=(20, *shape)).astype(np.float32)
    ours = Embedding(code_size=8, modality=modality, steps=2, config=config).fit(items)
    codes = ours.transform(items)
    assert codes.shape == (20, 8)
    assert ours.inverse_transform(codes).shape == items.shape
    assert ours.reconstruction_error(items).shape == (20,)


def test_a_saved_one_gives_the_same_codes_and_passes_verify(tmp_path: Path) -> None:
    ours = Embedding(**SMALL).fit(X)
    ours.save(tmp_path / "a.safetensors", "mine", Segmentation("sensor", (16,), standardise=True))
    again, cut = Embedding.load(tmp_path / "a.safetensors")
    assert cut == Segmentation("sensor", (16,), standardise=True)
    np.testing.assert_array_equal(again.transform(X), ours.transform(X))
    assert weights.verify(tmp_path / "a.safetensors")[0]["name"] == "mine"


def test_a_model_that_was_trained_by_a_recipe_says_how_files_are_cut(tmp_path: Path) -> None:
    from denoise.training import recipe

    plan = recipe.load("family/variational-signal")
    facts = {"recipe": plan.as_dict()}
    model = build(**plan.model.config)
    weights.save(tmp_path / "a.safetensors", model, name="a", architecture="autoencoder", facts=facts)
    ours, cut = Embedding.load(tmp_path / "a.safetensors")
    assert cut == Segmentation("sensor", (128,), standardise=True)
    assert ours.transform(RNG.normal(size=(3, 1, 128))).shape == (3, 32)


def test_what_has_no_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no bottleneck"):
        Embedding.load(weights.pretrained()["photo"])
    with pytest.raises(UsageError, match="has no bottleneck"):
        Embedding.load(weights.pretrained()["speech"])
    model = build(modality="sensor", backbone="dense", widths=(8,), skips=False, residual=False)
    weights.save(tmp_path / "a.safetensors", model, name="a", architecture="autoencoder", facts={})
    with pytest.raises(WeightsError, match="has no valid segmentation"):
        Embedding.load(tmp_path / "a.safetensors")


def test_what_makes_no_sense_is_refused() -> None:
    ours = Embedding(**SMALL)
    with pytest.raises(UsageError, match="expected fit first"):
        ours.transform(X)
    with pytest.raises(InputError, match="finite"):
        ours.fit(np.full((4, 16), np.nan))
    with pytest.raises(InputError, match="items x samples"):
        ours.fit(np.zeros((4, 16), dtype=object))
    with pytest.raises(InputError, match=r"shape \(15,\)"):
        ours.fit(X).transform(X[:, :15])
    with pytest.raises(InputError, match=r"expected \(n, 2\)"):
        ours.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="'colour'"):
        ours.set_params(colour=1)
    for params, sentence in (
        ({"code_size": 0}, "code_size is 0"),
        ({"loss": "mze"}, "unknown loss 'mze'"),
        ({"modality": "sensr"}, "unknown modality 'sensr'"),
        ({"config": {"backbone": "conv", "widths": (4, 4, 4)}}, "4 cells in items of 16"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Embedding(**{**SMALL, **params}).fit(X)


def test_it_does_without_scikit_learn() -> None:
    code = "import denoise, sys; denoise.AutoencoderEmbedding(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
