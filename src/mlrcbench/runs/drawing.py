"""Drawing with matplotlib: how it is loaded, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

from types import ModuleType

from mlrcbench.errors import RegistryError

# Okabe and Ito's palette without black and yellow, then olive and grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C00", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BLUE, ORANGE = COLOURS[0], COLOURS[4]


def load_pyplot() -> ModuleType:
    """`matplotlib.pyplot`, set to draw into files without a display.

    Raises:
        RegistryError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise RegistryError("drawing figures needs matplotlib: pip install 'mlrcbench[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
