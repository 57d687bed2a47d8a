"""The small networks as recipes load them: fields of network and features together, windows, ImageNet's weights."""

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError
from hf_musiclf.models.loading import FAMILIES, load_classifier
from hf_musiclf.models.vgg import VggConfig
from hf_musiclf.models.vgg_checkpoints import imagenet_shapes

TYPES = ("spectrogram_cnn", "spectrogram_crnn", "spectrogram_vgg")
TINY = {
    "spectrogram_cnn": "channels=[4,8],dense_sizes=[8]",
    "spectrogram_crnn": "conv_channels=[4,8],bin_pools=[2,2],frame_pools=[2,2],rnn_size=8",
    "spectrogram_vgg": "width_mult=0.05",
}
LABELS = ("blues", "jazz", "rock")


def load(model_type, config="", model="random", window_seconds=1.0):
    args = ModelArguments(model=model, model_config=config or None)
    return load_classifier(args, LABELS, window_seconds, model_type, verbose=False)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("features, size", [("log_mel", 40), ("mfcc", 20), ("chroma", 12), ("[log_mel,chroma]", 52)])
def test_the_network_takes_what_its_features_make(model_type, features, size):
    loaded = load(model_type, f"{TINY[model_type]},features={features},num_mel_bins=40")
    inputs = loaded.features(torch.randn(2, 16_000) / 10)
    assert inputs["input_values"].shape[2] == size == loaded.model.config.feature_size
    assert loaded.model(**inputs).logits.shape == (2, len(LABELS))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_saved_model_comes_back_with_its_head_and_its_window_can_be_changed(model_type, tmp_path):
    first = load(model_type, TINY[model_type])
    first.save(tmp_path)
    again = load(model_type, model=str(tmp_path))
    assert "kept as it is" in again.facts["notes"][0]
    waveforms = torch.randn(2, 16_000) / 10
    with torch.inference_mode():
        told = [loaded.model.eval()(**loaded.features(waveforms)).logits for loaded in (first, again)]
    torch.testing.assert_close(*told, rtol=0, atol=0)
    longer = load(model_type, model=str(tmp_path), window_seconds=2.0)
    assert longer.features.window_seconds == 2.0 and "where it has seen 1.0 s" in longer.facts["notes"][1]


@pytest.mark.parametrize("model_type", TYPES)
def test_freezing_leaves_the_head_and_the_last_layer(model_type):
    config = TINY[model_type]
    args = ModelArguments(model="random", model_config=config, train_layers="head")
    model = load_classifier(args, LABELS, 1.0, model_type, verbose=False).model
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns and not any(name.startswith(f"{model.base_model_prefix}.") for name in learns)
    args = ModelArguments(model="random", model_config=config, train_layers="last:1")
    counts = load_classifier(args, LABELS, 1.0, model_type, verbose=False).facts
    assert sum(model.get_parameter(name).numel() for name in learns) < counts["trainable"] < counts["parameters"]


def test_a_field_of_neither_network_nor_features_is_refused_with_the_nearest_of_both():
    with pytest.raises(UserError, match=r"'num_mel_bin' is a field neither of .* did you mean num_mel_bins\?"):
        load("spectrogram_cnn", "num_mel_bin=64")
    with pytest.raises(UserError, match=r"did you mean rnn_size\?"):
        load("spectrogram_crnn", "rnn_siz=64")
    with pytest.raises(UserError, match=r"'mels'"):
        load("spectrogram_cnn", "features=mels")
    with pytest.raises(UserError, match=r"window_seconds=0.01 .* raise --window_seconds"):
        load("spectrogram_cnn", window_seconds=0.01)
    with pytest.raises(UserError, match="model_config"):
        load("spectrogram_cnn", "num_mel_bins=many")


def of_imagenet(layers=11):
    """Weights under torchvision's keys, as large as the real ones."""
    generator = torch.Generator().manual_seed(0)
    shapes = imagenet_shapes(VggConfig(layers=layers, width_mult=1.0))
    state = {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}
    return {**state, "classifier.6.weight": torch.zeros(1000, 4), "classifier.6.bias": torch.zeros(1000)}


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_vgg_starts_from_a_file_of_imagenets_weights(hub_cache, suffix):
    state, path = of_imagenet(), hub_cache / f"vgg11_bn{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    loaded = load("spectrogram_vgg", model=str(path))
    first = loaded.model.base_model.layers[0].conv.weight
    torch.testing.assert_close(first, state["features.0.weight"].sum(1, keepdim=True))
    assert loaded.model.config.num_labels == len(LABELS) and "new" in loaded.facts["notes"][0]


def test_other_files_are_no_vgg(hub_cache):
    path = hub_cache / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3)}, path)
    with pytest.raises(UserError, match="0 convolutions under features, no VGG; pass torchvision's vgg11_bn"):
        load("spectrogram_vgg", model=str(path))
    path.write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"resnet.pth cannot be read as weights"):
        load("spectrogram_vgg", model=str(path))
    with pytest.raises(UserError, match=r"gone.pth is not there; pass a file"):
        load("spectrogram_vgg", model=str(hub_cache / "gone.pth"))


def test_without_the_hub_a_name_of_imagenets_is_told_in_one_line(hub_cache, monkeypatch):
    monkeypatch.setattr("hf_musiclf.models.imagenet.hub_is_out_of_reach", lambda: True)
    with pytest.raises(UserError, match=r"timm/vgg11_bn.tv_in1k is not in the Hub's cache") as caught:
        load("spectrogram_vgg", model="timm/vgg11_bn.tv_in1k")
    assert "\n" not in str(caught.value)


def test_every_type_has_its_family():
    assert set(TYPES) <= set(FAMILIES)
