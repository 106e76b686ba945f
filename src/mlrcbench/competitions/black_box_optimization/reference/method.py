"""The method: half of each batch by a trust region, half by a portfolio; see `recipe.py`."""

from recipe import Optimizer

__all__ = ["Optimizer"]
