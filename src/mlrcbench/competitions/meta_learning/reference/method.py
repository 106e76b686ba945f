"""Joint training on varied colours, features of all depths, a whitened space per task, optimal transport.

Own implementation of what the winners of cross-domain challenges have in common. One network
learns all published classes at once (Chen et al. 2019, arXiv 1904.04232) instead of episodes. A
task is described by the activations of all its layers, on a coarse grid, with compressed
magnitudes. There, distances are measured in units of the spread within classes, estimated from
the support set and shrunk (Simple CNAPS, Bateni et al. 2020, arXiv 1912.03432), which
is how the method adapts to the domain. The queries of a task then share their evidence: class means
and a transport plan of queries to classes improve each other (PT-MAP, Hu et al. 2021,
arXiv 2006.03806).
"""

import math

import torch
from torch import nn
from torch.nn import functional

STEPS, BATCH, RATE, DECAY = 400, 96, 0.1, 5e-4
TEMPERATURE = 16.0  # of the cosine classifier
WIDTHS, GRIDS = (16, 32, 64, 96), (4, 4, 2, 1)  # of each block: channels, cells by side of its description
SHRINKAGE = 0.5  # weight of the total spread in the spread within classes
SHARPNESS, ROUNDS, PACE = 10.0, 12, 0.3  # transport


class Network(nn.Module):
    """Four blocks; the last one's mean is the embedding, (n, 96)."""

    def __init__(self):
        super().__init__()
        blocks, before = [], 3
        for number, width in enumerate(WIDTHS):
            layers = [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks.append(nn.Sequential(*layers, *([nn.MaxPool2d(2)] if number < 3 else [])))
            before = width
        self.blocks = nn.ModuleList(blocks)

    def activations(self, images):
        """Of each block, from float images in [-1, 1]."""
        found = []
        for block in self.blocks:
            images = block(images)
            found.append(images)
        return found

    def forward(self, images):
        """Embeddings."""
        return self.activations(images)[-1].mean((2, 3))

    @torch.no_grad()
    def describe(self, images):
        """Activations of all blocks, pooled to their grids, square roots, unit length in each block."""
        parts = []
        for found, grid in zip(self.activations(scale(images)), GRIDS, strict=True):
            pooled = functional.adaptive_avg_pool2d(found, grid).flatten(1)
            parts.append(functional.normalize(pooled.sqrt()))
        return torch.cat(parts, 1)


def scale(images):
    """Uint8 to [-1, 1]."""
    return images.float() / 127.5 - 1


def vary(images):
    """Colours in random order and inverted or not, and one random move of up to two pixels for a batch."""
    order = torch.rand(len(images), 3).argsort(1)[:, :, None, None].expand_as(images)
    images = images.gather(1, order) * (2 * torch.randint(0, 2, (len(images), 1, 1, 1)) - 1)
    row, column = torch.randint(0, 5, (2,)).tolist()
    return functional.pad(images, (2, 2, 2, 2), mode="reflect")[:, :, row : row + 16, column : column + 16]


class MetaLearner:
    """Train one cosine classifier of all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        network, classes = Network(), int(dataset.labels.max()) + 1
        head = nn.Parameter(0.05 * torch.randn(classes, WIDTHS[-1]))
        optimizer = torch.optim.SGD(
            [*network.parameters(), head], RATE, momentum=0.9, nesterov=True, weight_decay=DECAY
        )
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / STEPS)) / 2
            rows = torch.randint(len(dataset.labels), (BATCH,))
            embedded = functional.normalize(network(vary(scale(dataset.images[rows]))))
            logits = TEMPERATURE * embedded @ functional.normalize(head).T
            loss = functional.cross_entropy(logits, dataset.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % 100 == 0:
                print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
        return Learner(network.eval())


class Learner:
    """Describe the support images in the whitened space of their task."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        del shots
        return Predictor(self.network, self.network.describe(images), labels, ways)

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
    """Label the queries together."""

    def __init__(self, network, support, labels, ways):
        self.network, self.labels, self.ways = network, labels, ways
        self.mean = support.mean(0)
        self.basis, self.share = self.spread(support)
        self.support = self.whiten(support)

    def spread(self, support):
        """Directions of the spread within classes, (features, k), and how much of each to take away.

        The covariance S + r 1 has the inverse square root (1 - V diag(1 - sqrt(r / (s + r))) V') / sqrt(r),
        where V and s are the eigenvectors and eigenvalues of S; they come from the smaller matrix of
        support images by support images.
        """
        onehot = functional.one_hot(self.labels, self.ways).float()
        inside = support - (onehot.T @ support / onehot.sum(0)[:, None])[self.labels]
        ridge = SHRINKAGE * (support - self.mean).square().mean()
        values, vectors = torch.linalg.eigh(inside @ inside.T / len(support))
        kept = values > 1e-4 * ridge
        basis = inside.T @ vectors[:, kept] / (len(support) * values[kept]).sqrt()
        return basis, 1 - (ridge / (ridge + values[kept])).sqrt()

    def whiten(self, described):
        """Unit vectors in the space in which the classes' spread is round."""
        moved = described - self.mean
        return functional.normalize(moved - (moved @ self.basis * self.share) @ self.basis.T)

    @torch.no_grad()
    def predict(self, images):
        """Class ids, (n,)."""
        queries = self.whiten(self.network.describe(images))
        known = functional.one_hot(self.labels, self.ways).float()
        centres = known.T @ self.support / known.sum(0)[:, None]
        for _ in range(ROUNDS):
            plan = transport(torch.cdist(queries, centres).square())
            means = (known.T @ self.support + plan.T @ queries) / (known.sum(0) + plan.sum(0))[:, None]
            centres = centres + PACE * (means - centres)
        return transport(torch.cdist(queries, centres).square()).argmax(1)


def transport(costs):
    """Sinkhorn's plan, (queries, ways), in which all classes get the same share of the queries."""
    plan = torch.exp(-SHARPNESS * (costs - costs.min(1, keepdim=True).values))
    for _ in range(20):
        plan = plan / plan.sum(0) * (len(plan) / plan.shape[1])
        plan = plan / plan.sum(1, keepdim=True)
    return plan
