"""Engines run the network: batches of images in, class probabilities out.

An engine is any object with the members of ``Engine``. ``make_engine`` picks one by name.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from skinoct.checkpoint import Checkpoint
from skinoct.errors import CheckpointError, OptionError
from skinoct.unet_config import UNetConfig

FloatArray = npt.NDArray[np.float32]
EngineName = Literal["auto", "torch", "openvino"]
LARGE_PIXELS = 512 * 2048
"""Larger images are computed one at a time, for the sake of memory."""
MOST_IN_BATCH = 64
_REFERENCE_PIXELS = 224 * 512
"""Of the images that ``Engine.preferred_batch`` speaks of."""


class Engine(Protocol):
    """What the predictor needs of an engine."""

    @property
    def name(self) -> str:
        """How reports call it, such as ``torch-cpu``."""
        ...

    @property
    def preferred_batch(self) -> int:
        """Slices in a call that suit it, for images of about 224 x 512 pixels, with ``calls_at_once``."""
        ...

    @property
    def calls_at_once(self) -> int:
        """Calls of ``probabilities``, from as many threads, that it works on side by side."""
        ...

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network.

        Parameters
        ----------
        images : float32, shape (B, in_slices, H, W)
            Normalized images, neighboring slices as channels; images may overlap in memory.

        Returns
        -------
        float32, shape (B, 5, H, W)
            Probabilities that sum to 1 over axis 1.

        Raises
        ------
        skinoct.errors.OutOfMemoryError
            When this batch does not fit; a smaller one may.
        """
        ...


def make_engine(checkpoint: Checkpoint, name: str = "auto", *, threads: int | None = None) -> Engine:
    """Build an engine for a checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        Loaded weights.
    name : {"auto", "torch", "openvino"}
        ``auto`` is torch on a GPU; on a CPU OpenVINO where it is installed, else torch.
    threads : int, optional
        CPU threads to use; the library's own choice when None.

    Raises
    ------
    OptionError
        When there is no such engine, or its package is not installed.
    CheckpointError
        When the weights do not fit the architecture of the card.
    """
    if name == "auto":
        name = "openvino" if _on_cpu() and importlib.util.find_spec("openvino") else "torch"
    if name == "torch":
        from skinoct.engines.torch_engine import TorchEngine

        return TorchEngine(checkpoint, threads=threads)
    if name == "openvino":
        from skinoct.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(checkpoint, threads=threads)
    raise OptionError(f"There is no engine {name!r}; choose auto, torch or openvino.")


def _on_cpu() -> bool:
    """Whether there is no CUDA GPU; PyTorch, which takes long to load, is asked only where there is a driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return True
    if importlib.util.find_spec("torch") is None:
        return True
    import torch

    return not torch.cuda.is_available()


def why(engine: Engine) -> str:
    """Return why an engine computes as it does; nothing for engines that do not say."""
    return str(getattr(engine, "why", ""))


def suited_batch(preferred: int, height: int, width: int) -> int:
    """Return how many images of a size go in one call of an engine that prefers so many of the usual size."""
    return min(MOST_IN_BATCH, max(1, preferred * _REFERENCE_PIXELS // (height * width)))


def network_config(checkpoint: Checkpoint) -> UNetConfig:
    """Return what shapes the network of a checkpoint.

    Raises
    ------
    CheckpointError
        When this skinoct does not know such a network.
    """
    architecture = checkpoint.card.architecture
    if architecture.kind != "unet":
        raise CheckpointError(
            f"The checkpoint {checkpoint.card.name} holds a network of kind {architecture.kind!r}; this skinoct knows "
            "only 'unet'. Update skinoct or choose another checkpoint."
        )
    try:
        return UNetConfig(**architecture.config)
    except ValidationError as error:
        raise misfit(checkpoint, error) from None


def misfit(checkpoint: Checkpoint, reason: Exception) -> CheckpointError:
    """Return the error of a checkpoint whose weights are not those of its network."""
    return CheckpointError(
        f"The weights of checkpoint {checkpoint.card.name} do not fit the architecture of its card "
        f"({str(reason).splitlines()[0]}); copy the checkpoint again or train it with this version of skinoct."
    )


def expected_golden(checkpoint: Checkpoint) -> FloatArray:
    """Return the golden answer that was saved with a checkpoint; computed anew for one that has none.

    Raises
    ------
    CheckpointError
        When the weights do not fit the architecture of the card.
    """
    if checkpoint.golden is not None:
        return checkpoint.golden
    from skinoct.engines.torch_engine import build_network, compute_golden

    return compute_golden(build_network(checkpoint))
