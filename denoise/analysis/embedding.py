"""Autoencoder as an estimator with scikit-learn's protocol: arrays to codes and back."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from denoise import weights
from denoise.analysis.estimator import Transformer, value_errors
from denoise.analysis.segments import Segmentation
from denoise.arrays import Array, Doubles, Floats
from denoise.errors import InputError, UsageError, WeightsError
from denoise.models.autoencoder import Autoencoder, build
from denoise.models.bottleneck import VariationalBottleneck
from denoise.registry import unknown
from denoise.signal import MODALITIES
from denoise.training.losses import LOSSES

_BATCH = 256  # items per call of the model
_FACTS = "embedding"  # key in the card of a weights file


@dataclass(eq=False, repr=False)
class AutoencoderEmbedding(Transformer):
    """Estimator of a small code for each item of `X`, and of its inverse.

    It is a nonlinear counterpart of `PCA` (Hinton & Salakhutdinov 2006). `config` sets other fields of
    `denoise.models.autoencoder.AutoencoderConfig`, such as `{"bottleneck": "variational"}`. Before `fit` the
    other methods raise a UsageError, for items of another shape or that are not finite an InputError.

    >>> import numpy as np
    >>> import denoise
    >>> X = np.random.default_rng(0).normal(size=(100, 1)) * np.arange(20)
    >>> embedding = denoise.AutoencoderEmbedding(code_size=1, steps=50).fit(X)
    >>> embedding.transform(X).shape
    (100, 1)

    Args:
        code_size: Numbers per code.
        modality: A name in `MODALITIES`; by default sensor for `X` of two axes, image for more.
        config: Fields of `AutoencoderConfig` that differ from a dense network of widths 256 and 128.
        noise: Standard deviation of the training noise relative to that of `X`; a denoising autoencoder
            (Vincent et al. 2008) generalises better from few items.
        loss: A row of `denoise.training.losses.LOSSES`.
        steps: Training steps.
        batch: Items per step.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW.
        seed: Seed of weights, batches and noise.
    """

    code_size: int = 32
    modality: str | None = None
    config: Mapping[str, Any] | None = None
    noise: float = 0.0
    loss: str = "mse"
    steps: int = 2000
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.0
    seed: int = 0

    _preserves = "float32"

    @value_errors()
    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Train a network on `X`.

        Shape:
            `(n, samples)`, `(n, height, width)`, or either with an axis of channels before the last ones.

        Raises:
            InputError: `X` is not such an array of finite numbers.
            UsageError: A parameter is out of range.
        """
        array = np.asarray(X)
        modality = self.modality or ("sensor" if array.ndim == 2 else "image")
        if modality not in MODALITIES:
            raise unknown("modality", modality, MODALITIES)
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        for name, least in (("code_size", 1), ("steps", 1), ("batch", 1), ("noise", 0)):
            if not getattr(self, name) >= least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}")
        items = _items(array, MODALITIES[modality].ndim)
        torch.manual_seed(self.seed)  # decides the initial weights
        model = build(**self._config(modality, items.shape[1:]))
        self._adopt(model, items.shape[1:], float(items.mean()), float(items.std()) or 1.0)
        self._x_shape = array.shape[1:]
        self._store_features(X, self.n_features_in_)
        self._train(torch.from_numpy((items - self.offset_) / self.scale_))
        return self

    def _config(self, modality: str, shape: tuple[int, ...]) -> dict[str, Any]:
        """Configure the network for items of a shape."""
        channels, *size = shape
        config = {
            "modality": modality,
            "channels": channels,
            "backbone": "dense",
            "widths": (256, 128),
            "activation": "gelu",
            "bias": True,
            "skips": False,
            "residual": False,
            **(self.config or {}),
        }
        if config["backbone"] == "dense":
            if len(set(size)) > 1:
                raise UsageError(f"items are {size[0]} x {size[1]}; a dense network takes squares")
            return {**config, "patch": size[0], "code": self.code_size}
        cells = math.prod(size) // build(**config).spec.multiple_of ** len(size)
        if not cells or self.code_size % cells:
            raise UsageError(
                f"code_size is {self.code_size}; a convolutional network of these widths has {cells} cells "
                f"in items of {' x '.join(map(str, size))}, expected a multiple of that"
            )
        return {**config, "code": self.code_size // cells}

    def _adopt(self, model: Autoencoder, shape: tuple[int, ...], offset: float, scale: float) -> None:
        """Set the model, for items of a shape."""
        if any(n % model.spec.multiple_of for n in shape[1:]):
            raise UsageError(f"items are {shape}; the model takes multiples of {model.spec.multiple_of}")
        self.model_, self.item_shape_, self.offset_, self.scale_ = model, shape, offset, scale
        self._x_shape, self.n_features_in_ = shape, math.prod(shape)
        with torch.no_grad():
            self.code_shape_ = tuple(model.eval().encode(torch.zeros(1, *shape)).shape[1:])

    def _train(self, data: Tensor) -> None:
        model, loss_of = self.model_.train().requires_grad_(True), LOSSES[self.loss]
        optimizer = torch.optim.AdamW(model.parameters(), self.lr, weight_decay=self.weight_decay)
        # torch divides by the steps of the rise, less one
        rise = 0.1 if self.steps != 10 else 0.2
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, self.steps, pct_start=rise)
        generator = torch.Generator().manual_seed(self.seed)
        size = min(self.batch, len(data))
        for _ in range(self.steps):
            target = data[torch.randint(len(data), (size,), generator=generator)]
            noisy = target + self.noise * torch.randn(target.shape, generator=generator)
            estimate, added = model.training_step(noisy, target)
            loss = loss_of(estimate, target) + added
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if not math.isfinite(float(loss.detach())):
            raise UsageError(f"the loss is {float(loss.detach())} after {self.steps} steps; lower lr")
        with torch.no_grad():  # as a weights file stores them, so that a saved model gives the same codes
            for parameter in model.parameters():
                parameter.copy_(parameter.half())
        model.eval().requires_grad_(False)

    def transform(self, X: ArrayLike) -> Any:
        """Encode items; the codes are an array, unless `set_output` chose a frame.

        Shape:
            As in `fit`; the codes are `(n, code_size)`.
        """
        codes, library = self.encode(X), self._output()
        if library == "default":
            return codes
        module: Any = importlib.import_module(library)
        frame = module.DataFrame(dict(zip(self.get_feature_names_out(), codes.T, strict=True)))
        if isinstance(X, module.DataFrame) and library == "pandas":
            frame.index = X.index
        return frame

    @value_errors()
    @torch.no_grad()
    def encode(self, X: ArrayLike) -> Floats:
        """Encode items into an array, whatever `set_output` chose."""
        self._check_fitted()
        items = self._like_fitted(X)
        codes = [self.model_.encode(part).flatten(1).numpy() for part in self._parts(items)]
        return np.concatenate(codes)

    @value_errors()
    @torch.no_grad()
    def inverse_transform(self, X: ArrayLike) -> Floats:
        """Decode codes into items of the shape that `fit` took."""
        self._check_fitted()
        codes = np.asarray(X, np.float32)
        size = math.prod(self.code_shape_)
        if codes.ndim != 2 or codes.shape[1] != size or not len(codes):
            raise InputError(f"codes have shape {codes.shape}; expected (n, {size})")
        parts = np.split(codes, range(_BATCH, len(codes), _BATCH))
        decoded = [
            self.model_.decode(torch.from_numpy(part.reshape(-1, *self.code_shape_))).numpy()
            for part in parts
        ]
        items = np.concatenate(decoded) * np.float32(self.scale_) + np.float32(self.offset_)
        return items.reshape(-1, *self._x_shape).astype(np.float32, copy=False)

    def fit_transform(self, X: ArrayLike, y: object = None) -> Any:
        """Fit, then encode the same items."""
        return self.fit(X, y).transform(X)

    def reconstruction_error(self, X: ArrayLike) -> Doubles:
        """Compute the mean squared reconstruction error of each item, in the units of `X` squared."""
        items = np.asarray(X, np.float32)
        left = items - self.inverse_transform(self.encode(items)).reshape(items.shape)
        return np.square(left, dtype=np.float64).reshape(len(items), -1).mean(1)

    @value_errors()
    @torch.no_grad()
    def divergence(self, X: ArrayLike) -> Doubles | None:
        """Divergence of each code from the prior in nats; None unless the model is variational."""
        bottleneck = self.model_.bottleneck
        if not isinstance(bottleneck, VariationalBottleneck):
            return None
        parts = self._parts(self._like_fitted(X))
        nats = [
            bottleneck.divergence(self.model_.backbone.encode(part)[0]).double().numpy() for part in parts
        ]
        return np.concatenate(nats)

    def save(self, path: str | Path, name: str, cut: Segmentation | None = None, **facts: Any) -> None:
        """Write a weights file, which `load` and every command with `--model` accept.

        Args:
            facts: Other entries of its card.
        """
        self._check_fitted()
        known = {"shape": self.item_shape_, "offset": self.offset_, "scale": self.scale_}
        known |= {"cut": None if cut is None else vars(cut)}
        facts = {_FACTS: known, "training": self.get_params(), **facts}
        weights.save(path, self.model_, name=name, architecture="autoencoder", facts=facts)

    @classmethod
    def load(cls, path: str | Path, cut: Segmentation | None = None) -> tuple[Self, Segmentation]:
        """Load a fitted estimator, and the segmentation of its files.

        Args:
            path: Weights file of `save`, or of `denoise train` with a recipe of the family.
            cut: Replaces the segmentation of the file, or that of the patches of its recipe.

        Raises:
            UsageError: The model has no bottleneck, or does not fit the segmentation.
            WeightsError: This version cannot use the file.
        """
        model, card = weights.load(path)
        if not isinstance(model, Autoencoder) or model.config()["skips"] or model.config()["residual"]:
            raise UsageError(
                f"{path}: the model has no bottleneck; expected an autoencoder without skips and residual, "
                "such as that of the recipe family/plain-image"
            )
        known = card.get(_FACTS, {})
        try:
            cut = cut or _cut(model, card)
            embedding = cls(modality=cut.modality, config=model.config())
            embedding._adopt(
                model, cut.shape, float(known.get("offset", 0.0)), float(known.get("scale", 1.0))
            )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise WeightsError(f"{path}: its card has no valid segmentation ({error})") from error
        embedding.code_size = math.prod(embedding.code_shape_)
        return embedding, cut

    def _like_fitted(self, X: ArrayLike) -> Floats:
        self._check_names(X)
        array = np.asarray(X)
        channelless = self.item_shape_[1:] if self.item_shape_[0] == 1 else self.item_shape_
        if array.shape[1:] not in (self._x_shape, self.item_shape_, channelless):
            raise InputError(f"X has items of shape {array.shape[1:]}; expected {self._x_shape}")
        return _items(array, len(self.item_shape_) - 1)

    def _parts(self, items: Floats) -> list[Tensor]:
        standard = (items - np.float32(self.offset_)) / np.float32(self.scale_)
        return list(torch.split(torch.from_numpy(standard), _BATCH))

    def get_feature_names_out(self, input_features: object = None) -> Array:  # noqa: ARG002
        """Name the numbers of a code."""
        self._check_fitted()
        return np.array([f"code{index}" for index in range(math.prod(self.code_shape_))], dtype=object)


