"""Third place (seif): noise on the weights, then fine-tuning close to the original."""

from forgetting import forget

unlearn = forget
