import inspect
import math

import numpy as np
import pytest
import torch

from hf_musiclf.losses import (
    DEBIAS_LOSSES,
    MixinGate,
    cross_entropy,
    expert_statistics,
    learned_mixin,
    memorised_share,
    mixture,
    product_of_experts,
    product_plus_cross_entropy,
)

BATCH, LABELS = 6, 5
y = torch.tensor([0, 1, 2, 3, 4, 0])
one_hot = torch.nn.functional.one_hot(y, LABELS).float()
every_loss = pytest.mark.parametrize("loss", DEBIAS_LOSSES.values(), ids=DEBIAS_LOSSES.keys())
# Those which are cross-entropy beside a weak model that knows nothing.
products = pytest.mark.parametrize("loss", [product_of_experts, learned_mixin])
smoothed = pytest.mark.parametrize("smoothing", [0.0, 0.1])
reductions = pytest.mark.parametrize("reduction", ["mean", "none"])


def logits(seed, scale=2.0):
    return scale * torch.randn(BATCH, LABELS, generator=torch.Generator().manual_seed(seed))


def surely(labels, wrong_by=0):
    """Logits of a model that is surely right, or surely says a label so many further."""
    return 100 * torch.nn.functional.one_hot((labels + wrong_by) % LABELS, LABELS).float()


def value_and_gradient(loss, main, *arguments, **options):
    main = main.clone().requires_grad_()
    value = loss(main, *arguments, **options)
    (gradient,) = torch.autograd.grad(value.sum(), main)
    return value.detach(), gradient


def test_the_table_names_losses_of_one_silhouette():
    assert list(DEBIAS_LOSSES) == ["none", "poe", "poe_ce", "learned_mixin", "mixture"]
    for loss in DEBIAS_LOSSES.values():
        names = list(inspect.signature(loss).parameters)
        assert names[:6] == ["main_logits", "labels", "weak_logits", "alpha", "smoothing", "reduction"]


@smoothed
@reductions
def test_without_debiasing_the_loss_is_torchs_cross_entropy(smoothing, reduction):
    expected = torch.nn.functional.cross_entropy(logits(0), y, label_smoothing=smoothing, reduction=reduction)
    for weak in (None, logits(1)):
        assert torch.equal(cross_entropy(logits(0), y, weak, 1.0, smoothing, reduction), expected)


@products
@smoothed
@reductions
def test_beside_a_uniform_weak_model_the_product_is_cross_entropy(loss, smoothing, reduction):
    uniform = torch.full((BATCH, LABELS), 3.0)
    expected = value_and_gradient(cross_entropy, logits(0), y, None, 0.0, smoothing, reduction)
    torch.testing.assert_close(value_and_gradient(loss, logits(0), y, uniform, 1.0, smoothing, reduction), expected)


@pytest.mark.parametrize("loss", [product_of_experts, learned_mixin, mixture])
@pytest.mark.parametrize("alpha", [0.0, torch.zeros(BATCH)], ids=["number", "per item"])
@smoothed
def test_at_an_alpha_of_zero_the_weak_model_does_not_count(loss, alpha, smoothing):
    expected = value_and_gradient(cross_entropy, logits(0), y, None, 0.0, smoothing)
    torch.testing.assert_close(value_and_gradient(loss, logits(0), y, logits(1), alpha, smoothing), expected)


def test_the_mixture_comes_near_to_cross_entropy_as_alpha_falls():
    alone = cross_entropy(logits(0), y)
    gaps = [(mixture(logits(0), y, logits(1), alpha) - alone).abs() for alpha in (0.1, 0.01, 1e-4)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-3


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_the_gradient_of_the_product_is_the_product_less_the_truth(alpha):
    main, weak = logits(0), logits(1)
    product = main.softmax(-1) * weak.softmax(-1) ** alpha
    product /= product.sum(-1, keepdim=True)
    value, gradient = value_and_gradient(product_of_experts, main, y, weak, alpha)
    torch.testing.assert_close(value, -product[range(BATCH), y].log().mean())
    torch.testing.assert_close(gradient, (product - one_hot) / BATCH)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.99])
