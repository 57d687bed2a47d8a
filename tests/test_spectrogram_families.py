"""The small networks as recipes load them: fields of network and features together, windows, ImageNet's weights."""

import pytest
import torch
from huggingface_hub import constants
from recipe_runs import ROOT, recipe
from safetensors.torch import save_file

from hf_musiclf.arguments import ModelArguments, parse_recipe
from hf_musiclf.errors import UserError
from hf_musiclf.models.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hf_musiclf.models.imagenet import folder_of_imagenet
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
    first.model.base_model.standardisation.num_batches_tracked.fill_(1)  # as if it had learnt
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


@pytest.mark.parametrize(
    "model_type, config, message",
    [
        ("spectrogram_cnn", "num_mel_bins=many", "num_mel_bins=many must be a whole number"),
        ("spectrogram_cnn", "hop_length=2.5", "hop_length=2.5 must be a whole number"),
        ("spectrogram_cnn", "floor_db=low", "floor_db=low must be a number"),
        ("spectrogram_cnn", "channels=64", r"channels=64 must be a list of whole numbers, \[32,64\] say"),
        ("spectrogram_cnn", "dense_sizes=wide", "dense_sizes=wide must be a list of whole numbers"),
        ("spectrogram_cnn", "stem=maybe", "stem=maybe must be true or false"),
        ("spectrogram_cnn", "batch_norm=maybe", "batch_norm=maybe and stem=None must be true or false"),
        ("spectrogram_crnn", "conv_channels=8", "conv_channels=8 must be a list of whole numbers"),
        ("spectrogram_crnn", "bidirectional=maybe", "bidirectional=maybe must be true or false"),
    ],
)
def test_values_of_another_type_are_refused_in_a_line_that_names_them(model_type, config, message):
    with pytest.raises(UserError, match=f"^model_config: .*{message}") as caught:
        load(model_type, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model_type", TYPES)
def test_an_extractor_of_other_features_than_the_models_is_refused(model_type, tmp_path):
    first = load(model_type, TINY[model_type])
    first.save(tmp_path)
    SpectrogramFeatureExtractor("mfcc").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="extractor makes 20 features a frame where its model takes 128; mend"):
        load(model_type, model=str(tmp_path))


@pytest.mark.parametrize("recipe_name, model_type", [*zip(("cnn_gtzan", "gru_gtzan", "vgg_gtzan"), TYPES, strict=True)])
def test_each_recipe_goes_on_from_its_own_saved_model(recipe_name, model_type, tmp_path):
    load(model_type, TINY[model_type]).save(tmp_path)
    defaults = recipe(ROOT / "recipes" / f"{recipe_name}.py").DEFAULTS
    _, args, _ = parse_recipe(defaults, [f"--model={tmp_path}", f"--output_dir={tmp_path}/run", "--use_cpu=True"], "")
    loaded = load_classifier(args, LABELS, 1.0, model_type, verbose=False)
    assert "kept as it is" in loaded.facts["notes"][0]


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
    assert loaded.model.config.num_labels == len(LABELS) and loaded.model.classifier.weight.any()
    # ImageNet's has no head, and has seen no windows.
    assert loaded.facts["notes"] == [f"{path.name}: all weights of its vgg, and a new head of 3 labels"]
    assert loaded.facts["base_model"] is None and loaded.facts["start"] == "from a checkpoint of one's own"


def test_conversion_draws_nothing_that_a_run_would_draw(hub_cache):
    """Else the head of the first run, which converts, is another than that of all later ones."""
    path = hub_cache / "vgg11_bn.pth"
    torch.save(of_imagenet(), path)
    before = torch.get_rng_state()
    folder_of_imagenet(str(path))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_of_the_hubs_is_named_as_what_a_model_comes_from(hub_cache, monkeypatch):
    path, asked = hub_cache / "model.safetensors", []
    save_file(of_imagenet(), path)
    monkeypatch.setattr(
        "hf_musiclf.models.imagenet.hf_hub_download", lambda *names, **where: asked.append((names, where)) or str(path)
    )
    name = "timm/vgg11_bn.tv_in1k"
    args = ModelArguments(model=name, model_revision="v2")
    facts = load_classifier(args, LABELS, 1.0, "spectrogram_vgg", verbose=False).facts
    assert facts["base_model"] == name and facts["start"] == f"from ImageNet's {name}"
    [(names, where)] = asked
    assert names[0] == name and where["revision"] == "v2"


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
