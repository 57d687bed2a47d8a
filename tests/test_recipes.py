"""Each recipe runs for a few steps on the synthetic corpus, as a user would run it."""

import csv
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from recipe_runs import RECIPE, ROOT, TINY, Killed, data_flags, dies_in_step, flags, recipe

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.audio import read_audio
from hf_musiclf.data.synthetic import GENRES, render_track
from hf_musiclf.data.window_dataset import collate_inputs
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.probabilities import softmax
from hf_musiclf.trainer import MusicTrainer


def predictions(folder, split="test"):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["track"]: row for row in csv.DictReader(file) if row["split"] == split}


def test_report_holds_what_it_promises(finished):
    folder, report = finished
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report, default=str))
    for level in ("track", "window"):
        scores = report["test"][level]
        low, high = scores["accuracy_interval"]
        assert 0 <= low <= scores["accuracy"] <= high <= 1
        assert sum(map(sum, scores["confusion"])) == scores["n"]
        assert [row["label"] for row in scores["per_class"]] == report["data"]["labels"]
    assert report["split_scheme"] == "artist" and report["leakage"]["train/test"]["group"]["items"] == 0
    assert report["versions"]["transformers"] and report["arguments"]["learning_rate"] == 2e-3


def test_every_test_track_is_predicted_once_and_scores_add_up(finished):
    folder, report = finished
    rows = predictions(folder)
    assert len(rows) == report["test"]["track"]["n"] == report["data"]["splits"]["test"]["tracks"]
    right = np.mean([row["label"] == row["predicted"] for row in rows.values()])
    assert right == pytest.approx(report["test"]["track"]["accuracy"])
    for row in rows.values():
        assert sum(float(row[label]) for label in report["data"]["labels"]) == pytest.approx(1, abs=1e-4)


def test_the_model_saved_is_the_one_chosen_on_validation(finished):
    _, report = finished
    evaluations = [entry for entry in report["training"]["history"] if "eval_track_accuracy" in entry]
    best = max(entry["eval_track_accuracy"] for entry in evaluations)
    assert report["validation"]["track"]["accuracy"] == pytest.approx(best)
    losses = {entry["step"]: entry["eval_track_log_loss"] for entry in evaluations}
    assert report["validation"]["track"]["log_loss"] == pytest.approx(losses[report["training"]["best_step"]], rel=1e-4)


