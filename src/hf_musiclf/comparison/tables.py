"""Finished runs side by side: all figures of a comparison, and the tables that show them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hf_musiclf.comparison.runs import FinishedRun
from hf_musiclf.intervals import BOOTSTRAPPED, bootstrap_intervals, resample
from hf_musiclf.pages import Block, Heading, Paragraph, Table
from hf_musiclf.report import with_interval
from hf_musiclf.significance import holm, mcnemar, resampled_differences

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
# Class names have their own capitals.
SPELLED = {"Clap": "CLAP", "Cnn": "CNN", "Crnn": "CRNN", "EfficientAt": "EfficientAT", "Vgg": "VGG"}
# All pairs of as many runs; of more, each is compared with the baseline.
FEW = 4
TRACKS_SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """runs: in one order of tracks and labels. scores: by run, of whole test tracks, with NAME_interval for each of
    MEASURES. pairs: of each two runs that are compared, see `compare_pairs`. n_resamples: of the bootstrap."""

    runs: tuple[FinishedRun, ...]
    scores: tuple[Mapping[str, Any], ...]
    pairs: tuple[Mapping[str, Any], ...]
    n_resamples: int


def compare_runs(runs: Sequence[FinishedRun], baseline: int | None = None) -> Comparison:
    """All figures of these runs, which are as `runs.read_runs` gives them.

    baseline: the run that all others are compared with; None: all pairs of few runs, else the first run. Scores are the
    reports' own, with intervals for those that older reports give without.
    """
    n_resamples = max(run.report["arguments"]["bootstrap_resamples"] for run in runs)
    scores = []
    for run in runs:
        said, found = run.tested, {}
        if any(f"{name}_interval" not in run.scores for name in BOOTSTRAPPED):
            found = bootstrap_intervals(said.probabilities, said.label_ids, said.groups, n_resamples)
        scores.append({f"{name}_interval": interval for name, interval in found.items()} | dict(run.scores))
    if baseline is None and len(runs) <= FEW:
        pairs = list(combinations(range(len(runs)), 2))
    else:
        pairs = [(baseline or 0, other) for other in range(len(runs)) if other != (baseline or 0)]
    return Comparison(tuple(runs), tuple(scores), tuple(compare_pairs(runs, pairs, n_resamples)), n_resamples)


def compare_pairs(
    runs: Sequence[FinishedRun], pairs: Sequence[tuple[int, int]], n_resamples: int
) -> list[dict[str, Any]]:
    """For each pair of runs, (first, second) by number, how much better the second is on the same tracks.

    Returns dicts: "pair"; what `resampled_differences` finds, second less first; "mcnemar"; and "p_holm", its p among
    those of all these pairs.
    """
    truth, groups = runs[0].tested.label_ids, runs[0].tested.groups
    resampled = [resample(run.tested.probabilities, truth, groups, n_resamples) for run in runs]
    found = []
    for first, second in pairs:
        gains = resampled_differences(resampled[second], resampled[first])
        test = mcnemar(*(runs[number].tested.predicted == truth for number in (first, second)))
        found.append({"pair": (first, second), **gains, "mcnemar": test})
    for row, p in zip(found, holm([row["mcnemar"]["p"] for row in found]), strict=True):
        row["p_holm"] = p
    return found


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
    found = dict.fromkeys(("model", "weights", "parameters", "of them trained", "split", "training seed"), DASH)
    found["split"] = f"{report['split_scheme']}{folds}, seed {report['split_seed']}"
    if model is None:
        return found | _ensemble_facts(report.get("members", ()))
    return found | {
        "model": architecture(model["class"]),
        "weights": f"from {model['base_model']}" if model["base_model"] else model["start"],
        "parameters": f"{model['parameters']:,}",
        "of them trained": f"{model['trainable']:,}",
        "training seed": f"{report['seed']}",
    }


def architecture(model_class: str) -> str:
    """What the field calls the model of a class.

    >>> architecture("EfficientAtForAudioClassification"), architecture("ASTForAudioClassification")
    ('EfficientAT', 'AST')
    """
    stem = model_class.partition("For")[0] or model_class
    return SPELLED.get(stem, stem)


def _ensemble_facts(members: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Parameters are those of all its members together, where all are known."""
    found, models = {"model": f"ensemble of {len(members)}"}, [member.get("model") for member in members]
    if members and all(models):
        for fact, key in (("parameters", "parameters"), ("of them trained", "trainable")):
            found[fact] = f"{sum(model[key] for model in models):,}"
    return found