def test_the_gradient_of_the_mixture_is_that_of_cross_entropy_times_the_responsibility(alpha):
    main, weak = logits(0), logits(1)
    own, other = ((1 - alpha) * main.softmax(-1))[range(BATCH), y], (alpha * weak.softmax(-1))[range(BATCH), y]
    value, gradient = value_and_gradient(mixture, main, y, weak, alpha)
    torch.testing.assert_close(value, -(own + other).log().mean())
    responsibility = (own / (own + other))[:, None]
    torch.testing.assert_close(gradient, responsibility * (main.softmax(-1) - one_hot) / BATCH)


def test_the_mixture_comes_near_to_the_weak_model_alone_as_alpha_nears_one():
    alone = cross_entropy(logits(1), y)
    found = [value_and_gradient(mixture, logits(0), y, logits(1), 1 - share) for share in (1e-1, 1e-3, 1e-6)]
    gaps, slopes = [(value - alone).abs() for value, _ in found], [gradient.abs().max() for _, gradient in found]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-4
    assert slopes[0] > slopes[1] > slopes[2] > 0 and slopes[2] < 1e-4  # which leaves the main model nothing to learn


def test_where_the_weak_model_is_surely_right_the_product_teaches_nothing():
    value, gradient = value_and_gradient(product_of_experts, logits(0), y, surely(y), 1.0)
    assert value < 1e-6 and gradient.abs().max() < 1e-6


def test_where_the_weak_model_is_surely_wrong_the_product_teaches_most():
    _, gradient = value_and_gradient(product_of_experts, logits(0), y, surely(y, wrong_by=1), 1.0)
    torch.testing.assert_close(gradient, (one_hot.roll(1, dims=-1) - one_hot) / BATCH)


def test_the_product_with_cross_entropy_still_learns_what_the_weak_model_knows():
    _, gradient = value_and_gradient(product_plus_cross_entropy, logits(0), y, surely(y), cross_entropy_weight=0.25)
    _, alone = value_and_gradient(cross_entropy, logits(0), y)
    torch.testing.assert_close(gradient, 0.25 * alone)


@reductions
def test_the_product_with_cross_entropy_is_their_sum(reduction):
    arguments = logits(0), y, logits(1), 0.7, 0.1, reduction
    product, alone = product_of_experts(*arguments), cross_entropy(*arguments)
    torch.testing.assert_close(product_plus_cross_entropy(*arguments), product + alone)
    torch.testing.assert_close(product_plus_cross_entropy(*arguments, cross_entropy_weight=0.0), product)


def test_the_learned_mixin_at_a_gate_of_one_is_the_product():
    expected = value_and_gradient(product_of_experts, logits(0), y, logits(1), 1.0)
    torch.testing.assert_close(value_and_gradient(learned_mixin, logits(0), y, logits(1), torch.ones(BATCH)), expected)


@reductions
def test_the_penalty_is_the_entropy_of_the_weak_model_as_the_gate_scales_it(reduction):
    gate = torch.linspace(0, 3, BATCH)
    options = {"smoothing": 0.1, "reduction": reduction}
    plain, penalised = (learned_mixin(logits(0), y, logits(1), gate, entropy_penalty=w, **options) for w in (0.0, 0.3))
    entropy = torch.distributions.Categorical(logits=gate[:, None] * logits(1)).entropy()
    assert entropy[0].item() == pytest.approx(math.log(LABELS))
    torch.testing.assert_close(penalised - plain, 0.3 * (entropy if reduction == "none" else entropy.mean()))


def test_the_penalty_of_one_number_for_all_items_is_that_of_its_repetition():
    one, repeated = (learned_mixin(logits(0), y, logits(1), g, entropy_penalty=1.0) for g in (0.0, torch.zeros(BATCH)))
    torch.testing.assert_close(one, repeated)


