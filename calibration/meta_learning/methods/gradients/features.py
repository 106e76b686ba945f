"""Features of images that are not learnt."""

from histograms import gradients

describe = gradients
