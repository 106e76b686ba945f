"""Gaussian processes over the unit cube: fit, predict, and choose points by what they promise."""

import math

import numpy as np

ROOT5 = math.sqrt(5.0)
CATEGORY = 0.7  # how far two categories are apart


class Encoder:
    """Coordinates in which a Gaussian process sees points: categories become one-hot vectors."""

    def __init__(self, space):
        self.columns = []
        for number, parameter in enumerate(space.parameters):
            count = parameter["count"] if parameter["type"] in ("cat", "bool") else 0
            self.columns.append((number, count))

    def __call__(self, unit):
        """Coordinates, (n, D), of places in the unit cube, (n, d)."""
        parts = []
        for number, count in self.columns:
            if count:
                index = np.minimum((unit[:, number] * count).astype(int), count - 1)
                parts.append(CATEGORY * np.eye(count)[index])
            else:
                parts.append(unit[:, number : number + 1])
        return np.concatenate(parts, axis=1)


class Gaussian:
    """A Gaussian process with a Matern 5/2 kernel and a length for each coordinate."""

    def __init__(self, size):
        self.theta = np.concatenate([np.full(size, math.log(0.5)), [math.log(0.03)]])

    def fit(self, x, y, steps=15):
        """Improve lengths and noise by gradient ascent from where they are, and keep the data.

        Args:
            x: Coordinates, (n, D).
            y: Standardised targets, (n,).
            steps: How many steps to take.
        """
        self.x, self.y = x, y
        moments = np.zeros((2, len(self.theta)))
        squares = (x[:, None] - x[None]) ** 2
        for step in range(1, steps + 1):
            gradient = self._gradient(squares)
            moments[0] = 0.8 * moments[0] + 0.2 * gradient
            moments[1] = 0.95 * moments[1] + 0.05 * gradient**2
            mean, square = moments[0] / (1 - 0.8**step), moments[1] / (1 - 0.95**step)
            self.theta = self.theta + 0.1 * mean / (np.sqrt(square) + 1e-8)
            self.theta[:-1] = np.clip(self.theta[:-1], math.log(0.05), math.log(8.0))
            self.theta[-1] = np.clip(self.theta[-1], math.log(1e-4), math.log(0.5))
        matrix = _matern(squares @ np.exp(-2 * self.theta[:-1]))
        matrix[np.diag_indices_from(matrix)] += math.exp(2 * self.theta[-1]) + 1e-6
        self.inverse = np.linalg.inv(matrix)
        self.weights = self.inverse @ y

    def predict(self, x):
        """Means, (m,), and covariances, (m, m), at coordinates (m, D)."""
        scale = np.exp(-self.theta[:-1])
        a, b = x * scale, self.x * scale
        cross = _matern(_squares(a, b))
        return cross @ self.weights, _matern(_squares(a, a)) - cross @ self.inverse @ cross.T

    def _gradient(self, squares):
        """The gradient of the log posterior of lengths and noise."""
        scale = np.exp(-2 * self.theta[:-1])
        distances = np.sqrt(np.maximum(squares @ scale, 1e-12))
        decay = np.exp(-ROOT5 * distances)
        matrix = (1 + ROOT5 * distances + 5 / 3 * distances**2) * decay
        noise = math.exp(2 * self.theta[-1]) + 1e-6
        matrix[np.diag_indices_from(matrix)] += noise
        inverse = np.linalg.inv(matrix)
        weights = inverse @ self.y
        outer = np.outer(weights, weights) - inverse
        slope = outer * (5 / 3) * (1 + ROOT5 * distances) * decay
        lengths = 0.5 * scale * np.einsum("ij,ijd->d", slope, squares)
        lengths -= (self.theta[:-1] - math.log(0.5)) / 1.0**2
        last = np.trace(outer) * noise - (self.theta[-1] - math.log(0.03)) / 1.0**2
        return np.append(lengths, last)


