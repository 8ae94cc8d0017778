"""Contract of models, whatever runs them: requirements on the input, and runs on arrays."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal, Protocol, Self

from denoise.arrays import Array
from denoise.errors import UsageError


@dataclass(frozen=True)
class InputSpec:
    """Requirements of a denoiser on its input, read by callers that pad, tile, resample or scale."""

    modality: str  # a name in `denoise.signal.MODALITIES`
    channels: int = 1  # 1 denoises each channel on its own; 3 takes RGB (a single channel is repeated)
    multiple_of: int = 1  # every spatial size of the input must be a multiple of this
    # samples or pixels on each side that an output value may depend on; None means the whole input (never
    # tiled; a `CausalDenoiser` carries state instead)
    halo: int | None = 0
    sample_rate: float | None = None  # Hz the denoiser works at; None takes any rate
    centre: bool = False  # subtract each channel's mean over the whole signal first, and add it back
    # divide each channel by its standard deviation over the whole signal, and multiply it back
    scale: bool = False
    removes_offset: bool = False  # subtract the mean of a recording first where it is large, and add it back
    # expects one mask channel per signal channel, 1 inside (bridged) gaps; without masks it assumes that
    # there are no gaps
    takes_gap_mask: bool = False
    # how `numpy.pad` extends the far edges of an image to the multiple. `edge` padding creates streaks that
    # networks treat as image content; `reflect` does not. `none` is for a method for signals that takes any
    # length, and only needs windows to begin at the multiple
    edge_padding: Literal["reflect", "edge", "none"] = "reflect"
    # accepts all channels of a recording as `(B, C, T)`. Audio channels share one gain, which preserves the
    # stereo image; sensor channels are cleaned from one another, in any order
    joint_channels: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes after the channels."""
        return 2 if self.modality == "image" else 1


class BandRun(Protocol):
    """A run on one image from its first row to its last, band by band."""

    def run(self, noisy: Array, *, last: bool) -> Array | None:
        """Take the next rows `(1, C, h, W)`, and return those that are done; None while it waits."""


class Model:
    """Denoises batches of arrays.

    Images are in 0..1, audio in -1..1, sensors in their own units (or centred and scaled, as `spec` says).
    """

    spec: InputSpec
    precision = "float32"  # arithmetic of its layers, a name in `denoise.models.table.PRECISIONS`
    runtime = "torch"  # what runs it
    takes_sigma = False  # `run` takes the standard deviation of the noise
    is_identity = False  # the result is the input
    bytes_per_px: float | None = None  # memory of a run for each pixel that it reads; None is measured

    @property
    def threads(self) -> int:
        """Number of threads that runs may use together."""
        return 1

    def run(self, noisy: Array, sigma: float | None = None) -> Array:
        """Denoise a batch, whose noise has the standard deviation `sigma` where the model takes one.

        Shape:
            `(B, spec.channels, *S)` in and out.
        """
        raise NotImplementedError

    def eval(self) -> Self:
        """Return the model, as a network does that is not trained any more."""
        return self

    def prepare(self, _page: Array, _peak: float, /) -> Model:
        """Return the denoiser for the tiles of a whole image `(C, H, W)` whose full scale is `peak`."""
        return self

    def row_stream(self) -> BandRun | None:
        """Return a run of this network on one image by bands of rows; None where it needs tiles."""
        return None

    def confirms_blur(self, _page: Array, _peak: float, /) -> bool:
        """Tell whether `(C, H, W)` is blurred; a model that cannot measure blur agrees with the caller."""
        return True

    def proves_blur(self, _page: Array, _peak: float, /) -> bool:
        """Tell whether the blur that is undone in `(C, H, W)` is certain."""
        return False

    def blur_width_px(self, _page: Array, _peak: float, /) -> float:
        """Return the standard deviation of the blur that is undone in `(C, H, W)`; most models undo none."""
        return 0.0


class Identity(Model):
    """The image as it is, of what is not to be cleaned."""

    spec = InputSpec("image")
    is_identity = True
    bytes_per_px = 0.0

    def run(self, noisy: Array, _sigma: float | None = None, /) -> Array:
        """Return the batch."""
        return noisy


def check_request(name: str, model: object, strength: float, sigma: float | None) -> None:
    """Check that the model `name` can honour a strength and a sigma.

    Raises:
        UsageError: `strength` is no number in 0..1, `sigma` is not a finite number of 0 or more, or the model
            takes none.
    """
    for option, value in {"strength": strength, "sigma": sigma}.items():
        if not isinstance(value, Real | None):
            raise UsageError(f"{option} is {value!r}; expected a number")
    if not 0.0 <= strength <= 1.0:
        raise UsageError(f"strength is {strength}; it must be from 0 (the input) to 1 (fully cleaned)")
    if sigma is None:
        return
    if not 0.0 <= sigma < float("inf"):
        raise UsageError(f"sigma is {sigma}; it must be a finite number of 0 or more")
    if not getattr(model, "takes_sigma", False):
        raise UsageError(
            f"the model {name} finds the noise level itself: it takes no sigma (given: {sigma:g})"
        )
