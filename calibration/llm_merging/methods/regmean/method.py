"""RegMean (Jin et al. 2023, arXiv 2212.09849): least squares on the inputs of each linear layer.

The experts' data is not available: names are drawn at random, so the Gram matrices are only a guess.
"""

from collections.abc import Callable
from typing import Any

import torch
from model import Gpt, encode, load, read_json

Weights = dict[str, torch.Tensor]
NAMES, SHRINK = 2000, 0.9  # questions per expert; factor of the off-diagonal of a Gram matrix


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    config = read_json("data/config.json")
    questions = random_questions(config)
    grams = [input_grams(load(config, expert), questions) for expert in experts]
    merged = {}
    for name in base:
        weights = torch.stack([expert[name] for expert in experts])
        if name in grams[0]:
            layer = torch.stack([gram[name] for gram in grams])
            merged[name] = torch.linalg.solve(
                layer.sum(0), (weights.double() @ layer).sum(0), left=False
            ).float()
        else:
            merged[name] = weights.mean(0)
    return merged


def random_questions(config: dict[str, Any]) -> torch.Tensor:
    """Token ids of questions about random names, in the trained wordings."""
    known = set(" ".join(config["wordings"]).split()) | set(config["relations"])
    known |= {value for values in config["relations"].values() for value in values}
    syllables = [word for word in config["vocabulary"] if word not in known]
    texts = []
    for number in range(NAMES):
        name = " ".join(syllables[i] for i in torch.randint(len(syllables), (3,)))
        relation = list(config["relations"])[number % len(config["relations"])]
        texts.append(
            config["wordings"][config["trained_wordings"][number // 4 % 2]].format(
                name=name, relation=relation
            )
        )
    return encode(config, texts)


@torch.no_grad()
def input_grams(model: Gpt, questions: torch.Tensor) -> Weights:
    """Gram matrix (inputs, inputs) of the inputs of each linear layer, by the weight's name."""
    grams = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
            rows = inputs[0].flatten(0, -2).double()
            gram = rows.T @ rows / len(rows)
            diagonal = torch.diag(gram.diagonal())
            grams[name] = (
                SHRINK * gram + (1 - SHRINK) * diagonal + 1e-6 * torch.eye(len(gram), dtype=gram.dtype)
            )

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(keep(f"{name}.weight"))
    model(questions)
    return grams
