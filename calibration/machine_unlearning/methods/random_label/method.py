"""Random labels for the forget set, learnt together with the retain set."""

from forgetting import forget

unlearn = forget
