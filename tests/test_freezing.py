"""What learns, how fast, and that what does not learn does not change."""

from functools import partial

import pytest
import torch
from bare_trainers import bare_trainer, small_ast
from transformers import ClapAudioConfig

from hf_musiclf.models.clap import ClapAudioClassificationConfig, ClapForAudioClassification
from hf_musiclf.models.freezing import frozen_modules, learning_rate_scales, set_trainable


@pytest.fixture
def model():
    torch.manual_seed(0)
    return small_ast()


@pytest.fixture
def trainer(model, tmp_path):
    return partial(bare_trainer, model, tmp_path)


def rates(trainer, model):
    """Learning rate of each parameter that learns, by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = trainer.create_optimizer()
    return {names[p]: group["lr"] for group in optimizer.param_groups for p in group["params"]}, optimizer


def layer_of(name):
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def test_the_rate_falls_with_the_depth_from_the_head_to_the_embeddings(trainer, model):
    found, _ = rates(trainer(layer_lr_decay=0.5), model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, rate in found.items():
        layer = layer_of(name)
        depth = 3 - layer if layer is not None else 4 if "embeddings" in name else 0
        assert rate == pytest.approx(0.1 * 0.5**depth), name


def test_the_decay_leaves_the_weight_decay_of_every_parameter_as_it_was(trainer, model):
    def weight_decays(decay):
        _, optimizer = rates(trainer(layer_lr_decay=decay, weight_decay=0.3), model)
        return {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert weight_decays(0.5) == weight_decays(1.0)


def test_only_what_learns_is_in_the_optimizer(trainer, model):
    set_trainable(model, "last:1")
    found, _ = rates(trainer(layer_lr_decay=0.5), model)
    assert {layer_of(name) for name in found} == {2, None}
    assert not any("embeddings" in name for name in found)


def test_without_layers_frozen_nothing_is_kept_from_training_mode(model):
    assert frozen_modules(model) == []


def test_frozen_parts_of_the_model_are_the_backbone_alone(model):
    set_trainable(model, "head")
    assert frozen_modules(model) == [model.base_model]


def test_a_frozen_batch_norm_stops_counting_and_a_frozen_dropout_stops_dropping(trainer, model, monkeypatch):
    model.base_model.add_module("norm", torch.nn.BatchNorm1d(4))
    model.base_model.add_module("dropout", torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)))
    set_trainable(model, "head")
    made = trainer()

    def loss(self, model, inputs):
        model.base_model.norm(inputs)
        assert model.training and torch.equal(*(model.base_model.dropout(inputs) for _ in range(2)))

    monkeypatch.setattr("transformers.Trainer.compute_loss", loss)
    model.train()
    made.compute_loss(model, torch.randn(5, 4))
    assert model.base_model.norm.num_batches_tracked == 0


@pytest.fixture
def clap():
    config = ClapAudioConfig(
        patch_embeds_hidden_size=8, hidden_size=32, depths=[1, 2, 1], num_attention_heads=[2, 2, 2],
        num_hidden_layers=3, num_mel_bins=32, spec_size=128, window_size=4,
    )  # fmt: skip
    return ClapForAudioClassification(ClapAudioClassificationConfig(audio_config=config))


# The blocks of the encoder in stages, from the last one down, each with the module that merges its patches.
BLOCKS = ["layers.2.blocks.0", "layers.1.blocks.1", "layers.1.blocks.0", "layers.0.blocks.0"]
MERGE_AFTER = {"layers.1.downsample": 1, "layers.0.downsample": 3}


def block_of(name):
    """Number of the block from the end that a parameter goes with; None outside of all blocks."""
    known = {**{block: number for number, block in enumerate(BLOCKS)}, **MERGE_AFTER}
    return next((number for part, number in known.items() if f".{part}." in name), None)


def test_layers_of_an_encoder_in_stages_are_its_blocks(clap):
    scales = learning_rate_scales(clap, 0.5)
    for name, parameter in clap.audio_model.named_parameters(prefix="audio_model"):
        # The batch norm over the mel bins stands before the patches, whatever its place in the code.
        depth = 0 if ".audio_encoder.norm" in name else 5
        if block_of(name) is not None:
            depth = block_of(name) + 1
        assert scales[parameter] == 0.5**depth, name
    assert not any(parameter in scales for parameter in clap.classifier.parameters())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_last_blocks_learn_and_what_stands_before_them_does_not(clap, count):
    set_trainable(clap, f"last:{count}")
    for name, parameter in clap.named_parameters():
        number = block_of(name)
        learns = (
            number < count if number is not None else name.startswith("classifier") or ".audio_encoder.norm" in name
        )
        assert parameter.requires_grad == learns, name


def test_a_second_optimizer_of_the_same_trainer_decays_no_further(trainer, model):
    made = trainer(layer_lr_decay=0.5)
    first, _ = rates(made, model)
    assert rates(made, model)[0] == first


def test_the_rate_that_is_logged_is_the_one_that_was_asked_for(trainer, model):
    _, optimizer = rates(trainer(layer_lr_decay=0.5), model)
    assert optimizer.param_groups[0]["lr"] == 0.1
