"""The reference engine: PyTorch, on the CPU or on a CUDA GPU."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from skinoct.checkpoint import Checkpoint
from skinoct.engines import FloatArray, expected_golden, misfit, network_config
from skinoct.engines.processor import instruction_set
from skinoct.errors import OutOfMemoryError
from skinoct.golden import MAX_DEJ_UM, dej_difference_um, golden_slice, layer_tops
from skinoct.unet import UNet


def build_network(checkpoint: Checkpoint) -> UNet:
    """Build the network of a checkpoint and fill in its weights, on the CPU, in evaluation mode.

    Raises
    ------
    CheckpointError
        When the architecture is unknown or the weights do not fit it.
    """
    try:
        network = UNet(network_config(checkpoint))
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise misfit(checkpoint, error) from None
    return network.eval()


@torch.inference_mode()
def compute_golden(network: UNet) -> FloatArray:
    """Return the reference answer (4, W) of a network on the CPU for the golden slice."""
    images = torch.from_numpy(golden_slice(network.config.in_slices))
    return layer_tops(network(images).softmax(dim=1).numpy())


class TorchEngine:
    """Runs a checkpoint with PyTorch: in float32, on a GPU in bfloat16 where that moves no DEJ."""

    def __init__(self, checkpoint: Checkpoint, *, device: str | None = None, threads: int | None = None) -> None:
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if threads is not None:
            torch.set_num_threads(threads)
        network = build_network(checkpoint).to(self._device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._low = self._device.type == "cuda"
        if self._low:
            tops = layer_tops(self.probabilities(golden_slice(network.config.in_slices)))
            moved = dej_difference_um(tops, expected_golden(checkpoint), checkpoint.card.pixel_size_um)
            self._low = moved <= MAX_DEJ_UM  # False also for NaN

    @property
    def name(self) -> str:
        """``torch-cpu``, ``torch-cuda`` or ``torch-cuda-bf16``."""
        return f"torch-{self._device.type}" + ("-bf16" if self._low else "")

    @property
    def why(self) -> str:
        """Why it is used and computes in this precision, for ``skinoct-server doctor``."""
        if self._device.type == "cpu":
            cure = "" if importlib.util.find_spec("openvino") else "; pip install 'skinoct[openvino]' makes it faster"
            return f"float32 as everywhere on a CPU ({instruction_set()}){cure}"
        if self._low:
            return f"in bfloat16, which moves the DEJ of the golden slice by at most {MAX_DEJ_UM:g} um"
        return f"float32, because bfloat16 moves the DEJ of the golden slice by more than {MAX_DEJ_UM:g} um"

    @property
    def preferred_batch(self) -> int:
        """Small on the CPU, where caches count; larger on a GPU, where launches do."""
        return 4 if self._device.type == "cpu" else 32

    @property
    def calls_at_once(self) -> int:
        """One, which has all cores, or the GPU."""
        return 1

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network; see ``Engine.probabilities``."""
        try:
            return self._run(images)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
        raise OutOfMemoryError(
            f"A batch of {images.shape[0]} images of {images.shape[2]} x {images.shape[3]} pixels does not "
            "fit into "
            f"the memory of the {self._device.type.upper()}; use smaller images or a machine with more "
            "memory."
        )

    @torch.inference_mode()
    def _run(self, images: FloatArray) -> FloatArray:
        if len(images) == 1 and self._device.type == "cpu":
            # PyTorch computes a single image in another order; the answer must not depend on the batch
            return self._run(np.repeat(images, 2, axis=0))[:1]
        batch = torch.from_numpy(images).to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low):
            logits = self._network(batch)
        probabilities: FloatArray = logits.float().softmax(dim=1).cpu().contiguous().numpy()
        return probabilities