def test_the_gate_learns_to_trust_a_weak_model_that_is_right_and_distrust_one_that_is_wrong():
    for wrong_by, sign in ((0, -1), (1, 1)):
        gate = torch.full((BATCH,), 0.02, requires_grad=True)
        learned_mixin(logits(0), y, surely(y, wrong_by), gate).backward()
        assert (gate.grad.sign() == sign).all()


def test_the_gate_is_the_softplus_of_one_linear_layer_and_learns_with_the_hidden_vector():
    gate, hidden = MixinGate(7), torch.randn(BATCH, 7, requires_grad=True)
    expected = torch.log1p((hidden @ gate.linear.weight[0] + gate.linear.bias).exp())
    torch.testing.assert_close(gate(hidden), expected)
    learned_mixin(logits(0), y, logits(1), gate(hidden)).backward()
    assert hidden.grad.any() and gate.linear.weight.grad.any() and gate.linear.bias.grad.any()


def test_the_gate_is_float32_within_autocast_and_with_weights_of_half_the_precision():
    gate, hidden = MixinGate(7), torch.randn(BATCH, 7)
    expected = gate(hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gate(hidden), expected)
    half = gate.to(torch.bfloat16)(hidden.to(torch.bfloat16))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.02, atol=0.02)


@every_loss
def test_no_gradient_reaches_the_weak_model(loss):
    weak_model, main = torch.nn.Linear(3, LABELS), logits(0).requires_grad_()
    loss(main, y, weak_model(torch.randn(BATCH, 3)), 0.5).backward()
    assert main.grad.any() and all(parameter.grad is None for parameter in weak_model.parameters())


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scale", [2.0, 1e4])
def test_the_loss_is_that_of_float32_whatever_the_precision_and_size_of_the_logits(loss, dtype, scale):
    main, weak = (logits(seed, scale).to(dtype) for seed in (0, 1))
    value, gradient = value_and_gradient(loss, main, y, weak, 0.5, 0.1)
    expected, expected_gradient = value_and_gradient(loss, main.float(), y, weak.float(), 0.5, 0.1)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert value.isfinite() and gradient.isfinite().all()
    assert torch.equal(value, expected) and torch.equal(gradient, expected_gradient.to(dtype))


@pytest.mark.parametrize("right", [True, False])
@every_loss
def test_sure_logits_of_ten_thousand_give_finite_losses_and_gradients(loss, right):
    main, weak = surely(y, wrong_by=0 if right else 1) * 100, surely(y, wrong_by=0 if right else 2) * 100
    value, gradient = value_and_gradient(loss, main.half(), y, weak.half(), 0.5)
    assert gradient.isfinite().all()
    if right:
        assert value == 0 and not gradient.any()
    else:
        assert 1000 < value < math.inf


def test_the_penalty_of_a_sure_weak_model_is_none():
    gate = torch.ones(BATCH, requires_grad=True)
    value = learned_mixin(logits(0), y, surely(y) * 100, gate, entropy_penalty=1.0)
    value.backward()
    assert value < 1e-6 and gate.grad.isfinite().all()


@every_loss
def test_autocast_changes_nothing(loss):
    alpha = torch.linspace(0.1, 0.9, BATCH)
    expected = value_and_gradient(loss, logits(0), y, logits(1), alpha, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss, logits(0), y, logits(1), alpha, 0.1)
        assert torch.is_autocast_enabled("cpu")
    assert value.dtype == torch.float32
    assert torch.equal(value, expected[0]) and torch.equal(gradient, expected[1])


