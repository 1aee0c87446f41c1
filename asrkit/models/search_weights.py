"""The weights of a trained decoder in NumPy, whose shapes are checked, and layers made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from asrkit.errors import ModelError

_LEAST_VARIANCE = 1e-5  # added to variances, as in torch


class Linear:
    """x W + b for arrays of any number of axes. `values` (..., inputs) give (..., outputs)."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Take `weight` (inputs, outputs) and `bias` (outputs,)."""
        self.weight, self.bias = weight, bias

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = values.reshape(-1, len(self.weight)) @ self.weight  # one product for all utterances
        if self.bias is not None:
            found += self.bias
        return found.reshape(*values.shape[:-1], -1)


class LayerNorm:
    """Layer normalisation over the last axis, as torch's nn.LayerNorm. `values` (..., size) keep their shape."""

    def __init__(self, weights: Weights, size: int) -> None:
        self._weight, self._bias = weights.take("weight", size), weights.take("bias", size)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = values - values.mean(axis=-1, keepdims=True)
        variances = np.mean(values * values, axis=-1, keepdims=True)
        values *= self._weight / np.sqrt(variances + _LEAST_VARIANCE)
        values += self._bias
        return values


class Weights:
    """Arrays by the names that PyTorch gives the parameters of a module."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = "", taken: set[str] | None = None) -> None:
        """`arrays`: PyTorch's name -> array, in PyTorch's shape.

        `prefix` stands before every name. `taken` collects names.
        """
        self._arrays, self._prefix = arrays, prefix
        self._taken: set[str] = set() if taken is None else taken

    def take(self, name: str, *shape: int) -> np.ndarray:
        """The array of this name. Raises ModelError if it is missing or does not have this shape."""
        name = self._prefix + name
        found = self._arrays.get(name)
        if found is None or found.shape != shape:
            there = "nothing" if found is None else str(found.shape)
            raise ModelError(f"decoder's weights {name}: found {there}; expected {shape}")
        self._taken.add(name)
        return found

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool = True, suffix: str = "") -> Linear:
        """The linear layer of this name.

        `suffix` is the end of its parameters' names. Raises ModelError as `take` does.
        """
        weight = np.ascontiguousarray(self.take(f"{name}.weight{suffix}", outputs, inputs).T)
        return Linear(weight, self.take(f"{name}.bias{suffix}", outputs) if bias else None)

    def under(self, name: str) -> Weights:
        """The weights of a part of the module."""
        return Weights(self._arrays, f"{self._prefix}{name}.", self._taken)

    def expect_all_taken(self, besides: Collection[str] = ()) -> None:
        """Raises ModelError if there are arrays that were not taken and are not in `besides`."""
        if more := self._arrays.keys() - self._taken - set(besides):
            raise ModelError(f"decoder's weights {min(more)}: its settings call for none")


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) for `values` of any shape, through tanh, which does not overflow."""
    found = np.tanh(values * 0.5)
    found *= 0.5
    found += 0.5
    return found


def split_heads(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Divide `values` (N, L, S) among the heads: (N, H, L, S / H).

    Raises ModelError if S is no multiple of the heads.
    """
    if values.shape[2] % num_heads:
        raise ModelError(f"decoder: {num_heads} heads share {values.shape[2]} numbers")
    return values.reshape(*values.shape[:2], num_heads, -1).transpose(0, 2, 1, 3)
