"""PT-MAP (Hu et al. 2021): joint training, power transform, optimal transport of the queries."""

import torch
from torch.nn import functional

from backbone import Network, train

SHARPNESS, ROUNDS, PACE = 10.0, 15, 0.3


class MetaLearner:
    """Train on all classes."""

    def meta_fit(self, dataset):
        """Return a learner with the trained network."""
        return Learner(train(dataset))


class Learner:
    """Embed the support set."""

    def __init__(self, network):
        self.network = network

    def fit(self, images, labels, ways, shots):
        """Return a predictor."""
        return Predictor(self.network, self.network.embed(images), labels, ways)

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
    """Class means and the queries' transport plan improve each other."""

    def __init__(self, network, support, labels, ways):
        self.network, self.support = network, support
        self.known = functional.one_hot(labels, ways).float()

    def predict(self, images):
        """Class ids, (n,)."""
        found = functional.normalize(torch.cat([self.support, self.network.embed(images)]).sqrt())
        found = functional.normalize(found - found.mean(0))
        support, queries = found.split([len(self.support), len(images)])
        centres = self.known.T @ support / self.known.sum(0)[:, None]
        for _ in range(ROUNDS):
            plan = transport(torch.cdist(queries, centres).square())
            total = (self.known.sum(0) + plan.sum(0))[:, None]
            centres = centres + PACE * ((self.known.T @ support + plan.T @ queries) / total - centres)
        return transport(torch.cdist(queries, centres).square()).argmax(1)


def transport(costs):
    """Sinkhorn's plan, (queries, ways), with equal shares of the classes."""
    plan = torch.exp(-SHARPNESS * (costs - costs.min(1, keepdim=True).values))
    for _ in range(20):
        plan = plan / plan.sum(0) * (len(plan) / plan.shape[1])
        plan = plan / plan.sum(1, keepdim=True)
    return plan
