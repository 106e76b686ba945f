"""CMA-ES with the default strategy parameters of Hansen's tutorial (arXiv 1604.00772)."""

import numpy as np


class Optimizer:
    """Looks for a point with a small loss in one search space."""

    def __init__(self, space, seed, count=6):
        self.space, self.random, size = space, np.random.default_rng(seed), space.size
        parents = count // 2
        weights = np.log((count + 1) / 2) - np.log(np.arange(1, parents + 1))
        self.weights = weights / weights.sum()
        self.mass = 1 / (self.weights**2).sum()
        self.rate_sigma = (self.mass + 2) / (size + self.mass + 5)
        self.damping = 1 + 2 * max(0.0, np.sqrt((self.mass - 1) / (size + 1)) - 1) + self.rate_sigma
        self.rate_path = (4 + self.mass / size) / (size + 4 + 2 * self.mass / size)
        self.rate_one = 2 / ((size + 1.3) ** 2 + self.mass)
        self.rate_many = min(
            1 - self.rate_one, 2 * (self.mass - 2 + 1 / self.mass) / ((size + 2) ** 2 + self.mass)
        )
        self.norm = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        self.mean, self.sigma = np.full(size, 0.5), 0.3
        self.covariance = np.eye(size)
        self.path_sigma, self.path = np.zeros(size), np.zeros(size)
        self.generation = 0

    def suggest(self, count):
        """The next points to try, (count, d), as values of the space."""
        values, self.axes = np.linalg.eigh(self.covariance)
        self.roots = np.sqrt(np.maximum(values, 1e-20))
        self.steps = (self.random.normal(size=(count, len(self.mean))) * self.roots) @ self.axes.T
        places = self.mean + self.sigma * self.steps
        return self.space.values(np.minimum(np.abs((places + 1) % 2 - 1), 1 - 1e-12))

    def observe(self, points, losses):
        """Update mean, step size and covariance from the better half."""
        self.generation += 1
        best = self.steps[np.argsort(losses, kind="stable")[: len(self.weights)]]
        move = self.weights @ best
        self.mean = self.mean + self.sigma * move
        whitened = self.axes @ ((self.axes.T @ move) / self.roots)
        rate = self.rate_sigma
        self.path_sigma = (1 - rate) * self.path_sigma + np.sqrt(rate * (2 - rate) * self.mass) * whitened
        length = np.linalg.norm(self.path_sigma)
        expected = (
            np.sqrt(1 - (1 - rate) ** (2 * self.generation)) * (1.4 + 2 / (len(self.mean) + 1)) * self.norm
        )
        moving = float(length < expected)
        rate = self.rate_path
        self.path = (1 - rate) * self.path + moving * np.sqrt(rate * (2 - rate) * self.mass) * move
        self.covariance = (
            (1 - self.rate_one - self.rate_many) * self.covariance
            + self.rate_one * np.outer(self.path, self.path)
            + self.rate_many * (best.T * self.weights) @ best
        )
        self.sigma *= np.exp(self.rate_sigma / self.damping * (length / self.norm - 1))
        self.sigma = min(self.sigma, 0.6)
