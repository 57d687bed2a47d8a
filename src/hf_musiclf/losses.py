"""Losses of a main classifier beside a weak one, which keep it from learning what the weak one already knows.

All take `(main_logits, labels, weak_logits, alpha, smoothing, reduction)`, so that `DEBIAS_LOSSES[name]` can be called
without knowing which it is, and share these terms:

- main_logits, weak_logits: `(batch, labels)` finite floats of any precision and scale; a constant added to a row
  changes nothing. m and b are their log-softmax. labels: `(batch,)` int64 ids in `0..labels-1`.
- alpha: how much the weak model counts, a number or `(batch,)`; each loss tells its range. Nothing is checked here.
- smoothing: label smoothing in [0, 1) of the target, as in `torch.nn.functional.cross_entropy`.
- reduction: "mean" over the batch, a scalar, or "none", `(batch,)`. Nats, float32, also within autocast.

No gradient reaches the weak logits: the weak model learns by its own cross-entropy, or is frozen. At an alpha of 0 each
is cross-entropy (`product_plus_cross_entropy` a multiple of it, `learned_mixin` plus its penalty), and but for the
mixture beside a uniform weak model too.
"""

import math

import torch
from torch.nn import functional


def cross_entropy(
    main_logits: torch.Tensor,
    labels: torch.Tensor,
    weak_logits: torch.Tensor | None = None,
    alpha: float | torch.Tensor = 0.0,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """`-m[y]`: the main model alone; weak_logits and alpha are not looked at. The baseline of the others.

    Shapes and units as told at the top of the module. Gradient to the main logits: `softmax(m) - one_hot(y)`.
    """
    with _without_autocast(main_logits):
        return _negative_log_likelihood(main_logits.float(), labels, smoothing, reduction)


def product_of_experts(
    main_logits: torch.Tensor,
    labels: torch.Tensor,
    weak_logits: torch.Tensor,
    alpha: float | torch.Tensor = 1.0,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """`-log p[y]` of the product `log p = log_softmax(m + alpha * b)`.

    Shapes and units as told at the top of the module. alpha: >= 0; 0 is cross-entropy, 1 the product of the papers.
    Gradient to the main logits: `p - one_hot(y)`, so none where the weak model is surely right, and the whole of it
    where it is surely wrong. At evaluation the main logits are used alone.

    Hinton, Neural Computation 2002 (the product); Clark, Yatskar, Zettlemoyer, EMNLP 2019 ("bias product"); He, Zha,
    Wang, DeepLo 2019 (DRiFt); Karimi Mahabadi, Belinkov, Henderson, ACL 2020; Sanh, Wolf, Belinkov, Rush, ICLR 2021
    (a weak model of low capacity stands for biases that nobody has named).

    >>> main, labels = torch.zeros(1, 4), torch.tensor([0])
    >>> undecided, surely_right = torch.zeros(1, 4), torch.tensor([[50.0, 0.0, 0.0, 0.0]])
    >>> product_of_experts(main, labels, undecided).item() == cross_entropy(main, labels).item()
    True
    >>> round(product_of_experts(main, labels, surely_right).item(), 6)
    0.0
    """
    with _without_autocast(main_logits):
        m, b = _log_probabilities(main_logits, weak_logits)
        return _negative_log_likelihood(m + _column(alpha, m) * b, labels, smoothing, reduction)


def product_plus_cross_entropy(
    main_logits: torch.Tensor,
    labels: torch.Tensor,
    weak_logits: torch.Tensor,
    alpha: float | torch.Tensor = 1.0,
    smoothing: float = 0.0,
    reduction: str = "mean",
    cross_entropy_weight: float = 1.0,
) -> torch.Tensor:
    """`product_of_experts + cross_entropy_weight * cross_entropy`: every item teaches, the hard ones more.

    Shapes and units as told at the top of the module; alpha: as in `product_of_experts`. cross_entropy_weight: >= 0;
    the plain sum by default, which is our choice. Gradient to the main logits: the weighted sum of those of both, so
    that items which the weak model knows still count (Sanh, Wolf, Belinkov, Rush, ICLR 2021: "PoE + CE").
    """
    main_logits = main_logits.float()  # here, that both gradients are added in float32
    product = product_of_experts(main_logits, labels, weak_logits, alpha, smoothing, reduction)
    return product + cross_entropy_weight * cross_entropy(main_logits, labels, None, 0.0, smoothing, reduction)


def learned_mixin(
    main_logits: torch.Tensor,
    labels: torch.Tensor,
    weak_logits: torch.Tensor,
    alpha: float | torch.Tensor,
    smoothing: float = 0.0,
    reduction: str = "mean",
    entropy_penalty: float = 0.0,
) -> torch.Tensor:
    """The product of experts with an alpha learned for each item, plus `entropy_penalty * H(softmax(alpha * b))`.

    Shapes and units as told at the top of the module. alpha: >= 0, `(batch,)`, the gate g(x) from `MixinGate`; unlike
    in the other losses, gradient flows into it. entropy_penalty: >= 0, the w of "learned-mixin +H", by which the gate
    cannot switch the weak model off unpunished: at a gate of 0 the entropy H is log(labels), its maximum. Gradient to
    the main logits: that of the product (Clark, Yatskar, Zettlemoyer, EMNLP 2019, who tune w for each data set).
    """
    with _without_autocast(main_logits):
        m, b = _log_probabilities(main_logits, weak_logits)
        scaled = _column(alpha, m) * b
        loss = _negative_log_likelihood(m + scaled, labels, smoothing, reduction)
        entropy = _entropy(scaled.log_softmax(-1))
        return loss + entropy_penalty * (entropy.mean() if reduction == "mean" else entropy)


class MixinGate(torch.nn.Module):
    """`softplus(w . h + c)` of the main model's pooled hidden vector: `(batch, hidden)` to `(batch,)` float32, > 0.

    The alpha of `learned_mixin`, trained beside the main model and dropped with the weak one. Gradient flows into the
    hidden vector too, as in the authors' code; detach it to learn the gate alone.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.linear = torch.nn.Linear(hidden_size, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with _without_autocast(hidden):
            scores = functional.linear(hidden.float(), self.linear.weight.float(), self.linear.bias.float())
            return functional.softplus(scores).squeeze(-1)


def mixture(
    main_logits: torch.Tensor,
    labels: torch.Tensor,
    weak_logits: torch.Tensor,
    alpha: float | torch.Tensor = 0.1,
    smoothing: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """`-log((1 - alpha) p_main[y] + alpha p_weak[y])`: a sum of the experts, not their product.

    Shapes and units as told at the top of the module. alpha: in [0, 1), as nothing would reach the main model at 1; 0.1
    by default, as in the student project that this package replaces. Gradient to the main logits: `r * (softmax(m) -
    one_hot(y))` with the main model's responsibility `r = (1 - alpha) p_main[y] / ((1 - alpha) p_main[y] + alpha
    p_weak[y])` (Jacobs, Jordan, Nowlan, Hinton, Neural Computation 1991: mixtures of experts). Like the product it
    spares what the weak model knows; unlike the product it also lets go of items on which the main model is far off
    and the weak one is less so, since r falls with p_main[y].

    >>> even = mixture(torch.zeros(1, 10), torch.tensor([3]), torch.zeros(1, 10), alpha=0.1)
    >>> round(even.exp().item(), 4)
    10.0
    """
    with _without_autocast(main_logits):
        m, b = _log_probabilities(main_logits, weak_logits)
        share = _column(alpha, m)
        # Log-probabilities are their own log-softmax, so that they may pass for logits.
        mixed = torch.logaddexp(m + torch.log1p(-share), b + share.log())
        return _negative_log_likelihood(mixed, labels, smoothing, reduction)


DEBIAS_LOSSES = {
    "none": cross_entropy,
    "poe": product_of_experts,
    "poe_ce": product_plus_cross_entropy,
    "learned_mixin": learned_mixin,
    "mixture": mixture,
}


def expert_statistics(weak_logits, labels, main_logits=None, alpha: float = 1.0) -> dict:
    """What a weak model knows of `n` items, and what the product with it leaves to learn; plain floats, of float64.

    weak_logits, main_logits: `(n, labels)` logits or log-probabilities, tensors or arrays, n >= 1, labels >= 2. labels:
    `(n,)` ids. alpha: >= 0, that of the product. The predicted label is the most probable one, the lower id on a tie.

    - n; accuracy: in [0, 1]. label_probability: mean probability of the right label.
    - entropy_nats: mean entropy of a row; entropy_share: the same over log(labels), 1 for a uniform model.
    - gradient_left: our own measure. The product's gradient to the main logits is `p - one_hot(y)`, of absolute sum
      `2 (1 - p[y])`; while the main model is still uniform, p is `softmax(alpha * b)`, and for cross-entropy alone
      p[y] is 1/labels. This is the mean over the items of the quotient, `(1 - p[y]) / (1 - 1/labels)`: 1 if the weak
      model is uniform, 0 if it is surely right everywhere, up to labels/(labels - 1) if it is surely wrong.
    - gradient_left_wrong: the part of this mean that comes from the items whose label it does not predict.
    - agreement: share of items for which the main model predicts the same label; only if main_logits are given.

    >>> statistics = expert_statistics([[0.0, 0.0], [0.0, 0.0]], [0, 1])
    >>> statistics["accuracy"], statistics["entropy_share"], statistics["gradient_left"]
    (0.5, 1.0, 1.0)
    """
    weak = _float64(weak_logits).log_softmax(-1)
    labels = torch.as_tensor(labels).cpu().long()
    n_labels = weak.shape[-1]
    entropy = _entropy(weak).mean().item()
    product = (alpha * weak).softmax(-1)
    left = (1 - _of_label(product, labels)) / (1 - 1 / n_labels)
    statistics = {
        "n": len(labels),
        "accuracy": _share_equal(weak.argmax(-1), labels),
        "label_probability": _of_label(weak.exp(), labels).mean().item(),
        "entropy_nats": entropy,
        "entropy_share": entropy / math.log(n_labels),
        "gradient_left": left.mean().item(),
        "gradient_left_wrong": (left * (weak.argmax(-1) != labels)).mean().item(),
    }
    if main_logits is not None:
        statistics["agreement"] = _share_equal(weak.argmax(-1), _float64(main_logits).argmax(-1))
    return statistics


def memorised_share(train: dict, held_out: dict) -> float:
    """How much of the main model's gradient the weak model takes away by heart, in [0, 1]; our own measure.

    train, held_out: `expert_statistics` of the items that the weak model was trained on, and of others. A bias that is
    in the music is known of both alike, and gives 0; what is known of the training items alone (their very windows, or
    their artists if the split is by artist) says nothing of a bias, yet silences the product on just these items. Of
    the gradient that is left on held-out items, this is the share which is missing on the training ones: `1 - left of
    train / left of held_out`, not below 0, for `gradient_left` or for `gradient_left_wrong`, whichever share is larger.

    The second is for a bias that explains nearly all items. The few that contradict it are those that teach, and what a
    weak model says of the many that agree, a little surer here or there, outweighs them in the mean over all. Had it
    learnt nothing by heart, items of both kinds would be alike, right and wrong ones included, so that the mean of any
    function of `(weak[i], y[i])` is expected to be the same; that of the gradient where the weak model is wrong has no
    term for the many. It falls by what is taken from a contradicting item, as long as that stays wrong, and by all that
    the item had once it is predicted right.

    Over one half, most of the gradient is lost so: make the weak model weaker, or give the product its out-of-fold
    predictions. Both means are estimates: with k held-out tracks that the weak model gets wrong, the second is known to
    about one part in sqrt(k), as the number of rare tracks in a sample varies so; no measure that sees the held-out
    items alone knows better how rare they are.

    >>> by_heart = {"gradient_left": 0.1, "gradient_left_wrong": 0.03}
    >>> memorised_share(by_heart, {"gradient_left": 0.1, "gradient_left_wrong": 0.06})
    0.5
    """
    names = ("gradient_left", "gradient_left_wrong")
    return max(1 - train[name] / held_out[name] if train[name] < held_out[name] else 0.0 for name in names)


def _without_autocast(tensor: torch.Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _log_probabilities(main_logits: torch.Tensor, weak_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return main_logits.float().log_softmax(-1), weak_logits.detach().float().log_softmax(-1)


def _column(alpha: float | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A number or `(batch,)` as what multiplies `(batch, labels)`."""
    return torch.as_tensor(alpha, dtype=like.dtype, device=like.device).reshape(-1, 1)


def _negative_log_likelihood(logits, labels, smoothing: float, reduction: str) -> torch.Tensor:
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction=reduction)


def _entropy(log_probabilities: torch.Tensor) -> torch.Tensor:
    """`(..., labels)` to `(...)`, nats."""
    return -(log_probabilities.exp() * log_probabilities).sum(-1)


def _float64(logits) -> torch.Tensor:
    return torch.as_tensor(logits).detach().cpu().double()


def _of_label(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return values.gather(-1, labels[:, None]).squeeze(-1)


def _share_equal(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first == second).double().mean().item()
