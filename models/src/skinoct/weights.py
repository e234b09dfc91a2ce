"""Weights as they lie in a file: arrays for engines that need no PyTorch, tensors for those that do.

Loading PyTorch takes longer than everything else of a start, and more memory than a tomogram. So a file's weights
become tensors only when somebody asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors

if TYPE_CHECKING:
    import torch

Weights = Mapping[str, "torch.Tensor"]
FloatArray = npt.NDArray[np.float32]


class StoredWeights(Mapping[str, "torch.Tensor"]):
    """Tensors of the content of a safetensors file.

    Raises
    ------
    safetensors.SafetensorError
        When it is no such file.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._dtypes = {name: str(tensor["dtype"]) for name, tensor in safetensors.deserialize(content)}  # type: ignore[no-untyped-call]

    @cached_property
    def _tensors(self) -> dict[str, Any]:
        import safetensors.torch

        return safetensors.torch.load(self._content)

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return a tensor."""
        tensor: torch.Tensor = self._tensors[name]
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self._dtypes)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._dtypes)

    def arrays(self) -> dict[str, FloatArray] | None:
        """Return float32 arrays; None when numpy lacks a type of them."""
        if any(dtype.startswith(("BF", "F8", "F4", "F6")) for dtype in self._dtypes.values()):
            return None
        import safetensors.numpy

        return {name: np.asarray(a, np.float32) for name, a in safetensors.numpy.load(self._content).items()}


def as_arrays(weights: Weights) -> dict[str, FloatArray]:
    """Return weights as float32 arrays, without PyTorch where they come from a file."""
    found = weights.arrays() if isinstance(weights, StoredWeights) else None
    return found if found is not None else {name: w.detach().cpu().float().numpy() for name, w in weights.items()}
