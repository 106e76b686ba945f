"""One process over the whole space, expected improvement, plain targets, as GPyOpt."""

import recipe
from proposers import Portfolio
from surrogate import standard


class Improvement(Portfolio):
    """Only expected improvement."""

    KINDS = ("ei",)


class Optimizer(recipe.Optimizer):
    """Looks for a point with a small loss in one search space."""

    def make_proposers(self):
        """All of a batch by expected improvement."""
        return [Improvement(self.space, self.random, standard)]
