"""Runs side by side: what is not of the same tracks is refused, and the page says what the reports say."""

import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from recipe_runs import ROOT, TINY, data_flags, run_recipe

from hf_musiclf.comparison.page import describe, page, per_label, write_comparison
from hf_musiclf.comparison.plots import plot_f1_by_label, plot_label_rocs, plot_training
from hf_musiclf.comparison.runs import read_run, read_runs, warnings
from hf_musiclf.comparison.tables import (
    DASH,
    MEASURES,
    compare_runs,
    disagreement,
    disagreement_blocks,
    p_value,
    pair_blocks,
    score_table,
)
from hf_musiclf.errors import UserError
from hf_musiclf.metrics import score_windows
from hf_musiclf.pages import Code, Heading, Paragraph, Pictures, Table, to_html, to_markdown
from hf_musiclf.predictions import Predictions, write_predictions
from hf_musiclf.probabilities import softmax
from hf_musiclf.report import score_tracks, with_interval
from hf_musiclf.significance import holm

GENRES = ("blues", "jazz", "rock")
VOID = {"meta", "img", "br", "hr", "link"}


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(seed, n=60, labels=GENRES, strength=1.5):
    """Labels `(n,)`, probabilities `(n, labels)`, and groups of three tracks."""
    rng = np.random.default_rng(seed)
    label_ids = np.arange(n) % len(labels)
    logits = rng.normal(size=(n, len(labels))) + strength * np.eye(len(labels))[label_ids]
    return label_ids, softmax(logits), [f"artist {number // 3}" for number in range(n)]


def write_run(folder, probabilities, label_ids, groups, labels=GENRES, order=None, **changes):
    """A folder as a finished run leaves it, as far as a comparison reads it; changes: of the report."""
    folder.mkdir(parents=True)
    order = range(len(label_ids)) if order is None else order
    tracks = tuple(f"track {item}" for item in order)
    tested = Predictions(
        labels, tracks, tuple(groups[item] for item in order), label_ids[list(order)], probabilities[list(order)]
    )
    scores = score_tracks(tested, n_resamples=200)
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
    held_out = Predictions(labels, ("not tested",), (None,), np.array([0]), np.eye(len(labels))[:1])
    write_predictions(folder / "predictions.csv", [{"validation": held_out, "test": tested}])
    return folder


@pytest.fixture
def two(tmp_path):
    """Two finished runs of other answers on the same tracks."""
    label_ids, first, groups = answers(0)
    return [
        write_run(tmp_path / name, said, label_ids, groups)
        for name, said in (("weak", answers(1, strength=0.5)[1]), ("strong", first))
    ]


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
        said = run.tested
        again = score_windows(said.probabilities, said.label_ids, groups=said.groups, n_resamples=200)
        for name in MEASURES:
            assert again[name] == pytest.approx(track[name], abs=1e-5)
            assert again[f"{name}_interval"] == pytest.approx(track[f"{name}_interval"], abs=1e-5)
        assert run.confusion.tolist() == track["confusion"]
    table = score_table(comparison)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["model"] == ("AST", "AST", "EfficientAT")
    assert rows["accuracy"][0].startswith(f"{report['test']['track']['accuracy']:.3f} [")
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
    assert len(first.tested.tracks) == report["test"]["track"]["n"] == 80 and len(first.trainings) == 2
    assert comparison.scores[0]["accuracy"] == report["test"]["track"]["accuracy"]
    assert [run.name for run in comparison.runs] == ["cv", "cv (2)"]
    for path in write_comparison(comparison, tmp_path / "page", "python scripts/compare.py"):
        assert "every fold is a faint line" in path.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="half holds an unfinished cross-validation; run the same command again"):
        read_run(tmp_path / "half", "half")
    with pytest.raises(UserError, match=r"have other test tracks, 80 and \d+ with \d+ in common \(only cv has "):
        read_runs([tmp_path / "cv", tmp_path / "cv" / "fold_1"])


