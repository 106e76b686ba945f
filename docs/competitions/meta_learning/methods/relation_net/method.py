"""Relation network (Sung et al. 2018): how well a query and a class go together is learnt as well.

The first three blocks of the baseline's net make maps; a small network scores pairs of maps.
Cross-entropy replaces the squared error, with which so few episodes teach nothing.
"""

import torch
from torch import nn
from torch.nn import functional

EPISODES, RATE = 600, 2e-3
WAYS, SHOTS, QUERIES = 5, 5, 5
WIDTHS = (16, 32, 32)


class Network(nn.Module):
    """Maps of images, and scores of pairs of maps."""

    def __init__(self):
        super().__init__()
        layers, before = [], 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, padding=1)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.layers = nn.Sequential(*layers)
        self.relation = nn.Sequential(
            nn.Conv2d(2 * before, before, 3, padding=1),
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * before, 8),
            nn.ReLU(),
            nn.Linear(8, 1),
        )

    def forward(self, images):
        """Maps of uint8 images, (n, 32, 2, 2)."""
        return self.layers(images.float() / 127.5 - 1)

    def relate(self, queries, classes):
        """Scores of all pairs, (queries, ways)."""
        left = queries[:, None].expand(-1, len(classes), -1, -1, -1)
        right = classes[None].expand(len(queries), -1, -1, -1, -1)
        scores = self.relation(torch.cat([left, right], 2).flatten(0, 1))
        return scores.reshape(len(queries), len(classes))


def class_maps(maps, labels, ways):
    """Mean map of each class."""
    return torch.stack([maps[labels == label].mean(0) for label in range(ways)])


class MetaLearner:
    """Meta-train on episodes, by cross-entropy of the scores."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network, generator = Network(), torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        for _ in range(EPISODES):
            task = dataset.task(generator, WAYS, SHOTS, QUERIES)
            maps = network(torch.cat([task.support_images, task.query_images]))
            support, queries = maps.split([len(task.support_images), len(task.query_images)])
            scores = network.relate(queries, class_maps(support, task.support_labels, WAYS))
            loss = functional.cross_entropy(scores, task.query_labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"relation network: loss {loss.item():.3f}", flush=True)
        return Learner(network.eval())


class Learner:
    """Map the support set."""

    def __init__(self, network):
        self.network = network

    @torch.no_grad()
    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, class_maps(self.network(images), labels, ways))

    def save(self, folder):
        """Write the network."""
        torch.save(self.network.state_dict(), folder / "network.pt")

    @classmethod
    def load(cls, folder):
        """Read the network."""
        network = Network()
        network.load_state_dict(torch.load(folder / "network.pt"))
        return cls(network.eval())


class Predictor:
    """The class of the highest score."""

    def __init__(self, network, classes):
        self.network, self.classes = network, classes

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        return self.network.relate(self.network(images), self.classes).argmax(1)
