"""Features of images, nothing of which is learnt."""

from histograms import gradients

describe = gradients
