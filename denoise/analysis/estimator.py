"""Estimators by the protocol of scikit-learn, without depending on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from denoise.errors import UsageError

LIBRARIES = ("pandas", "polars")  # of frames


class ParameterError(UsageError, ValueError):
    """A `UsageError` that scikit-learn and its users catch as a ValueError."""


@dataclass(eq=False, repr=False)
class Estimator:
    """Estimator whose fields are its parameters: stored unchanged, and checked by `fit`."""

    # For scikit-learn, and the attribute that `fit` sets last. Without annotations they are no parameters.
    _kind = "transformer"
    _input_tags = {"three_d_array": True}  # noqa: RUF012
    _fitted = "model_"
    _preserves = "float64"

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the arguments of the constructor by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor.

        Raises:
            ValueError: A name is unknown.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"invalid parameter {name!r}; expected one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"

    def _check_fitted(self) -> None:
        """Raise a UsageError before `fit`: scikit-learn's NotFittedError, too, where that is loaded."""
        if not self.__sklearn_is_fitted__():
            known = sys.modules.get("sklearn.exceptions")
            bases = (UsageError, known.NotFittedError) if known else (UsageError, ValueError, AttributeError)
            error: Exception = type("NotFittedError", bases, {})(
                f"this {type(self).__name__} is not fitted; expected fit first"
            )
            raise error

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, self._fitted)

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn, their only reader."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=self._kind,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags([self._preserves]) if self._kind == "transformer" else None,
            input_tags=InputTags(**self._input_tags),
        )


class Transformer(Estimator):
    """Estimator that transforms `X`, into frames where the caller wants them."""

    def set_output(self, *, transform: str | None = None) -> Self:
        """Select the type of the results.

        Args:
            transform: `default` for the type of the input, `pandas` or `polars`; None changes nothing.

        Raises:
            UsageError: It is another word; also a ValueError.
        """
        if transform is not None and transform not in ("default", *LIBRARIES):
            raise ParameterError(f"transform is {transform!r}; expected default, {', '.join(LIBRARIES)}")
        if transform is not None:  # the name that scikit-learn's clone copies
            self._sklearn_output_config = {"transform": transform}
        return self

    def _output(self) -> str:
        own: Mapping[str, str] = getattr(self, "_sklearn_output_config", {})
        known = sys.modules.get("sklearn")
        return own.get("transform") or (known.get_config()["transform_output"] if known else "default")
