"""Folds: every track is tested once, groups stay whole, and a stopped cross-validation goes on."""

import csv
import importlib.util
import json

import numpy as np
import pytest
from recipe_runs import ROOT, TINY, Killed, data_flags, dies_in_step

from hf_musiclf.crossvalidation import FOLD_METRICS, _over_folds
from hf_musiclf.errors import UserError
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.splits import grouped_folds
from hf_musiclf.training import MusicTrainer


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cross_validate", ROOT / "scripts" / "cross_validate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(corpus, output_dir, **changes):
    arguments = {**TINY, **data_flags(corpus), "folds": 2, "output_dir": output_dir, "max_steps": 2, **changes}
    return [str(ROOT / "recipes" / "ast_gtzan.py"), *(f"--{key}={value}" for key, value in arguments.items())]


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


def test_the_mean_over_folds_has_students_interval():
    scores = [dict.fromkeys(FOLD_METRICS, value) for value in (0.6, 0.8, 0.7)]
    found = _over_folds(scores)["accuracy"]
    # t of 2 degrees at 97.5 % is 4.3027, the standard error 0.1 / sqrt(3).
    assert found["mean"] == pytest.approx(0.7)
    assert found["mean_interval"] == pytest.approx([0.7 - 4.3027 * 0.1 / 3**0.5, 0.7 + 4.3027 * 0.1 / 3**0.5], rel=1e-4)


@pytest.fixture(scope="module")
def finished_folds(script, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cv") / "ast"
    return folder, script.main(words(corpus, folder))


def test_the_report_is_of_all_tracks_each_predicted_while_held_out(finished_folds):
    folder, report = finished_folds
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["track"] for row in rows}) == report["test"]["track"]["n"] == 80
    labels = report["data"]["labels"]
    probabilities = np.array([[float(row[label]) for label in labels] for row in rows])
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


def test_a_stopped_cross_validation_goes_on_in_its_fold(script, finished_folds, corpus, tmp_path, monkeypatch):
    _, whole = finished_folds
    changes = dict(save_strategy="steps", eval_strategy="steps", save_steps=1, eval_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(4))  # the second step of the second fold
        with pytest.raises(Killed):
            script.main(words(corpus, tmp_path / "cv", **changes))
    assert (tmp_path / "cv" / "fold_1" / "report.json").exists()
    assert not (tmp_path / "cv" / "fold_2" / "report.json").exists()
    calls = []
    step = MusicTrainer.training_step
    monkeypatch.setattr(MusicTrainer, "training_step", lambda self, *a, **k: calls.append(1) or step(self, *a, **k))
    resumed = script.main(words(corpus, tmp_path / "cv", **changes))
    assert len(calls) == 1  # what was left of the second fold
    assert resumed["test"]["track"]["n"] == whole["test"]["track"]["n"]


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
