"""Third place (seif): noise on the weights, then fine-tuning near the original."""

from forgetting import forget

unlearn = forget
