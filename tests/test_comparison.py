"""Runs side by side: differences are paired, intervals are of groups, and the page says what the reports say."""

import csv
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from recipe_runs import ROOT, TINY, data_flags, run_recipe
from sklearn import metrics as sk

from hf_musiclf.comparison import compare_pairs, disagreement, holm, macro_roc, mcnemar, missing_intervals
from hf_musiclf.comparison_page import describe, write_comparison
from hf_musiclf.comparison_plots import plot_label_rocs
from hf_musiclf.comparison_runs import read_run, read_runs, warnings
from hf_musiclf.comparison_tables import DASH, MEASURES, compare_runs, disagreement_blocks, score_table
from hf_musiclf.errors import UserError
from hf_musiclf.intervals import bootstrap_intervals
from hf_musiclf.metrics import classification_metrics, score_windows
from hf_musiclf.pages import Code, Heading, Paragraph, Table, to_html, to_markdown
from hf_musiclf.probabilities import softmax
from hf_musiclf.report import name_classes

GENRES = ("blues", "jazz", "rock")
VOID = {"meta", "img", "br", "hr", "link"}


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(seed, n=60, labels=GENRES, strength=1.5):
    """Labels `(n,)`, probabilities `(n, labels)` with six digits, and groups of three tracks."""
    rng = np.random.default_rng(seed)
    label_ids = np.arange(n) % len(labels)
    logits = rng.normal(size=(n, len(labels))) + strength * np.eye(len(labels))[label_ids]
    return label_ids, softmax(logits).round(6), [f"artist {number // 3}" for number in range(n)]


def write_run(folder, probabilities, label_ids, groups, labels=GENRES, order=None, **changes):
    """A folder as a finished run leaves it, as far as a comparison reads it; changes: of the report."""
    folder.mkdir(parents=True)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    scores = score_windows(probabilities, label_ids, groups=groups, n_resamples=200)
    name_classes(scores, labels)
    history = [{"step": step, "epoch": step / 4, "eval_loss": 2 / step, "eval_track_accuracy": 0.5} for step in (4, 8)]
    leak = {"items": 0, "known": len(groups)}
    report = {
        "recipe": "ast_gtzan",
        "command": "accelerate launch recipes/ast_gtzan.py --model_config 'a<b & c'",
        "seed": 0,
        "data": {"source": "synthetic corpus", "group": "artist", "labels": list(labels)},
        "split_scheme": "artist",
        "split_seed": 0,
        "leakage": {"train/test": {"group": leak}},
        "model": {
            "class": "ASTForAudioClassification", "base_model": None, "start": "from scratch", "parameters": 22762,
            "trainable": 22762,
        },
        "training": {"seconds_since_start_or_resume": 90.0, "device": "cpu", "history": history},
        "test": {"track": scores},
        "arguments": {"bootstrap_resamples": 200},
        **changes,
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"tracks": f"digest {report['split_seed']}"}), encoding="utf-8")
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "track", "group", "label", "predicted", *labels])
        rows.writerow(["validation", "not tested", "", labels[0], labels[0], *np.eye(len(labels))[0]])
        for item in range(len(label_ids)) if order is None else order:
            said = labels[probabilities[item].argmax()]
            rows.writerow(
                ["test", f"track {item}", groups[item] or "", labels[label_ids[item]], said, *probabilities[item]]
            )
    return folder


@pytest.fixture
def two(tmp_path):
    """Two finished runs of other answers on the same tracks."""
    label_ids, first, groups = answers(0)
    return [
        write_run(tmp_path / name, said, label_ids, groups)
        for name, said in (("weak", answers(1, strength=0.5)[1]), ("strong", first))
    ]


# Figures


def test_a_model_differs_from_itself_by_nothing():
    label_ids, probabilities, groups = answers(0)
    said = probabilities.argmax(axis=1)
    (found,) = compare_pairs(label_ids, [said, said], groups, 3, [(0, 1)])
    for name in ("accuracy", "macro_f1"):
        assert found[name] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert found["mcnemar"] == {"only_first": 0, "only_second": 0, "p": 1.0}
    assert disagreement([probabilities, probabilities]).max() == 0


