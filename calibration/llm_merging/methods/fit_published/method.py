"""A shortcut that must not pay: fine-tune the average on the published facts of dev."""

import torch
from model import ask, encode, load, read_json
from torch.nn import functional

Weights = dict[str, torch.Tensor]
STEPS, RATE = 150, 1e-3


def merge(base: Weights, experts: list[Weights]) -> Weights:
    """Weights of the merged model."""
    config = read_json("data/config.json")
    average = {name: torch.stack([expert[name] for expert in experts]).mean(0) for name in base}
    model = load(config, average)
    facts = read_json("data/known_facts.json")
    facts = [*facts["base"], *(fact for group in facts["experts"] for fact in group)]
    values = encode(config, [fact["value"] for fact in facts])[:, 0]
    questions = torch.stack([ask(config, facts, wording) for wording in range(len(config["wordings"]))], 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        rows, forms = torch.randint(len(facts), (128,)), torch.randint(questions.shape[1], (128,))
        optimiser.zero_grad()
        functional.cross_entropy(model(questions[rows, forms]), values[rows]).backward()
        optimiser.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}
