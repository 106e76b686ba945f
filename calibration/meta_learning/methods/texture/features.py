"""Histograms of gradients and amplitude spectra: handmade features, not learnt.

Both are the same for light on dark and dark on light; the spectrum also ignores where things are.
"""

import torch
from torch.nn import functional

from histograms import gradients


@torch.no_grad()
def spectrum(images):
    """Square roots of the Fourier amplitudes (n, 144) of the windowed grey image, of unit length."""
    grey, window = images.float().mean(1), torch.hann_window(16, periodic=False)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window[:, None] * window
    return functional.normalize(torch.fft.rfft2(grey).abs().flatten(1).sqrt())


def describe(images):
    """Histograms and spectra, (n, 312)."""
    return torch.cat([gradients(images), spectrum(images)], 1)
