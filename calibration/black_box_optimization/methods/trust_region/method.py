"""The local half of the reference alone, as TuRBO."""

import recipe
from proposers import TrustRegion


class Optimizer(recipe.Optimizer):
    """Looks for a point with a small loss in one search space."""

    def make_proposers(self):
        """All of a batch by the trust region."""
        return [TrustRegion(self.space, self.random)]
