"""The weights of a trained decoder for NumPy, checked as they are taken, and layers of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from asrkit.errors import ModelError

_LEAST_VARIANCE = 1e-5  # added to variances, as by torch


class Linear:
    """x W + b of rows of any shape (..., inputs) -> (..., outputs)."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """`weight` (inputs, outputs)."""
        self.weight, self.bias = weight, bias

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = values.reshape(-1, len(self.weight)) @ self.weight  # one product, not one an utterance
        if self.bias is not None:
            found += self.bias
        return found.reshape(*values.shape[:-1], -1)


class LayerNorm:
    """Layer normalisation of rows of any shape (..., size), as torch's."""

    def __init__(self, weights: Weights, size: int) -> None:
        self._weight, self._bias = weights.take("weight", size), weights.take("bias", size)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = values - values.mean(axis=-1, keepdims=True)
        variances = np.mean(values * values, axis=-1, keepdims=True)
        values *= self._weight / np.sqrt(variances + _LEAST_VARIANCE)
        values += self._bias
        return values


class Weights:
    """Arrays by the names that PyTorch gives a module's parameters."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = "", taken: set[str] | None = None) -> None:
        self._arrays, self._prefix = arrays, prefix
        self._taken: set[str] = set() if taken is None else taken

    def take(self, name: str, *shape: int) -> np.ndarray:
        """An array of this shape. Raises ModelError where there is none."""
        name = self._prefix + name
        found = self._arrays.get(name)
        if found is None or found.shape != shape:
            there = "nothing" if found is None else str(found.shape)
            raise ModelError(f"decoder's weights {name}: found {there}; expected {shape}")
        self._taken.add(name)
        return found

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True, suffix: str = "") -> Linear:
        """A linear layer; `suffix` of its parameters' names."""
        weight = np.ascontiguousarray(self.take(f"{name}.weight{suffix}", outputs, inputs).T)
        return Linear(weight, self.take(f"{name}.bias{suffix}", outputs) if bias else None)

    def under(self, name: str) -> Weights:
        """Those of a part of the module."""
        return Weights(self._arrays, f"{self._prefix}{name}.", self._taken)

    def expect_all_taken(self, besides: Collection[str] = ()) -> None:
        """Raises ModelError where arrays are left that are not `besides`."""
        if more := self._arrays.keys() - self._taken - set(besides):
            raise ModelError(f"decoder's weights {min(more)}: its settings call for none")


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x); tanh does not overflow."""
    found = np.tanh(values * 0.5)
    found *= 0.5
    found += 0.5
    return found


def split_heads(values: np.ndarray, num_heads: int) -> np.ndarray:
    """(N, L, S) -> (N, H, L, S / H). Raises ModelError for a size that heads cannot share."""
    if values.shape[2] % num_heads:
        raise ModelError(f"decoder: {num_heads} heads share {values.shape[2]} numbers")
    return values.reshape(*values.shape[:2], num_heads, -1).transpose(0, 2, 1, 3)
