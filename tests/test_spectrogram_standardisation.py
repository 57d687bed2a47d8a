"""Mean and variance of the inputs, of training windows, before anything is learnt."""

import numpy as np
import pytest
import torch
from recipe_runs import Killed, dies_in_step, run_recipe

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.models.cnn import CnnForAudioClassification
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.models.standardisation import WINDOWS, set_standardisation
from hf_musiclf.trainer import MusicTrainer

TOLD = "inputs are standardised by"


def load(model_type="spectrogram_cnn", config="features=[log_mel,chroma],channels=[4]"):
    return load_classifier(ModelArguments(model_config=config), ("jazz", "rock"), 0.5, model_type, verbose=False)


def windows_of(count):
    """Each of another level and length, as in a dataset."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(4_000, 8_001, count)
    made = [rng.standard_normal(size).astype(np.float32) * rng.random() / 10 for size in sizes]
    return [{"waveform": waveform, "labels": 0, "row": row} for row, waveform in enumerate(made)]


@pytest.mark.parametrize(
    "model_type, config",
    [
        ("spectrogram_cnn", "features=[log_mel,chroma],channels=[4]"),
        ("spectrogram_crnn", "features=mfcc,conv_channels=[],rnn_size=4"),
        ("spectrogram_vgg", "width_mult=0.05"),
    ],
)
def test_they_are_those_of_all_frames_of_the_windows(model_type, config):
    loaded, windows = load(model_type, config), windows_of(37)
    assert set_standardisation(loaded.model, loaded.features, windows, 0) == (
        f"{TOLD} 37 training windows before anything is learnt"
    )
    values = [loaded.features(torch.from_numpy(item["waveform"])[None])["input_values"] for item in windows]
    inputs = torch.cat(values)
    norm = loaded.model.base_model.standardisation.eval()
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 1)), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, inputs.var((0, 1)), atol=1e-3, rtol=1e-3)
    standardised = norm(inputs.transpose(1, 2)).detach()
    assert standardised.mean((0, 2)).abs().max() < 1e-3
    torch.testing.assert_close(standardised.std((0, 2)), torch.ones(inputs.shape[2]), atol=1e-2, rtol=0)


def test_what_has_learnt_is_left_alone_and_what_has_none_too():
    loaded, windows = load(), windows_of(8)
    assert set_standardisation(loaded.model, loaded.features, windows, 0)
    before = loaded.model.base_model.standardisation.running_mean.clone()
    assert set_standardisation(loaded.model, loaded.features, windows_of(20), 1) is None
    assert torch.equal(loaded.model.base_model.standardisation.running_mean, before)
    del loaded.model.base_model.standardisation
    assert set_standardisation(loaded.model, loaded.features, windows, 0) is None


def test_windows_are_drawn_from_the_seed_and_not_too_many_read():
    class Counted(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    windows, drawn = Counted(windows_of(40) * 10), []
    for seed in (0, 0, 1):
        read, loaded = [], load()
        before = torch.get_rng_state()
        set_standardisation(loaded.model, loaded.features, windows, seed)
        assert torch.equal(torch.get_rng_state(), before) and len(set(read)) == WINDOWS
        drawn.append((read, loaded.model.base_model.standardisation.running_mean))
    assert drawn[0][0] == drawn[1][0] != drawn[2][0] and torch.equal(drawn[0][1], drawn[1][1])


def killed_and_resumed(corpus, folder, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(4))
        with pytest.raises(Killed):
            run_recipe("cnn_gtzan", corpus, output_dir=folder, **changes)
    run_recipe("cnn_gtzan", corpus, output_dir=folder, **changes)


def saved_norm(folder):
    return CnnForAudioClassification.from_pretrained(folder).cnn.standardisation


STEPS = dict(save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, max_steps=5)


def test_a_frozen_backbone_has_them_after_a_resume_too(corpus, tmp_path, capsys):
    frozen = dict(
        STEPS, train_layers="head", train_windows="all", mixup_alpha=0, mask_bands=0, mask_frames=0,
        cache_dir=tmp_path / "cache",
    )  # fmt: skip
    run_recipe("cnn_gtzan", corpus, output_dir=tmp_path / "whole", **frozen)
    assert capsys.readouterr().out.count(TOLD) == 1
    killed_and_resumed(corpus, tmp_path / "killed", **frozen)
    whole, killed = saved_norm(tmp_path / "whole"), saved_norm(tmp_path / "killed")
    assert whole.num_batches_tracked == 1 and (whole.running_mean.abs() > 1).all()  # decibels
    assert torch.equal(whole.running_mean, killed.running_mean) and torch.equal(whole.running_var, killed.running_var)


def test_a_run_that_goes_on_keeps_its_own(corpus, tmp_path, capsys):
    killed_and_resumed(corpus, tmp_path / "run", **STEPS)
    assert capsys.readouterr().out.count(TOLD) == 1
    assert saved_norm(tmp_path / "run").num_batches_tracked in (3, 5)  # 1, and one for each step of what is best
