"""How every picture looks: hues, lines, type, and how it is saved.

Hues are those of Okabe & Ito, "Color Universal Design" (2008), or one hue by lightness, so that colour-blind readers
tell them apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_musiclf.files import write_whole

# Okabe & Ito's palette without its yellow, which vanishes on white.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
GREY = "#767676"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.6,
    "text.parse_math": False,  # a label may hold a dollar sign
}


def line_style(number: int) -> dict:
    """Colour and dashes of a line, counted from 0: the hues one after the other, then once more with other dashes."""
    dashes = DASHES[number // len(HUES) % len(DASHES)]
    return {"color": HUES[number % len(HUES)], "linestyle": dashes, "linewidth": 1.4}


def diagonal(axes) -> None:
    """Make square axes for ROC curves, with that of guessing."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, dashes=(2, 3))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(True)


def logged(history: Sequence[Mapping], key: str, against: str = "step") -> np.ndarray:
    """What the Trainer logged as `key`, `(points, 2)`: `against` and value, by step.

    history: its `state.log_history`. The first entry of a step counts: the best model is evaluated once more under the
    number of the last step.
    """
    first: dict[int, tuple[float, float]] = {}
    for entry in history:
        if entry.get(key) is not None and {"step", against} <= entry.keys():
            first.setdefault(entry["step"], (entry[against], entry[key]))
    return np.array([first[step] for step in sorted(first)]).reshape(-1, 2)


def save(figure: Figure, path) -> Path:
    """Write a .png at once, beside its place and then renamed; white, with a margin around all that is drawn."""
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path={path} must end in .png")
    FigureCanvasAgg(figure)
    style = {"dpi": 150, "bbox_inches": "tight", "pad_inches": 0.2, "facecolor": "white"}
    return write_whole(path, lambda beside: figure.savefig(beside, format="png", **style))
