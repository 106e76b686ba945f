"""The reference, with a prediction from several methods, fitted on the practice worlds."""

from predicting import matched
from safetensors.torch import load_file

from fitting import mean_confidences

PARTS = ("retain", "forget", "validation")


def unlearn(model, sets, count, rng):
    """A stack of `count` models."""
    models, tensors, truth = (
        load_file(f"data/{name}.safetensors") for name in ("model", "sets", "retrained")
    )
    pairs = []
    for number, confidences in enumerate(truth["forget_confidence"]):
        world = {part: (tensors[f"{part}_x"][number], tensors[f"{part}_y"][number]) for part in PARTS}
        original = {name: value[number] for name, value in models.items()}
        pairs.append((mean_confidences(original, world, rng), confidences.mean(0).float()))
    return matched(model, sets, count, rng, pairs)