def _items(array: Array, ndim: int) -> Floats:
    """Convert an array with or without channels to float32 `(n, C, *S)`."""
    if array.dtype.kind not in "iufb" or array.ndim not in (ndim + 1, ndim + 2) or not array.size:
        raise InputError(
            f"X is an array of {array.dtype} of shape {array.shape}; "
            f"expected numbers, items x {'samples' if ndim == 1 else 'height x width'}"
        )
    items = array.astype(np.float32)
    if not np.isfinite(items).all():
        raise InputError("X holds NaN or infinite numbers; expected finite ones")
    return items if array.ndim == ndim + 2 else items[:, None]


def _cut(model: Autoencoder, card: Mapping[str, Any]) -> Segmentation:
    """Read the segmentation for a model from its card, or from the recipe in it."""
    stored = card.get(_FACTS, {}).get("cut")
    if stored:
        return Segmentation(**{**stored, "size": tuple(stored["size"])})
    data = card["recipe"]["data"]
    patch = model.config()["patch"] if model.config()["backbone"] == "dense" else data["patch"]
    return Segmentation(
        modality=model.spec.modality,
        size=(patch,) * model.spec.ndim,
        channels=model.spec.channels,
        sample_rate=data["sample_rate"] or model.spec.sample_rate,
        standardise=data["standardise"],
    )
