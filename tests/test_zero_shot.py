import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clap import LABELS, PROMPT, load, write_clap
from transformers import ClapModel, ClapTextModelWithProjection

from hf_musiclf.errors import UserError
from hf_musiclf.models.families import clap
from hf_musiclf.models.zero_shot import ClapZeroShot


@pytest.fixture(scope="module", params=["unfused", "fused"])
def checkpoint(request, tmp_path_factory):
    return write_clap(tmp_path_factory.mktemp("clap"), request.param == "fused")


def test_zero_shot_is_claps_own_similarity(checkpoint):
    zero_shot = ClapZeroShot(str(checkpoint), LABELS, PROMPT)
    assert zero_shot.prompts[0] == "a piano piece composed by Bach"
    model = ClapModel.from_pretrained(checkpoint).eval()
    features = clap.make_features(clap.extractor_class.from_pretrained(checkpoint))
    inputs = features(torch.randn(2, 16_000).clamp(-1, 1))
    tokens = torch.tensor([[0, 4, 5, 6, 7, 8, 9 + place, 2] for place in range(3)])
    with torch.no_grad():
        expected = model(input_ids=tokens, **inputs).logits_per_audio
    ours = zero_shot(**inputs).logits
    assert ours.shape == (2, 3) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected)
    assert not torch.allclose(ours[:, 0], ours[:, 1])


def test_zero_shot_refuses_what_has_no_words(checkpoint, tmp_path):
    with pytest.raises(UserError, match="prompt='a piece' names no label"):
        ClapZeroShot(str(checkpoint), LABELS, prompt="a piece")
    load(checkpoint).save_pretrained(tmp_path / "classifier")
    with pytest.raises(UserError, match="is of architecture 'clap-audio-classification'"):
        ClapZeroShot(str(tmp_path / "classifier"), LABELS, PROMPT)
    ClapTextModelWithProjection.from_pretrained(checkpoint).save_pretrained(tmp_path / "text")
    with pytest.raises(UserError, match="is of architecture 'clap_text_model'"):
        ClapZeroShot(str(tmp_path / "text"), LABELS, PROMPT)
    with pytest.raises(UserError, match="cannot be loaded"):
        ClapZeroShot(str(tmp_path / "nowhere"), LABELS, PROMPT)
    ClapModel.from_pretrained(checkpoint).save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="has no tokenizer") as caught:
        ClapZeroShot(str(tmp_path / "bare"), LABELS, PROMPT)
    assert "\n" not in str(caught.value)
    weights = load_file(tmp_path / "bare" / "model.safetensors")
    weights = {key: value for key, value in weights.items() if not key.startswith("text_model")}
    save_file(weights, tmp_path / "bare" / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ weights of its text tower"):
        ClapZeroShot(str(tmp_path / "bare"), LABELS, PROMPT)
