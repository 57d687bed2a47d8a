"""Truths of ensembles: equal models change nothing, fitted weights are the best ones, a saved folder says the same."""

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from recipe_runs import ROOT, Killed, data_flags, run_recipe

from hf_musiclf.audio import read_audio
from hf_musiclf.comparison.runs import read_runs, warnings
from hf_musiclf.comparison.tables import DASH, compare_runs, score_table
from hf_musiclf.ensembles import Ensemble, open_classifier, scoring
from hf_musiclf.ensembles.runs import parse_weights
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier, TrackScores
from hf_musiclf.intervals import BOOTSTRAPPED
from hf_musiclf.metrics import classification_metrics, score_windows
from hf_musiclf.mixtures import checked_weights, fit_weights, make_mixture, mix, mixture_loss
from hf_musiclf.predictions import Predictions
from hf_musiclf.probabilities import softmax


def says(labels, probabilities):
    """A model that says the same of every track: `(labels,)` probabilities of one window."""

    def classify(source, hop_seconds=None, read=read_audio):
        return TrackScores(tuple(labels), np.zeros(1), np.array([probabilities], dtype=np.float64))

    classify.labels = tuple(labels)
    return classify


def some_members(n=90, n_labels=4, seed=0):
    """`(3, n, n_labels)` probabilities of a good, a fair and a bad model, and `(n,)` labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_labels, size=n)
    logits = rng.normal(size=(3, n, n_labels))
    logits[:, np.arange(n), labels] += np.array([1.5, 1.3, 0.0])[:, None]
    return softmax(logits), labels


@pytest.fixture
def song(tmp_path):
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(0, 0.1, 44_100), 22_050)
    return tmp_path / "song.wav"


# Mixtures


def test_the_mean_of_equal_models_is_the_model(song):
    member = says("abc", [0.2, 0.5, 0.3])
    for weights in (None, [1, 1, 1], [0.5, 0.1, 7]):
        np.testing.assert_allclose(Ensemble([member] * 3, weights)(song).probabilities, [0.2, 0.5, 0.3], rtol=1e-12)


def test_the_order_of_members_does_not_matter_and_labels_are_matched_by_name(song):
    first, second = says("abc", [0.6, 0.3, 0.1]), says("cab", [0.5, 0.1, 0.4])
    one, other = Ensemble([first, second], [3, 1])(song), Ensemble([second, first], [1, 3])(song)
    # a: 3/4 * 0.6 + 1/4 * 0.1, and so on.
    assert dict(one.top(3)) == pytest.approx({"a": 0.475, "b": 0.325, "c": 0.2})
    assert dict(one.top(3)) == pytest.approx(dict(other.top(3)))
    assert (one.labels, other.labels) == (tuple("abc"), tuple("cab"))
    assert one.top(1)[0][0] == "a" and one.n_windows == 2


def test_a_member_of_weight_0_says_nothing_and_is_not_asked(song):
    def silent(*args, **kwargs):
        raise AssertionError("was asked")

    silent.labels = tuple("ab")
    member = says("ab", [0.9, 0.1])
    assert Ensemble([member, silent], [1, 0])(song).probabilities.tolist() == [0.9, 0.1]


def test_what_makes_no_ensemble_is_refused(song):
    apart = "the labels of the ensemble and model 2 differ: only the ensemble has c"
    with pytest.raises(UserError, match=f"{apart}; only model 2 has d"):
        Ensemble([says("abc", [1, 0, 0]), says("abd", [1, 0, 0])])
    with pytest.raises(UserError, match=apart):
        Ensemble([says("abc", [1, 0, 0]), says("ab", [1, 0])])
    with pytest.raises(UserError, match=r"an ensemble of no models"):
        Ensemble([])
    for weights, said in (([1], "are 1 for 2 models"), ([1, -1], "must be 0 or more"), ([0, 0], "not all 0")):
        with pytest.raises(UserError, match=said):
            checked_weights(weights, 2)
    with pytest.raises(UserError, match="must be 0 or more"):
        checked_weights([1, float("nan")], 2)
    with pytest.raises(UserError, match=r"weights='best' is not known; pass equal, fit, or numbers"):
        parse_weights("best")
    said = {"test": Predictions(("a", "b"), ("song",), (None,), np.array([0]), np.array([[0.6, 0.4]]))}
    with pytest.raises(UserError, match="one says nothing of validation tracks, which weights=fit needs; take equal"):
        make_mixture(["one", "other"], [said, said], "fit")
    assert list(make_mixture(["one", "other"], [said, said], "equal").splits) == ["test"]
    with pytest.raises(UserError, match="other says nothing of test tracks, which an ensemble is scored on; name runs"):
        make_mixture(["one", "other"], [said, {"validation": said["test"]}], "equal")


@pytest.mark.parametrize("seed", range(4))
def test_fitted_weights_are_no_worse_than_equal_ones_any_member_or_any_other(seed):
    probabilities, labels = some_members(seed=seed)
    likelihoods = probabilities[:, np.arange(len(labels)), labels]
    fitted = fit_weights(probabilities, labels)
    assert fitted.min() >= 0 and fitted.sum() == pytest.approx(1)
    assert fitted[:2].min() > 0.1  # both know something of their own: no member alone is the answer
    found = mixture_loss(likelihoods, fitted)
    assert found == pytest.approx(classification_metrics(mix(probabilities, fitted), labels)["log_loss"])
    steps = np.arange(0, 1.0001, 0.05)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9]
    assert found <= mixture_loss(likelihoods, np.full(3, 1 / 3))
    assert all(found <= mixture_loss(likelihoods, weights) for weights in np.eye(3))
    assert found <= min(mixture_loss(likelihoods, np.array(weights)) for weights in grid) + 2e-6


def test_an_ensemble_of_a_perfect_and_a_uniform_model_is_perfect():
    labels = np.arange(12) % 4
    members = np.stack([np.eye(4)[labels], np.full((12, 4), 0.25)])
    assert classification_metrics(mix(members, [0.5, 0.5]), labels)["accuracy"] == 1
    np.testing.assert_allclose(fit_weights(members, labels), [1, 0], atol=1e-5)


def test_a_member_that_calls_the_truth_impossible_does_not_break_the_fit():
    labels = np.array([0, 1, 0, 1])
    wrong, fair = np.eye(2)[1 - labels], np.eye(2)[labels] * 0.4 + 0.3
    weights = fit_weights([wrong, fair], labels)
    assert weights[1] > 0.999 and np.isfinite(weights).all()
    assert np.isfinite(fit_weights([wrong, wrong], labels)).all()


# Tracks


@pytest.mark.parametrize("rate", [22_050, 16_000, 32_000])
def test_what_is_decoded_once_is_what_is_read_piece_by_piece(encoded, monkeypatch, rate):
    source, stretches = encoded["mp3"], [(0.0, 1.28), (3.7, 1.0), (11.5, 1.28), (2.0, 0.00001)]
    expected = [read_audio(source, rate, *stretch) for stretch in stretches]
    decoded = []
    monkeypatch.setattr(scoring, "read_audio", lambda *args: decoded.append(args) or read_audio(*args))
    read = scoring.ReadOnce(source)
    for stretch, whole in zip(stretches, expected, strict=True):
        np.testing.assert_allclose(read(source, rate, *stretch), whole, atol=1e-6)
    assert len(decoded) == 1
    monkeypatch.setattr(scoring, "DECODED_SECONDS", 1.0)
    read = scoring.ReadOnce(source)
    np.testing.assert_array_equal(read(source, rate, 3.7, 1.0), expected[1])
    assert not read.whole


# Runs, of two families with other rates and windows


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ensemble", ROOT / "scripts" / "ensemble.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(finished, corpus, tmp_path_factory):
    """AST at 16 kHz by 1.28 s and EfficientAT at 32 kHz by 1 s, of one split."""
    folder = tmp_path_factory.mktemp("runs") / "efficientat"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        run_recipe("efficientat_gtzan", corpus, output_dir=folder, max_steps=6)
    return [finished[0], folder]


@pytest.fixture(scope="module")
def made(script, runs, tmp_path_factory):
    """Folder and report of their ensemble."""
    folder = tmp_path_factory.mktemp("made") / "ensemble"
    return folder, script.main([*map(str, runs), "--output_dir", str(folder), "--weights", "3,1"])


def table(folder, split="test"):
    """Track -> row of a predictions.csv."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["track"]: row for row in csv.DictReader(file) if row["split"] == split}


