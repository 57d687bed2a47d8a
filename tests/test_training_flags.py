"""What the flags of training do to a whole run, however small, and that every recipe runs."""

import csv
import math
import sys

import numpy as np
import pytest
import torch
from recipe_runs import ROOT, run_recipe
from safetensors.torch import load_file

from hf_musiclf.augmentation import mask_spectrograms, mixup
from hf_musiclf.data.synthetic import GENRES
from hf_musiclf.inference import TrackClassifier

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
WITHOUT_EVALUATION = dict(eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
ONE_STEP = dict(
    model_config=None, max_steps=1, optim="sgd", lr_scheduler_type="constant", weight_decay=0.0, **WITHOUT_EVALUATION
)


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """They take half the time of such a run, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def convolutional(corpus, tmp_path_factory):
    """A checkpoint with batch norms and without dropout, as runs are compared that draw other masks."""
    folder = tmp_path_factory.mktemp("run") / "efficientat"
    run_recipe(
        "efficientat_maestro", corpus, output_dir=folder, max_steps=2,
        model_config="width_mult=0.1,num_mel_bins=32,dropout=0",
    )  # fmt: skip
    return folder


def logged(report, name):
    return [entry[name] for entry in report["training"]["history"] if name in entry]


# Learning rates


def moves(start, folder):
    """By how much a run from the checkpoint in `start` moved each parameter."""
    before, after = (dict(TrackClassifier(str(place)).model.named_parameters()) for place in (start, folder))
    return {name: (after[name] - value).detach() for name, value in before.items()}


@pytest.fixture(scope="module")
def step_of_one(finished, corpus, tmp_path_factory):
    """Moves of the parameters in one step down the gradient, all of them at a rate of 1."""
    folder = tmp_path_factory.mktemp("run") / "one"
    run_recipe("ast_gtzan", corpus, output_dir=folder, model=finished[0], **ONE_STEP, learning_rate=1.0)
    return moves(finished[0], folder)


def test_each_layer_moves_by_its_share_and_the_head_by_its_own_rate(finished, corpus, tmp_path, step_of_one):
    run_recipe(
        "ast_gtzan", corpus, output_dir=tmp_path / "run", model=finished[0], **ONE_STEP, learning_rate=1.0,
        layer_lr_decay=0.5, head_learning_rate=3.0,
    )  # fmt: skip
    found = moves(finished[0], tmp_path / "run")
    shares = {
        "classifier.": 3.0,
        "audio_spectrogram_transformer.layernorm.": 1.0,
        "audio_spectrogram_transformer.layers.1.": 0.5,
        "audio_spectrogram_transformer.layers.0.": 0.25,
        "audio_spectrogram_transformer.embeddings.": 0.125,
    }
    for part, share in shares.items():
        names = [name for name in found if name.startswith(part)]
        assert max(step_of_one[name].abs().max() for name in names) > 1e-3  # far above rounding
        for name in names:
            torch.testing.assert_close(found[name], share * step_of_one[name], atol=1e-6, rtol=1e-4, msg=name)
    assert all(name.startswith(tuple(shares)) for name in found)


def test_a_rate_near_zero_leaves_the_backbone_while_the_head_learns_at_its_own(finished, corpus, tmp_path, step_of_one):
    run_recipe(
        "ast_gtzan", corpus, output_dir=tmp_path / "run", model=finished[0], **ONE_STEP, learning_rate=1e-12,
        head_learning_rate=1.0,
    )  # fmt: skip
    for name, move in moves(finished[0], tmp_path / "run").items():
        expected = step_of_one[name] if name.startswith("classifier.") else torch.zeros_like(move)
        torch.testing.assert_close(move, expected, atol=1e-9, rtol=1e-6, msg=name)


# Loss of a batch in parts


def mix_neighbours(inputs, alpha, generator=None):
    """In pairs of their own, so that half a batch is mixed as within the whole."""
    place = torch.arange(len(inputs))
    share = 0.6 + 0.2 * (place % 2)
    weight = share.view(-1, *[1] * (inputs.ndim - 1))
    return weight * inputs + (1 - weight) * inputs[place ^ 1], place ^ 1, share


def mask_the_same(spectrograms, max_bands, max_frames, generator=None):
    masked = spectrograms.clone()
    masked[..., :max_frames, :] = 0
    return masked


def replace_everywhere(monkeypatch, function, replacement):
    """In every module of ours that has imported the function; returns the list of calls to come."""
    calls = []

    def recorded(*args, **kwargs):
        calls.append(args)
        return replacement(*args, **kwargs)

    for name, module in list(sys.modules.items()):
        if name.startswith("hf_musiclf.") and getattr(module, function.__name__, None) is function:
            monkeypatch.setattr(module, function.__name__, recorded)
    return calls


@pytest.mark.parametrize("augmentation", ["none", "masks", "mixup"])
@pytest.mark.parametrize("architecture", ["ast", "efficientat"])
def test_a_batch_in_two_parts_has_the_loss_and_gradient_of_the_whole(
    architecture, augmentation, finished, convolutional, corpus, tmp_path, monkeypatch
):
    masked = replace_everywhere(monkeypatch, mask_spectrograms, mask_the_same)
    mixed = replace_everywhere(monkeypatch, mixup, mix_neighbours)
    start = finished[0] if architecture == "ast" else convolutional
    name = {"ast": "ast_gtzan", "efficientat": "efficientat_maestro"}[architecture]
    changes = dict(
        model=start, model_config=None, max_steps=2, logging_steps=1, learning_rate=1e-12,
        head_learning_rate=1e-12, freeze_batch_norm=True, mask_bands=0, mask_frames=0 if augmentation == "none" else 16,
        mixup_alpha=0.3 if augmentation == "mixup" else 0.0, **WITHOUT_EVALUATION,
    )  # fmt: skip
    whole = run_recipe(name, corpus, output_dir=tmp_path / "1x16", **changes, per_device_train_batch_size=16)
    parts = run_recipe(
        name, corpus, output_dir=tmp_path / "2x8", **changes, per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    steps_and_parts = 2 + 4
    assert len(masked) == steps_and_parts * (augmentation != "none")
    assert len(mixed) == steps_and_parts * (augmentation == "mixup")
    for quantity in ("loss", "grad_norm"):
        assert len(logged(whole, quantity)) == 2 and min(logged(whole, quantity)) > 1e-3
        assert logged(parts, quantity) == pytest.approx(logged(whole, quantity), rel=1e-4), quantity


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.3])
def test_a_model_without_an_opinion_loses_the_logarithm_of_the_labels(mixup_alpha, finished, corpus, tmp_path):
    """Whatever is masked, mixed, smoothed and summed up: ln K is the cross-entropy of any target with 1/K for all."""
    classifier = TrackClassifier(str(finished[0]))
    torch.nn.init.zeros_(classifier.model.classifier.dense.weight)
    torch.nn.init.zeros_(classifier.model.classifier.dense.bias)
    classifier.model.save_pretrained(tmp_path / "start")
    classifier.features.extractor.save_pretrained(tmp_path / "start")
    report = run_recipe(
        "ast_gtzan", corpus, output_dir=tmp_path / "run", model=tmp_path / "start", model_config=None, max_steps=2,
        logging_steps=1, learning_rate=0.0, mixup_alpha=mixup_alpha, mask_bands=8, mask_frames=16,
        label_smoothing_factor=0.1, per_device_train_batch_size=8, gradient_accumulation_steps=2,
        **WITHOUT_EVALUATION,
    )  # fmt: skip
    assert logged(report, "loss") == pytest.approx([math.log(len(GENRES))] * 2, rel=1e-5)


# Every recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_leaves_a_model_that_scores_tracks_as_its_evaluation_did(name, corpus, tmp_path):
    report = run_recipe(name, corpus, output_dir=tmp_path / "run", max_steps=2)
    assert report["training"]["steps"] == 2 and report["data"]["labels"] == sorted(GENRES)
    weights = load_file(tmp_path / "run" / "model.safetensors").values()
    assert all(torch.isfinite(value).all() for value in weights)
    classify = TrackClassifier(str(tmp_path / "run"))
    with (tmp_path / "run" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["split"] == "test")
    scores = classify(corpus / "genres" / row["label"] / f"{row['track']}.wav")
    assert scores.labels == tuple(report["data"]["labels"])
    expected = [float(row[label]) for label in scores.labels]
    assert sum(expected) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(scores.probabilities, expected, atol=2e-5)