def test_the_order_of_tracks_and_of_labels_does_not_matter(two, tmp_path):
    label_ids, probabilities, groups = answers(0)
    back = np.arange(3)[::-1]
    other = write_run(
        tmp_path / "other", probabilities[:, back], back[label_ids], groups, labels=GENRES[::-1],
        order=np.random.default_rng(0).permutation(len(label_ids)),
    )  # fmt: skip
    runs = read_runs([*two, other])
    assert [row["label"] for row in per_label(runs[2])] == list(GENRES)
    assert runs[2].confusion.tolist() == runs[1].confusion.tolist()
    _, strong, same = (run.tested for run in runs)
    assert same.labels == strong.labels and same.tracks == strong.tracks and same.groups == strong.groups
    assert np.array_equal(same.label_ids, strong.label_ids) and np.array_equal(same.predicted, strong.predicted)
    assert same.probabilities == pytest.approx(strong.probabilities)


def test_other_training_tracks_and_leaks_are_told(two, tmp_path):
    label_ids, probabilities, groups = answers(5)
    leak = {"train/test": {"group": {"items": 7, "known": 60}}}
    other = write_run(
        tmp_path / "other", probabilities, label_ids, groups, split_seed=4, split_scheme="random", leakage=leak
    )
    members = [{"shared_groups": {"items": count}} for count in (0, 3)]  # of an ensemble, whose own report has none
    mixed = write_run(tmp_path / "mixed", probabilities, label_ids, groups, members=members)
    assert warnings(read_runs([two[0], mixed])) == ["mixed: 3 of 60 test tracks share their artist with training."]
    elsewhere = {"source": "another corpus", "group": "artist", "labels": list(GENRES)}
    copied = write_run(tmp_path / "copied", probabilities, label_ids, groups, data=elsewhere)
    (source,) = warnings(read_runs([two[0], copied]))
    assert source.startswith("copied was not trained as weak was (data 'another corpus', not 'synthetic corpus'): ")
    seed, leaks = warnings(read_runs([two[0], other]))
    assert seed.startswith("other was not trained as weak was (split 'random', not 'artist'; split seed 4, not 0; by ")
    assert leaks == "other: 7 of 60 test tracks share their artist with training."
    assert f"note: {seed}" in describe(compare_runs(read_runs([two[0], other])))


@pytest.mark.parametrize(
    ("cached", "shown"),
    [({}, ["200", "400"]), ({"train_layers": "head", "train_windows": "all", "cache_embeddings": True}, [DASH, DASH])],
)
def test_windows_a_second_are_what_was_logged_but_not_of_embeddings(cached, shown, two, tmp_path):
    label_ids, probabilities, groups = answers(5)
    history = [{"step": 1, "epoch": 1, "eval_samples_per_second": value} for value in (300, 400, 500)]
    training = {
        "seconds_since_start_or_resume": 30.0, "train_windows_per_second": 200.0, "device": "cpu", "history": history
    }  # fmt: skip
    arguments = {"bootstrap_resamples": 200, **cached}
    other = write_run(tmp_path / "o", probabilities, label_ids, groups, training=training, arguments=arguments)
    rows = {row[0]: row[2] for row in score_table(compare_runs(read_runs([two[0], other]))).rows}
    assert [rows[f"windows a second in {what}"] for what in ("training", "evaluation")] == shown
    assert rows["minutes of training"] == "0.50"


def test_few_runs_are_compared_in_all_pairs_and_more_with_a_baseline(two):
    pairs = [found["pair"] for found in compare_runs(read_runs([*two, *two])).pairs]
    assert pairs == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [found["pair"] for found in compare_runs(read_runs([*two, *two]), 2).pairs] == [(2, 0), (2, 1), (2, 3)]
    many = compare_runs(read_runs([*two, *two, *two])).pairs
    assert [found["pair"] for found in many] == [(0, other) for other in range(1, 6)]
    assert [found["p_holm"] for found in many] == holm([found["mcnemar"]["p"] for found in many])


