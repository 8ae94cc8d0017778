"""Parameters of an estimator by the protocol of scikit-learn, without depending on it."""

from __future__ import annotations

import inspect
from typing import Any, Self


class Parameters:
    """Estimator whose constructor stores each argument under its own name."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """Return the arguments of the constructor by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor.

        Raises:
            ValueError: A name is unknown.
        """
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(
                    f"invalid parameter {name!r}; expected one of {', '.join(self.get_params())}"
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"
