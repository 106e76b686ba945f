"""First-order MAML (Finn et al. 2017): a starting point from which a few steps learn a task.

Ways vary, so a task's head starts at zero: only the body is meta-learnt.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

WIDTHS, WAYS, SHOTS, QUERIES = (16, 32, 32, 32), 5, 5, 5
EPISODES, RATE = 1400, 2e-3
INNER_STEPS, INNER_RATE, TEST_STEPS = 4, 0.1, 6


class Network(nn.Module):
    """The prototypical network's net; batch statistics are those of the images at hand."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, padding=1)]
            layers += [nn.BatchNorm2d(width, track_running_stats=False), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        """Embed uint8 images, (n, 32)."""
        return self.layers(images.float() / 127.5 - 1).flatten(1)


def adapt(network, images, labels, ways, steps):
    """A copy of the network and a linear head, after some gradient steps on a support set."""
    model = nn.Sequential(copy.deepcopy(network), nn.Linear(WIDTHS[-1], ways))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    optimizer = torch.optim.SGD(model.parameters(), INNER_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


class MetaLearner:
    """Move the starting point by the gradients that queries give after adaptation."""

    def meta_fit(self, dataset):
        """Return a learner with the starting point."""
        network, generator = Network(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), RATE)
        for _ in range(EPISODES):
            task = dataset.task(generator, WAYS, SHOTS, QUERIES)
            model = adapt(network, task.support_images, task.support_labels, WAYS, INNER_STEPS)
            model.zero_grad()
            loss = functional.cross_entropy(model(task.query_images), task.query_labels)
            loss.backward()
            for weight, adapted in zip(network.parameters(), model[0].parameters(), strict=True):
                weight.grad = adapted.grad
            optimizer.step()
        print(f"first-order MAML: loss {loss.item():.3f}", flush=True)
        return Learner(network)


class Learner:
    """Adapt the network to the support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(adapt(self.network, images, labels, ways, TEST_STEPS))

    def save(self, folder):
        """Write the network."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """Read the network."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network)


class Predictor:
    """The adapted network."""

    def __init__(self, model):
        self.model = model

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        return self.model(images).argmax(1)
