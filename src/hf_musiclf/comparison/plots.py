"""Pictures of several models on the same tracks: mean ROC curves, a label's curves, F1 by label, training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics as sk

from hf_musiclf.metrics import macro_roc
from hf_musiclf.plot_style import GREY, HUES, STYLE, diagonal, line_style, logged, save

NAME_CHARACTERS = 40
# Panels of one label each: beyond this many they are too many to read.
MOST_PANELS = 24
TICKS = (0, 0.5, 1)


def shortened(name: str, characters: int = NAME_CHARACTERS) -> str:
    """A long name without its middle: folders tell their runs apart at both ends.

    >>> shortened("efficientat_learning_rate_3", 12)
    'effici…ate_3'
    """
    half = characters // 2
    return name if len(name) <= characters else f"{name[:half]}…{name[half + 1 - characters :]}"


@matplotlib.rc_context(STYLE)
def plot_macro_roc(probabilities: Sequence[np.ndarray], labels, names: Sequence[str], path) -> Path:
    """A curve a model, the mean of its labels' curves, with the area under it.

    probabilities: by model, `(tracks, classes)`. labels: `(tracks,)` ids. names: of the models. path: to a .png.
    """
    figure = _figure(5.6, 5.2 + 0.22 * len(names))
    axes = figure.subplots()
    diagonal(axes)
    axes.set(xlabel="False positive rate", ylabel="True positive rate, mean over labels")
    for number, (rows, name) in enumerate(zip(probabilities, names, strict=True)):
        curve = macro_roc(rows, labels)
        told = f"{sk.auc(*curve):.3f}" if curve else "not defined"
        axes.plot(*(curve or ([], [])), label=f"{told}  {shortened(name)}", **_line(number, len(names)))
    _legend(figure, axes, "Area under the curve, macro average")
    return save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_label_rocs(
    probabilities: Sequence[np.ndarray], labels, label_names: Sequence[str], names: Sequence[str], path
) -> Path:
    """A panel a label, that label against the rest, a curve a model. Arguments as in `plot_macro_roc`."""
    columns = min(4, len(label_names))
    rows = -(-len(label_names) // columns)
    figure = _figure(2 * columns + 0.4, 2.2 * rows + 0.22 * len(names) + 0.5)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for class_id, (axes, label) in enumerate(zip(panels, label_names, strict=False)):
        positive = np.asarray(labels) == class_id
        diagonal(axes)
        axes.set(xticks=TICKS, yticks=TICKS, xticklabels=TICKS, yticklabels=TICKS)
        axes.set_title(f"{shortened(label, 16)} (n={positive.sum()})", fontsize=8, pad=4)
        for number, (scores, name) in enumerate(zip(probabilities, names, strict=True)):
            both = 0 < positive.sum() < len(positive)
            curve = sk.roc_curve(positive, scores[:, class_id])[:2] if both else ([], [])
            axes.plot(*curve, label=_legend_name(name), **_line(number, len(names)))
    for axes in panels[len(label_names) :]:
        axes.remove()
    for axes in panels[max(0, len(label_names) - columns) : len(label_names)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("False positive rate")
    for axes in panels[: len(label_names) : columns]:
        axes.set_ylabel("True positive rate")
    _legend(figure, panels[0])
    return save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_f1_by_label(
    f1: Sequence[Sequence[float]], support: Sequence[int], label_names: Sequence[str], names: Sequence[str], path
) -> Path:
    """Bars of F1 for each label, one a model.

    f1: by model, `(classes,)` in [0, 1]. support: tracks a label. names: of the models. path: to a .png.
    """
    each = 0.16  # inches a bar
    height = (each * len(names) + 0.16) * len(label_names)
    figure = _figure(6.4, height + 0.22 * len(names) + 0.7)
    axes = figure.subplots()
    places = np.arange(len(label_names))
    thickness = each / (each * len(names) + 0.16)
    for number, (values, name) in enumerate(zip(f1, names, strict=True)):
        shift = (number - (len(names) - 1) / 2) * thickness
        hatch = ("", "////", "....", "xxxx")[number // len(HUES) % 4]
        style = {"color": HUES[number % len(HUES)], "hatch": hatch, "edgecolor": "white", "linewidth": 0}
        axes.barh(places + shift, values, height=thickness, label=_legend_name(name), **style)
    axes.set_yticks(places, [f"{shortened(label)} (n={n})" for label, n in zip(label_names, support, strict=True)])
    axes.set(xlim=(0, 1), ylim=(len(label_names) - 0.5, -0.5), xlabel="F1")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    _legend(figure, axes)
    return save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_training(histories: Sequence[Sequence[Sequence[Mapping]]], names: Sequence[str], path) -> Path:
    """Training loss, validation loss and accuracy of whole validation tracks against epochs, a colour a run.

    histories: by run, by training, the Trainer's `state.log_history`; of several, which are the folds of a
    cross-validation, each is a faint line and their mean a strong one, as far as all go. names: of the runs. path: to a
    .png. The first entry of a step counts, as in `plot_style.logged`.
    """
    shown = {"loss": "Training loss", "eval_loss": "Validation loss", "eval_track_accuracy": "Validation accuracy"}
    figure = _figure(6.4, 2.5 * len(shown) + 0.22 * len(names))
    panels = figure.subplots(len(shown), sharex=True)
    for axes, (key, told) in zip(panels, shown.items(), strict=True):
        axes.set_ylabel(told)
        axes.grid(True)
        for number, (trainings, name) in enumerate(zip(histories, names, strict=True)):
            lines, style = [logged(history, key, "epoch") for history in trainings], _line(number, len(names))
            for points in lines if len(lines) > 1 else []:
                axes.plot(*points.T, **{**style, "linewidth": 0.8, "alpha": 0.3})
            whole = min(map(len, lines), default=0)
            mean = np.mean([points[:whole] for points in lines], axis=0) if whole else np.empty((0, 2))
            axes.plot(*mean.T, marker="o" if whole <= 15 else "", markersize=3.5, label=_legend_name(name), **style)
        if not any(key in entry for trainings in histories for history in trainings for entry in history):
            axes.text(0.5, 0.5, "nothing was logged", ha="center", color=GREY, transform=axes.transAxes)
    panels[-1].set_xlabel("Epoch")
    figure.align_ylabels(panels)
    _legend(figure, panels[0])
    return save(figure, path)


def _line(number: int, count: int) -> dict:
    """Of one of `count` runs: each is thinner than those below it, so that equal curves are seen."""
    widths = np.linspace(1.4 + 0.4 * min(count - 1, 5), 1.4, count)
    return {**line_style(number), "linewidth": widths[number]}


def _legend_name(name: str) -> str:
    """Matplotlib leaves out of a legend what begins with an underscore."""
    return f" {shortened(name)}" if name.startswith("_") else shortened(name)


def _figure(width: float, height: float) -> Figure:
    """Of this size in inches; `save` cuts it to what is drawn."""
    return Figure(figsize=(width, height), layout="constrained")


def _legend(figure: Figure, axes, title: str | None = None) -> None:
    """Below the picture, where a long name has room."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower left", title=title, alignment="left", labelspacing=0.3)
