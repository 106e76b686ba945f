"""Search spaces: values of parameters, and their places in the unit cube."""

import numpy as np


class Space:
    """The search space of one problem.

    A point is an array of one number for each parameter: the value of a real or whole number, and the number
    of the value of a category. In the unit cube, numbers are spread evenly on their own scale (linear, log or
    logit), and categories lie in the middle of equal parts.
    """

    def __init__(self, parameters):
        self.parameters = parameters
        self.size = len(parameters)

    def values(self, unit):
        """Points of the space, (n, d), at places in the unit cube, (n, d)."""
        return np.stack([_value(one, unit[:, number]) for number, one in enumerate(self.parameters)], axis=1)

    def unit(self, values):
        """Places in the unit cube, (n, d), of points of the space, (n, d)."""
        return np.stack([_unit(one, values[:, number]) for number, one in enumerate(self.parameters)], axis=1)


def _value(parameter, u):
    if parameter["type"] in ("cat", "bool"):
        return np.minimum(np.floor(u * parameter["count"]), parameter["count"] - 1)
    low, high = parameter["low"], parameter["high"]
    inner = _warp(parameter, low) * (1 - u) + _warp(parameter, high) * u
    if parameter["space"] == "log":
        inner = np.exp(inner)
    elif parameter["space"] == "logit":
        inner = 1 / (1 + np.exp(-inner))
    return np.clip(np.round(inner) if parameter["type"] == "int" else inner, low, high)


def _unit(parameter, value):
    if parameter["type"] in ("cat", "bool"):
        return (value + 0.5) / parameter["count"]
    low, high = _warp(parameter, parameter["low"]), _warp(parameter, parameter["high"])
    return np.clip((_warp(parameter, value) - low) / (high - low), 0.0, 1.0)


def _warp(parameter, value):
    if parameter["space"] == "log":
        return np.log(value)
    return (
        np.log(value) - np.log1p(-np.asarray(value)) if parameter["space"] == "logit" else np.asarray(value)
    )
