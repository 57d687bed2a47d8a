"""The EfficientAT recipe at small size: what its batch norms, its head and its augmentation do in a whole run."""

import pytest
import torch
from recipe_runs import ROOT, Killed, dies_in_step, recipe, run_recipe, tiny_flags
from transformers import set_seed

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.window_dataset import collate_windows
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.efficientat import EfficientAtConfig, EfficientAtForAudioClassification
from hf_musiclf.models.feature_extraction_efficientat import EfficientAtFeatureExtractor
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.stages import train_head_first
from hf_musiclf.trainer import MusicTrainer

NAME = "efficientat_gtzan"


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """They take half the time of such a run, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of three other labels, its batch norms with the statistics of what has passed; to be read only."""
    folder = tmp_path_factory.mktemp("efficientat")
    torch.manual_seed(0)
    config = EfficientAtConfig(width_mult=0.1, num_mel_bins=32, num_labels=3, batch_norm_momentum=1.0)
    model = EfficientAtForAudioClassification(config).train()
    model(torch.randn(16, 100, 32) + torch.randn(16, 1, 32))
    model.config.batch_norm_momentum = 0.01
    model.save_pretrained(folder)
    EfficientAtFeatureExtractor(feature_size=32, window_seconds=1.0).save_pretrained(folder)
    return folder


def model_of(folder):
    return EfficientAtForAudioClassification.from_pretrained(folder)


def norms_of(model):
    found = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert len(found) > 30
    return found


def same(left, right):
    return set(left) == set(right) and all(torch.equal(left[key], right[key]) for key in left)


# Batch norms


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_norms_keep_the_statistics_of_a_checkpoint_where_asked_and_learn(freeze, checkpoint, corpus, tmp_path):
    run_recipe(
        NAME, corpus, output_dir=tmp_path / "run", model=checkpoint, model_config=None, max_steps=2,
        freeze_batch_norm=freeze,
    )  # fmt: skip
    trained = norms_of(model_of(tmp_path / "run"))
    for name, before in norms_of(model_of(checkpoint)).items():
        after = trained[name]
        for statistic in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(getattr(after, statistic), getattr(before, statistic)) == freeze, (name, statistic)
        assert not torch.equal(after.weight, before.weight) and not torch.equal(after.bias, before.bias), name


def test_from_scratch_there_are_no_statistics_to_keep(corpus, tmp_path):
    run_recipe(NAME, corpus, output_dir=tmp_path / "run", max_steps=2, freeze_batch_norm=True)
    for name, norm in norms_of(model_of(tmp_path / "run")).items():
        assert norm.num_batches_tracked == 2 and norm.running_mean.any(), name


# The head


@pytest.mark.parametrize("head_type", ["projection", "probe"])
def test_kept_embeddings_train_the_same_head_as_the_plain_way_dropout_included(head_type, checkpoint, corpus, tmp_path):
    changes = dict(
        model=checkpoint, model_config=f"head_type={head_type}", train_layers="head", train_windows="all",
        mask_bands=0, mask_frames=0, cache_dir=tmp_path / "cache",
    )  # fmt: skip
    kept, plain = (
        run_recipe(NAME, corpus, output_dir=tmp_path / name, **changes, cache_embeddings=name == "kept")
        for name in ("kept", "plain")
    )
    assert list((tmp_path / "cache").rglob("*.npy"))
    for split in ("validation", "test"):
        for level in ("track", "window"):
            assert kept[split][level]["accuracy"] == plain[split][level]["accuracy"]
            assert kept[split][level]["log_loss"] == pytest.approx(plain[split][level]["log_loss"], abs=1e-5)
    one, other, start = (model_of(place) for place in (tmp_path / "kept", tmp_path / "plain", checkpoint))
    assert one.config.dropout > 0
    assert same(one.efficientat.state_dict(), start.efficientat.state_dict())
    assert same(other.efficientat.state_dict(), start.efficientat.state_dict())
    assert (one.config.head_type, len(list(one.norm.buffers()))) == (head_type, 3 if head_type == "probe" else 0)
    for part in ("norm", "classifier"):
        for key, value in getattr(one, part).state_dict().items():
            torch.testing.assert_close(value, getattr(other, part).state_dict()[key], atol=1e-5, rtol=1e-5, msg=key)


