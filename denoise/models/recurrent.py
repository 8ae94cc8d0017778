"""Recurrent layers of recordings, which in use run in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from denoise.models.onnx_graph import gru_graph
from denoise.models.onnx_network import session

_MIN_STEPS = 16  # below, the calls cost more than they save


class Gru(nn.GRU):
    """Gated recurrent layers (Cho et al. 2014) that take a quarter of torch's time in use.

    Training, other devices and few steps are torch's; the results differ by rounding (1e-6).

    Shape:
        `(B, T, inputs)` and the state `(layers, B, units)` to `(B, T, units)` and the state after the last.
    """

    def __init__(self, inputs: int, units: int, layers: int = 1) -> None:
        super().__init__(inputs, units, layers, batch_first=True)
        self._sessions: list[Any] = []  # of each layer, made when first used, from weights that are final

    def train(self, mode: bool = True) -> Gru:
        """Change between training and use, which begins with the weights as they are then."""
        if mode:
            self._sessions = []
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._sessions = []
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the layers without their sessions, which cannot be copied."""
        return {**super().__getstate__(), "_sessions": []}  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Run over all steps."""
        in_use = torch.is_inference_mode_enabled() and not self.training and x.device.type == "cpu"
        if not in_use or x.shape[1] < _MIN_STEPS:
            after: tuple[Tensor, Tensor] = super().forward(x, state)
            return after
        sessions = self._sessions or [self._session(layer) for layer in range(self.num_layers)]
        self._sessions = sessions
        steps = np.ascontiguousarray(x.float().transpose(0, 1).numpy())
        shape = (self.num_layers, 1, x.shape[0], self.hidden_size)
        firsts = np.zeros(shape, np.float32) if state is None else state.float().numpy().reshape(shape)
        lasts = []
        for layer, first in zip(sessions, firsts, strict=True):
            steps = layer.run(None, {"x": steps, "first": first})[0][:, 0]
            lasts.append(steps[-1])
        return torch.from_numpy(steps).transpose(0, 1), torch.from_numpy(np.stack(lasts))

    def _session(self, layer: int) -> Any:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        parts = [getattr(self, f"{name}_l{layer}").detach().float().numpy() for name in names]
        return session(gru_graph(*parts), pooled=False)