def test_of_several_pairs_the_terminal_tells_holms_p_and_of_one_mcnemars(two, tmp_path):
    label_ids, probabilities, groups = answers(3, strength=0.8)
    third = write_run(tmp_path / "third", probabilities, label_ids, groups)
    for folders, key, told in ((two, "mcnemar", "McNemar's"), ([*two, third], "p_holm", "Holm's")):
        comparison = compare_runs(read_runs(folders))
        for pair in comparison.pairs:
            first, second = (comparison.runs[number].name for number in pair["pair"])
            p = p_value(pair[key] if key == "p_holm" else pair[key]["p"])
            line = f"{second} against {first}: accuracy {with_interval(pair, 'accuracy', '+')}, {told} p {p}"
            assert line in describe(comparison).splitlines()
    assert any(pair["p_holm"] != pair["mcnemar"]["p"] for pair in comparison.pairs)


def test_a_row_of_differences_is_of_the_model_it_names_first(two):
    """A minus B: the strong model's gain is positive, and it alone is right more often."""
    _, table, notes = pair_blocks(compare_runs(read_runs(two)), "artist")
    row = dict(zip(table.head, *table.rows, strict=True))
    assert row["A against B"] == "strong against weak" and row["accuracy"].startswith("+")
    assert int(row["only A right"]) > int(row["only B right"])
    assert "A minus B" in notes.text and "None" not in notes.text


def test_an_ensemble_has_the_parameters_of_all_its_members(two, tmp_path):
    label_ids, probabilities, groups = answers(5)

    def shown(counts):
        members = [
            {"shared_groups": {"items": 0}, "model": count and {"parameters": count, "trainable": 10}}
            for count in counts
        ]
        mixed = write_run(tmp_path / str(counts), probabilities, label_ids, groups, members=members, model=None)
        rows = {row[0]: row[2] for row in score_table(compare_runs(read_runs([two[0], mixed]))).rows}
        return rows["model"], rows["parameters"], rows["of them trained"]

    assert shown([1000, 234]) == ("ensemble of 2", "1,234", "20")
    assert shown([1000, None]) == ("ensemble of 2", DASH, DASH)


def test_the_page_tells_the_resamples_of_every_run(two, tmp_path):
    label_ids, probabilities, groups = answers(5)
    other = write_run(tmp_path / "o", probabilities, label_ids, groups, arguments={"bootstrap_resamples": 1000})
    for folders, times in ((two, "(200 times)"), ([two[0], other], "(200 or 1,000 times)")):
        comparison = compare_runs(read_runs(folders))
        pictures = dict.fromkeys(("confusion", "roc", "f1", "training"), ())
        (_, about, *_) = page(comparison, pictures, "python scripts/compare.py")
        assert times in about.text


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
    refused("csv is no folder; name the output_dir of a finished run", two[0], two[0] / "predictions.csv")
    (tmp_path / "empty").mkdir()
    refused(r"empty holds no finished run: its report\.json is missing; name", two[0], tmp_path / "empty")
    started = shutil.copytree(two[0], tmp_path / "started")
    (started / "report.json").unlink()
    refused("started holds an unfinished run; run the same command again: it starts over", two[0], started)
    for damaged, said in (("{", r"report\.json cannot be read"), ("[]", r"report\.json holds no JSON object")):
        (started / "report.json").write_text(damaged)
        refused(f"{said}; make it again with the command that made it", two[0], started)
    (started / "report.json").write_text('{"rows": []}')
    refused(r"report\.json is not of a run, a cross-validation or an ensemble; name a folder of one", two[0], started)

    fewer = write_run(tmp_path / "fewer", probabilities[:50], label_ids[:50], groups[:50])
    said = r"weak and fewer have other test tracks, 60 and 50 with 50 in common \(only weak has "
    refused(
        said + r"track 50, track 51, track 52 and 7 more\): one .*; take runs of the same data, --split_scheme",
        two[0],
        fewer,
    )
    labels = write_run(tmp_path / "labels", probabilities, label_ids, groups, labels=("blues", "jazz", "polka"))
    refused(
        "labels of weak and labels differ: only weak has rock; only labels has polka; take models of the same labels$",
        two[0],
        labels,
    )
    relabelled = write_run(tmp_path / "relabelled", probabilities, np.roll(label_ids, 1), groups)
    refused("know another label of 60 test tracks", two[0], relabelled)
    twice = write_run(tmp_path / "twice", probabilities, label_ids, groups, order=[*range(60), 59])
    refused("twice has two test tracks of one name; give them names of their own", two[0], twice)
    regrouped = write_run(tmp_path / "regrouped", probabilities, label_ids, [None, *groups[1:]])
    refused(r"know another group of 1 test tracks \(track 0\)", two[0], regrouped)


