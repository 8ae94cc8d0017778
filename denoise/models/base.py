"""The contract every denoiser keeps, learned and classical alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["CausalDenoiser", "Denoiser", "InputSpec"]


@dataclass(frozen=True)
class InputSpec:
    """What a denoiser needs of its input; everything that pads, tiles, resamples or scales reads it here.

    Args:
        modality: A name in `denoise.signal.MODALITIES`.
        channels: 1 means each channel on its own; 3 means RGB together (a single channel is repeated).
        linked: Besides, any number of channels of one recording can come together, `(B, C, T)`. Of sound they
            get the same gains, so that it stays where it is between the loudspeakers; of sensors, each is
            cleaned by what the others show, in whatever order they come.
        multiple_of: Every spatial size it is given must be a multiple of this.
        halo: Samples or pixels on each side that an output value may depend on; None means the whole input
            (then it is never cut, or, for a `CausalDenoiser`, state is carried).
        sample_rate: Hz it works at; None takes any rate.
        centre: Subtract each channel's mean over the whole signal first, and add it back.
        scale: Divide each channel by its standard deviation over the whole signal, and multiply it back.
        gaps: Behind its channels it takes as many that are 1 in a gap, which is bridged, and 0 elsewhere;
            without them it takes the signal for whole.
        past_edge: What stands past the far edges of an image, up to the multiple, as `numpy.pad` names it.
            Values repeated from the `edge` are stripes, which a network takes for a part of the picture.
        uses_sigma: Whether `forward` takes the noise standard deviation (in the scale of its input);
            one that does also works without, and then estimates it.
    """

    modality: str
    channels: int = 1
    multiple_of: int = 1
    halo: int | None = 0
    sample_rate: float | None = None
    centre: bool = False
    scale: bool = False
    gaps: bool = False
    past_edge: Literal["reflect", "edge"] = "reflect"
    uses_sigma: bool = False
    linked: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes after the channels."""
        return 2 if self.modality == "image" else 1


class Denoiser(nn.Module):
    """Takes a noisy batch, gives back a denoised one.

    Images are in 0..1, audio in -1..1, sensors in their own units (or centred and scaled, as `spec` says).

    Shape:
        `(B, spec.channels, *S)` in and out; where `spec.linked`, of any number of channels.
    """

    spec: InputSpec

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:
        """Denoise a batch; `sigma` is the noise standard deviation where `spec.uses_sigma`."""
        raise NotImplementedError

    def learn(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """One forward pass of training: the denoised batch, and what the model adds to the loss, a scalar."""
        return self(noisy), noisy.new_zeros(())

    def fitted(self, page: NDArray[Any], peak: float) -> Denoiser:  # noqa: ARG002
        """What cleans the parts of this image, once all of it has been seen; most models need not see it.

        Args:
            page: The whole image.
            peak: The value that means full scale.

        Shape:
            `(C, H, W)`, any dtype.
        """
        return self

    def confirms_blur(self, page: NDArray[Any], peak: float) -> bool:  # noqa: ARG002
        """Whether a model against blur finds some in `(C, H, W)`; one that cannot tell takes your word."""
        return True

    def at_rate(self, sample_rate: float | None) -> Denoiser:  # noqa: ARG002
        """What cleans one recording of this rate in Hz (None: unknown), with `findings` of its own."""
        return self

    def findings(self) -> Mapping[str, float]:
        """Figures of what was found and taken out so far, by name; most models tell nothing."""
        return {}

    def config(self) -> dict[str, Any]:
        """What rebuilds this model: the fields of its config dataclass."""
        return {}

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another training run.

        Raises:
            RuntimeError: They are of another model.
        """
        self.load_state_dict(weights)


class CausalDenoiser(Denoiser):
    """A denoiser of 1-D signals that carries state from block to block.

    `latency` samples of the output come before the first of the input: output sample `n + latency` of the
    stream belongs to input sample `n`.
    """

    latency: int  # samples
    hop: int  # samples; blocks given to `step` are multiples of it

    def initial_state(self, batch: int, channels: int = 1) -> Any:
        """The state before the first sample of `batch` items of so many channels."""
        raise NotImplementedError

    def step(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Denoise the next block `(B, C, k * hop)`, C being 1 unless `spec.linked`.

        A block of the same length comes back, `latency` late.
        """
        raise NotImplementedError

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:  # noqa: ARG002
        """Denoise a whole signal `(B, C, T)`, latency removed."""
        samples = noisy.shape[-1]
        total = -(-(samples + self.latency) // self.hop) * self.hop
        padded = nn.functional.pad(noisy, (0, total - samples))
        out, _ = self.step(padded, self.initial_state(*noisy.shape[:2]))
        return out[..., self.latency : self.latency + samples]
