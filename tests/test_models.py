import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError
from hf_musiclf.models.families import ast
from hf_musiclf.models.freezing import encoder_layers, set_trainable
from hf_musiclf.models.loading import FAMILIES, load_classifier
from hf_musiclf.models.music_pipeline import window_seconds_of

GENRES = ("blues", "jazz", "rock")
AST = "audio-spectrogram-transformer"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of the published one's class, key names and head size, at small width with random weights."""
    folder = tmp_path_factory.mktemp("ast")
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, num_labels=527, max_length=128
    )
    model = ASTForAudioClassification(config)
    torch.nn.init.normal_(model.base_model.embeddings.position_embeddings)
    model.save_pretrained(folder)
    ASTFeatureExtractor(max_length=128, mean=-3.0, std=5.0).save_pretrained(folder)
    return folder


def load(model, window_seconds=1.28, labels=GENRES, **kwargs):
    return load_classifier(ModelArguments(model=str(model), **kwargs), labels, window_seconds, AST)


def test_every_backbone_weight_arrives_and_only_the_head_is_new(checkpoint, capsys):
    saved = ASTForAudioClassification.from_pretrained(checkpoint).state_dict()
    capsys.readouterr()
    loaded = load(checkpoint).model.state_dict()
    differing = [
        key for key in saved if saved[key].shape != loaded[key].shape or not torch.equal(saved[key], loaded[key])
    ]
    assert differing == ["classifier.dense.weight", "classifier.dense.bias"]
    said = capsys.readouterr()
    assert "head of 527 labels replaced by a new one of 3" in said.out
    assert len((said.out + said.err).strip().splitlines()) == 1  # said once, not in a ten-line warning


def test_labels_and_extractor_settings_travel_with_the_model(checkpoint, tmp_path):
    loaded = load(checkpoint)
    assert loaded.model.config.id2label == dict(enumerate(GENRES))
    assert (loaded.features.extractor.mean, loaded.features.extractor.std) == (-3.0, 5.0)


def test_a_head_of_the_same_labels_is_kept_and_of_other_labels_is_not(checkpoint, tmp_path):
    first = load(checkpoint)
    first.model.save_pretrained(tmp_path)
    first.features.extractor.save_pretrained(tmp_path)
    before = first.model.classifier.dense.weight
    assert torch.equal(load(tmp_path).model.classifier.dense.weight, before)
    other = load(tmp_path, labels=("drums", "bass", "flute")).model
    assert not torch.equal(other.classifier.dense.weight, before)
    assert other.config.id2label[0] == "drums"


def test_a_shorter_window_interpolates_position_embeddings_along_time(checkpoint):
    whole, half = load(checkpoint).model, load(checkpoint, window_seconds=0.64)
    assert half.model.config.max_length == half.features.extractor.max_length == 64
    features = half.features(torch.randn(2, 10_240))
    assert half.model(**features).logits.shape == (2, 3)
    before = whole.base_model.embeddings.position_embeddings
    after = half.model.base_model.embeddings.position_embeddings
    assert torch.equal(before[:, :2], after[:, :2])  # class and distillation token have no place in time
    grid = before[:, 2:].detach().unflatten(1, whole.base_model.embeddings.get_shape(whole.config))
    resized = after[:, 2:].detach().unflatten(1, half.model.base_model.embeddings.get_shape(half.model.config))
    assert resized.shape[1] == grid.shape[1] and resized.shape[2] < grid.shape[2]
    # Interpolation keeps what is constant along time, and the mean of what is not stays between its ends.
    assert (resized.amax(2) <= grid.amax(2) + 1e-6).all() and (resized.amin(2) >= grid.amin(2) - 1e-6).all()


@pytest.mark.parametrize("start", ["random", "checkpoint"])
def test_who_scores_with_the_saved_extractor_takes_the_very_window_of_evaluation(start, checkpoint, tmp_path):
    """Also one that is no whole number of AST's frames of 10 ms; and one that is leaves the extractor as it was."""
    overrides = (
        dict(model_config="hidden_size=32,num_hidden_layers=1,num_attention_heads=2") if start == "random" else {}
    )
    odd = load("random" if start == "random" else checkpoint, window_seconds=0.645, **overrides)
    odd.save(tmp_path / "odd")
    assert (
        window_seconds_of(ast.extractor_class.from_pretrained(tmp_path / "odd")) == odd.features.window_seconds == 0.645
    )
    whole = load(tmp_path / "odd", window_seconds=0.64)
    assert whole.features.window_seconds == window_seconds_of(whole.features.extractor) == 0.64


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(window_seconds=1.5), r"window_seconds=1\.5 exceeds the 1\.28 s that this AST sees; lower --window_s"),
        (dict(window_seconds=0.1), r"window_seconds=0\.1 is shorter than one patch of this AST, 0\.16 s"),
        (dict(train_layers="last:4"), r"train_layers=last:4: the model has 3 encoder layers"),
        (dict(model_config="hidden_size=32"), r"model_config goes with --model random"),
    ],
)
def test_what_the_checkpoint_cannot_do_is_refused(checkpoint, kwargs, message):
    with pytest.raises(UserError, match=message):
        load(checkpoint, **kwargs)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is of architecture 'wav2vec2', this recipe fine-tunes 'audio-spectrogram"):
        load(tmp_path)


