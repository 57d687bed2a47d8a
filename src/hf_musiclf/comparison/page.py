"""The page of a comparison: its pictures, what stands where, and the lines for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_musiclf.comparison.plots import (
    MOST_PANELS,
    plot_f1_by_label,
    plot_label_rocs,
    plot_macro_roc,
    plot_training,
    shortened,
)
from hf_musiclf.comparison.runs import FinishedRun, warnings
from hf_musiclf.comparison.tables import (
    DASH,
    MEASURES,
    Comparison,
    disagreement_blocks,
    p_value,
    pair_blocks,
    score_table,
    speed_of,
)
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_whole
from hf_musiclf.pages import Block, Code, Heading, Notes, Paragraph, Pictures, to_html, to_markdown
from hf_musiclf.plots import plot_confusion_matrix
from hf_musiclf.report import with_interval


def write_comparison(comparison: Comparison, folder: Path, command: str) -> tuple[Path, Path]:
    """comparison.md, comparison.html and `pictures/`, each file whole. Returns the paths of the two pages."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output_dir={folder} is a file; name a folder")
    blocks = page(comparison, draw(comparison, folder / "pictures"), command)
    pages = {"comparison.md": to_markdown(blocks, folder), "comparison.html": to_html(blocks, blocks[0].text)}
    for name, text in pages.items():
        write_whole(folder / name, lambda beside, text=text: beside.write_text(text, encoding="utf-8"))
    return tuple(folder / name for name in pages)


def draw(comparison: Comparison, folder: Path) -> dict[str, tuple[Path, ...]]:
    """The pictures by what they show."""
    runs, first = comparison.runs, comparison.runs[0].tested
    names, probabilities = [run.name for run in runs], [run.tested.probabilities for run in runs]
    drawn = {
        "confusion": tuple(
            plot_confusion_matrix(
                run.confusion, [shortened(label) for label in first.labels], folder / f"confusion_{number}.png",
                shortened(run.name),
            )
            for number, run in enumerate(runs, 1)
        ),
        "roc": (plot_macro_roc(probabilities, first.label_ids, names, folder / "roc.png"),),
    }  # fmt: skip
    if len(first.labels) <= MOST_PANELS:
        path = folder / "roc_by_label.png"
        drawn["label_roc"] = (plot_label_rocs(probabilities, first.label_ids, first.labels, names, path),)
    f1 = [[row["f1"] for row in per_label(run)] for run in runs]
    support = [row["support"] for row in per_label(runs[0])]
    drawn["f1"] = (plot_f1_by_label(f1, support, first.labels, names, folder / "f1_by_label.png"),)
    histories = [[part["training"]["history"] for part in run.trainings] for run in runs]
    drawn["training"] = (plot_training(histories, names, folder / "training.png"),)
    return drawn


def per_label(run: FinishedRun) -> list[Mapping[str, Any]]:
    """The report's rows of each label, in the order of the run's labels."""
    rows = {row["label"]: row for row in run.scores["per_class"]}
    return [rows[label] for label in run.tested.labels]


def page(comparison: Comparison, drawn: Mapping[str, tuple[Path, ...]], command: str) -> list[Block]:
    """Everything that the page says, the title first."""
    runs, first = comparison.runs, comparison.runs[0].tested
    names, data = ", ".join(run.name for run in runs), runs[0].report["data"]
    n_groups = len(set(first.groups) - {None}) + first.groups.count(None)
    times = sorted({run.report["arguments"]["bootstrap_resamples"] for run in runs})
    found = tuple(warnings(runs))
    blocks: list[Block] = [
        Heading(f"{len(runs)} models on {data['source']}", 1),
        Paragraph(
            f"{len(first.tracks)} test tracks of {len(first.labels)} labels, the same for every model, scored as "
            f"wholes. In brackets, 95 % intervals by the bootstrap over {n_groups} {data['group']}s "
            f"({' or '.join(f'{number:,}' for number in times)} times)."
        ),
        *([Notes(found)] if found else []),
        Heading("Scores"),
        score_table(comparison),
        Paragraph(
            "Minutes are of training alone, since start or resume, and windows a second are of the machine that "
            f"each run had: they compare models only where that is the same. {DASH}: not recorded, or counted in "
            "embeddings of a frozen model instead of windows."
        ),
        *pair_blocks(comparison, data["group"]),
        Heading("Confusion matrices"),
        Pictures(drawn["confusion"], tuple(f"Confusion matrix of {run.name}" for run in runs)),
        Heading("ROC curves"),
        Pictures(drawn["roc"], (f"ROC curves, mean over labels, of {names}",)),
    ]
    if "label_roc" in drawn:
        blocks.append(Pictures(drawn["label_roc"], (f"ROC curves of each label, of {names}",)))
    blocks += [
        Heading("F1 by label"),
        Pictures(drawn["f1"], (f"F1 of each label, of {names}",)),
        Heading("Training"),
        Pictures(drawn["training"], (f"Training loss, validation loss and accuracy against epochs, of {names}",)),
        Paragraph(about_training(runs)),
        Heading("Where the models disagree most"),
        *disagreement_blocks(runs),
        Heading("Commands"),
    ]
    for run in runs:
        blocks += [Paragraph(f"{run.name}:"), Code(run.report["command"])]
    return [*blocks, Paragraph("This page:"), Code(command)]


def about_training(runs: Sequence[FinishedRun]) -> str:
    """How to read the curves of training."""
    told = (
        "Training loss is what the optimiser was given: with mixup, masks, class weights or a weak model beside it is "
        "not that of the windows as they are, and compares no models; validation loss does."
    )
    if any(len(run.trainings) > 1 for run in runs):
        told += " Of a cross-validation every fold is a faint line, the mean of all folds a strong one."
    return told


def describe(comparison: Comparison) -> str:
    """The scores in a few lines for a terminal."""
    shown = ("accuracy", "macro_f1", "roc_auc")
    lines = [["", *(MEASURES[name].partition(", one")[0] for name in shown), "minutes"]]
    for run, scores in zip(comparison.runs, comparison.scores, strict=True):
        told = [with_interval(scores, name) for name in shown]
        lines.append([shortened(run.name), *told, speed_of(run)["minutes of training"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    names, several = [run.name for run in comparison.runs], len(comparison.pairs) > 1
    for pair in comparison.pairs:
        first, second = (shortened(names[index]) for index in pair["pair"])
        test, p = ("Holm's", pair["p_holm"]) if several else ("McNemar's", pair["mcnemar"]["p"])
        gain = with_interval(pair, "accuracy", "+")
        table.append(f"{second} against {first}: accuracy {gain}, {test} p {p_value(p)}")
    return "\n".join([*table, *(f"note: {line}" for line in warnings(comparison.runs))])
