"""Folds: every track is tested once, groups stay whole, and a stopped cross-validation goes on."""

import csv
import importlib.util
import json
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from recipe_runs import ROOT, TINY, Killed, data_flags, dies_in_step

from hf_musiclf.crossvalidation import FOLD_METRICS, describe_folds, over_folds
from hf_musiclf.data.schemes import Stratified
from hf_musiclf.errors import UserError
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.splits import grouped_folds
from hf_musiclf.trainer import MusicTrainer


@pytest.fixture(autouse=True, scope="module")
def no_pictures_of_folds():
    """They take half the time of such a run, and are tested elsewhere; those of all folds are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cross_validate", ROOT / "scripts" / "cross_validate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(corpus, output_dir, **changes):
    every_step = {"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 1, "eval_steps": 1, "max_steps": 2}
    arguments = {**TINY, **data_flags(corpus), **every_step, "folds": 2, "output_dir": output_dir, **changes}
    return [str(ROOT / "recipes" / "ast_gtzan.py"), *(f"--{key}={value}" for key, value in arguments.items())]


def predictions(folder):
    """Rows of a combined predictions.csv by track, and `(tracks, labels)` probabilities in the order of the names."""
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["track"])
    labels = list(rows[0])[list(rows[0]).index("predicted") + 1 :]
    return rows, np.array([[float(row[label]) for label in labels] for row in rows])


def table(labels, groups):
    """What `Stratified.fold` reads of a table of tracks; labels: `(n,)` names."""
    names = tuple(sorted(set(labels)))
    return SimpleNamespace(labels=names, groups=groups, column=lambda _: [names.index(label) for label in labels])


def with_index(corpus, folder, change):
    """A copy of a synthetic corpus whose index has gone through `change(rows)`, in place; returns the folder."""
    shutil.copytree(corpus, folder)
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (folder / "index.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def groups_and_labels(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), 40)
    groups = [f"{label}-{rng.integers(12)}" for label in labels]
    for unknown in rng.choice(len(groups), 9, replace=False):
        groups[unknown] = None
    return labels, groups


@pytest.mark.parametrize("n_folds", [2, 5, 10])
def test_every_known_track_is_tested_once_and_no_group_stands_on_two_sides(n_folds):
    labels, groups = groups_and_labels()
    known = [item for item, group in enumerate(groups) if group is not None]
    tested = []
    for fold in range(n_folds):
        splits = grouped_folds(labels, groups, n_folds, fold, seed=3)
        assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))
        sides = [{groups[item] for item in items} - {None} for items in splits.values()]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert all(item in splits["train"] for item, group in enumerate(groups) if group is None)
        assert abs(len(splits["test"]) - len(known) / n_folds) < 6
        assert abs(len(splits["validation"]) - len(labels) / 10) < 8
        assert set(labels[splits["train"]]) == set(labels)
        tested += splits["test"].tolist()
    assert sorted(tested) == known


def test_folds_follow_the_seed_and_count_from_0():
    labels, groups = groups_and_labels()
    first, again, other = (grouped_folds(labels, groups, 5, 0, seed)["test"].tolist() for seed in (0, 0, 1))
    assert first == again != other
    for folds, fold in ((1, 0), (5, 5), (5, -1)):
        with pytest.raises(ValueError, match=f"fold={fold} of n_folds={folds} is not there"):
            grouped_folds(labels, groups, folds, fold)


def test_the_meanover_folds_has_students_interval():
    scores = [dict.fromkeys(FOLD_METRICS, value) for value in (0.6, 0.8, 0.7)]
    found = over_folds(scores)["accuracy"]
    # t of 2 degrees at 97.5 % is 4.3027, the standard error 0.1 / sqrt(3).
    assert found["mean"] == pytest.approx(0.7)
    assert found["mean_interval"] == pytest.approx([0.7 - 4.3027 * 0.1 / 3**0.5, 0.7 + 4.3027 * 0.1 / 3**0.5], rel=1e-4)


def test_the_interval_of_the_mean_stays_within_0_and_1():
    # Two folds: t of one degree at 97.5 % is 12.7, so the interval is far wider than what a score can be.
    high, low = ([dict.fromkeys(FOLD_METRICS, value) for value in values] for values in ((0.9, 1.0), (0.0, 0.1)))
    assert over_folds(high)["accuracy"]["mean_interval"] == [pytest.approx(0.95 - 12.7062 * 0.05, rel=1e-4), 1.0]
    assert over_folds(low)["accuracy"]["mean_interval"] == [0.0, pytest.approx(0.05 + 12.7062 * 0.05, rel=1e-4)]


def test_a_metric_that_no_fold_defines_has_no_mean():
    scores = [{**dict.fromkeys(FOLD_METRICS, value), "roc_auc": None} for value in (0.6, 0.8)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert over_folds(scores)["roc_auc"] == {"values": [None, None], "mean": None, "mean_interval": None}
        scores[1]["roc_auc"] = 0.9
        assert over_folds(scores)["roc_auc"] == {"values": [None, 0.9], "mean": 0.9, "mean_interval": None}


def test_a_fold_that_cannot_be_drawn_tells_what_helps():
    by_artist = Stratified("artist", "artist", "use X")

    def draw(groups_of_label, n_folds):
        pairs = [(label, group) for label, groups in groups_of_label.items() for group in groups for _ in range(2)]
        of_tracks = table([label for label, _ in pairs], [group for _, group in pairs])
        for fold in range(n_folds):
            by_artist.fold(of_tracks, 0, n_folds, fold)

    many = [f"r{number}" for number in range(6)]
    alone = r"leaves no 'jazz' for train: the data hold it by 1 known artist; use X$"
    for n_folds in (2, 5):
        with pytest.raises(UserError, match=rf"folds={n_folds}: fold \d of {n_folds} \(--fold \d\) {alone}"):
            draw({"jazz": ["j"], "rock": many}, n_folds)
    three = {"jazz": ["j0", "j1", "j2"], "rock": ["r0", "r1", "r2"]}
    with pytest.raises(UserError, match=r"no track for test: no label has more than 3 known artists; pass --folds 3$"):
        draw(three, 5)
    draw(three, 3)
    with pytest.raises(UserError, match=r"for validation: no label has more than 2 known artists; use X$"):
        draw({"jazz": ["j0", "j1"], "rock": ["r0", "r1"]}, 2)
    draw({"jazz": [None], "rock": many}, 3)  # of unknown artist: always trained on
    with pytest.raises(UserError, match=r"for test: no label has more than 0 known artists; use X$"):
        draw({"jazz": [None], "rock": [None]}, 3)


@pytest.fixture(scope="module")
def finished_folds(script, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cv") / "ast"
    return folder, script.main(words(corpus, folder))


def test_the_report_is_of_all_tracks_each_predicted_while_held_out(finished_folds):
    folder, report = finished_folds
    rows, probabilities = predictions(folder)
    assert len(rows) == len({row["track"] for row in rows}) == report["test"]["track"]["n"] == 80
    labels = report["data"]["labels"]
    probabilities /= probabilities.sum(1, keepdims=True)
    expected = classification_metrics(probabilities, [labels.index(row["label"]) for row in rows])
    assert report["test"]["track"]["accuracy"] == expected["accuracy"]
    assert report["test"]["track"]["macro_f1"] == pytest.approx(expected["macro_f1"])
    for number in (1, 2):
        fold = json.loads((folder / f"fold_{number}" / "report.json").read_text())
        assert fold["leakage"]["train/test"]["group"]["items"] == 0
        assert report["folds"]["accuracy"]["values"][number - 1] == fold["test"]["track"]["accuracy"]
        assert fold["split_scheme"] == f"artist, fold {number} of 2"
    assert (folder / "report" / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "report.json").read_text())["test"] == json.loads(json.dumps(report["test"]))


def test_finished_folds_are_read_and_not_run_again(script, finished_folds, corpus, monkeypatch):
    folder, report = finished_folds
    monkeypatch.setattr(MusicTrainer, "training_step", dies_in_step(1))
    assert script.main(words(corpus, folder))["test"] == report["test"]
    with pytest.raises(UserError, match=r"fold_1 holds a finished run with learning_rate=0\.002, not 0\.1"):
        script.main(words(corpus, folder, learning_rate=0.1))


def test_the_report_tells_its_launcher_and_its_minutes(finished_folds):
    folder, report = finished_folds
    assert report["command"].startswith("accelerate launch --cpu scripts/cross_validate.py ")
    folds = [json.loads((folder / f"fold_{number}" / "report.json").read_text()) for number in (1, 2)]
    whole = sum(fold["seconds_since_start_or_resume"] for fold in folds)
    assert report["seconds_since_start_or_resume"] == pytest.approx(whole) and whole > report["seconds"] > 0
    said = f"{whole / 60:.1f} minutes with everything, on these runs since start or resume"
    assert said in describe_folds(report) and said in (folder / "README.md").read_text()


def test_a_stopped_cross_validation_ends_as_if_it_had_not_been(script, finished_folds, corpus, tmp_path, monkeypatch):
    folder, whole = finished_folds
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(4))  # the second step of the second fold
        with pytest.raises(Killed):
            script.main(words(corpus, tmp_path / "cv"))
    assert (tmp_path / "cv" / "fold_1" / "report.json").exists()
    assert not (tmp_path / "cv" / "fold_2" / "report.json").exists()
    calls = []
    step = MusicTrainer.training_step
    monkeypatch.setattr(MusicTrainer, "training_step", lambda self, *a, **k: calls.append(1) or step(self, *a, **k))
    resumed = script.main(words(corpus, tmp_path / "cv"))
    assert len(calls) == 1  # what was left of the second fold
    (rows, probabilities), (other_rows, others) = predictions(folder), predictions(tmp_path / "cv")
    for column in ("fold", "track", "label", "predicted"):
        assert [row[column] for row in rows] == [row[column] for row in other_rows]
    assert np.abs(probabilities - others).max() <= 1e-6
    assert resumed["folds"]["accuracy"] == whole["folds"]["accuracy"]
    assert resumed["test"]["track"]["confusion"] == whole["test"]["track"]["confusion"]


def test_a_damaged_fold_is_told_before_any_other_trains(script, finished_folds, corpus, tmp_path, monkeypatch):
    folder = shutil.copytree(finished_folds[0], tmp_path / "cv")
    shutil.rmtree(folder / "fold_1")
    monkeypatch.setattr(MusicTrainer, "training_step", dies_in_step(1))
    path = folder / "fold_2" / "predictions.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith("test,"))
    n_tested = len(lines) - first
    tested, *probabilities = lines[first].rsplit(",", 10)
    damages = {
        f"does not hold the {n_tested} tracks that are tested": lines[:-1],
        "each once with its label": [*lines, lines[-1]],
        "whose probabilities do not add up to 1": [*lines[:first], f"{tested}{',0.5' * 10}\n", *lines[first + 1 :]],
        "cannot be read": [*lines[:first], f"{tested}{',?' * 10}\n", *lines[first + 1 :]],
    }
    assert len(probabilities) == 10
    for said, damaged in damages.items():
        path.write_text("".join(damaged), encoding="utf-8")
        with pytest.raises(UserError, match=rf"fold_2 is damaged: its predictions\.csv .*{said}"):
            script.main(words(corpus, folder))
    path.unlink()
    way_out = r"predictions\.csv is missing; delete that folder, and the same command runs the fold again"
    with pytest.raises(UserError, match=way_out):
        script.main(words(corpus, folder))
    (folder / "fold_2" / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"fold_2 is damaged: its run\.json or report\.json cannot be read; delete"):
        script.main(words(corpus, folder))


def test_folds_that_cannot_be_drawn_are_refused_before_the_first_trains(script, corpus, tmp_path, monkeypatch):
    def by_one_artist(rows):
        for row in rows:
            if row["track"].startswith("classical"):
                row["artist"] = "One Alone"

    folder = with_index(corpus, tmp_path / "one", by_one_artist)
    monkeypatch.setattr(MusicTrainer, "training_step", dies_in_step(1))
    with pytest.raises(UserError, match=r"fold \d of 2 \(--fold \d\) leaves no 'classical' for train.* 1 known artist"):
        script.main(words(corpus, tmp_path / "cv", data_dir=folder))
    assert not (tmp_path / "cv").exists()


def test_tracks_of_unknown_artist_are_counted_as_never_tested(script, corpus, tmp_path):
    def without_some(rows):
        for row in rows[::10]:
            row["artist"] = ""

    folder = with_index(corpus, tmp_path / "unknown", without_some)
    report = script.main(words(corpus, tmp_path / "cv", data_dir=folder, max_steps=1))
    assert report["trained_on_only"] == 8 and report["test"]["track"]["n"] == 72
    assert "\n8 tracks of unknown artist are trained on and never tested\n" in describe_folds(report)
    assert "never tested" not in describe_folds({**report, "trained_on_only": 0})
    assert "\n1 track of unknown artist is trained on" in describe_folds({**report, "trained_on_only": 1})


def test_what_cannot_be_cross_validated_is_told_in_one_line(script, corpus, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.py is no file; the recipes are .*ast_gtzan\.py"):
        script.main(["nowhere.py"])
    with pytest.raises(UserError, match=r"setup\.py is no recipe"):
        (tmp_path / "setup.py").write_text("x = 1")
        script.main([str(tmp_path / "setup.py")])
    with pytest.raises(UserError, match="folds=1 must be 2 or more"):
        script.main(words(corpus, tmp_path / "a", folds=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something else than folds; name another folder"):
        script.main(words(corpus, tmp_path / "full"))