def test_a_missing_or_damaged_checkpoint_is_refused_in_one_line(checkpoint, tmp_path):
    with pytest.raises(
        UserError, match=r"nowhere' cannot be loaded: it is no folder here, nor in the Hub's cache"
    ) as caught:
        load(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_backbone_with_weights_missing_is_refused(checkpoint, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    lost = next(key for key in weights if "layernorm_before.weight" in key)
    save_file(
        {key: value for key, value in weights.items() if key != lost}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UserError, match="lacks 1 weights of audio-spectrogram-transformer's backbone"):
        load(tmp_path)


def test_only_the_named_layers_learn(checkpoint):
    model = load(checkpoint, train_layers="head").model
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"classifier"}

    model = load(checkpoint, train_layers="last:1").model
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    layers = [torch.nn.ModuleList(layer) for layer in encoder_layers(model)]
    assert all(id(p) in trained for p in layers[2].parameters())
    assert not any(id(p) in trained for layer in layers[:2] for p in layer.parameters())
    assert all(id(p) in trained for p in model.base_model.layernorm.parameters())  # behind the layers
    assert not any(id(p) in trained for p in model.base_model.embeddings.parameters())

    model = load(checkpoint, train_layers="all").model
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_and_trained_parameters_add_up(checkpoint):
    counts = set_trainable(load(checkpoint).model, "head")
    assert 0 < counts["trainable"] < counts["parameters"]


def test_from_scratch_by_overrides(capsys):
    overrides = json.dumps(dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_mel_bins=64))
    loaded = load("random", window_seconds=2.56, model_config=overrides)
    assert loaded.model.config.max_length == 256 and loaded.features.extractor.num_mel_bins == 64
    assert loaded.facts["base_model"] is None
    config, extractor = ast.random_parts(dict(initializer_range=1, hidden_dropout_prob=0), 2.56)
    assert type(config.initializer_range) is float and config.initializer_range == 1 and extractor.max_length == 256
    with pytest.raises(UserError, match=r"'hidden_sise' is no field of ASTConfig .*; did you mean hidden_size\?"):
        load("random", model_config="hidden_sise=16")
    with pytest.raises(UserError, match="hidden_size=16 is not a multiple of num_attention_heads=12"):
        load("random", model_config="hidden_size=16")


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("max_length=128", r"'max_length' is no field of ASTConfig that a recipe leaves to you"),
        ("to_dict=8", r"'to_dict' is no field"),
        ("num_attention_heads=0", r"num_attention_heads=0 must be a whole number of 1 or more"),
        ("num_hidden_layers=-1", r"num_hidden_layers=-1 must be a whole number"),
        ("hidden_size=abc", r"hidden_size=abc must be a whole number"),
        ("num_mel_bins=8", r"num_mel_bins=8 is less than patch_size=16"),
        ("hidden_dropout_prob=much", r"model_config: hidden_dropout_prob=much must lie in \[0, 1\)"),
        ("attention_probs_dropout_prob=1", r"attention_probs_dropout_prob=1 must lie in \[0, 1\)"),
        ("layer_norm_eps=0", "layer_norm_eps=0 must be a number above 0"),
        ("initializer_range=-0.02", r"initializer_range=-0\.02 must be a number above 0"),
        ("hidden_act=gleu", r"hidden_act='gleu' is unknown; did you mean gelu\?"),
        ("return_dict=false", "'return_dict' is no field"),
        ("output_attentions=true", "'output_attentions' is no field"),
        ("is_encoder_decoder=true", "'is_encoder_decoder' is no field"),
    ],
)
def test_configs_that_make_no_model_are_refused_in_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load("random", model_config=overrides)
    assert "\n" not in str(caught.value)


def test_a_window_shorter_than_a_patch_is_refused_from_scratch_too():
    with pytest.raises(UserError, match=r"window_seconds=0\.1 is shorter than one patch"):
        load("random", window_seconds=0.1)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_features_go_to_another_process_as_they_are(model_type):
    """Workers make them on the CPU; where they are not forked, they get a pickle."""
    _, extractor = FAMILIES[model_type].random_parts({}, 2.0)
    features = FAMILIES[model_type].make_features(extractor)
    samples = round(features.window_seconds * features.sampling_rate)
    waveforms = torch.sin(torch.arange(2 * samples) / 7.0).reshape(2, samples)
    lengths = torch.tensor([samples, samples // 2])
    before = features(waveforms, lengths)
    after = pickle.loads(pickle.dumps(features))(waveforms, lengths)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