@every_loss
@smoothed
def test_the_mean_is_that_of_the_items(loss, smoothing):
    alpha = torch.linspace(0.1, 0.9, BATCH)
    items = loss(logits(0), y, logits(1), alpha, smoothing, "none")
    assert items.shape == (BATCH,)
    torch.testing.assert_close(loss(logits(0), y, logits(1), alpha, smoothing), items.mean())
    alone = [
        loss(logits(0)[i : i + 1], y[i : i + 1], logits(1)[i : i + 1], alpha[i].item(), smoothing) for i in range(BATCH)
    ]
    torch.testing.assert_close(items, torch.stack(alone))


@every_loss
def test_the_order_of_the_labels_does_not_matter(loss):
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = order.argsort()[y]
    expected, gradient = value_and_gradient(loss, logits(0), y, logits(1), 0.4, 0.1)
    value, renamed_gradient = value_and_gradient(loss, logits(0)[:, order], renamed, logits(1)[:, order], 0.4, 0.1)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(renamed_gradient, gradient[:, order])


@every_loss
def test_a_constant_added_to_the_logits_of_an_item_changes_nothing(loss):
    shift = torch.linspace(-50, 50, BATCH)[:, None]
    expected = value_and_gradient(loss, logits(0), y, logits(1), 0.4, 0.1)
    shifted = value_and_gradient(loss, logits(0) + shift, y, logits(1) - 2 * shift, 0.4, 0.1)
    torch.testing.assert_close(shifted, expected, rtol=1e-4, atol=1e-5)


@every_loss
def test_smoothing_takes_the_mean_over_the_labels_into_the_target(loss):
    def at(labels, smoothing=0.0):
        return loss(logits(0), labels, logits(1), 0.4, smoothing)

    over_labels = torch.stack([at(torch.full_like(y, label)) for label in range(LABELS)]).mean()
    torch.testing.assert_close(at(y, 0.2), 0.8 * at(y) + 0.2 * over_labels)


def test_beside_a_model_of_the_shortcut_the_best_main_model_does_not_use_it():
    """Two features of -1 and 1 are each right three times of four, independently given the label; one is the shortcut.

    By Bayes each adds log 3 to the log odds of what it says, which is a weight of log(3) / 2 if the two logits are
    score and -score. The loss is convex in the weights, so that a gradient of zero tells the best.
    """
    right = torch.tensor([[1.0, 1.0]] * 9 + [[1.0, -1.0]] * 3 + [[-1.0, 1.0]] * 3 + [[-1.0, -1.0]])
    features, labels = torch.cat([right, -right]), torch.tensor([0] * 16 + [1] * 16)
    of_each = math.log(3) / 2

    def both_logits(weights):
        score = features @ weights
        return torch.stack([score, -score], -1)

    shortcut = both_logits(torch.tensor([of_each, 0.0]))
    for loss, best in ((cross_entropy, [of_each, of_each]), (product_of_experts, [0.0, of_each])):
        weights = torch.tensor(best, requires_grad=True)
        loss(both_logits(weights), labels, shortcut, 1.0).backward()
        torch.testing.assert_close(weights.grad, torch.zeros(2), atol=1e-6, rtol=0)


def test_statistics_of_a_uniform_weak_model():
    statistics = expert_statistics(torch.zeros(BATCH, LABELS), y)
    assert statistics == pytest.approx(
        {
            "n": BATCH,
            "accuracy": 2 / 6,  # the lower id on a tie, and two of the six are of label 0
            "label_probability": 1 / LABELS,
            "entropy_nats": math.log(LABELS),
            "entropy_share": 1.0,
            "gradient_left": 1.0,
            "gradient_left_wrong": 4 / 6,
        }
    )


@pytest.mark.parametrize(("wrong_by", "accuracy", "left"), [(0, 1.0, 0.0), (1, 0.0, LABELS / (LABELS - 1))])
def test_statistics_of_a_sure_weak_model(wrong_by, accuracy, left):
    statistics = expert_statistics(surely(y, wrong_by), y, main_logits=surely(y))
    expected = {"n": BATCH, "accuracy": accuracy, "label_probability": accuracy}
    expected |= {"gradient_left": left, "gradient_left_wrong": left}
    expected |= {"entropy_nats": 0.0, "entropy_share": 0.0, "agreement": accuracy}
    assert statistics == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
