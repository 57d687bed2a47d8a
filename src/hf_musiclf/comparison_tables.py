"""Finished runs side by side: all figures of a comparison, and the tables that show them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hf_musiclf.comparison import compare_pairs, disagreement, missing_intervals
from hf_musiclf.comparison_runs import FinishedRun
from hf_musiclf.pages import Block, Heading, Paragraph, Table
from hf_musiclf.report import with_interval

MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "precision, macro",
    "macro_recall": "recall, macro",
    "macro_f1": "F1, macro",
    "roc_auc": "ROC AUC, macro, one against the rest",
    "log_loss": "log loss, nats",
}
DASH = "–"
# All pairs of as many runs; of more, each is compared with the baseline.
FEW = 4
TRACKS_SHOWN = 10
RESAMPLES = 2000  # of an ensemble, whose report has no arguments


@dataclass(frozen=True)
class Comparison:
    """runs: in one order of tracks and labels. scores: by run, of whole test tracks, with NAME_interval for each of
    MEASURES. pairs: rows of `comparison.compare_pairs`. n_resamples: of the bootstrap."""

    runs: tuple[FinishedRun, ...]
    scores: tuple[Mapping[str, Any], ...]
    pairs: tuple[Mapping[str, Any], ...]
    n_resamples: int


def compare_runs(runs: Sequence[FinishedRun], baseline: int | None = None) -> Comparison:
    """All figures of these runs, which are as `comparison_runs.read_runs` gives them.

    baseline: the run that all others are compared with; None: all pairs of few runs, else the first run. Scores are the
    reports' own, with intervals for those that they give without.
    """
    first = runs[0]
    n_resamples = max(run.report.get("arguments", {}).get("bootstrap_resamples", RESAMPLES) for run in runs)
    of_tracks = first.groups, len(first.labels), n_resamples
    scores = [
        missing_intervals(run.label_ids, run.predicted, run.losses, *of_tracks) | dict(run.scores) for run in runs
    ]
    if baseline is None and len(runs) <= FEW:
        pairs = list(combinations(range(len(runs)), 2))
    else:
        pairs = [(baseline or 0, other) for other in range(len(runs)) if other != (baseline or 0)]
    predictions = [run.predicted for run in runs]
    of_pairs = compare_pairs(first.label_ids, predictions, first.groups, len(first.labels), pairs, n_resamples)
    return Comparison(tuple(runs), tuple(scores), tuple(of_pairs), n_resamples)


def score_table(comparison: Comparison) -> Table:
    """A column a run, a row a fact or a score."""
    runs = comparison.runs
    facts = [facts_of(run) for run in runs]
    rows = [(key, *(fact[key] for fact in facts)) for key in facts[0]]
    scores = [
        (told, *(with_interval(scores, name) if name in scores else DASH for scores in comparison.scores))
        for name, told in MEASURES.items()
    ]
    speeds = [speed_of(run) for run in runs]
    rows += scores + [(key, *(speed[key] for speed in speeds)) for key in speeds[0]]
    return Table(("", *(run.name for run in runs)), tuple(rows))


def facts_of(run: FinishedRun) -> dict[str, str]:
    report, model = run.report, run.report.get("model")
    folds = f", {len(report['folds']['accuracy']['values'])} folds" if "folds" in report else ""
    split = f"{report['split_scheme']}{folds}, seed {report['split_seed']}"
    if model is None:
        nothing = dict.fromkeys(("weights", "parameters", "of them trained"), DASH)
        return {
            "model": f"ensemble of {len(report.get('members', ()))}",
            **nothing,
            "split": split,
            "training seed": DASH,
        }
    return {
        "model": model["class"].partition("For")[0] or model["class"],
        "weights": f"from {model['base_model']}" if model["base_model"] else model["start"],
        "parameters": f"{model['parameters']:,}",
        "of them trained": f"{model['trainable']:,}",
        "split": split,
        "training seed": f"{report['seed']}",
    }


def speed_of(run: FinishedRun) -> dict[str, str]:
    trainings = [part["training"] for part in run.trainings]
    seconds = run.report.get("seconds", run.report.get("training", {}).get("seconds_since_start_or_resume"))
    devices = sorted({training["device"] for training in trainings})
    found = {
        "minutes of training": DASH if seconds is None else f"{seconds / 60:.{1 if seconds >= 60 else 2}f}",
        "device": ", ".join(devices) or DASH,
    }
    for told, rates in (
        ("in training", [training.get("train_windows_per_second") for training in trainings]),
        ("in evaluation", [_evaluation_rate(part) for part in run.trainings]),
    ):
        known = bool(rates) and None not in rates
        found[f"windows a second {told}"] = f"{statistics.median(rates):,.0f}" if known else DASH
    return found


def _evaluation_rate(report: Mapping[str, Any]) -> float | None:
    """Windows a second of a run's evaluations on validation, None where that is not known.

    A frozen backbone may have been run once, before: what Trainer then counts are embeddings.
    """
    training, arguments = report["training"], report["arguments"]
    if "eval_windows_per_second" in training:
        return training["eval_windows_per_second"]
    asked = (arguments.get(name) for name in ("train_layers", "train_windows", "cache_embeddings"))
    logged = [entry["eval_samples_per_second"] for entry in training["history"] if "eval_samples_per_second" in entry]
    return statistics.median(logged) if logged and tuple(asked) != ("head", "all", True) else None


def pair_blocks(comparison: Comparison, word: str) -> list[Block]:
    """The paired differences, and how to read them."""
    runs, several = comparison.runs, len(comparison.pairs) > 1
    names = [run.name for run in runs]
    head = [
        "second against first",
        "accuracy",
        "F1, macro",
        "only the first right",
        "only the second right",
        "McNemar's p",
    ]
    rows = []
    for pair in comparison.pairs:
        first, second = pair["pair"]
        test = pair["mcnemar"]
        cells = [f"{names[second]} against {names[first]}", *(signed(pair[name]) for name in ("accuracy", "macro_f1"))]
        cells += [str(test["only_first"]), str(test["only_second"]), p_value(test["p"])]
        rows.append((*cells, *([p_value(pair["p_holm"])] if several else [])))
    notes = (
        f"Differences are second minus first, with 95 % intervals from the same resampled {word}s for both models. "
        f"McNemar's exact test takes tracks for independent: where one {word} has several, trust the intervals. "
        "Neither knows of other seeds: how much a model gains by chance in training, only more runs tell."
    )
    if several:
        notes += f" Holm's p holds for all {len(rows)} pairs together; the intervals are of each pair by itself."
    if any(pair["accuracy"]["interval"] == [0.0, 0.0] for pair in comparison.pairs):
        notes += " [0, 0] says that both were right on the same tracks, not that no other tracks could tell them apart."
    table = Table((*head, *(["Holm's p"] if several else [])), tuple(rows))
    return [Heading("Differences"), table, Paragraph(notes)]


def signed(found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    value, *ends = (f"{round(x, 3) or 0:+.3f}".replace("-", "−") for x in (found["difference"], *(interval or ())))
    return f"{value} [{', '.join(ends)}]" if ends else value


def p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def disagreement_blocks(runs: Sequence[FinishedRun]) -> list[Block]:
    """The tracks on which the models' probabilities are farthest apart, and what each says of them."""
    first = runs[0]
    apart = disagreement([run.probabilities for run in runs])
    differ = np.ptp([run.predicted for run in runs], axis=0) > 0
    order = [item for item in np.argsort(-apart, kind="stable") if differ[item]]
    if not order:
        return [Paragraph("The models give every track the same label.")]
    rows = []
    for item in order[:TRACKS_SHOWN]:
        said = [_answer(run, item) for run in runs]
        rows.append((first.tracks[item], first.groups[item] or DASH, first.labels[first.label_ids[item]], *said))
    head = ("track", first.report["data"]["group"], "label", *(run.name for run in runs))
    count = f"{len(order)} of {len(first.tracks)} tracks get different labels; those whose probabilities differ most:"
    return [Paragraph(count), Table(head, tuple(rows))]


def _answer(run: FinishedRun, item: int) -> str:
    said = run.predicted[item]
    mark = "✓" if said == run.label_ids[item] else "✗"
    return f"{mark} {run.labels[said]} {run.probabilities[item, said]:.2f}"