def speed_of(run: FinishedRun) -> dict[str, str]:
    seconds = run.report.get("seconds", run.report.get("training", {}).get("seconds_since_start_or_resume"))
    devices = sorted({part["training"]["device"] for part in run.trainings})
    rates = {"training": [], "evaluation": []}
    for part in run.trainings:
        rates["training"].append(None if _embeds(part) else part["training"].get("train_windows_per_second"))
        rates["evaluation"].append(_evaluation_rate(part))
    return {
        "minutes of training": DASH if seconds is None else f"{seconds / 60:.{1 if seconds >= 60 else 2}f}",
        "device": ", ".join(devices) or DASH,
        **{
            f"windows a second in {what}": f"{statistics.median(found):,.0f}" if found and None not in found else DASH
            for what, found in rates.items()
        },
    }


def _embeds(report: Mapping[str, Any]) -> bool:
    """Whether a frozen backbone was run once, before: what Trainer then counts are embeddings."""
    asked = (report["arguments"].get(name) for name in ("train_layers", "train_windows", "cache_embeddings"))
    return tuple(asked) == ("head", "all", True)


def _evaluation_rate(report: Mapping[str, Any]) -> float | None:
    """Windows a second of a run's evaluations on validation, None where that is not known."""
    history = report["training"]["history"]
    logged = [entry["eval_samples_per_second"] for entry in history if "eval_samples_per_second" in entry]
    return statistics.median(logged) if logged and not _embeds(report) else None


def pair_blocks(comparison: Comparison, word: str) -> list[Block]:
    """The paired differences, and how to read them."""
    names, pairs = [run.name for run in comparison.runs], comparison.pairs
    head = ("A against B", "accuracy", "F1, macro", "only A right", "only B right")
    rows = []
    for pair in pairs:
        first, second = pair["pair"]
        gains = (with_interval(pair, name, "+") for name in ("accuracy", "macro_f1"))
        test = pair["mcnemar"]
        cells = *gains, str(test["only_second"]), str(test["only_first"]), p_value(test["p"]), p_value(pair["p_holm"])
        rows.append((f"{names[second]} against {names[first]}", *cells))
    notes = (
        f"Differences are A minus B, with 95 % intervals from the same resampled {word}s for both models. "
        "One without an interval is the same in every resample, as where both are right on the same tracks: with other "
        "tracks they might differ. "
        f"McNemar's exact test takes tracks for independent: where one {word} has several, trust the intervals. "
        "Neither knows of other seeds: how much a model gains by chance in training, only more runs tell."
    )
    if len(pairs) > 1:
        notes += f" Holm's p holds for all {len(pairs)} pairs together; the intervals are of each pair by itself."
    shown = None if len(pairs) > 1 else -1  # of one pair Holm's p is McNemar's
    table = Table((*head, "McNemar's p", "Holm's p")[:shown], tuple(row[:shown] for row in rows))
    return [Heading("Differences"), table, Paragraph(notes)]


def p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def disagreement(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """How far the models are apart on each track: the mean total variation of their pairs, `(tracks,)` in [0, 1].

    probabilities: by model, two or more of `(tracks, classes)`.
    """
    return np.mean([np.abs(one - other).sum(axis=1) / 2 for one, other in combinations(probabilities, 2)], axis=0)


def disagreement_blocks(runs: Sequence[FinishedRun]) -> list[Block]:
    """The tracks on which the models' probabilities are farthest apart, and what each says of them."""
    first, predicted = runs[0].tested, [run.tested.predicted for run in runs]
    apart = disagreement([run.tested.probabilities for run in runs])
    order = [item for item in np.argsort(-apart, kind="stable") if np.ptp([said[item] for said in predicted])]
    if not order:
        return [Paragraph("The models give every track the same label.")]
    rows = []
    for item in order[:TRACKS_SHOWN]:
        label = first.label_ids[item]
        answers = [_answer(run.tested.probabilities[item], label, first.labels) for run in runs]
        rows.append((first.tracks[item], first.groups[item] or DASH, first.labels[label], *answers))
    head = ("track", runs[0].report["data"]["group"], "label", *(run.name for run in runs))
    count = (
        f"{len(order)} of {len(first.tracks)} tracks get different labels. Those whose probabilities differ most, with "
        "the label that each model predicts, right (✓) or wrong (✗), and its probability:"
    )
    return [Paragraph(count), Table(head, tuple(rows))]


def _answer(probabilities: np.ndarray, label: int, labels: Sequence[str]) -> str:
    said = probabilities.argmax()
    return f"{'✓' if said == label else '✗'} {labels[said]} {probabilities[said]:.2f}"