def test_the_gradient_left_is_that_of_the_product_over_that_of_cross_entropy_at_a_uniform_main_model(alpha):
    uniform = torch.zeros(BATCH, LABELS)
    _, product = value_and_gradient(product_of_experts, uniform, y, logits(1), alpha, reduction="none")
    _, alone = value_and_gradient(cross_entropy, uniform, y, reduction="none")
    expected = (product.abs().sum(-1) / alone.abs().sum(-1)).mean().item()
    assert expert_statistics(logits(1), y, alpha=alpha)["gradient_left"] == pytest.approx(expected, rel=1e-5)


def test_statistics_take_arrays_half_precision_and_log_probabilities_alike():
    half = logits(1).half()
    expected = expert_statistics(half, y, half, alpha=0.5)
    array = half.double().numpy()
    log_probabilities = array - np.log(np.exp(array).sum(-1, keepdims=True))
    for weak in (half.float().requires_grad_(), array, log_probabilities):
        assert expert_statistics(weak, y.numpy(), weak, alpha=0.5) == pytest.approx(expected)
    assert expected["agreement"] == 1 and all(type(value) in (int, float) for value in expected.values())


def test_a_weak_model_that_knows_training_and_held_out_items_alike_has_memorised_nothing():
    known = expert_statistics(logits(1), y)
    assert memorised_share(known, known) == 0
    perfect = expert_statistics(surely(y), y)
    assert memorised_share(perfect, perfect) == 0


def test_a_weak_model_that_knows_the_training_items_alone_has_memorised_all():
    by_heart, guessing = expert_statistics(surely(y), y), expert_statistics(torch.zeros(BATCH, LABELS), y)
    assert memorised_share(by_heart, guessing) == pytest.approx(1)
    assert memorised_share(guessing, by_heart) == 0


def of_a_shortcut(agreeing, contradicting):
    """Statistics of a weak model beside a shortcut that 95 of 100 items agree with and five contradict.

    agreeing: what it gives the right label of the former. contradicting: of the latter, where the shortcut's own label
    gets all the rest but 0.01.
    """
    given = torch.tensor([agreeing] * 95 + list(contradicting))
    labels = torch.arange(100) % LABELS
    probabilities = torch.full((100, LABELS), 0.01 / (LABELS - 2))
    probabilities[range(100), labels] = given
    probabilities[range(100), (labels + 1) % LABELS] = 0.99 - given
    return expert_statistics(probabilities.log(), labels)


@pytest.mark.parametrize(
    ("by_heart", "expected"),
    [((0.005, 0.005, 0.005, 0.95, 0.95), 0.4), ((0.3,) * 5, 1 - 0.7 / 0.995)],
    ids=["two of five turned right", "all a little"],
)
def test_what_is_known_by_heart_is_seen_on_the_few_items_that_contradict_a_shortcut(by_heart, expected):
    """And not in the mean over all, as the many others are a little less sure than on what was not heard."""
    train, held_out = of_a_shortcut(0.94, by_heart), of_a_shortcut(0.98, (0.005,) * 5)
    assert train["gradient_left"] > held_out["gradient_left"]
    assert memorised_share(train, held_out) == pytest.approx(expected, abs=1e-6)


def test_being_surer_of_what_agrees_with_a_shortcut_is_seen_in_the_mean_over_all():
    train, held_out = of_a_shortcut(0.94, (0.005,) * 5), of_a_shortcut(0.70, (0.005,) * 5)
    expected = 1 - (95 * 0.06 + 5 * 0.995) / (95 * 0.30 + 5 * 0.995)
    assert memorised_share(train, held_out) == pytest.approx(expected, abs=1e-6)
    assert memorised_share(held_out, train) == 0
