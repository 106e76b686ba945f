"""The reference's global half alone, on plain targets: a process and a portfolio, as scikit-optimize."""

import recipe
from proposers import Portfolio
from surrogate import standard


class Optimizer(recipe.Optimizer):
    """Looks for a point with a small loss in one search space."""

    def make_proposers(self):
        """All of a batch by the portfolio."""
        return [Portfolio(self.space, self.random, standard)]
