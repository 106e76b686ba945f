"""Selective synaptic dampening, without training."""

from forgetting import forget

unlearn = forget
