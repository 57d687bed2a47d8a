"""Pictures of a run as PNG files: confusion, ROC curves, validation history, scores by class.

Every `plot_*` writes `path` at once (beside it, then renamed) and returns it; no display is needed. Axes have a fixed
size and the picture grows around them, so that long names neither overlap nor squeeze the plot.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn import metrics as sk

from hf_musiclf.plot_style import GREY, HUES, STYLE, diagonal, line_style, logged, save

_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0}  # a legend to the right of its axes


@matplotlib.rc_context(STYLE)
def plot_confusion_matrix(confusion, names: Sequence[str], path, title: str = "") -> Path:
    """Counts in the cells (0 left blank), the share of the row as colour.

    confusion: `(classes, classes)` counts, row = label, column = prediction. names: by class id. path: to a .png.
    Raises ValueError if the confusion is not square, is empty, or has not one row a name.
    """
    confusion = np.asarray(confusion)
    if confusion.ndim != 2 or not len(names) or confusion.shape != (len(names), len(names)):
        raise ValueError(f"confusion has shape {confusion.shape} for {len(names)} names; give (classes, classes)")
    n = len(names)
    side = 0.36 * n + 0.6  # inches: a cell holds four digits at 7 points
    axes = _axes(side, side)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros(confusion.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, f"{confusion[row, column]}", ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), names)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#D0D0D0", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Predicted", labelpad=8)
    axes.set_ylabel("True", labelpad=8)
    axes.set_title(title)
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1 + 0.15 / side, 0, 0.14 / side, 1)))
    bar.set_label("Share of the row")
    bar.outline.set_visible(False)
    return save(axes.figure, path)


@matplotlib.rc_context(STYLE)
def plot_roc_curves(probabilities, labels, names: Sequence[str], path, title: str = "") -> Path:
    """One curve a class, that class against the rest, with its area under the curve (AUC) in the legend.

    probabilities: `(n, classes)`. labels: `(n,)` ids. names: by class id. path: to a .png. A class without items, or
    with all of them, has no curve; the legend says so. Raises ValueError if the shapes disagree.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or probabilities.shape != (len(labels), len(names)):
        shapes = f"{probabilities.shape} for {len(labels)} labels and {len(names)} names"
        raise ValueError(f"probabilities has shape {shapes}; give (n, classes)")
    axes = _axes(4.6, 4.6)
    diagonal(axes)
    handles = []
    for class_id, name in enumerate(names):
        positive = labels == class_id
        if 0 < positive.sum() < len(positive):
            false_rate, true_rate, _ = sk.roc_curve(positive, probabilities[:, class_id])
            label = f"{sk.auc(false_rate, true_rate):.3f}  {name}"
            handles += axes.plot(false_rate, true_rate, label=label, **line_style(class_id))
        else:
            reason = "no items" if not positive.any() else "nothing else"
            dash = "-".center(5, "\u2007")  # figure spaces: as wide as the digits above and below
            handles += axes.plot([], [], label=f"{dash}  {name} ({reason})", color="none")
    axes.set(xlabel="False positive rate", ylabel="True positive rate", title=title)
    columns = -(-len(handles) // 28)  # 28 lines of legend are as high as the axes
    heading = "AUC, class against the rest"
    axes.legend(handles=handles, title=heading, ncols=columns, alignment="left", labelspacing=0.35, **_BESIDE)
    return save(axes.figure, path)


@matplotlib.rc_context(STYLE)
def plot_validation(history: Sequence[dict], path, title: str = "", best_step: int | None = None) -> Path:
    """Training and validation loss, and below them the validation accuracies where there are any, against steps.

    history: the Trainer's `state.log_history`: dicts with "step" and some of "loss", "eval_loss",
    "eval_window_accuracy", "eval_track_accuracy". best_step: the chosen step, marked by a line. path: to a .png. The
    first entry of a step counts: the Trainer evaluates the best model once more under the number of the last step.
    """
    losses = [("loss", "training", HUES[0]), ("eval_loss", "validation", HUES[1])]
    accuracies = [("eval_window_accuracy", "windows", HUES[2]), ("eval_track_accuracy", "whole tracks", HUES[3])]
    panels = [("Loss", losses)]
    if any(key in entry for key, _, _ in accuracies for entry in history):
        panels.append(("Validation accuracy", accuracies))
    figure = Figure(figsize=(6.4, 2.7 * len(panels)))
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, gridspec_kw={"hspace": 0.12})[:, 0]
    for axes, (ylabel, series) in zip(grid, panels, strict=True):
        for key, name, colour in series:
            points = logged(history, key)
            if len(points):
                # A few evaluations are points joined by a line; hundreds of logged losses are a line.
                marker = "o" if len(points) <= 40 else ""
                axes.plot(*points.T, color=colour, label=name, marker=marker, markersize=3.5)
        if best_step is not None:
            axes.axvline(
                best_step, color=GREY, linewidth=1.2, dashes=(3, 2), zorder=1, label=f"chosen: step {best_step}"
            )
        axes.set_ylabel(ylabel)
        axes.grid(True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**_BESIDE)
        else:
            axes.text(0.5, 0.5, "nothing was logged", ha="center", color=GREY, transform=axes.transAxes)
    grid[0].set_title(title)
    grid[-1].set_xlabel("Optimisation step")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(grid)
    return save(figure, path)


@matplotlib.rc_context(STYLE)
def plot_per_class(per_class: Sequence[dict], names: Sequence[str], path, title: str = "") -> Path:
    """Bars of precision, recall and F1 for each class, its number of items beside its name.

    per_class: by class id, dicts with "precision", "recall", "f1" in [0, 1] and "support", as `classification_metrics`
    makes them. names: by class id. path: to a .png. Raises ValueError if they differ in number.
    """
    if len(per_class) != len(names) or not len(names):
        raise ValueError(f"per_class has {len(per_class)} entries for {len(names)} names; give one per class")
    axes = _axes(5.2, 0.42 * len(names) + 0.2)
    rows = np.arange(len(names))
    for index, (key, label) in enumerate((("precision", "precision"), ("recall", "recall"), ("f1", "F1"))):
        values = [entry[key] for entry in per_class]
        axes.barh(rows + 0.25 * (index - 1), values, height=0.25, color=HUES[(5, 0, 1)[index]], label=label)
    axes.set_yticks(rows, [f"{name}  (n={entry['support']})" for name, entry in zip(names, per_class, strict=True)])
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel="Score", title=title)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.legend(**_BESIDE)
    return save(axes.figure, path)


def _axes(width: float, height: float):
    """Axes of just this size in inches; labels lie outside, where the tight box of `plot_style.save` finds them."""
    return Figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