def test_where_the_last_epoch_counts_no_step_is_told_as_chosen(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
    changes = dict(load_best_model_at_end=False, max_steps=2, eval_strategy="steps", eval_steps=1)
    report = recipe().main(flags(**data_flags(corpus), **changes, output_dir=tmp_path / "run"))
    assert report["training"]["best_step"] is None and not report["chosen_on_validation"]
    last = [entry["eval_track_log_loss"] for entry in report["training"]["history"] if "eval_track_log_loss" in entry][
        -1
    ]
    assert report["validation"]["track"]["log_loss"] == pytest.approx(last, rel=1e-4)


def test_pictures_and_card_are_there_and_whole(finished):
    folder, report = finished
    for name in ("confusion_matrix", "roc_curves", "validation", "per_class"):
        assert (folder / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "audio-classification" and card.data.library_name == "transformers"
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["accuracy"] == pytest.approx(report["test"]["track"]["accuracy"], abs=1e-4)
    assert "None" not in card.text and "{{" not in card.text and str(folder.parent) not in card.text.split("`")[0]
    assert not list(folder.glob("**/*.part")) and not (folder / "training_args.bin").exists()


def test_whole_track_inference_gives_what_evaluation_gave(finished, corpus):
    folder, report = finished
    classify = TrackClassifier(str(folder))
    for track, row in predictions(folder).items():
        genre = track.split(".")[0]
        scores = classify(corpus / "genres" / genre / f"{track}.wav")
        expected = [float(row[label]) for label in report["data"]["labels"]]
        np.testing.assert_allclose(scores.probabilities, expected, atol=2e-5)


@pytest.mark.parametrize("window_seconds", [1.28, 10.24])
def test_pipeline_gives_the_same_probabilities_without_our_package(finished, corpus, tmp_path, window_seconds):
    folder, file = finished[0], tmp_path / "long.wav"
    if window_seconds == 10.24:  # the published checkpoints' window, untrained: what counts is that both say the same
        folder = tmp_path / "model"
        args = ModelArguments(model="random", model_config=TINY["model_config"])
        loaded = load_classifier(args, GENRES, window_seconds, "audio-spectrogram-transformer")
        loaded.model.save_pretrained(folder)
        loaded.features.extractor.save_pretrained(folder)
    soundfile.write(file, render_track("disco", 5, 0, seconds=12.0), 22_050)
    np.save(tmp_path / "window.npy", read_audio(file, 16_000, 0.0, window_seconds))
    code = (
        "import sys, json, numpy as np\n"
        "from transformers import pipeline\n"
        f"classify = pipeline('audio-classification', model={str(folder)!r}, device='cpu')\n"
        f"window = np.load({str(tmp_path / 'window.npy')!r})\n"
        "found = classify({'array': window, 'sampling_rate': 16_000}, top_k=None)\n"
        "assert not [name for name in sys.modules if name.startswith('hf_musiclf')]\n"
        "print(json.dumps({entry['label']: entry['score'] for entry in found}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    ours = TrackClassifier(str(folder))(file)
    for label, probability in zip(ours.labels, ours.window_probabilities[0], strict=True):
        assert found[label] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("layers", ["all", "head"])
def test_while_training_some_windows_of_each_track_are_validated_and_in_the_end_all(
    layers, finished, corpus, tmp_path, monkeypatch
):
    calls, logits = [], MusicTrainer.logits

    def remembered(trainer, windows):
        calls.append((trainer, windows, logits(trainer, windows)))
        return calls[-1][-1]

    monkeypatch.setattr(MusicTrainer, "logits", remembered)
    changes = dict(model=finished[0], model_config=None, train_layers=layers, validation_windows_per_track=2)
    last = dict(max_steps=2, eval_strategy="steps", eval_steps=2, load_best_model_at_end=False)
    every = dict(train_windows="all") if layers == "head" else {}
    report = recipe().main(flags(**data_flags(corpus), **changes, **last, **every, output_dir=tmp_path / "run"))
    trainer, windows, of_all = calls[0]
    assert windows is trainer.windows["validation"] and bool(trainer.embedded) == (layers == "head")
    probabilities = softmax(of_all)
    assert np.bincount(windows.track_of_window).tolist() == [4] * report["validation"]["track"]["n"]
    spread = probabilities.reshape(-1, 4, len(report["data"]["labels"]))[:, [1, 3]].mean(axis=1)
    expected = -np.log(spread[np.arange(len(spread)), windows.label_of_track]).mean()
    told = [entry for entry in report["training"]["history"] if "eval_track_log_loss" in entry][-1]
    assert told["eval_track_log_loss"] == pytest.approx(expected, rel=1e-5)
    assert told["eval_track_log_loss"] != pytest.approx(report["validation"]["track"]["log_loss"], rel=1e-5)
    assert report["validation"]["window"]["n"] == len(windows)
    assert report["training"]["windows_validated_while_training"] == len(windows) / 2


def test_a_killed_run_ends_with_the_same_metrics_as_one_that_was_not(corpus, tmp_path, monkeypatch, capsys):
    # 60 training tracks in batches of 16: 4 steps an epoch. Saved every 3 steps: the resume is within an epoch.
    changes = dict(
        data_flags(corpus), eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3,
        save_total_limit=9, dataloader_num_workers=1,
    )  # fmt: skip
    whole = recipe().main(flags(**changes, output_dir=tmp_path / "whole"))

    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(5))
        with pytest.raises(Killed):
            recipe().main(flags(**changes, output_dir=tmp_path / "killed"))
    assert "run the same command again: it goes on from checkpoint-3" in capsys.readouterr().err
    (tmp_path / "killed" / "checkpoint-6").mkdir()  # what a kill while saving leaves
    (tmp_path / "killed" / "checkpoint-6" / "model.safetensors").write_bytes(b"half")

    resumed = recipe().main(flags(**changes, output_dir=tmp_path / "killed"))
    assert "resuming from" in capsys.readouterr().out
    for split in ("validation", "test"):
        assert resumed[split] == whole[split]
    assert resumed["training"]["steps"] == whole["training"]["steps"]
    assert (tmp_path / "killed" / "README.md").is_file()


def test_the_same_seed_gives_the_same_numbers(finished, corpus, tmp_path):
    _, report = finished
    again = recipe().main(flags(**data_flags(corpus), output_dir=tmp_path / "again"))
    assert again["test"] == report["test"]
    other = recipe().main(flags(**data_flags(corpus), output_dir=tmp_path / "other", seed=1))
    assert other["test"]["window"]["log_loss"] != report["test"]["window"]["log_loss"]


def test_workers_that_make_the_inputs_change_no_number(finished, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_musiclf.trainer.available_cores", lambda: 4)
    seen = tmp_path / "seen"  # a file: workers have a memory of their own
    monkeypatch.setattr("hf_musiclf.trainer.collate_inputs", lambda *args: seen.touch() or collate_inputs(*args))
    _, report = finished
    found = recipe().main(flags(**data_flags(corpus), output_dir=tmp_path / "workers", dataloader_num_workers=1))
    assert seen.exists()
    assert not multiprocessing.active_children(), "workers wait for the garbage collector, and it for them"
    assert found["test"] == report["test"] and found["validation"] == report["validation"]


def test_two_processes_evaluate_every_track_exactly_once(corpus, tmp_path):
    folder = tmp_path / "two"
    command = [
        str(Path(sys.executable).parent / "accelerate"), "launch", "--cpu", "--num_processes", "2", str(RECIPE),
    ]  # fmt: skip
    # 10 test tracks of 4 windows in batches of 7 on each of two processes: what pads the last batch must be dropped.
    extra = flags(**data_flags(corpus), output_dir=folder, per_device_eval_batch_size=7, max_steps=2)
    done = subprocess.run([*command, *extra], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((folder / "report.json").read_text())
    assert report["training"]["processes"] == 2
    counts = report["data"]["splits"]["test"]
    assert (report["test"]["track"]["n"], report["test"]["window"]["n"]) == (counts["tracks"], counts["windows"])
    assert done.stdout.count("leakage:") == 1  # said by the first process alone
    classify = TrackClassifier(str(folder))
    for track, row in predictions(folder).items():
        scores = classify(corpus / "genres" / track.split(".")[0] / f"{track}.wav")
        expected = [float(row[label]) for label in report["data"]["labels"]]
        np.testing.assert_allclose(scores.probabilities, expected, atol=2e-5)


@pytest.mark.parametrize("layers", ["head", "last:1"])
def test_frozen_layers_stay_as_they_were(finished, corpus, tmp_path, layers):
    before, _ = finished
    recipe().main(
        flags(
            **data_flags(corpus), output_dir=tmp_path / "frozen", model=before, model_config=None, train_layers=layers,
            max_steps=2, learning_rate=0.1,
        )
    )  # fmt: skip
    old, new = (TrackClassifier(str(folder)).model.state_dict() for folder in (before, tmp_path / "frozen"))
    moved = {key for key in old if not torch.equal(old[key], new[key])}
    assert moved and all(key.startswith("classifier") or layers == "last:1" for key in moved)
    assert not any(".layers.0." in key or "embeddings" in key for key in moved)


def test_gradient_accumulation_sees_the_same_batch(corpus, tmp_path):
    """Eight windows twice are one batch of sixteen: equal up to rounding, as the loss is a mean over the batch."""
    common = dict(data_flags(corpus), max_steps=2, max_grad_norm=1.0)
    one = recipe().main(flags(**common, output_dir=tmp_path / "one"))
    two = recipe().main(
        flags(
            **common, output_dir=tmp_path / "two", per_device_train_batch_size=8, gradient_accumulation_steps=2
        )
    )  # fmt: skip
    assert two["test"]["window"]["log_loss"] == pytest.approx(one["test"]["window"]["log_loss"], rel=1e-4)


def test_half_precision_and_early_stopping_run_through(corpus, tmp_path):
    report = recipe().main(
        flags(
            **data_flags(corpus), output_dir=tmp_path / "bf16", bf16=True, early_stopping_patience=1, learning_rate=0.0,
            num_train_epochs=6,
        )
    )  # fmt: skip
    # With nothing learnt the first evaluation is the best, and the second ends the run.
    assert report["training"]["epochs"] == 2


# The scripts around a run


def test_predict_classifies_files_and_tells_what_it_cannot_read(finished, corpus, tmp_path):
    folder, _ = finished
    soundfile.write(tmp_path / "a.flac", np.zeros((48_000, 2)), 48_000)
    (tmp_path / "b.wav").write_text("no audio")
    soundfile.write(tmp_path / "c.wav", np.zeros(100), 8000)
    command = [sys.executable, str(ROOT / "scripts" / "predict.py"), str(folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    (row,) = [line for line in done.stdout.splitlines() if "a.flac" in line]
    assert row.split()[-2:] == ["1", "0:01"]  # one window, one second
    assert "c.wav: lasts 0.013 s; 0.1 s are the least to classify" in done.stderr
    assert "Loading weights" not in done.stderr
    assert "b.wav" in done.stderr and "Traceback" not in done.stderr