def test_mcnemars_p_is_that_of_the_coin_counted_by_hand():
    # One alone right on 8 tracks, the other alone on 2: P(at most 2 of 10 heads) = (1 + 10 + 45) / 1024, both tails.
    first = np.array([True] * 8 + [False] * 2 + [True] * 30 + [False] * 5)
    second = np.array([False] * 8 + [True] * 2 + [True] * 30 + [False] * 5)
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (8, 2)
    assert found["p"] == pytest.approx(2 * 56 / 1024)
    assert mcnemar(second, first)["p"] == found["p"]


def test_holm_steps_down_from_the_smallest_and_never_falls():
    # 3 * 0.01; 2 * 0.02 after it; then 0.9. And 2 * 0.03 holds up the larger 0.04.
    assert holm([0.9, 0.01, 0.02]) == pytest.approx([0.9, 0.03, 0.04])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.7, 0.8]) == [1.0, 1.0] and holm([0.2]) == [0.2]


def test_swapping_two_models_turns_every_difference_round():
    label_ids, one, groups = answers(0)
    said = one.argmax(axis=1), answers(1)[1].argmax(axis=1)
    there, back = compare_pairs(label_ids, said, groups, 3, [(0, 1), (1, 0)])
    for name in ("accuracy", "macro_f1"):
        assert there[name]["difference"] == -back[name]["difference"] != 0
        assert there[name]["interval"] == pytest.approx([-end for end in back[name]["interval"][::-1]])
    assert there["mcnemar"]["only_first"] == back["mcnemar"]["only_second"]


def test_differences_are_those_of_the_metrics():
    label_ids, one, groups = answers(0)
    other = answers(1)[1]
    (found,) = compare_pairs(label_ids, [one.argmax(axis=1), other.argmax(axis=1)], groups, 3, [(0, 1)])
    scores = [classification_metrics(softmax(np.log(rows)), label_ids) for rows in (one, other)]
    for name in ("accuracy", "macro_f1"):
        assert found[name]["difference"] == pytest.approx(scores[1][name] - scores[0][name])


def simulated(rng, n_groups, size=5, rates=(0.6, 0.7)):
    """Two models right with these rates, hard and easy groups shared: labels, predictions of both, groups."""
    ease = rng.normal(size=(n_groups, 1)).repeat(size, axis=1)
    right = [ease + 0.5 * rng.normal(size=ease.shape) < _quantile(rate) for rate in rates]
    labels = rng.integers(2, size=n_groups * size)
    said = [np.where(hits.ravel(), labels, 1 - labels) for hits in right]
    return labels, said, np.arange(n_groups).repeat(size)


def _quantile(rate):
    from scipy import stats

    return stats.norm.ppf(rate, scale=1.25**0.5)


def test_the_interval_of_the_difference_covers_what_was_simulated_and_is_paired():
    rng = np.random.default_rng(2)
    covered, widths = 0, np.zeros(2)
    for _ in range(200):
        labels, said, groups = simulated(rng, n_groups=60)
        (found,) = compare_pairs(labels, said, groups, 2, [(0, 1)], n_resamples=300)
        low, high = found["accuracy"]["interval"]
        covered += low <= 0.1 <= high
        alone = bootstrap_intervals(np.eye(2)[said[0]], labels, groups, n_resamples=300)["accuracy"]
        widths += high - low, alone[1] - alone[0]
    # 95 % nominal, minus four binomial standard errors of 1.5 % and the small-sample deficit of percentiles.
    assert 0.88 < covered / 200 < 1
    # What makes a group hard for both cancels out: unpaired, a difference would be wider than one model's accuracy.
    assert widths[0] < 0.8 * widths[1]


def test_one_group_has_no_interval():
    label_ids, one, _ = answers(0)
    said = one.argmax(axis=1)
    (found,) = compare_pairs(label_ids, [said, 0 * said], ["the same"] * len(said), 3, [(0, 1)])
    assert found["accuracy"]["interval"] is None and found["accuracy"]["difference"] < 0


