"""Encoders of sound: from a checkpoint of any of their classes to a plain classifier of Transformers."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import LABELS, RATE, config_of, extractor_of, write_encoder
from transformers import (
    HubertModel,
    Wav2Vec2BertForCTC,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    WavLMForCTC,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.embeddings import without_backbone
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.families import encoders
from hf_musiclf.models.freezing import encoder_layers, frozen_modules, learning_rate_scales, truncate
from hf_musiclf.models.loading import load_classifier

KINDS = ("wav2vec2", "wav2vec2-stable", *encoders.MODEL_TYPES[1:])
# Whisper has no mask, and always 30 s. data2vec has one, but its convolutions over positions look over the edge.
MASKED = ("wav2vec2-stable", "wav2vec2-bert", "whisper")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """kind -> folder of a classifier of two other labels."""
    return {kind: write_encoder(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


def load(model, window_seconds=1.0, labels=LABELS, **kwargs):
    return load_classifier(ModelArguments(model=str(model), **kwargs), labels, window_seconds, "wav2vec2")


def sound(samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.3 * np.sin(np.arange(samples) * 0.1 * (seed + 1)) + 0.05 * rng.standard_normal(samples)).astype("float32")


def batch_of(*lengths):
    batch = torch.zeros(len(lengths), max(lengths))
    for seed, (row, length) in enumerate(zip(batch, lengths, strict=True)):
        row[:length] = torch.from_numpy(sound(length, seed))
    return batch, torch.tensor(lengths)


def inputs_of(loaded, *lengths):
    return loaded.features(*batch_of(*lengths))


def learning(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_the_backbone_arrives_and_only_the_head_is_new(checkpoints, kind, capsys):
    loaded = load(checkpoints[kind])
    saved, state = load_file(checkpoints[kind] / "model.safetensors"), loaded.model.state_dict()
    differing = {
        key for key in saved if saved[key].shape != state[key].shape or not torch.equal(saved[key], state[key])
    }
    assert set(saved) == set(state)
    assert differing == {f"{part}.{name}" for part in ("projector", "classifier") for name in ("weight", "bias")}
    assert type(loaded.model).__module__.startswith("transformers.models.") and not loaded.facts["own_code"]
    said = capsys.readouterr()
    assert "head of 2 labels replaced by a new one of 3" in said.out and len((said.out + said.err).splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_model_says_the_same_in_a_plain_pipeline_and_for_whole_tracks(checkpoints, kind, tmp_path):
    loaded = load(checkpoints[kind])
    loaded.model.save_pretrained(tmp_path)
    loaded.features.extractor.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = loaded.model.eval()(**inputs_of(loaded, RATE, RATE)).logits.softmax(1)
    classify = pipeline("audio-classification", model=str(tmp_path), top_k=None, device="cpu")
    assert type(classify.model) is type(loaded.model)
    for seed in range(2):
        said = classify({"array": sound(RATE, seed), "sampling_rate": RATE})
        scores = torch.tensor([{answer["label"]: answer["score"] for answer in said}[label] for label in LABELS])
        torch.testing.assert_close(scores, expected[seed], atol=1e-4, rtol=0)
    scorer = TrackClassifier(str(tmp_path))
    assert type(scorer.features) is type(loaded.features) and scorer.features.window_seconds == 1.0
    said = [scorer({"array": sound(RATE, seed), "sampling_rate": RATE}).probabilities for seed in range(2)]
    np.testing.assert_allclose(said, expected, atol=1e-5)
    again = load(tmp_path)  # its head has these labels
    assert torch.equal(again.model.classifier.weight, loaded.model.classifier.weight)
    assert "kept" in again.facts["notes"][0]


@pytest.mark.parametrize("kind", MASKED)
def test_padding_and_neighbours_do_not_change_what_a_window_gives(checkpoints, kind):
    loaded = load(checkpoints[kind])
    loaded.model.eval()
    lengths = (RATE, 9_999, 4_000)
    batch, _ = batch_of(*lengths)
    with torch.no_grad():
        together = loaded.model(**inputs_of(loaded, *lengths)).logits
        for row, length in enumerate(lengths):
            by_extractor = loaded.features.extractor(
                batch[row, :length].numpy(), sampling_rate=RATE, return_tensors="pt"
            )
            torch.testing.assert_close(together[row], loaded.model(**by_extractor).logits[0], atol=1e-4, rtol=0)


def test_without_a_mask_a_window_still_does_not_depend_on_its_neighbours(checkpoints):
    loaded = load(checkpoints["wav2vec2"])
    loaded.model.eval()
    inputs = inputs_of(loaded, 9_999, 4_000)
    assert set(inputs) == {"input_values"} and inputs["input_values"].shape == (2, RATE)
    batch, _ = batch_of(9_999, 4_000)
    with torch.no_grad():
        alone = loaded.model(**loaded.features(batch[1:, :4_000])).logits[0]
        torch.testing.assert_close(loaded.model(**inputs).logits[1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_on_embeddings_says_what_the_whole_model_says(checkpoints, kind):
    loaded = load(checkpoints[kind], train_layers="head")
    assert loaded.embeds
    loaded.model.train()
    for module in frozen_modules(loaded.model):  # as the trainer does
        module.eval()
    inputs = inputs_of(loaded, RATE, 9_999)
    with torch.no_grad():
        whole = loaded.model(**inputs).logits
        embeddings = loaded.embed(loaded.model, inputs)
        assert embeddings.shape == (2, 16)
        name = loaded.features.extractor.model_input_names[0]
        light = without_backbone(loaded.model)(**{name: embeddings}).logits
        evaluated = loaded.model.eval()(**inputs).logits
    torch.testing.assert_close(light, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(light, evaluated, atol=1e-5, rtol=0)


def test_a_head_that_weighs_all_layers_is_not_kept_on_one_vector(tmp_path):
    loaded = load(write_encoder(tmp_path, "hubert", use_weighted_layer_sum=True), train_layers="head")
    assert not loaded.embeds and "layer_weights" in learning(loaded.model)


@pytest.mark.parametrize(
    "kind, model_class, backbone",
    [
        ("wav2vec2-stable", Wav2Vec2ForCTC, "wav2vec2."),
        ("wav2vec2", Wav2Vec2ForPreTraining, "wav2vec2."),
        ("wavlm", WavLMForCTC, "wavlm."),
        ("hubert", HubertModel, ""),
        ("wav2vec2-bert", Wav2Vec2BertForCTC, "wav2vec2_bert."),
        ("whisper", WhisperForConditionalGeneration, "model.encoder."),
    ],
)
def test_of_a_recogniser_or_pretraining_the_whole_backbone_is_taken(tmp_path, kind, model_class, backbone):
    changes = dict(codevector_dim=8, proj_codevector_dim=8) if model_class is Wav2Vec2ForPreTraining else {}
    write_encoder(tmp_path, kind, model_class, vocab_size=32, **changes)
    loaded = load(tmp_path)
    state = loaded.model.base_model.state_dict()
    saved = {
        key.removeprefix(backbone): value
        for key, value in load_file(tmp_path / "model.safetensors").items()
        if key.startswith(backbone)
    }
    assert set(state) == set(saved) and all(torch.equal(state[key], saved[key]) for key in state)
    assert "and a new head of 3 labels" in loaded.facts["notes"][0]


def rewrite(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def test_the_old_names_of_normalised_weights_are_known(tmp_path):
    """Checkpoints from before PyTorch 2.1, which most published ones are."""
    write_encoder(tmp_path, "wav2vec2", Wav2Vec2ForCTC)
    before = load(tmp_path).model.base_model.state_dict()
    place = "parametrizations.weight.original"
    old = {f"{place}0": "weight_g", f"{place}1": "weight_v"}
    renamed = []

    def change(weights):
        for key in [key for key in weights if place in key]:
            renamed.append(key.replace(key[-len(place) - 1 :], old[key[-len(place) - 1 :]]))
            weights[renamed[-1]] = weights.pop(key)
        return weights

    rewrite(tmp_path, change)
    assert len(renamed) == 2
    after = load(tmp_path).model.base_model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_only_the_embedding_of_masked_frames_may_be_missing(tmp_path):
    first = load(write_encoder(tmp_path, "wav2vec2"))
    first.model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda weights: {key: value for key, value in weights.items() if "masked_spec" not in key})
    loaded = load(tmp_path)
    assert torch.equal(loaded.model.classifier.weight, first.model.classifier.weight)
    rewrite(tmp_path, lambda weights: {key: value for key, value in weights.items() if "layers.1.fc" not in key and
                                       "layers.1.feed_forward" not in key})  # fmt: skip
    with pytest.raises(UserError, match="lacks 4 weights of wav2vec2's backbone"):
        load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_makes_the_frames_is_frozen(checkpoints, kind):
    loaded = load(checkpoints[kind])
    frozen = {name for name, _ in loaded.model.named_parameters()} - learning(loaded.model)
    if kind == "wav2vec2-bert":
        assert not frozen and len(loaded.facts["notes"]) == 1
    else:
        parts = ("encoder.conv", "encoder.embed_positions") if kind == "whisper" else ("feature_extractor.",)
        assert frozen and all(any(part in name for part in parts) for name in frozen)
        assert any("frozen" in note for note in loaded.facts["notes"])
    assert loaded.facts["trainable"] == sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    # A gradient reaches all that learns, in training with masks and dropped layers off.
    loaded.model.train()
    for name in ("mask_time_prob", "layerdrop"):
        setattr(loaded.model.config, name, 0.0)
    loaded.model(**inputs_of(loaded, RATE, RATE), labels=torch.tensor([0, 1])).loss.backward()
    unused = ["masked_spec_embed"] + ["pos_conv_embed"] * (kind == "wav2vec2-conformer")
    assert {name for name, p in loaded.model.named_parameters() if p.grad is not None} >= {
        name for name in learning(loaded.model) if not any(part in name for part in unused)
    }


def test_from_scratch_everything_learns():
    loaded = load("random", model_config="hidden_size=16,num_hidden_layers=1,num_attention_heads=2,"
                  "intermediate_size=16,conv_dim=[8,8],conv_kernel=[10,8],conv_stride=[5,4],"
                  "num_conv_pos_embeddings=4,num_conv_pos_embedding_groups=2,layerdrop=0")  # fmt: skip
    assert type(loaded.model).__name__ == "Wav2Vec2ForSequenceClassification"
    assert loaded.facts["trainable"] == loaded.facts["parameters"]


@pytest.mark.parametrize("kind", KINDS)
def test_head_last_layers_and_decay_know_the_encoder_layers(checkpoints, kind):
    model = load(checkpoints[kind], train_layers="head").model
    assert {name.split(".")[0] for name in learning(model)} == {"projector", "classifier"}
    model = load(checkpoints[kind], train_layers="last:1").model
    layers = encoder_layers(model)
    assert len(layers) == 3 and all("ttention" in str(layer) for layer in layers)
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert all(id(parameter) in trained for parameter in layers[2][0].parameters())
    assert not any(id(parameter) in trained for layer in layers[:2] for parameter in layer[0].parameters())
    norm = getattr(model.base_model, "encoder", model.base_model)
    norm = getattr(norm, "layer_norm", None)
    if kind in ("whisper", "wav2vec2-stable"):  # a norm behind the layers, elsewhere it stands before them
        assert all(id(parameter) in trained for parameter in norm.parameters())
    scales = learning_rate_scales(model, 0.5)
    assert {scales[parameter] for parameter in layers[0][0].parameters()} == {0.5**3}
    with pytest.raises(UserError, match="train_layers=last:4: the model has 3 encoder layers"):
        load(checkpoints[kind], train_layers="last:4")


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_model_is_the_lower_part_of_the_whole_one(checkpoints, kind, tmp_path):
    loaded = load(checkpoints[kind])
    model, inputs = loaded.model.eval(), inputs_of(loaded, RATE)
    states = []
    with torch.no_grad():
        encoder_layers(model)[1][0].register_forward_hook(lambda *call: states.append(call[2]))
        model(**inputs)
        truncate(model, 2)
        model(**inputs)
        assert len(encoder_layers(model)) == 2
        first, second = (state[0] if isinstance(state, tuple) else state for state in states)
        assert torch.equal(first, second)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    for count in (0, 3):
        with pytest.raises(UserError, match=f"{count} encoder layers are to be kept of 2; choose from 1 to 2"):
            truncate(model, count)


def test_a_truncated_head_weighs_the_layers_that_are_left(tmp_path):
    loaded = load(write_encoder(tmp_path, "wavlm", use_weighted_layer_sum=True))
    truncate(loaded.model, 1)
    assert loaded.model.layer_weights.shape == (2,)
    assert loaded.model.eval()(**inputs_of(loaded, RATE)).logits.shape == (1, 3)


@pytest.mark.parametrize("kind", ["wav2vec2", "sew", "wav2vec2-bert"])
def test_the_least_window_makes_one_frame_and_masks_longer_than_it_are_off(checkpoints, kind):
    extractor = extractor_of(kind)
    least = encoders.encoder_windows.receptive_field(config_of(kind)) if kind != "wav2vec2-bert" else 560
    loaded = load(checkpoints[kind], window_seconds=least / RATE)
    assert loaded.features.extractor.least_samples == least
    assert any(note.startswith("no masks over time, they are 10 frames long") for note in loaded.facts["notes"])
    loaded.model.train()
    assert torch.isfinite(loaded.model(**inputs_of(loaded, least, least)).logits).all()
    with pytest.raises(UserError, match="of which this encoder makes a frame; raise --window_seconds"):
        load(checkpoints[kind], window_seconds=(least - 1) / RATE)
    with pytest.raises(ValueError, match=f"{least - 1} samples is shorter than the {least}"):
        loaded.features(torch.zeros(1, least - 1))
    assert type(extractor) is type(loaded.features.extractor)


def test_masks_are_kept_where_a_window_is_long_enough(checkpoints):
    loaded = load(checkpoints["wav2vec2"])
    assert loaded.model.config.mask_time_prob == 0.05
    loaded.model.train()
    assert torch.isfinite(loaded.model(**inputs_of(loaded, RATE, 800)).logits).all()


@pytest.mark.parametrize(
    "kind, kwargs, message",
    [
        ("whisper", dict(window_seconds=1.1), r"window_seconds=1\.1 exceeds the 1 s that this Whisper hears"),
        ("wav2vec2", dict(model_config="hidden_size=32"), "hidden_size is not of the head, and the rest"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused(checkpoints, kind, kwargs, message):
    with pytest.raises(UserError, match=message):
        load(checkpoints[kind], **kwargs)


@pytest.mark.parametrize(
    "kind, extractor, message",
    [
        (
            "whisper",
            WhisperFeatureExtractor(chunk_length=1),
            "makes 80 where its encoder takes 16; mend feature_size in",
        ),
        ("whisper", Wav2Vec2FeatureExtractor(), "is a Wav2Vec2FeatureExtractor, its encoder takes what Whis"),
        ("wav2vec2-bert", extractor_of("whisper"), "is a WhisperFeatureExtractor, its encoder takes what Seam"),
    ],
)
def test_an_extractor_of_another_model_is_refused(tmp_path, kind, extractor, message):
    extractor.save_pretrained(write_encoder(tmp_path, kind))
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_a_head_takes_its_own_fields_from_the_flags(checkpoints):
    model = load(checkpoints["wavlm"], model_config="classifier_proj_size=7,use_weighted_layer_sum=true").model
    assert model.projector.out_features == 7 and model.config.use_weighted_layer_sum


@pytest.mark.parametrize("kind", encoders.MODEL_TYPES)
def test_every_class_can_start_from_scratch(kind):
    config = {key: value for key, value in config_of(kind).to_diff_dict().items() if key in SCRATCH}
    pairs = ",".join(f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in config.items())
    loaded = load("random", model_config=f"model_type={kind},{pairs}")
    assert loaded.model.config.model_type == kind
    assert loaded.model.eval()(**inputs_of(loaded, RATE, 9_999)).logits.shape == (2, 3)


SCRATCH = {
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim", "conv_kernel",
    "conv_stride", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "d_model", "encoder_layers",
    "encoder_attention_heads", "encoder_ffn_dim", "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim",
    "max_source_positions", "num_mel_bins", "feature_projection_input_dim", "conv_pos_kernel_size", "squeeze_factor",
}  # fmt: skip


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("model_type=bert", "model_type=bert is none of wav2vec2, wav2vec2-conformer"),
        ("hidden_sise=16", r"'hidden_sise' is no field of Wav2Vec2Config .*; did you mean hidden_size\?"),
        ("conv_dim=[8,8]", "model_config"),
        ("hidden_size=16,num_attention_heads=3", "makes no model"),
        ("model_type=whisper,max_source_positions=70", r"max_source_positions=70 are 1\.4 s; set it to whole seconds"),
    ],
)
def test_configs_that_make_no_model_are_refused_in_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load("random", model_config=overrides)
    assert "\n" not in str(caught.value)
