import copy

import pytest
import torch
from recipe_runs import CNN, CRNN, EFFICIENTAT, TINY, VGG
from torch import nn

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.models.folding import fold_batch_norms
from hf_musiclf.models.loading import load_classifier

CONFIGS = {
    "spectrogram_cnn": CNN["model_config"],
    "spectrogram_crnn": CRNN["model_config"],
    "spectrogram_vgg": VGG["model_config"],
    "efficientat": EFFICIENTAT["model_config"],
}


def loaded(model_type, config, seconds=1.0):
    torch.manual_seed(0)
    return load_classifier(ModelArguments("random", config), ("a", "b", "c"), seconds, model_type, verbose=False)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_folded_network_says_the_same_without_a_norm_behind_any_convolution(model_type):
    network = loaded(model_type, CONFIGS[model_type])
    model = network.model.train()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        with torch.no_grad():  # what training would have made of them
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norms(model)
    samples = network.features.sampling_rate
    inputs = network.features(torch.randn(3, samples), torch.full((3,), samples))
    assert model.training and not folded.training
    with torch.no_grad():
        expected, found = model.eval()(**inputs).logits, folded(**inputs).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    behind = [layer for layer in folded.modules() if hasattr(layer, "conv") and not isinstance(layer.norm, nn.Identity)]
    assert not behind
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_has_no_such_layers_and_what_is_of_half_precision_stays_as_it_is():
    transformer = loaded("audio-spectrogram-transformer", TINY["model_config"], 1.28).model
    assert fold_batch_norms(transformer) is transformer
    half = loaded("spectrogram_cnn", CNN["model_config"]).model.to(torch.bfloat16)
    assert fold_batch_norms(half) is half
