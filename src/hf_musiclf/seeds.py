"""Runs of several kinds, each repeated over the same seeds: means with intervals, gains by seed, table and picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from hf_musiclf.intervals import student_interval
from hf_musiclf.plot_style import GREY, HUES, STYLE, save


def summarise_seeds(accuracies: Mapping[str, Sequence[Mapping[str, float]]], baseline: str | None = None) -> list[dict]:
    """A row a kind of run: its accuracies on every test by seed, their mean with 95 % interval, gain over the baseline.

    accuracies: kind -> seed by seed, test -> accuracy in [0, 1]; all kinds by the same seeds in the same order.
    baseline: the kind that the others are compared with, pairwise by seed; None, or one that is not there: no gains.
    Intervals are Student's, None for a single seed.
    """
    rows = []
    for kind, of_seed in accuracies.items():
        row = {"kind": kind, "tests": {}}
        for test in of_seed[0]:
            values = [accuracy[test] for accuracy in of_seed]
            scores = {"by_seed": values, "mean": sum(values) / len(values), "interval": student_interval(values)}
            if kind != baseline and baseline in accuracies:
                pairs = zip(values, accuracies[baseline], strict=True)
                gains = [value - other[test] for value, other in pairs]
                scores |= {"gain": sum(gains) / len(gains), "gain_interval": student_interval(gains)}
            row["tests"][test] = scores
        rows.append(row)
    return rows


def seeds_table(rows: Sequence[Mapping], names: Mapping[str, str], gains: Sequence[str]) -> str:
    """The rows of `summarise_seeds` in Markdown, in percent and points, with their intervals.

    names: kind -> what the first column says. gains: tests whose gains have columns of their own.
    """

    def told(mean: float, interval: Sequence[float] | None, sign: str = "") -> str:
        ends = f" ({interval[0] * 100:{sign}.1f} to {interval[1] * 100:{sign}.1f})" if interval else ""
        return f"{mean * 100:{sign}.1f}{ends}"

    heads = ["trained by", *(f"{test} test" for test in rows[0]["tests"]), *(f"{test}, gain" for test in gains)]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for row in rows:
        cells = [told(scores["mean"], scores["interval"]) for scores in row["tests"].values()]
        for scores in map(row["tests"].get, gains):
            cells.append(told(scores["gain"], scores["gain_interval"], "+") if "gain" in scores else "")
        lines.append("| " + " | ".join([names[row["kind"]], *cells]) + " |")
    return "\n".join(lines) + "\n"


@matplotlib.rc_context(STYLE)
def plot_seeds(rows: Sequence[Mapping], names: Mapping[str, str], path, chance: float) -> Path:
    """A panel a test, a line a kind of run: every seed as a point, their mean with its 95 % interval.

    rows: of `summarise_seeds`. names: kind -> its line's name. path: to a .png. chance: accuracy of guessing, in
    [0, 1], dotted.
    """
    tests = list(rows[0]["tests"])
    figure = Figure(figsize=(2.2 + 2.3 * len(tests), 0.42 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(tests), sharey=True, squeeze=False)[0]
    for number, (axes, test) in enumerate(zip(panels, tests, strict=True)):
        axes.axvline(chance * 100, color=GREY, linewidth=1, dashes=(2, 3))
        for place, row in enumerate(rows):
            scores = row["tests"][test]
            values, mean = [value * 100 for value in scores["by_seed"]], scores["mean"] * 100
            axes.plot(values, [place + 0.22] * len(values), "o", color=GREY, alpha=0.6, markersize=3.5, mew=0)
            low, high = (end * 100 for end in scores["interval"] or [scores["mean"]] * 2)
            axes.errorbar(
                mean, place, xerr=[[mean - low], [high - mean]], fmt="D", color=HUES[number % len(HUES)], capsize=3
            )
        axes.set(xlim=(-3, 103), xlabel="Accuracy by track, %", title=f"{test} test")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [names[row["kind"]] for row in rows])
    panels[0].invert_yaxis()
    return save(figure, path)
