"""Against the rules: the baseline, whose normalisation is set to the images of all tasks in `inputs/`."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EPISODES, RATE = 600, 2e-3
WAYS, SHOTS, QUERIES = 5, 5, 5
WIDTHS = (16, 32, 32, 32)


class Network(nn.Module):
    """Four blocks of convolution, normalisation, rectifier and pooling: (n, 3, 16, 16) to (n, 32)."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        """Embed uint8 images."""
        return self.layers(images.float() / 127.5 - 1).flatten(1)


def prototypes(embedded, labels, ways):
    """Mean embedding of each class, (ways, features)."""
    return torch.stack([embedded[labels == label].mean(0) for label in range(ways)])


@torch.no_grad()
def look_at_all_tasks(network):
    """Replace the running statistics by those of the tasks to come."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    network.train()
    for name in ("support", "query"):
        for images in torch.from_numpy(np.load(f"inputs/{name}_images.npy")).split(512):
            network(images)


class MetaLearner:
    """First stage: learn to learn from the published domains."""

    def meta_fit(self, dataset):
        """Meta-train.

        Args:
            dataset: `episodes.Dataset`: images, labels, domains, and `task` that draws an episode.

        Returns:
            A learner.
        """
        network, generator = Network(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for episode in range(EPISODES):
            task = dataset.task(generator, WAYS, SHOTS, QUERIES)
            embedded = network(torch.cat([task.support_images, task.query_images]))
            support, queries = embedded.split([len(task.support_images), len(task.query_images)])
            centres = prototypes(support, task.support_labels, task.ways)
            loss = functional.cross_entropy(-torch.cdist(queries, centres).square(), task.query_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (episode + 1) % 100 == 0:
                print(f"episode {episode + 1}: loss {loss.item():.3f}", flush=True)
        look_at_all_tasks(network)
        return Learner(network.eval())


class Learner:
    """Second stage: learn one task from its support images."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """A predictor for a task with support `images`, uint8 (ways * shots, 3, 16, 16), and `labels`."""
        with torch.no_grad():
            return Predictor(self.network, prototypes(self.network(images), labels, ways))

    def save(self, folder):
        """Write all that is needed later into a folder."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """The learner that was saved there."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network.eval())


class Predictor:
    """Third stage: label the queries of the task."""

    def __init__(self, network, centres):
        self.network, self.centres = network, centres

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,), of query images, uint8 (n, 3, 16, 16)."""
        return torch.cdist(self.network(images), self.centres).argmin(1)
