"""Joint training on varied colours, features of all depths, a whitened space per task, optimal transport.

This is an independent implementation of what the winners of cross-domain challenges have in common. One
network learns all published classes at once (Chen et al. 2019, arXiv 1904.04232) instead of episodes.
Images are described by the activations of all layers, on a coarse grid, with compressed magnitudes. In
this space, distances are measured in units of the spread within classes, which is estimated from the
support set and shrunk (Simple CNAPS, Bateni et al. 2020, arXiv 1912.03432). This is how the method adapts
to the domain. The queries of a task then share their evidence: class means and a transport plan from
queries to classes improve each other (PT-MAP, Hu et al. 2021, arXiv 2006.03806).
"""

import torch
from torch.nn import functional

from network import Network
from training import train

SHRINKAGE = 0.5  # weight of the total spread in the spread within classes
SHARPNESS, ROUNDS, PACE = 10.0, 12, 0.3  # of the transport


class MetaLearner:
    """Train the network."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset))


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
        """Directions of the spread within classes, (features, k), and how much of each to remove.

        The covariance S + r 1 has the inverse square root (1 - V diag(1 - sqrt(r / (s + r))) V') / sqrt(r),
        where V and s are the eigenvectors and eigenvalues of S; they come from the smaller matrix of
        support images by support images.
        """
        onehot = functional.one_hot(self.labels, self.ways).float()
        inside = support - (onehot.T @ support / onehot.sum(0)[:, None])[self.labels]
        ridge = SHRINKAGE * (support - self.mean).square().mean()
        values, vectors = torch.linalg.eigh(inside @ inside.T / len(support))
        large = values > 1e-4 * ridge
        basis = inside.T @ vectors[:, large] / (len(support) * values[large]).sqrt()
        return basis, 1 - (ridge / (ridge + values[large])).sqrt()

    def whiten(self, described):
        """Unit vectors in the space in which the spread within classes is round."""
        moved = described - self.mean
        return functional.normalize(moved - (moved @ self.basis * self.share) @ self.basis.T)

    @torch.no_grad()
    def predict(self, images):
        """Return the class ids, (n,)."""
        queries = self.whiten(self.network.describe(images))
        known = functional.one_hot(self.labels, self.ways).float()
        centres = known.T @ self.support / known.sum(0)[:, None]
        for _ in range(ROUNDS):
            plan = transport(torch.cdist(queries, centres).square())
            means = (known.T @ self.support + plan.T @ queries) / (known.sum(0) + plan.sum(0))[:, None]
            centres = centres + PACE * (means - centres)
        return transport(torch.cdist(queries, centres).square()).argmax(1)


def transport(costs):
    """Sinkhorn's plan (queries, ways), which gives all classes the same share of the queries."""
    plan = torch.exp(-SHARPNESS * (costs - costs.min(1, keepdim=True).values))
    for _ in range(20):
        plan = plan / plan.sum(0) * (len(plan) / plan.shape[1])
        plan = plan / plan.sum(1, keepdim=True)
    return plan