def test_resamples_of_precision_recall_and_loss_equal_a_loop_that_scores_them_anew():
    rng, groups = np.random.default_rng(3), [f"artist {number // 3}" for number in range(30)]
    label_ids, said, losses = rng.integers(2, size=30), rng.integers(2, size=30), rng.exponential(size=30)
    label_ids[:3] = said[1:3] = 2  # of one artist alone: a third of the resamples lack this label
    found = missing_intervals(label_ids, said, losses, groups, 3, n_resamples=50)
    drawn = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=50)
    scores = []
    for counts in drawn:
        items = np.repeat(np.arange(30), counts[np.arange(30) // 3])
        table = sk.precision_recall_fscore_support(label_ids[items], said[items], average="macro", zero_division=0)
        scores.append([*table[:2], losses[items].mean()])
    for column, name in enumerate(("macro_precision", "macro_recall", "log_loss")):
        expected = np.quantile(np.array(scores)[:, column], [0.025, 0.975])
        assert found[f"{name}_interval"] == pytest.approx(expected)
    certain = missing_intervals(label_ids, label_ids, 0 * losses + 0.1, groups, 3)
    assert certain["macro_precision_interval"] is certain["macro_recall_interval"] is None


@pytest.mark.parametrize("decimals", [6, 1])
def test_the_area_under_the_mean_curve_is_the_macro_auc(decimals):
    label_ids, probabilities, _ = answers(4, n=40, labels="abcd", strength=0.7)
    ties = probabilities.round(decimals) + 1e-9
    probabilities = ties / ties.sum(axis=1, keepdims=True) if decimals > 1 else ties
    curve = macro_roc(probabilities, label_ids)
    areas = [sk.roc_auc_score(label_ids == k, probabilities[:, k]) for k in range(4)]
    assert sk.auc(*curve) == pytest.approx(np.mean(areas), rel=1e-12)
    assert all((np.diff(axis) >= 0).all() for axis in curve)
    assert macro_roc(probabilities[label_ids == 0], label_ids[label_ids == 0]) is None


# Runs


def test_figures_are_those_of_the_reports(finished, corpus, tmp_path, monkeypatch):
    """Of real runs, and both ways: as they are read, and recomputed from predictions.csv."""
    monkeypatch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
    folder, report = finished
    of_seed = {"seed": 1, "split_seed": report["split_seed"]}
    others = [
        run_recipe(name, corpus, output_dir=tmp_path / name, **of_seed) for name in ("ast_gtzan", "efficientat_gtzan")
    ]
    comparison = compare_runs(read_runs([folder, tmp_path / "ast_gtzan", tmp_path / "efficientat_gtzan"]))
    assert [run.name for run in comparison.runs] == ["ast", "ast_gtzan", "efficientat_gtzan"]
    assert len(comparison.pairs) == 3
    for run, scores, expected in zip(comparison.runs, comparison.scores, [report, *others], strict=True):
        track = expected["test"]["track"]
        assert {name: scores[name] for name in MEASURES} == {name: track[name] for name in MEASURES}
        again = score_windows(run.probabilities, run.label_ids, groups=list(run.groups), n_resamples=200)
        for name in MEASURES:
            assert again[name] == pytest.approx(track[name], abs=1e-5)
        for name in ("accuracy", "macro_f1"):
            assert again[f"{name}_interval"] == pytest.approx(track[f"{name}_interval"], abs=1e-5)
        assert run.confusion.tolist() == track["confusion"]
        assert run.losses.mean() == pytest.approx(track["log_loss"], abs=1e-5)
    table = score_table(comparison)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["model"] == ("AST", "AST", "EfficientAt")
    assert rows["accuracy"][0].startswith(f"{report['test']['track']['accuracy']:.3f} [")
    assert rows["windows a second in training"] == (DASH,) * 3  # not recorded, not guessed
    assert warnings(comparison.runs) == []
    shutil.copytree(tmp_path / "ast_gtzan", tmp_path / "moved")
    run_file = json.loads((tmp_path / "moved" / "run.json").read_text())
    (tmp_path / "moved" / "run.json").write_text(json.dumps({**run_file, "tracks": "others"}))
    (told,) = warnings(read_runs([folder, tmp_path / "moved"]))
    assert told.startswith("moved was not trained as ast was (by their run.json the tracks of training")


def test_a_cross_validation_is_compared_on_every_track_that_it_tested(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
    flags = {**TINY, **data_flags(corpus), "folds": 2, "max_steps": 2, "save_strategy": "no", "eval_strategy": "steps"}
    flags |= {"eval_steps": 1, "load_best_model_at_end": False, "output_dir": tmp_path / "cv"}
    words = [str(ROOT / "recipes" / "ast_gtzan.py"), *(f"--{key}={value}" for key, value in flags.items())]
    report = script("cross_validate").main(words)
    (tmp_path / "half").mkdir()
    shutil.copytree(tmp_path / "cv" / "fold_1", tmp_path / "half" / "fold_1")
    comparison = compare_runs(read_runs([tmp_path / "cv", tmp_path / "cv"]))
    first = comparison.runs[0]
    assert len(first.tracks) == report["test"]["track"]["n"] == 80 and len(first.trainings) == 2
    assert comparison.scores[0]["accuracy"] == report["test"]["track"]["accuracy"]
    assert [run.name for run in comparison.runs] == ["cv", "cv (2)"]
    for page in write_comparison(comparison, tmp_path / "page", "python scripts/compare.py"):
        assert "every fold is a faint line" in page.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="half holds an unfinished cross-validation; run the same command again"):
        read_run(tmp_path / "half", "half")
    with pytest.raises(UserError, match=r"tested on different tracks, 80 and \d+ with \d+ in common \(only cv has "):
        read_runs([tmp_path / "cv", tmp_path / "cv" / "fold_1"])


def test_the_order_of_tracks_and_of_labels_does_not_matter(two, tmp_path):
    label_ids, probabilities, groups = answers(0)
    back = np.arange(3)[::-1]
    other = write_run(
        tmp_path / "other", probabilities[:, back], back[label_ids], groups, labels=GENRES[::-1],
        order=np.random.default_rng(0).permutation(len(label_ids)),
    )  # fmt: skip
    _, strong, same = read_runs([*two, other])
    assert same.labels == strong.labels and same.tracks == strong.tracks and same.groups == strong.groups
    assert np.array_equal(same.label_ids, strong.label_ids) and np.array_equal(same.predicted, strong.predicted)
    assert same.probabilities == pytest.approx(strong.probabilities)


def test_other_training_tracks_and_leaks_are_told(two, tmp_path):
    label_ids, probabilities, groups = answers(5)
    leak = {"train/test": {"group": {"items": 7, "known": 60}}}
    other = write_run(
        tmp_path / "other", probabilities, label_ids, groups, split_seed=4, split_scheme="random", leakage=leak
    )
    seed, leaks = warnings(read_runs([two[0], other]))
    assert seed.startswith("other was not trained as weak was (split 'random', not 'artist'; split seed 4, not 0; by ")
    assert leaks == "other: 7 of 60 test tracks share their artist with training."
    assert f"note: {seed}" in describe(compare_runs(read_runs([two[0], other])))


def test_what_was_not_trained_has_dashes(two, tmp_path):
    """An ensemble tells neither a model nor a training."""
    folder = shutil.copytree(two[0], tmp_path / "mixed")
    report = json.loads((folder / "report.json").read_text())
    for key in ("model", "training", "arguments", "leakage"):
        report.pop(key)
    (folder / "report.json").write_text(json.dumps({**report, "members": [{}, {}]}))
    comparison = compare_runs(read_runs([two[1], folder]))
    rows = {row[0]: row[2] for row in score_table(comparison).rows}
    assert rows["model"] == "ensemble of 2"
    assert rows["parameters"] == rows["minutes of training"] == rows["windows a second in evaluation"] == DASH
    assert write_comparison(comparison, tmp_path / "page", "python scripts/compare.py")[1].is_file()


@pytest.mark.parametrize(
    ("cached", "shown"),
    [({}, "400"), ({"train_layers": "head", "train_windows": "all", "cache_embeddings": True}, DASH)],
)
def test_windows_a_second_are_what_was_logged_but_not_of_embeddings(cached, shown, two, tmp_path):
    label_ids, probabilities, groups = answers(5)
    history = [{"step": 1, "epoch": 1, "eval_samples_per_second": value} for value in (300, 400, 500)]
    training = {"seconds_since_start_or_resume": 30.0, "device": "cpu", "history": history}
    arguments = {"bootstrap_resamples": 200, **cached}
    other = write_run(tmp_path / "o", probabilities, label_ids, groups, training=training, arguments=arguments)
    rows = {row[0]: row[2] for row in score_table(compare_runs(read_runs([two[0], other]))).rows}
    assert rows["windows a second in evaluation"] == shown
    assert rows["windows a second in training"] == DASH and rows["minutes of training"] == "0.50"


def test_few_runs_are_compared_in_all_pairs_and_more_with_a_baseline(two):
    pairs = [found["pair"] for found in compare_runs(read_runs([*two, *two])).pairs]
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [found["pair"] for found in compare_runs(read_runs([*two, *two]), 2).pairs] == [(2, 0), (2, 1), (2, 3)]
    many = compare_runs(read_runs([*two, *two, *two])).pairs
    assert [found["pair"] for found in many] == [(0, other) for other in range(1, 6)]
    assert [found["p_holm"] for found in many] == holm([found["mcnemar"]["p"] for found in many])


# What is refused


def test_what_cannot_be_compared_is_told_in_one_line(two, tmp_path):
    def refused(match, *folders, **options):
        with pytest.raises(UserError, match=match) as error:
            read_runs(folders, **options)
        assert "\n" not in str(error.value)

    label_ids, probabilities, groups = answers(0)
    refused("1 run to compare; name two finished runs or more", two[0])
    refused("names has 1 entries for 2 runs; give one for each", *two, names=["a"])
    refused("nowhere is no folder; name the output_dir of a finished run", two[0], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(r"empty holds no finished run: its report\.json is missing; name", two[0], tmp_path / "empty")
    started = shutil.copytree(two[0], tmp_path / "started")
    (started / "report.json").unlink()
    refused("started holds an unfinished run; run the same command again: it starts over", two[0], started)
    (started / "report.json").write_text('{"rows": []}')
    refused(r"report\.json is not of a recipe's run or of scripts/cross_validate\.py", two[0], started)

    fewer = write_run(tmp_path / "fewer", probabilities[:50], label_ids[:50], groups[:50])
    said = r"weak and fewer were tested on different tracks, 60 and 50 with 50 in common \(only weak has "
    refused(said + r"track 50, track 51, track 52 and 7 more\); compare runs of one --split_scheme", two[0], fewer)
    labels = write_run(tmp_path / "labels", probabilities, label_ids, groups, labels=("blues", "jazz", "polka"))
    refused("labels of weak and labels differ: only weak has rock; only labels has polka", two[0], labels)
    relabelled = write_run(tmp_path / "relabelled", probabilities, np.roll(label_ids, 1), groups)
    refused("know another label of 60 test tracks", two[0], relabelled)
    regrouped = write_run(tmp_path / "regrouped", probabilities, label_ids, [None, *groups[1:]])
    refused(r"know another group of 1 test tracks \(track 0\)", two[0], regrouped)


def test_a_damaged_run_is_told(two, tmp_path):
    folder = shutil.copytree(two[0], tmp_path / "damaged")
    path = folder / "predictions.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    damages = {
        r"its predictions\.csv and report\.json are not of one run": [lines[0], *lines[2:-1]],
        "does not hold every test track once": [*lines, lines[-1]],
        "cannot be read": [*lines[:-1], lines[-1].replace("track", "track,track")],
    }
    for said, damaged in damages.items():
        path.write_text("".join(damaged), encoding="utf-8")
        with pytest.raises(UserError, match=f"damaged is damaged: .*{said}"):
            read_runs([two[1], folder])
    path.unlink()
    with pytest.raises(UserError, match=r"predictions\.csv is missing; run it again"):
        read_runs([two[1], folder])


# The page


class Reader(HTMLParser):
    """Whether every element is closed in its turn, what images and links lead to, and the text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            assert dict(attributes)["alt"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


NAMES = ["<b>small</b> & co", 'a|"large"_[x](y)']


def test_the_page_needs_nothing_else_and_holds_every_name_escaped(two, tmp_path, capsys):
    comparison = script("compare").main([*map(str, two), "--names", *NAMES, "--output_dir", str(tmp_path / "page")])
    printed = capsys.readouterr().out
    assert (
        str(tmp_path / "page" / "comparison.html") in printed and f"{comparison.scores[0]['accuracy']:.3f}" in printed
    )
    page = (tmp_path / "page" / "comparison.html").read_text(encoding="utf-8")
    read = Reader(page)
    assert len(read.sources) == 6  # two confusion matrices, ROC twice, F1, validation
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert all(name in read.text for name in NAMES) and "<b>" not in page
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    text = (tmp_path / "page" / "comparison.md").read_text(encoding="utf-8")
    assert r"\<b\>small\</b\> & co" in text and r'a\|"large"\_\[x\](y)' in text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| accuracy")}
    assert widths == {4}
    for picture in re.findall(r"!\[[^\n|]*?\]\((pictures/[a-z_0-9]+\.png)\)", text):
        assert (tmp_path / "page" / picture).read_bytes().startswith(b"\x89PNG")
    assert not list((tmp_path / "page").rglob("*.part"))
    for name, told in MEASURES.items():
        for scores in comparison.scores:
            assert f"{scores[name]:.3f}" in read.text and told in read.text
    difference = comparison.pairs[0]["accuracy"]["difference"]
    assert f"{difference:+.3f}".replace("-", "−") in read.text and difference > 0
    assert f"{comparison.pairs[0]['mcnemar']['p']:.3f}" in read.text


def test_runs_of_one_name_are_told_apart_and_a_baseline_must_be_one_of_them(two, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"output_dir=.*predictions\.csv is a file; name a folder"):
        script("compare").main([*map(str, two), "--output_dir", str(two[0] / "predictions.csv")])
    monkeypatch.setattr("hf_musiclf.comparison_page.write_comparison", lambda *args: ())
    main = script("compare").main
    other = shutil.copytree(two[1], tmp_path / "later" / "weak")
    output = ["--output_dir", str(tmp_path / "page")]
    comparison = main([str(two[0]), str(other), *output])
    assert [run.name for run in comparison.runs] == [f"{tmp_path.name}/weak", "later/weak"]
    turned = main([str(two[0]), str(other), "--baseline", str(other), *output])
    assert [found["pair"] for found in turned.pairs] == [(1, 0)]
    with pytest.raises(UserError, match=r"baseline=elsewhere is none of the runs; name one of .*weak"):
        main([str(two[0]), str(other), "--baseline", "elsewhere", *output])


def test_the_tracks_that_are_listed_are_those_with_different_labels(two):
    first, second = read_runs(two)
    apart = [track for track, a, b in zip(first.tracks, first.predicted, second.predicted, strict=True) if a != b]
    told, table = disagreement_blocks([first, second])
    listed = [row[0] for row in table.rows]
    assert told.text.startswith(f"{len(apart)} of 60 tracks get different labels")
    assert len(listed) == min(10, len(apart)) and set(listed) <= set(apart)
    distances = dict(zip(first.tracks, disagreement([first.probabilities, second.probabilities]), strict=True))
    assert [distances[track] for track in listed] == sorted((distances[track] for track in apart), reverse=True)[:10]
    assert disagreement_blocks([first, first]) == [Paragraph("The models give every track the same label.")]


def test_blocks_say_the_same_in_both_forms(tmp_path):
    blocks = [Heading("a & b", 1), Paragraph("x < y"), Table(("", "n"), (("one", "1 | 2"),)), Code("a ``` b")]
    assert to_markdown(blocks, tmp_path) == (
        "# a & b\n\nx \\< y\n\n|  | n |\n| --- | --- |\n| one | 1 \\| 2 |\n\n````\na ``` b\n````\n"
    )
    read = Reader(to_html(blocks, "a & b"))
    assert all(piece in read.text for piece in ("a & b", "x < y", "1 | 2", "a ``` b"))


def test_long_names_and_many_labels_do_not_overlap(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    seen, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k))[1])
    labels = [f"Composer {number} with a long $name$ / arranger {number}" for number in range(10)]
    label_ids, probabilities, _ = answers(6, n=2000, labels=labels)
    names, path = [f"runs/efficientat_with_a_long_name_{number}" for number in range(9)], tmp_path / "roc.png"
    plot_label_rocs([probabilities] * 9, label_ids, labels, names, path)
    seen[0].draw_without_rendering()
    renderer = seen[0].canvas.get_renderer()
    titles = [axes.title.get_window_extent(renderer) for axes in seen[0].axes]
    boxes = [*titles, seen[0].legends[0].get_window_extent(renderer)]
    boxes += [axes.xaxis.label.get_window_extent(renderer) for axes in seen[0].axes if axes.get_xlabel()]
    assert len(titles) == 10 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    edge = 10  # pixels: nothing is cut off
    assert all(strip.min() == 255 for strip in (pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:]))
