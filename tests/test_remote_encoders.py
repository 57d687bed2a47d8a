"""Encoders that bring their own code: not run unasked, and then saved with it."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tiny_encoders import LABELS, RATE, write_encoder
from transformers import HubertModel, pipeline

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.embeddings import without_backbone
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.freezing import encoder_layers, truncate
from hf_musiclf.models.loading import load_classifier

CONFIGURATION = """
from transformers import HubertConfig


class TuneConfig(HubertConfig):
    model_type = "tune_encoder"
"""
MODELING = """
from transformers import HubertForSequenceClassification, HubertModel

from .configuration_tune import TuneConfig


class TuneModel(HubertModel):
    config_class = TuneConfig


class TuneForAudioClassification(HubertForSequenceClassification):
    config_class = TuneConfig
"""


@pytest.fixture
def checkpoint(tmp_path):
    """kind of code -> folder, laid out as MERT's: the weights of an encoder, two files of code, and no head."""

    def write(**auto_map):
        folder = write_encoder(tmp_path / "tune", "hubert", HubertModel)
        config = json.loads((folder / "config.json").read_text())
        names = {"AutoConfig": "configuration_tune.TuneConfig", **auto_map}
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "tune_encoder", "auto_map": names}))
        (folder / "configuration_tune.py").write_text(CONFIGURATION)
        (folder / "modeling_tune.py").write_text(MODELING)
        return folder

    return write


def load(model, **kwargs):
    return load_classifier(ModelArguments(model=str(model), **kwargs), LABELS, 1.0, "wav2vec2")


def test_code_is_not_run_unasked(checkpoint):
    folder = checkpoint(AutoModel="modeling_tune.TuneModel")
    for name in ("configuration_tune.py", "modeling_tune.py"):
        (folder / name).write_text("raise SystemExit('the code was run')")
    with pytest.raises(
        UserError, match="runs code of its own; read it, and if you trust it pass --trust_remote_code"
    ) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="runs code of its own; read it, and if you trust it pass --trust_remote_code"):
        TrackClassifier(str(folder))


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoModel": "modeling_tune.TuneModel"},
        {"AutoModelForAudioClassification": "modeling_tune.TuneForAudioClassification"},
    ],
)
def test_a_trusted_encoder_becomes_a_classifier_that_travels_with_its_code(checkpoint, auto_map, tmp_path):
    folder = checkpoint(**auto_map)
    loaded = load(folder, trust_remote_code=True)
    state = loaded.model.base_model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in load_file(folder / "model.safetensors").items())
    assert loaded.facts["own_code"] and "and a new head of 3 labels" in loaded.facts["notes"][0]
    assert not any(p.requires_grad for p in loaded.model.base_model.feature_extractor.parameters())
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.features.extractor.save_pretrained(tmp_path / "saved")
    waveforms = 0.1 * torch.randn(1, RATE)
    with torch.no_grad():
        expected = loaded.model.eval()(**loaded.features(waveforms)).logits[0].softmax(0)
    for path in folder.iterdir():
        path.unlink()  # nothing of it is needed any more
    classify = pipeline(
        "audio-classification", model=str(tmp_path / "saved"), trust_remote_code=True, top_k=None, device="cpu"
    )
    said = classify({"array": waveforms[0].numpy(), "sampling_rate": RATE})
    scores = torch.tensor([{answer["label"]: answer["score"] for answer in said}[label] for label in LABELS])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    again = type(loaded.model).from_pretrained(tmp_path / "saved")  # as the trainer reads its checkpoints
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in loaded.model.state_dict().items())
    soundfile.write(tmp_path / "one.wav", waveforms[0].numpy(), RATE, subtype="FLOAT")
    tracks = TrackClassifier(str(tmp_path / "saved"), trust_remote_code=True)(tmp_path / "one.wav")
    np.testing.assert_allclose(tracks.probabilities, expected.numpy(), atol=1e-5)
    kept = load(tmp_path / "saved", trust_remote_code=True)
    assert "kept" in kept.facts["notes"][0] and torch.equal(kept.model.classifier.bias, loaded.model.classifier.bias)


def test_layers_embeddings_and_gradients_are_those_of_any_encoder(checkpoint):
    loaded = load(checkpoint(AutoModel="modeling_tune.TuneModel"), trust_remote_code=True, train_layers="head")
    model = loaded.model.eval()
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"classifier"}
    inputs = loaded.features(0.1 * torch.randn(2, RATE))
    outputs = model(**inputs, labels=torch.tensor([0, 1]))
    outputs.loss.backward()
    assert loaded.embeds
    light = without_backbone(model)(input_values=loaded.embed(model, inputs)).logits
    torch.testing.assert_close(light, outputs.logits)
    truncate(model, 1)
    assert len(encoder_layers(model)) == 1 and model(**inputs).logits.shape == (2, 3)


def test_code_without_an_encoder_is_refused(checkpoint):
    with pytest.raises(
        UserError, match="has code for AutoConfig; an AutoModel or AutoModelForAudioClassification is mi"
    ):
        load(checkpoint(), trust_remote_code=True)
