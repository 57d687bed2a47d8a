import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clap import AUDIO, EXTRACTOR, LABELS, is_fused, load, write_clap

from hf_musiclf.errors import UserError
from hf_musiclf.models import clap as clap_file
from hf_musiclf.models import feature_extraction_clap as extractor_file
from hf_musiclf.models.families import clap

Extractor = extractor_file.ClapWindowFeatureExtractor


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request, tmp_path_factory):
    return write_clap(tmp_path_factory.mktemp("clap"), request.param == "fused")


def test_windows_are_fitted_to_the_checkpoint(checkpoint):
    model, extractor = load(checkpoint), clap.extractor_class.from_pretrained(checkpoint)
    assert extractor.window_seconds == 2.0  # the checkpoint's own file is of the stock extractor and says nothing
    note = clap.fit_window(model, extractor, 1.5)
    assert "windows of 1.5 s are repeated or padded to 2 s" in note
    assert clap.make_features(extractor).window_seconds == extractor.window_seconds == 1.5
    frozen = {name.split(".")[3] for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == ({"fusion_model", "mel_conv2d"} if is_fused(model) else set())
    model.train()
    inputs = clap.make_features(extractor)(torch.randn(2, 12_000).clamp(-1, 1))
    model(**inputs, labels=torch.tensor([0, 1])).loss.backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    whole = clap.fit_window(load(checkpoint), extractor, 2.0)
    assert (whole is None) != is_fused(model)


def test_windows_that_the_checkpoint_cannot_take_are_refused(checkpoint):
    model, extractor = load(checkpoint), clap.extractor_class.from_pretrained(checkpoint)
    for settings, message in (
        (dict(feature_size=32), "extractor makes 32 where its encoder takes 16; mend feature_size"),
        (dict(hop_length=8), "makes 2001 where its encoder takes 256; mend max_length_s or hop_length"),
    ):
        with pytest.raises(UserError, match=message):
            clap.fit_window(model, Extractor(**{**EXTRACTOR, **settings}, truncation="rand_trunc"), 2.0)
    if not is_fused(model):
        with pytest.raises(UserError, match=r"window_seconds=3\.0 exceeds the 2 s that this CLAP sees") as caught:
            clap.fit_window(model, extractor, 3.0)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="makes 4 where its encoder takes 1; mend truncation"):
            clap.fit_window(model, Extractor(**EXTRACTOR, truncation="fusion"), 2.0)


@pytest.mark.parametrize("changes", [{}, dict(num_mel_bins=64, spec_size=256, depths=[1, 1])], ids=["16 mels", "64"])
def test_longer_windows_of_a_fused_encoder_become_an_overview_and_crops(changes):
    audio = {**AUDIO, "enable_fusion": True, **changes}
    model = clap.model_class(clap_file.ClapAudioClassificationConfig(audio_config=audio)).eval()
    extractor = Extractor(**{**EXTRACTOR, "feature_size": audio["num_mel_bins"]}, truncation="fusion")
    assert "become an overview and three crops of 2 s" in clap.fit_window(model, extractor, 5.0)
    assert all(value.requires_grad for value in model.parameters())
    inputs = clap.make_features(extractor)(torch.randn(2, 40_000).clamp(-1, 1))
    assert inputs["is_longer"].all()
    plain = model(inputs["input_features"], ~inputs["is_longer"]).logits
    assert not torch.allclose(model(**inputs).logits, plain)
    one = {key: value[:1] for key, value in inputs.items()}
    loss = model.train()(**one, labels=torch.tensor([1])).loss  # a last batch of one
    loss.backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


ELSEWHERE = """
import json, sys
sys.modules["hf_musiclf"] = None
import numpy as np
from transformers import pipeline
folder = sys.argv[1]
classify = pipeline("audio-classification", model=folder, trust_remote_code=True)
def scores(sound):
    return {item["label"]: item["score"] for item in classify({"raw": sound, "sampling_rate": 8000})}
sound, window = np.load(folder + "/sound.npy"), int(sys.argv[2])
names = [type(classify.model).__module__, type(classify.feature_extractor).__module__]
print(json.dumps([names, scores(sound[:window]), [scores(sound) for _ in range(3)]]))
"""


@pytest.mark.parametrize("fused, window_seconds", [(False, 1.5), (True, 1.5), (True, 5.0)])
def test_the_pipeline_elsewhere_hears_the_first_window(fused, window_seconds, tmp_path, monkeypatch):
    """Where this package is not installed: of three windows the first is scored, each time the same."""
    source, folder, window = write_clap(tmp_path / "clap", fused), tmp_path / "model", round(8_000 * window_seconds)
    model, extractor = load(source), clap.extractor_class.from_pretrained(source)
    clap.fit_window(model, extractor, window_seconds)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    sound = (0.1 * np.random.default_rng(0).standard_normal(3 * window)).astype(np.float32)
    sound *= np.repeat([1, 3, 0.1], window)
    np.save(folder / "sound.npy", sound)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    command = [sys.executable, "-c", ELSEWHERE, str(folder), str(window)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names, first, whole = json.loads(done.stdout.splitlines()[-1])
    assert all(name.startswith("transformers_modules.") for name in names)
    assert whole == [first] * 3
    inputs = clap.make_features(extractor)(torch.from_numpy(sound[:window])[None])
    assert inputs["is_longer"].item() == (window_seconds == 5)
    here = model(**inputs).logits.softmax(-1)[0].tolist()
    assert first == pytest.approx(dict(zip(LABELS, here, strict=True)), abs=1e-5)


# What the published files import; looked up in the wheel of transformers 5.17.0, the lowest that setup.py allows.
NAMES_OF_5_17 = {
    "transformers": {
        "BatchFeature", "ClapAudioConfig", "ClapAudioModel", "ClapFeatureExtractor", "ClapPreTrainedModel",
        "PreTrainedConfig", "initialization",
    },
    "transformers.activations": {"ACT2FN"},
    "transformers.modeling_outputs": {"SequenceClassifierOutput"},
    "transformers.utils": {"can_return_tuple"},
    "torch": {"nn"},
}  # fmt: skip


@pytest.mark.parametrize("file", [clap_file, extractor_file], ids=["model", "extractor"])
def test_published_files_import_what_the_lowest_transformers_has(file):
    for node in ast.walk(ast.parse(Path(file.__file__).read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= {"numpy", "torch"}
        elif isinstance(node, ast.ImportFrom):
            assert {alias.name for alias in node.names} <= NAMES_OF_5_17[node.module]
