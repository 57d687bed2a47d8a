"""The CRNN: bins pooled away, time kept, a GRU that reads both ways, and its pooling."""

import pytest
import torch

from hf_musiclf.models.crnn import CrnnConfig, CrnnForAudioClassification


def network(**fields):
    torch.manual_seed(0)
    small = {"feature_size": 24, "num_labels": 3, "conv_channels": [4, 8], "bin_pools": [2, 4], "frame_pools": [2, 1]}
    return CrnnForAudioClassification(CrnnConfig(**{**small, "rnn_size": 8, **fields})).eval()


def inputs_of(batch=2, frames=64, size=24):
    return torch.randn(batch, frames, size, generator=torch.Generator().manual_seed(1))


def test_bins_are_pooled_away_and_time_is_kept_at_a_coarser_rate():
    config = CrnnConfig(num_labels=10)
    model = CrnnForAudioClassification(config).eval()
    assert 0.45e6 < model.num_parameters() < 0.55e6
    assert config.step_size == 128  # of 128 bins one is left, of 128 channels
    maps = model.crnn.front(torch.randn(1, 1, 128, 313))
    assert maps.shape == (1, 128, 1, 40)  # 5 s at 16 kHz with a hop of 256: a step every 128 ms
    assert model.crnn(torch.randn(1, 313, 128)).last_hidden_state.shape == (1, 40, 256)


def test_bins_that_are_left_are_features_of_a_step():
    model = network(bin_pools=[2, 1])
    assert model.config.step_size == model.crnn.layers[0].gru.input_size == 8 * 6
    with torch.no_grad():
        steps = model.crnn._steps(inputs_of().transpose(1, 2))
    maps = model.crnn.front(inputs_of().transpose(1, 2)[:, None])
    assert maps.shape == (2, 8, 6, 16)
    for step in (0, 9):
        torch.testing.assert_close(steps[:, step], maps[..., step].flatten(1))


def test_one_step_after_another_hears_what_came_before_or_both_sides():
    for bidirectional in (False, True):
        model = network(bidirectional=bidirectional, conv_channels=[], frame_stride=4, pooling="mean")
        assert model.config.hidden_size == (16 if bidirectional else 8)
        inputs = inputs_of()
        changed = torch.cat([inputs[:, :32], inputs[:, 32:] + 1], 1)
        states = model.crnn(inputs).last_hidden_state, model.crnn(changed).last_hidden_state
        same = [torch.equal(*(state[:, step] for state in states)) for step in range(16)]
        assert same == ([False] * 16 if bidirectional else [True] * 8 + [False] * 8)


def test_order_matters_to_the_gru_and_to_its_mean():
    model = network(conv_channels=[], frame_stride=1, pooling="mean", bidirectional=False)
    inputs = inputs_of()
    assert (model(inputs).logits - model(inputs.flip(1)).logits).abs().max() > 1e-4


def test_a_plain_gru_reads_means_of_frames():
    model = network(conv_channels=[], frame_stride=8)
    assert not list(model.crnn.front)
    blocks = inputs_of(2, 5).repeat_interleave(8, 1)
    expected = inputs_of(2, 5)
    torch.testing.assert_close(model.crnn._steps(blocks.transpose(1, 2)), expected)
    shorter = blocks[:, :-5]  # of the last step three frames are left, and their mean is the same
    torch.testing.assert_close(model.crnn._steps(shorter.transpose(1, 2)), expected)


def test_attention_starts_as_a_mean_and_can_single_out_a_step():
    model = network()
    output = model.crnn(inputs_of())
    steps = output.last_hidden_state
    torch.testing.assert_close(output.pooler_output, steps.mean(1), atol=0.02, rtol=0)
    attention = model.crnn.attention
    attention.hidden.weight.data.copy_(torch.eye(16))
    attention.score.weight.data.zero_()[0, 3] = 1e5
    expected = torch.stack([item[item[:, 3].argmax()] for item in steps])  # the step that is highest in this feature
    torch.testing.assert_close(model.crnn(inputs_of()).pooler_output, expected, atol=1e-3, rtol=0)


def test_attention_weighs_steps_as_its_formula_says():
    """Yang et al. 2016, equations 5 to 7: a hidden layer with tanh, a learnt vector, softmax over steps."""
    attention = network().crnn.attention
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    steps = torch.randn(2, 5, 16)
    scores = torch.tanh(steps @ attention.hidden.weight.T + attention.hidden.bias) @ attention.score.weight[0]
    weights = scores.exp() / scores.exp().sum(1, keepdim=True)
    torch.testing.assert_close(attention(steps), torch.einsum("bs,bsf->bf", weights, steps))


@pytest.mark.parametrize("stride, bins, steps", [(1, 3, 32), (2, 2, 16), (3, 1, 11)])
def test_the_first_stride_divides_bins_and_frames(stride, bins, steps):
    model = network(first_stride=stride)  # behind it bins are divided by 8, frames by 2, rounded up
    assert model.config.step_size == 8 * bins
    assert model.crnn(inputs_of()).last_hidden_state.shape == (2, steps, 16)


def test_the_mean_is_a_mean():
    output = network(pooling="mean").crnn(inputs_of())
    assert torch.equal(output.pooler_output, output.last_hidden_state.mean(1))


def test_steps_of_the_gru_start_orthogonal():
    weight = network(rnn_layers=2).crnn.layers[1].gru.weight_hh_l0_reverse
    torch.testing.assert_close(weight.T @ weight, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("convolutions", [[], [4, 8]])
def test_dropout_stands_between_layers_of_the_gru_and_before_the_scores(convolutions):
    model = network(conv_channels=convolutions, rnn_layers=2, dropout=0.5)
    inputs = inputs_of(1)
    model.crnn.dropout.train()
    assert not torch.equal(model(inputs).logits, model(inputs).logits)
    model.eval().dropout.train()
    assert not torch.equal(model(inputs).logits, model(inputs).logits)
    assert torch.equal(model.crnn(inputs).pooler_output, model.crnn(inputs).pooler_output)
