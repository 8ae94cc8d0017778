"""Estimators by the protocol of scikit-learn, without depending on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from denoise.errors import InputError, UsageError

LIBRARIES = ("pandas", "polars")  # of frames


class ParameterError(UsageError, ValueError):
    """A `UsageError` that scikit-learn and its users catch as a ValueError."""


class TableError(InputError, ValueError):
    """An `InputError` that scikit-learn and its users catch as a ValueError."""


class _ElementError(InputError, TypeError):
    """An `InputError` of an element that is no number, which numpy's users catch as a TypeError."""


@contextmanager
def value_errors() -> Iterator[None]:
    """Raise this project's errors as the ValueErrors of the protocol."""
    try:
        yield
    except ValueError:
        raise
    except InputError as error:
        kind = _ElementError if isinstance(error.__cause__, TypeError) else TableError
        raise kind(str(error)) from error
    except UsageError as error:
        raise ParameterError(str(error)) from error


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

    def _store_features(self, X: Any, count: int) -> None:
        """Store the number of columns, and the names that a frame gives them."""
        self.n_features_in_ = count
        names = _names(X)
        if names and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_names(self, X: Any) -> None:
        """Raise an InputError if a frame has other names than that of `fit`, or another order."""
        expected, names = list(getattr(self, "feature_names_in_", ())), _names(X)
        if not expected or not names or names == expected:
            return
        if len(names) != len(expected):
            raise InputError(f"X has {len(names)} features; expected the {len(expected)} of fit")
        found = next((new, old) for new, old in zip(names, expected, strict=True) if new != old)
        raise InputError(
            "The feature names should match those that were passed during fit, in the same order: "
            f"X has {found[0]!r} where fit had {found[1]!r}"
        )

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


def _names(X: Any) -> list[Any]:
    return list(getattr(X, "columns", ()))