def _matern(squares):
    distances = np.sqrt(np.maximum(squares, 0.0))
    return (1 + ROOT5 * distances + 5 / 3 * distances**2) * np.exp(-ROOT5 * distances)


def _squares(a, b):
    return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T


def standard(values):
    """Values with mean 0 and spread 1."""
    return (values - values.mean()) / (values.std() + 1e-12)


def by_rank(values):
    """Values replaced by the quantiles of a normal distribution at their ranks; ties are equal."""
    order = np.argsort(np.argsort(values)) + 1.0
    for value in np.unique(values):
        order[values == value] = order[values == value].mean()
    return standard(_normal_quantile(order / (len(values) + 1)))


def by_power(values):
    """Values by that power transform (Yeo and Johnson, Biometrika 2000) under which they look most normal."""
    values = standard(np.minimum(values, np.median(values) + 5 * (np.median(values) - values.min()) + 1e-12))
    best, chosen = -np.inf, values
    for power in np.linspace(-1.5, 2.0, 15):
        moved = _yeo_johnson(values, power)
        spread = moved.std()
        if not np.isfinite(spread) or spread < 1e-9:
            continue
        jacobian = (power - 1) * (np.sign(values) * np.log1p(np.abs(values))).sum()
        likelihood = jacobian - len(values) * math.log(spread)
        if likelihood > best:
            best, chosen = likelihood, moved
    return standard(chosen)


def _yeo_johnson(values, power):
    high, low = np.maximum(values, 0.0), np.maximum(-values, 0.0)
    up = np.log1p(high) if abs(power) < 1e-9 else ((high + 1) ** power - 1) / power
    other = 2 - power
    down = np.log1p(low) if abs(other) < 1e-9 else ((low + 1) ** other - 1) / other
    return np.where(values >= 0, up, -down)


def _normal_quantile(p):
    """Quantiles of the normal distribution, by a logistic approximation that is monotone."""
    return np.log(p / (1 - p)) / 1.702


def cdf(values):
    """The normal distribution's cumulative function."""
    return 1 / (1 + np.exp(np.clip(-1.702 * values * (1 + 0.04 * values**2), -60, 60)))


def promise(kind, mean, variance, best):
    """How much points promise, larger is better: "ei", "pi" or "lcb" of Gaussian predictions.

    Args:
        kind: The acquisition function.
        mean: Means, (m,).
        variance: Variances, (m,).
        best: The smallest target so far.
    """
    spread = np.sqrt(np.maximum(variance, 1e-12))
    if kind == "lcb":
        return 2.0 * spread - mean
    z = (best - mean) / spread
    if kind == "pi":
        return z
    return spread * (z * cdf(z) + np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def choose(gaussian, candidates, kinds, best):
    """Numbers of candidates that are chosen one after the other, each as if the former were known.

    Args:
        gaussian: A process that has been fitted.
        candidates: Coordinates, (m, D).
        kinds: The acquisition function for each choice; "sample" draws from the process.
        best: The smallest target so far.
    """
    mean, covariance = gaussian.predict(candidates)
    chosen = []
    for kind in kinds:
        values = promise(kind, mean, np.diag(covariance), best)
        values[chosen] = -np.inf
        number = int(values.argmax())
        chosen.append(number)
        column = covariance[:, number]
        covariance = covariance - np.outer(column, column) / (column[number] + 1e-3)
    return chosen


def draw(gaussian, candidates, count, random):
    """Numbers of the candidates that are best in so many draws from the process (Thompson sampling)."""
    mean, covariance = gaussian.predict(candidates)
    covariance[np.diag_indices_from(covariance)] += 1e-4
    root = np.linalg.cholesky(covariance)
    chosen = []
    for _ in range(count):
        sample = mean + root @ random.normal(size=len(mean))
        sample[chosen] = np.inf
        chosen.append(int(sample.argmin()))
    return chosen