def parts_of_a_run(checkpoint, corpus, folder, **changes):
    """As the recipe makes them: model and features, all windows, arguments; the new head drawn from the same seed."""
    module = recipe(ROOT / "recipes" / f"{NAME}.py")
    words = tiny_flags(
        NAME, corpus, output_dir=folder, model=checkpoint, model_config=None, train_windows="all", **changes
    )
    data_args, model_args, training_args = parse_recipe(module.DEFAULTS, words, module.__doc__)
    tracks = load_tracks(data_args, verbose=False)
    set_seed(0)
    loaded = load_classifier(model_args, tracks.labels, data_args.window_seconds, "efficientat", verbose=False)
    return loaded, cut_windows(tracks, data_args, loaded.features.sampling_rate), training_args


@torch.no_grad()
def training_loss(loaded, windows):
    batch = collate_windows([windows["train"][index] for index in range(len(windows["train"]))])
    inputs = loaded.features(batch["waveforms"], batch["lengths"])
    return loaded.model.eval()(**inputs, labels=batch["labels"]).loss.item()


@pytest.mark.parametrize("train_layers", ["all", "last:2"])
def test_training_the_head_first_changes_the_head_alone(train_layers, checkpoint, corpus, tmp_path):
    loaded, windows, args = parts_of_a_run(
        checkpoint, corpus, tmp_path / "run", train_layers=train_layers, head_first_epochs=10, mixup_alpha=0.3
    )
    model, asked = loaded.model, args.to_dict()
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loss = training_loss(loaded, windows)

    train_head_first(loaded, windows, args, str(tmp_path / "cache"))

    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == learns
    assert args.to_dict() == asked
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"classifier.weight", "classifier.bias"}
    assert training_loss(loaded, windows) < loss - 0.05
    assert not list((tmp_path / "run").rglob("*"))  # nothing but embeddings is written


def test_training_the_head_first_gives_the_same_head_again(checkpoint, corpus, tmp_path):
    heads = []
    for seed in (0, 0, 1):
        loaded, windows, args = parts_of_a_run(checkpoint, corpus, tmp_path / "run", head_first_epochs=1, seed=seed)
        train_head_first(loaded, windows, args, str(tmp_path / "cache"))
        heads.append(loaded.model.classifier.state_dict())
    assert same(heads[0], heads[1]) and not same(heads[0], heads[2])


# A kill


def test_a_run_with_augmentation_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    checkpoint, corpus, tmp_path, monkeypatch
):
    # 60 training tracks in two batches of 8 a step: 4 steps an epoch. Killed in the second half of the fifth step, and
    # resumed from the third, within an epoch. The last weights are kept, so that what came after the kill counts.
    changes = dict(
        model=checkpoint, model_config=None,
        per_device_train_batch_size=8, gradient_accumulation_steps=2, mixup_alpha=0.3, head_first_epochs=1,
        eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3, load_best_model_at_end=False,
    )  # fmt: skip
    whole = run_recipe(NAME, corpus, output_dir=tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        steps_of_the_head_first = 23  # 180 windows in batches of 8
        patch.setattr(MusicTrainer, "training_step", dies_in_step(steps_of_the_head_first + 10))
        with pytest.raises(Killed):
            run_recipe(NAME, corpus, output_dir=tmp_path / "killed", **changes)
    assert (tmp_path / "killed" / "checkpoint-3").is_dir()
    resumed = run_recipe(NAME, corpus, output_dir=tmp_path / "killed", **changes)
    assert resumed["test"] == whole["test"] and resumed["training"]["steps"] == whole["training"]["steps"] == 8
    one, other = (TrackClassifier(str(tmp_path / name)).model.state_dict() for name in ("whole", "killed"))
    assert same(one, other)