def probabilities(rows, labels):
    found = np.array([[float(row[label]) for label in labels] for row in rows.values()])
    return found / found.sum(1, keepdims=True)


def copies(runs, folder):
    """Copies of runs, to be damaged."""
    return [shutil.copytree(run, folder / run.name, ignore=shutil.ignore_patterns("checkpoint-*")) for run in runs]


def ensemble(script, runs, folder, *flags):
    return script.main([*map(str, runs), "--output_dir", str(folder), *flags])


def rewrite(folder, change):
    """Pass the lines of a predictions.csv, lists of words with the header first, through `change`."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        lines = change(list(csv.reader(file)))
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)


def test_the_report_is_that_of_the_mean_probabilities_beside_each_member(made, runs):
    folder, report = made
    labels = report["data"]["labels"]
    rows = table(runs[0])
    assert list(table(folder)) == list(rows) and len(rows) == report["test"]["track"]["n"]
    of_runs = [table(run) for run in runs]
    of_members = [probabilities({track: found[track] for track in rows}, labels) for found in of_runs]
    mixed = 0.75 * of_members[0] + 0.25 * of_members[1]
    ids = [labels.index(row["label"]) for row in rows.values()]
    groups = [row["group"] for row in rows.values()]

    found = [report["test"], *(member["test"] for member in report["members"])]
    for scores, expected in zip(found, (mixed, *of_members), strict=True):
        expected = score_windows(expected, ids, groups=groups)
        assert scores["track"].keys() == expected.keys()
        for key in expected.keys() - {"per_class"}:
            np.testing.assert_allclose(np.array(scores["track"][key], float), np.array(expected[key], float), rtol=1e-9)
    # What a member has here is what its own run said, whose probabilities had more digits.
    for member, run in zip(report["members"], runs, strict=True):
        own = json.loads((run / "report.json").read_text())
        assert member["test"]["track"]["accuracy"] == own["test"]["track"]["accuracy"]
        assert member["test"]["track"]["log_loss"] == pytest.approx(own["test"]["track"]["log_loss"], abs=1e-4)
    best = max(member["test"]["track"]["accuracy"] for member in report["members"])
    difference = report["test"]["track"]["accuracy"] - best
    assert report["difference_to_best_member"]["accuracy"] == pytest.approx(difference)
    assert [member["weight"] for member in report["members"]] == [0.75, 0.25]


def test_an_ensemble_is_compared_with_its_members_as_its_report_tells(made, runs, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("compare", ROOT / "scripts" / "compare.py")
    compare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compare)
    folder, report = made
    words = [*map(str, runs), str(folder), "--baseline", str(folder), "--output_dir", str(tmp_path / "page")]
    comparison = compare.main(words)
    assert "note:" not in capsys.readouterr().out  # of the same splits, without leaks
    assert comparison.n_resamples == 2000
    for pair, member in zip(comparison.pairs, report["members"], strict=True):
        for name in ("accuracy", "macro_f1", "log_loss"):
            more = member["difference"]
            assert pair[name] == pytest.approx(-more[name], abs=1e-5)
            if more[f"{name}_interval"]:
                low, high = more[f"{name}_interval"]
                assert pair[f"{name}_interval"] == pytest.approx([-high, -low], abs=1e-5)
    assert comparison.scores[2] == report["test"]["track"]
    rows = {row[0]: row[1:] for row in score_table(comparison).rows}
    assert rows["model"] == ("AST", "EfficientAT", "ensemble of 2")
    assert rows["parameters"][2] == f"{sum(int(told.replace(',', '')) for told in rows['parameters'][:2]):,}"
    for fact in ("training seed", "minutes of training", "device", "windows a second in evaluation"):
        assert rows[fact][2] == DASH != rows[fact][0]
    page = (tmp_path / "page" / "comparison.html").read_text(encoding="utf-8")
    assert report["command"] in page and page.count("<img") == 3 + 4


def test_the_folder_is_whole_and_tells_nothing_of_the_machine(made):
    folder, report = made
    assert json.loads((folder / "report.json").read_text())["test"] == json.loads(json.dumps(report["test"]))
    for name in ("confusion_matrix", "roc_curves", "per_class"):
        assert (folder / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.parent.glob("**/*.part")) and not list(folder.glob("**/run.json"))
    for path in folder.glob("**/*.json"):
        assert str(folder.parents[2]) not in path.read_text()
    card = (folder / "README.md").read_text()
    assert "# Ensemble of 2 music genre classifiers" in card and str(folder.parent) not in card
    told = {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results}
    scores = report["test"]["track"]
    assert told == {"accuracy": round(scores["accuracy"], 4), "f1": round(scores["macro_f1"], 4)}
    assert (folder / "members" / "2" / "efficientat.py").is_file()


def test_the_saved_folder_says_what_its_members_say_wherever_it_lies(made, runs, corpus, tmp_path):
    folder, _ = made
    moved = open_classifier(str(shutil.copytree(folder, tmp_path / "elsewhere")))
    members = [TrackClassifier(str(run)) for run in runs]
    assert [member.features.sampling_rate for member in members] == [16_000, 32_000]
    for track, row in table(folder).items():
        wav = corpus / "genres" / track.split(".")[0] / f"{track}.wav"
        scores = moved(wav)
        np.testing.assert_array_equal(scores.probabilities, Ensemble(members, [3, 1])(wav).probabilities)
        alone = [member(wav).probabilities for member in members]
        np.testing.assert_allclose(scores.probabilities, 0.75 * alone[0] + 0.25 * alone[1], atol=1e-6)
        expected = [float(row[label]) for label in scores.labels]
        np.testing.assert_allclose(scores.probabilities, expected, atol=3e-5)


def test_predict_opens_the_folder_as_it_opens_a_model(made, corpus, capsys):
    spec = importlib.util.spec_from_file_location("predict", ROOT / "scripts" / "predict.py")
    predict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(predict)
    wav = next((corpus / "genres" / "jazz").glob("*.wav"))
    assert predict.main([str(made[0]), str(wav), "--top_k", "1", "--device", "cpu"]) == 0
    label, probability = open_classifier(str(made[0]))(wav).top(1)[0]
    # 3 s: windows of 1.28 s at 0.8 s, and of 1 s.
    assert capsys.readouterr().out.splitlines()[-1].split()[1:] == [label, f"{probability:.2f}", str(4 + 3), "0:03"]


def test_models_that_left_no_predictions_hear_the_same(made, script, runs, corpus, tmp_path):
    both = copies(runs, tmp_path)
    for run in both:
        (run / "predictions.csv").unlink()
    flags = [f"--{key}={value}" for key, value in data_flags(corpus).items()]
    with pytest.raises(UserError, match=r"left no predictions\.csv, .* pass the data flags of its recipe"):
        ensemble(script, both, tmp_path / "e")
    with pytest.raises(UserError, match="was trained on other splits than these data flags draw"):
        ensemble(script, both, tmp_path / "e", *flags, "--split_seed", "1")
    assert not (tmp_path / "e").exists()
    heard = ensemble(script, both, tmp_path / "e", *flags, "--weights", "3,1")
    assert [member["probabilities_from"] for member in heard["members"]] == ["audio", "audio"]
    for split in ("validation", "test"):
        assert heard[split]["track"]["confusion"] == made[1][split]["track"]["confusion"]
        assert heard[split]["track"]["log_loss"] == pytest.approx(made[1][split]["track"]["log_loss"], abs=1e-4)


def test_a_model_of_which_nothing_is_known_is_heard_with_a_warning(script, runs, corpus, tmp_path, capsys):
    _, bare = copies(runs, tmp_path)
    for name in ("predictions.csv", "report.json", "run.json"):
        (bare / name).unlink()
    flags = [f"--{key}={value}" for key, value in data_flags(corpus).items()]
    ensemble(script, [runs[0], bare], tmp_path / "e", *flags, "--link")
    assert f"warning: nothing tells what {bare.name} was trained on" in capsys.readouterr().out


def test_fitted_weights_are_fitted_on_validation(script, runs, tmp_path):
    report = ensemble(script, runs, tmp_path / "e", "--weights", "fit", "--link")
    labels = report["data"]["labels"]
    rows = table(runs[0], "validation")
    of_runs = [table(run, "validation") for run in runs]
    of_members = [probabilities({track: found[track] for track in rows}, labels) for found in of_runs]
    ids = np.array([labels.index(row["label"]) for row in rows.values()])
    weights = [member["weight"] for member in report["members"]]
    np.testing.assert_allclose(weights, fit_weights(of_members, ids))
    others = [classification_metrics(member, ids)["log_loss"] for member in (*of_members, mix(of_members, [0.5, 0.5]))]
    assert report["validation"]["track"]["log_loss"] <= min(others) + 1e-9


def to_12_digits(text):
    """Sums over rows in another order differ in the last digit."""
    return float(f"{float(text):.12g}")


def test_columns_and_rows_in_another_order_change_nothing(made, script, runs, tmp_path):
    both = copies(runs, tmp_path)
    rewrite(both[1], lambda lines: [[*line[:5], *line[:4:-1]] for line in (lines[0], *lines[:0:-1])])
    found = ensemble(script, both, tmp_path / "e", "--weights", "3,1")
    rounded = (
        json.dumps(json.loads(json.dumps(report["test"]), parse_float=to_12_digits)) for report in (found, made[1])
    )
    assert len(set(rounded)) == 1
    labels, folders = found["data"]["labels"], (tmp_path / "e", made[0])
    assert len({tuple(table(folder)) for folder in folders}) == 1
    np.testing.assert_allclose(*(probabilities(table(folder), labels) for folder in folders), atol=2e-6)


def test_members_tested_on_other_tracks_are_refused(script, runs, tmp_path):
    first, second = copies(runs, tmp_path)
    rewrite(second, lambda lines: lines[:-1])
    with pytest.raises(
        UserError, match=r"have other test tracks, 10 and 9 with 9 in common \(only .* has \S+\): one may have been"
    ):
        ensemble(script, [first, second], tmp_path / "e")
    damages = {
        r"know another group of 1 test tracks \(\w+\.\d+\)": lambda lines: (
            [*lines[:-1], [*lines[-1][:2], "x", *lines[-1][3:]]]
        ),
        "has two test tracks of one name": lambda lines: [*lines, lines[-1]],
        r"its predictions\.csv has a row whose": lambda lines: [*lines[:-1], [*lines[-1][:-1], "0.9999"]],
        "differ: only .* has rock; only .* has other": lambda lines: (
            [["other" if word == "rock" else word for word in line] for line in lines]
        ),
    }
    for said, damage in damages.items():
        shutil.copy(runs[1] / "predictions.csv", second)
        rewrite(second, damage)
        with pytest.raises(UserError, match=said):
            ensemble(script, [first, second], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_runs_of_one_name_are_told_apart_in_the_report_and_in_errors(script, runs, tmp_path, capsys):
    first, second = (shutil.copytree(runs[0], tmp_path / name / "run") for name in ("one", "other"))
    report = ensemble(script, [first, second], tmp_path / "e", "--link")
    assert [member["name"] for member in report["members"]] == ["one/run", "other/run"]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("  other/run  (0.500)")]
    assert str(tmp_path) not in (tmp_path / "e" / "report.json").read_text()
    assert [entry["name"] for entry in json.loads((tmp_path / "e" / "ensemble.json").read_text())["members"]] == [
        "run", "run",
    ]  # fmt: skip
    rewrite(second, lambda lines: lines[:-1])
    with pytest.raises(UserError, match=rf"^{first} and {second} have other test tracks, .*only {first} has"):
        ensemble(script, [first, second], tmp_path / "again")


def test_members_whose_tracks_or_audio_differ_are_told_of(script, runs, tmp_path, capsys):
    ensemble(script, runs, tmp_path / "same", "--link")
    assert "or the audio of some" not in capsys.readouterr().out
    first, second = copies(runs, tmp_path)
    run_file = json.loads((second / "run.json").read_text())
    (second / "run.json").write_text(json.dumps({**run_file, "tracks": "others"}))
    ensemble(script, [first, second], tmp_path / "e", "--link")
    out = capsys.readouterr().out
    assert "warning: by their run.json the members' tracks of training or validation, or the audio of some" in out


def test_too_few_resamples_are_refused_before_anything_is_heard(script, runs, tmp_path):
    with pytest.raises(UserError, match="bootstrap_resamples=0 is too few for an interval; use 100 or more"):
        ensemble(script, runs, tmp_path / "e", "--bootstrap_resamples", "0")


def test_what_is_no_finished_model_is_refused(made, script, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no config\.json: .*, or run its command again$"):
        ensemble(script, [runs[0], tmp_path / "empty"], tmp_path / "e")
    with pytest.raises(UserError, match="is an ensemble; name its members instead"):
        ensemble(script, [runs[0], made[0]], tmp_path / "e")
    with pytest.raises(UserError, match=r"nobody/nothing cannot be had: it is no folder here"):
        ensemble(script, [runs[0], "nobody/nothing"], tmp_path / "e")
    with pytest.raises(UserError, match=r"output_dir=.* exists; name a new folder"):
        ensemble(script, runs, tmp_path)
    _, unfinished = copies(runs, tmp_path)
    (unfinished / "report.json").unlink()
    with pytest.raises(UserError, match=r"holds no report\.json: its run is not finished"):
        ensemble(script, [runs[0], unfinished], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_killed_copy_leaves_nothing_half_written(script, runs, tmp_path, monkeypatch):
    copied, copy = [], shutil.copyfile

    def dies_at_the_fourth(source, target):
        copied.append(target)
        if len(copied) == 4:
            raise Killed
        return copy(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("hf_musiclf.ensembles.folders.shutil.copyfile", dies_at_the_fourth)
        with pytest.raises(Killed):
            ensemble(script, runs, tmp_path / "e")
    assert len(copied) == 4 and list(tmp_path.iterdir()) == []
    ensemble(script, runs, tmp_path / "e")
    assert (tmp_path / "e" / "members" / "2" / "model.safetensors").is_file()


def test_links_copy_nothing_and_move_with_what_they_link(made, script, runs, corpus, tmp_path):
    (tmp_path / "here").mkdir()
    both = copies(runs, tmp_path / "here")
    ensemble(script, both, tmp_path / "here" / "e", "--link", "--weights", "3,1")
    assert not (tmp_path / "here" / "e" / "members").exists()
    (tmp_path / "here").rename(tmp_path / "there")
    wav = next((corpus / "genres" / "jazz").glob("*.wav"))
    linked = open_classifier(str(tmp_path / "there" / "e"))(wav)
    np.testing.assert_array_equal(linked.probabilities, open_classifier(str(made[0]))(wav).probabilities)
    shutil.rmtree(tmp_path / "there" / both[1].name)
    with pytest.raises(UserError, match="cannot be loaded"):
        open_classifier(str(tmp_path / "there" / "e"))
    (tmp_path / "there" / "e" / "ensemble.json").write_text("{}")
    with pytest.raises(UserError, match=r"ensemble\.json is damaged; make the ensemble again"):
        open_classifier(str(tmp_path / "there" / "e"))


# Cross-validations


def cross_validation(run, folder, seed):
    """Two folds as scripts/cross_validate.py leaves them, their probabilities drawn at random."""
    rng = np.random.default_rng(seed)
    for number in (1, 2):
        fold = folder / f"fold_{number}"
        fold.mkdir(parents=True)
        for name in ("config.json", "report.json", "run.json", "predictions.csv"):
            shutil.copy(run / name, fold)

        def drawn(lines, number=number):
            labels, changed = lines[0][5:], [lines[0]]
            for split, track, group, label, *_ in lines[1:]:
                said = softmax(rng.normal(size=10))
                changed.append([split, f"{number}.{track}", group, label, labels[said.argmax()], *map(str, said)])
            return changed

        rewrite(fold, drawn)
    (folder / "report.json").write_text(json.dumps({"folds": {"accuracy": {"values": [0.0, 0.0]}}}))
    return folder


def test_cross_validations_are_averaged_fold_by_fold(script, runs, tmp_path, capsys):
    first, second = (cross_validation(runs[0], tmp_path / f"cv_{seed}", seed) for seed in (1, 2))
    report = ensemble(script, [first, second], tmp_path / "e", "--weights", "fit")
    out = capsys.readouterr().out
    assert "no model is saved of folds" in out and not (tmp_path / "e" / "ensemble.json").exists()
    labels, mixed, ids, groups, accuracies = report["data"]["labels"], [], [], [], []
    for number in (0, 1):
        folds = [folder / f"fold_{number + 1}" for folder in (first, second)]
        held_out = [probabilities(table(fold, "validation"), labels) for fold in folds]
        validation_ids = [labels.index(row["label"]) for row in table(folds[0], "validation").values()]
        weights = fit_weights(held_out, np.array(validation_ids))
        np.testing.assert_allclose([member["weight"][number] for member in report["members"]], weights)
        rows = table(folds[0])
        mixed.append(mix([probabilities(table(fold), labels) for fold in folds], weights))
        ids.append([labels.index(row["label"]) for row in rows.values()])
        groups += [row["group"] for row in rows.values()]
        accuracies.append(classification_metrics(mixed[-1], ids[-1])["accuracy"])
    expected = score_windows(np.concatenate(mixed), np.concatenate(ids), groups=groups)
    found = report["test"]["track"]
    assert set(report["members"][0]["difference"]) == {*BOOTSTRAPPED, *(f"{name}_interval" for name in BOOTSTRAPPED)}
    for name in ("accuracy", "accuracy_interval", "macro_f1", "log_loss", "n"):
        assert found[name] == pytest.approx(expected[name])
    assert found["n"] == 20 and report["folds"]["accuracy"]["values"] == pytest.approx(accuracies)
    assert [member["name"] for member in report["members"]] == ["cv_1", "cv_2"]
    with (tmp_path / "e" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert [row["fold"] for row in csv.DictReader(file)] == ["1"] * 10 + ["2"] * 10
    runs = read_runs([tmp_path / "e", tmp_path / "e"])
    comparison = compare_runs(runs)
    assert score_table(comparison).rows[0][1] == "ensemble of 2" and warnings(runs) == []
    assert comparison.pairs[0]["accuracy"] == 0 and comparison.scores[0]["accuracy"] == found["accuracy"]


def test_cross_validations_of_other_folds_are_refused(script, runs, tmp_path):
    first, second = (cross_validation(runs[0], tmp_path / f"cv_{seed}", seed) for seed in (1, 2))
    with pytest.raises(UserError, match=r"gone is no folder; name the output_dir of a finished cross-validation"):
        ensemble(script, [first, tmp_path / "gone"], tmp_path / "e")
    with pytest.raises(
        UserError, match=r"of the same folds make an ensemble, and these have other numbers: .* 2, .* none"
    ):
        ensemble(script, [first, runs[0]], tmp_path / "e")
    (second / "fold_1").rename(second / "aside")
    (second / "fold_2").rename(second / "fold_1")
    (second / "aside").rename(second / "fold_2")
    with pytest.raises(UserError, match=r"have other test tracks, 10 and 10 with 0 in common"):
        ensemble(script, [first, second], tmp_path / "e")
    shutil.copytree(first / "fold_1", first / "fold_2", dirs_exist_ok=True)
    with pytest.raises(UserError, match="test a track twice"):
        ensemble(script, [first, first], tmp_path / "e")


def test_one_model_alone_and_a_cross_validation_without_all_its_folds_are_refused(script, runs, tmp_path):
    with pytest.raises(UserError, match=r"^1 model to average; name two or more$"):
        ensemble(script, [runs[0]], tmp_path / "e")
    first, second = (cross_validation(runs[0], tmp_path / f"cv_{seed}", seed) for seed in (1, 2))
    for folder in (first, second):
        (folder / "fold_2").rename(folder / "fold_3")
    with pytest.raises(UserError, match=r"cv_1 holds fold_1, fold_3 instead of fold_1, fold_2: a fold is missing"):
        ensemble(script, [first, second], tmp_path / "e")
    (first / "report.json").unlink()
    with pytest.raises(UserError, match=r"cv_1 holds no report\.json: its cross-validation is not finished"):
        ensemble(script, [first, second], tmp_path / "e")
    assert not (tmp_path / "e").exists()