def test_a_page_is_not_made_of_two_runs_in_one_folder(two, tmp_path):
    folder = shutil.copytree(two[0], tmp_path / "damaged")
    (folder / "predictions.csv").write_bytes((two[1] / "predictions.csv").read_bytes())
    with pytest.raises(
        UserError, match=r"damaged is damaged: its predictions\.csv and report\.json are not of one run"
    ):
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
    assert len(read.sources) == 6  # two confusion matrices, ROC twice, F1, training
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert not re.search(r"https?://|<script|@import|url\(", page)
    assert all(name in read.text for name in NAMES) and "<b>" not in page
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    text = (tmp_path / "page" / "comparison.md").read_text(encoding="utf-8")
    assert r"\<b\>small\</b\> & co" in text and r'a\|"large"\_\[x\](y)' in text
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| accuracy")}
    assert widths == {4}
    pictures = re.findall(r"\]\((pictures/[a-z_0-9]+\.png)\)", text)
    assert len(pictures) == len(set(pictures)) == 6
    assert all((tmp_path / "page" / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert not list((tmp_path / "page").rglob("*.part"))
    for name, told in MEASURES.items():
        for scores in comparison.scores:
            assert f"{scores[name]:.3f}" in read.text and told in read.text
    difference = comparison.pairs[0]["accuracy"]
    assert f"{difference:+.3f} [" in read.text and difference > 0
    assert f"{comparison.pairs[0]['mcnemar']['p']:.3f}" in read.text


def test_runs_of_one_name_are_told_apart_and_a_baseline_must_be_one_of_them(two, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"output_dir=.*predictions\.csv is a file; name a folder"):
        script("compare").main([*map(str, two), "--output_dir", str(two[0] / "predictions.csv")])
    monkeypatch.setattr("hf_musiclf.comparison.page.write_comparison", lambda *args: ())
    main = script("compare").main
    other = shutil.copytree(two[1], tmp_path / "later" / "weak")
    output = ["--output_dir", str(tmp_path / "page")]
    comparison = main([str(two[0]), str(other), *output])
    assert [run.name for run in comparison.runs] == [f"{tmp_path.name}/weak", "later/weak"]
    turned = main([str(two[0]), str(other), "--baseline", str(other), *output])
    assert [found["pair"] for found in turned.pairs] == [(1, 0)]
    with pytest.raises(UserError, match=r"baseline=elsewhere is none of the runs; name one of .*weak"):
        main([str(two[0]), str(other), "--baseline", "elsewhere", *output])


def test_models_disagree_by_the_probability_that_they_place_elsewhere():
    one, other, between = np.array([[1, 0, 0]]), np.array([[0, 1, 0]]), np.array([[0.7, 0.1, 0.2]])
    assert disagreement([one, one]) == [0] and disagreement([one, other]) == [1]
    assert disagreement([one, between]) == pytest.approx([0.3])
    assert disagreement([one, other, between]) == pytest.approx([(1 + 0.3 + 0.9) / 3])


def test_the_tracks_that_are_listed_are_those_with_different_labels(two):
    first, second = read_runs(two)
    said = first.tested, second.tested
    answers_of = zip(said[0].tracks, said[0].predicted, said[1].predicted, strict=True)
    apart = [track for track, one, other in answers_of if one != other]
    told, table = disagreement_blocks([first, second])
    listed = [row[0] for row in table.rows]
    assert told.text.startswith(f"{len(apart)} of 60 tracks get different labels")
    assert len(listed) == min(10, len(apart)) and set(listed) <= set(apart)
    distances = dict(zip(said[0].tracks, disagreement([run.probabilities for run in said]), strict=True))
    assert [distances[track] for track in listed] == sorted((distances[track] for track in apart), reverse=True)[:10]
    assert disagreement_blocks([first, first]) == [Paragraph("The models give every track the same label.")]


def test_blocks_say_the_same_in_both_forms(tmp_path):
    blocks = [Heading("a & b", 1), Paragraph("x < y"), Table(("", "n"), (("one", "1 | 2"),)), Code("a ``` b")]
    assert to_markdown(blocks, tmp_path) == (
        "# a & b\n\nx \\< y\n\n|  | n |\n| --- | --- |\n| one | 1 \\| 2 |\n\n````\na ``` b\n````\n"
    )
    read = Reader(to_html(blocks, "a & b"))
    assert all(piece in read.text for piece in ("a & b", "x < y", "1 | 2", "a ``` b"))


def test_an_interval_and_a_percentage_break_over_no_line(tmp_path):
    blocks = [Paragraph("95 % of them"), Table(("", "n"), (("one", "0.5 [0.4, 0.6]"),))]
    page = to_html(blocks, "")
    assert "95\N{NO-BREAK SPACE}% of them" in page and "0.5 [0.4,\N{NO-BREAK SPACE}0.6]" in page
    assert "\N{NO-BREAK SPACE}" not in to_markdown(blocks, tmp_path)


def test_a_picture_is_shown_as_large_as_it_was_drawn(tmp_path):
    """300 pixels at 150 an inch are two inches, which are 192 pixels of CSS; of a file without an inch, its own."""
    Image.new("RGB", (300, 150)).save(tmp_path / "inch.png", dpi=(150, 150))
    Image.new("RGB", (300, 150)).save(tmp_path / "none.png")
    page = to_html([Pictures((tmp_path / "inch.png", tmp_path / "none.png"), ("a", "b"))], "")
    assert re.findall(r'width="(\d+)" height="(\d+)"', page) == [("192", "96"), ("300", "150")]


def test_a_name_with_an_underscore_in_front_stands_in_every_legend(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("hf_musiclf.comparison.plots.save", lambda figure, path: seen.append(figure))
    label_ids, probabilities, _ = answers(6)
    names = ["_old", "new"]
    plot_label_rocs([probabilities] * 2, label_ids, GENRES, names, tmp_path)
    plot_f1_by_label([[0.5] * 3] * 2, [1] * 3, GENRES, names, tmp_path)
    plot_training([[], []], names, tmp_path)
    for figure in seen:
        assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == names
    assert len(seen) == 3


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


def test_the_curves_of_training_are_those_that_were_logged(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("hf_musiclf.comparison.plots.save", lambda figure, path: seen.append(figure))

    def history(*losses):
        logged = [{"step": i, "epoch": float(i), "loss": loss} for i, loss in enumerate(losses, 1)]
        told = {"eval_loss": 3.0, "eval_track_accuracy": 0.5}
        return [*logged, {"step": len(losses), "epoch": float(len(losses)), **told}]

    plot_training([[history(2.0, 1.0)], [history(4.0, 2.0, 1.0), history(2.0, 1.0)]], ["one", "folds"], tmp_path)
    training, loss, accuracy = ([line.get_ydata().tolist() for line in axes.lines] for axes in seen[0].axes)
    assert training == [[2.0, 1.0], [4.0, 2.0, 1.0], [2.0, 1.0], [3.0, 1.5]]
    assert loss[0] == [3.0] and accuracy[0] == [0.5]
    assert [axes.get_ylabel() for axes in seen[0].axes] == ["Training loss", "Validation loss", "Validation accuracy"]
