"""Contract of denoisers, learned and classical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from denoise.arrays import Array

if TYPE_CHECKING:
    from denoise.models.row_stream import RowStream


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


class Denoiser(nn.Module):
    """Denoises a batch.

    Images are in 0..1, audio in -1..1, sensors in their own units (or centred and scaled, as `spec` says).

    Shape:
        `(B, spec.channels, *S)` in and out; any number of channels with `spec.joint_channels`.
    """

    spec: InputSpec
    precision = "float32"  # arithmetic of its layers, a name in `denoise.models.table.PRECISIONS`

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""
        raise NotImplementedError

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """Run one forward pass of training: the denoised batch, and a scalar to add to the loss."""
        return self(noisy), noisy.new_zeros(())

    def prepare(self, _page: Array, _peak: float, /) -> Denoiser:
        """Return the denoiser for the tiles of a whole image `(C, H, W)` whose full scale is `peak`."""
        return self

    def row_stream(self) -> RowStream | None:
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

    def for_sample_rate(self, _sample_rate: float | None, /) -> Denoiser:
        """Return the denoiser for one recording of a rate in Hz (None: unknown), with fresh `diagnostics`."""
        return self

    def diagnostics(self) -> Mapping[str, float]:
        """Return figures by name of what was removed so far; most models have none."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the fields of the config dataclass that rebuilds this model."""
        return {}

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Initialise from the weights of another training run.

        Raises:
            RuntimeError: The weights belong to another model.
        """
        self.load_state_dict(weights)


class SigmaDenoiser(Denoiser):
    """A denoiser that takes the noise standard deviation, in the scale of its input; None estimates it."""

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:
        """Denoise a batch whose noise has the standard deviation `sigma`."""
        raise NotImplementedError


class CausalDenoiser(Denoiser):
    """A denoiser of 1-D signals that carries state from block to block.

    The output is delayed by `latency` samples: output sample `n + latency` of the stream belongs to input
    sample `n`.
    """

    latency: int  # samples
    hop: int  # samples; the length of a block for `step` is a multiple of it

    def initial_state(self, batch: int, channels: int = 1) -> Any:
        """Return the state before the first sample of `batch` items of `channels` channels."""
        raise NotImplementedError

    def step(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Denoise the next block `(B, C, k * hop)`; C is 1 unless `spec.joint_channels`.

        The result has the same length and is delayed by `latency`.
        """
        raise NotImplementedError

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a whole signal `(B, C, T)`, latency removed."""
        samples = noisy.shape[-1]
        total = -(-(samples + self.latency) // self.hop) * self.hop
        padded = nn.functional.pad(noisy, (0, total - samples))
        out, _ = self.step(padded, self.initial_state(*noisy.shape[:2]))
        return out[..., self.latency : self.latency + samples]
