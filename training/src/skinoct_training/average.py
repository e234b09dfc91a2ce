"""A training that forgets less: the mean of a network before and after it.

What further training gains on its own data it pays for on skin that looks otherwise. Half way between both sets of
weights the gain is kept and most of the loss is not: Wortsman et al., *Robust Fine-Tuning of Zero-Shot Models*, CVPR
2022. It works because the second training begins where the first one ended; networks from nothing have no useful mean.
"""

from __future__ import annotations

from dataclasses import replace

from skinoct.checkpoint import Checkpoint
from skinoct.errors import CheckpointError


def average(start: Checkpoint, trained: Checkpoint, share: float) -> Checkpoint:
    """Return ``trained`` with weights between those of ``start`` (share 0) and its own (share 1).

    Its golden answer and figures are not kept: they are of other weights.

    Raises
    ------
    CheckpointError
        When the networks differ, or the second did not begin with the first.
    """
    one, other = start.card, trained.card
    if one.architecture != other.architecture:
        raise CheckpointError(
            f"The networks of {one.name} and {other.name} have different shapes, so there is no mean of them; average "
            "a checkpoint with one that fit --from made of it."
        )
    begun = other.recipe.get("start", {}).get("weights_sha256")
    if begun != one.weights_sha256:
        raise CheckpointError(
            f"{other.name} was not trained from {one.name} with these weights ({one.weights_sha256[:12]}), and the "
            "mean of unrelated networks finds nothing; average a checkpoint with one that fit --from made of it."
        )
    weights = {
        name: start.weights[name].lerp(weight, share) if weight.is_floating_point() else weight
        for name, weight in trained.weights.items()
    }
    recipe = {**other.recipe, "average": {"weights_sha256": other.weights_sha256, "share": share}}
    card = other.model_copy(update={"recipe": recipe, "metrics": {}})
    return replace(trained, card=card, weights=weights, folder=None, golden=None)
