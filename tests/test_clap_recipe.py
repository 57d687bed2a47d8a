"""The CLAP recipe on a MAESTRO of a few seconds, as a user would run it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from recipe_runs import ROOT, Killed, dies_in_step, recipe
from tiny_clap import LABELS, PROMPT, write_clap
from tiny_maestro import row, write_maestro
from transformers import ClapFeatureExtractor, ClapModel

from hf_musiclf.audio import read_audio
from hf_musiclf.errors import UserError
from hf_musiclf.features.clap import ClapFeatures
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.zero_shot import ClapZeroShot
from hf_musiclf.trainer import MusicTrainer

RECIPE = ROOT / "recipes" / "clap_maestro.py"
TINY = {
    "model": "random",
    "model_config": json.dumps(
        dict(
            spec_size=64, num_mel_bins=16, depths=[1, 1], num_attention_heads=[1, 2], patch_embeds_hidden_size=8,
            window_size=4, sampling_rate=8_000,
        )
    ),
    "window_seconds": 1.0,
    "eval_hop_seconds": 0.5,
    "min_track_seconds": 1.0,
    "windows_per_track": 2,
    "num_train_epochs": 2,
    "dataloader_num_workers": 0,
    "bootstrap_resamples": 200,
    "use_cpu": True,
    "disable_tqdm": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def maestro(tmp_path_factory):
    """Three composers of six pieces, two performances of each."""
    rows = [
        row(f"Anton {name}", f"Sonata No. {number}", f"{number}{take}", duration=1.5)
        for name in LABELS
        for number in range(1, 7)
        for take in "ab"
    ]
    return Path(write_maestro(tmp_path_factory.mktemp("data") / "maestro", rows, seconds=1.5))


def run(maestro, output_dir, **changes):
    arguments = {**TINY, "data_dir": maestro, "output_dir": output_dir, **changes}
    words = [word for key, value in arguments.items() if value is not None for word in _words(key, value)]
    return recipe(RECIPE).main(words)


def _words(key, value):
    return [f"--{key}", *value.split()] if key == "composers" else [f"--{key}={value}"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_clap(tmp_path_factory.mktemp("clap"), fused=False)


@pytest.fixture(scope="module")
def finished(maestro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "composition"
    return folder, run(maestro, folder)


def test_no_composition_stands_in_two_splits_and_every_composer_in_each(finished):
    _, report = finished
    assert report["split_scheme"] == "composition" and report["data"]["group"] == "composition"
    for found in report["leakage"].values():
        assert found["group"]["items"] == found["title"]["items"] == 0
    assert all(min(split["labels"].values()) > 0 for split in report["data"]["splits"].values())
    assert report["data"]["splits"]["train"]["windows"] == 2 * report["data"]["splits"]["train"]["tracks"]


def test_a_split_by_performance_reports_its_leak(maestro, tmp_path):
    report = run(maestro, tmp_path / "leak", split_scheme="performance", max_steps=1)
    found = report["leakage"]["train/test"]["group"]
    assert found["items"] > 0 and found["known"] == report["test"]["track"]["n"]
    assert "share their composition with train" in (tmp_path / "leak" / "README.md").read_text()


def test_the_majority_class_is_named_with_its_score(maestro, tmp_path, capsys):
    report = run(maestro, tmp_path / "majority", composers="Bach Chopin", max_steps=1)
    with (tmp_path / "majority" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        of_test = [entry["label"] for entry in csv.DictReader(file) if entry["split"] == "test"]
    score = of_test.count(report["majority_class"]) / len(of_test)
    said = f"always answering {report['majority_class']!r}, the majority class of training, would score {score:.3f}"
    assert said in capsys.readouterr().out
    assert f'Always answering "{report["majority_class"]}"' in (tmp_path / "majority" / "README.md").read_text()


def test_whole_track_inference_gives_what_evaluation_gave(finished, maestro):
    folder, report = finished
    classify = TrackClassifier(str(folder))
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert len(rows) == report["test"]["track"]["n"] > 0
    for found in rows:
        scores = classify(maestro / f"{found['track']}.wav")
        assert len(scores.starts_seconds) == 2  # 1.5 s in windows of 1 s every half second
        expected = [float(found[label]) for label in report["data"]["labels"]]
        np.testing.assert_allclose(scores.probabilities, expected, atol=2e-5)


def test_the_published_folder_brings_its_code_and_says_how_to_trust_it(finished):
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text())
    module, _, name = config["auto_map"]["AutoModelForAudioClassification"].partition(".")
    assert name == "ClapForAudioClassification" and (folder / f"{module}.py").is_file()
    assert "trust_remote_code=True" in ModelCard.load(folder / "README.md").text


def test_the_zero_shot_baseline_is_claps_own_and_changes_nothing_else(maestro, checkpoint, tmp_path):
    changes = dict(model=checkpoint, model_config=None, window_seconds=1.5, eval_hop_seconds=1.5, max_steps=2)
    prompt = dict(zero_shot=True, zero_shot_prompt=PROMPT)
    report = run(maestro, tmp_path / "with", **changes, **prompt)
    without = run(maestro, tmp_path / "without", **changes)
    assert report["test"] == without["test"] and without["baselines"] == {}

    found = report["baselines"][f"zero shot: {PROMPT}"]["window"]
    labels = report["data"]["labels"]
    model = ClapZeroShot(str(checkpoint), labels, PROMPT)
    features = ClapFeatures(ClapFeatureExtractor.from_pretrained(checkpoint))
    losses = []
    with (tmp_path / "with" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        for entry in csv.DictReader(file):
            if entry["split"] == "test":
                waveform = read_audio(maestro / f"{entry['track']}.wav", features.sampling_rate)
                logits = model(**features(torch.from_numpy(waveform)[None])).logits[0]
                losses.append(-logits.log_softmax(-1)[labels.index(entry["label"])].item())
    assert found["n"] == len(losses) and found["log_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert f"| zero shot: {PROMPT}, whole tracks |" in (tmp_path / "with" / "README.md").read_text()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_checkpoints_in_half_precision_are_trained_in_single(maestro, checkpoint, tmp_path, dtype):
    model = ClapModel.from_pretrained(checkpoint, dtype=dtype)
    shutil.copytree(checkpoint, tmp_path / "half")
    model.save_pretrained(tmp_path / "half")
    run(
        maestro, tmp_path / "run", model=tmp_path / "half", model_config=None, max_steps=1, zero_shot=True,
        zero_shot_prompt=PROMPT,
    )  # fmt: skip
    assert TrackClassifier(str(tmp_path / "run")).model.dtype == torch.float32
    TrackClassifier(str(tmp_path / "run")).model.to(dtype).save_pretrained(tmp_path / "run")
    assert TrackClassifier(str(tmp_path / "run")).model.dtype == torch.float32


def test_the_head_of_a_checkpoint_without_one_is_as_asked(maestro, checkpoint, finished, tmp_path):
    changes = dict(model=checkpoint, max_steps=1)
    run(maestro, tmp_path / "head", **changes, model_config="head_hidden_size=5,head_activation=gelu")
    config = TrackClassifier(str(tmp_path / "head")).model.config
    assert (config.head_hidden_size, config.head_activation) == (5, "gelu")
    with pytest.raises(UserError, match=r"depths"):
        run(maestro, tmp_path / "a", **changes, model_config="depths=[1,1]")
    run(maestro, tmp_path / "b", model=finished[0], max_steps=1, model_config="head_hidden_size=5")  # it stays as it is
    assert TrackClassifier(str(tmp_path / "b")).model.config.head_hidden_size is None


def test_the_last_blocks_with_decayed_rates_resume_where_they_were(maestro, checkpoint, tmp_path, monkeypatch):
    changes = dict(
        model=checkpoint, model_config=None, train_layers="last:1", layer_lr_decay=0.5, eval_strategy="steps",
        eval_steps=2, save_strategy="steps", save_steps=2, per_device_train_batch_size=8, learning_rate=0.01,
    )  # fmt: skip
    whole = run(maestro, tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(4))
        with pytest.raises(Killed):
            run(maestro, tmp_path / "killed", **changes)
    resumed = run(maestro, tmp_path / "killed", **changes)
    assert resumed["test"] == whole["test"] and resumed["validation"] == whole["validation"]
    published, trained = ClapModel.from_pretrained(checkpoint), TrackClassifier(str(tmp_path / "whole")).model
    moved = {
        key
        for key, value in trained.audio_model.state_dict().items()
        if not torch.equal(value, published.audio_model.state_dict()[key])
    }
    assert moved and all(".layers.1.blocks.1." in key or "audio_encoder.norm." in key for key in moved)


def test_with_the_head_alone_the_encoder_and_its_batch_norm_stay_as_published(maestro, checkpoint, tmp_path):
    run(maestro, tmp_path / "head", model=checkpoint, model_config=None, train_layers="head", max_steps=3)
    published, trained = ClapModel.from_pretrained(checkpoint), TrackClassifier(str(tmp_path / "head")).model
    for key, value in trained.audio_model.state_dict().items():
        assert torch.equal(value, published.audio_model.state_dict()[key]), key


def test_a_checkpoint_without_words_is_no_zero_shot_classifier(maestro, finished, tmp_path):
    with pytest.raises(UserError, match=r"zero_shot needs a checkpoint with a text tower"):
        run(maestro, tmp_path / "a", zero_shot=True)
    with pytest.raises(UserError, match=r"zero-shot classification needs a whole 'clap'"):
        run(maestro, tmp_path / "b", zero_shot=True, model=finished[0], model_config=None)
