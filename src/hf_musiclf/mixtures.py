"""Probabilities of several models as one: labels matched by name, weighted means, weights from validation, differences.

Probabilities of members are `(members, n, labels)`; weights are `(members,)`, none negative, of sum 1.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from hf_musiclf.errors import UserError
from hf_musiclf.probabilities import checked, checked_ids, id_codes

# As `metrics.classification_metrics` clips what a model calls impossible.
LEAST_LIKELIHOOD = np.finfo(np.float64).eps
# In nats: how far fitted weights may lie above the least loss; a thousandth of what a report shows.
TOLERANCE = 1e-6


def label_order(labels: Sequence[str], wanted: Sequence[str], name: str = "a model") -> list[int]:
    """Positions of the wanted names: `probabilities[..., label_order(labels, wanted)]` has its columns in their order.

    name: of the model whose labels these are. Raises UserError where these are not the same names.

    >>> label_order(["jazz", "blues"], ["blues", "jazz"])
    [1, 0]
    """
    if sorted(labels) != sorted(wanted):
        odd = [label for label in labels if label not in wanted] or list(labels)
        lacking = [label for label in wanted if label not in labels]
        told = f"knows {', '.join(odd)}, which the others do not" if set(labels) - set(wanted) else "has other labels"
        told += f"; it lacks {', '.join(lacking)}" if lacking else ""
        raise UserError(f"{name} {told}; models of one set of labels make an ensemble")
    places = {label: place for place, label in enumerate(labels)}
    return [places[label] for label in wanted]


def checked_weights(weights: Sequence[float] | None, members: int) -> np.ndarray:
    """`(members,)` float64 of sum 1; None: all the same. Raises UserError for another number, and for wrong ones.

    >>> checked_weights([3, 1], 2)
    array([0.75, 0.25])
    """
    if weights is None:
        return np.full(members, 1 / members)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (members,):
        raise UserError(f"weights={weights.tolist()} are {weights.size} for {members} models; give one a model")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise UserError(f"weights={weights.tolist()} must be 0 or more, and not all 0")
    return weights / weights.sum()


def mix(probabilities, weights) -> np.ndarray:
    """`(members, ..., labels)` and `(members,)` -> `(..., labels)`, the weighted mean."""
    return np.tensordot(np.asarray(weights, dtype=np.float64), np.asarray(probabilities, dtype=np.float64), 1)


def mixture_loss(likelihoods: np.ndarray, weights: np.ndarray) -> float:
    """Mean negative log-likelihood in nats. likelihoods: `(members, n)`, what each member gives the true label."""
    return float(-np.log(np.clip(weights @ likelihoods, LEAST_LIKELIHOOD, 1)).mean())


def fit_weights(probabilities, labels, max_steps: int = 10_000) -> np.ndarray:
    """The weights with the least negative log-likelihood of the labels under the mixture.

    probabilities: `(members, n, labels)`, of tracks that no member was trained on. labels: `(n,)` int. The loss is
    convex in the weights, and EM, which starts from equal ones, lowers it in every step (Dempster, Laird and Rubin
    1977). With g the members' mean likelihood ratios to the mixture, the loss is at most max(g) - 1 above the least one
    (the gap of Frank and Wolfe; Jaggi, ICML 2013), at which it stops. Never above equal weights or any member alone.
    """
    probabilities = np.stack([checked(of_member, labels)[0] for of_member in probabilities])
    truth = np.asarray(labels)
    likelihoods = np.maximum(probabilities[:, np.arange(len(truth)), truth], LEAST_LIKELIHOOD)
    equal = checked_weights(None, len(likelihoods))
    weights = equal
    for _ in range(max_steps):
        ratios = (likelihoods / (weights @ likelihoods)).mean(1)
        if ratios.max() - 1 <= TOLERANCE:
            break
        weights = weights * ratios
        weights = weights / weights.sum()
    return min([equal, weights, *np.eye(len(equal))], key=lambda candidate: mixture_loss(likelihoods, candidate))


def paired_differences(
    first,
    second,
    labels,
    groups: Sequence[Hashable],
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float | list[float] | None]:
    """Accuracy and log loss of `first` less those of `second` on the same items, each with its interval.

    first, second: `(n, labels)` probabilities. labels: `(n,)` int. groups: `(n,)` ids, None of an item on its own. The
    percentile bootstrap of `intervals.bootstrap_intervals`, over groups, of the difference item by item: what makes an
    item hard for both cancels out. NAME_interval is None where all groups differ by the same, as where the two are
    right on the same items: then nothing tells of the spread. Raises ValueError as `bootstrap_intervals` does.
    """
    (first, labels), (second, _) = checked(first, labels), checked(second, labels)
    codes = id_codes(checked_ids(groups, len(labels), "groups"))
    sizes = np.bincount(codes)
    counts = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), n_resamples)
    items, tail = np.arange(len(labels)), (1 - confidence) / 2

    def right(probabilities):
        return (probabilities.argmax(1) == labels).astype(np.float64)

    def loss(probabilities):
        return -np.log(probabilities[items, labels].clip(LEAST_LIKELIHOOD, 1))

    found = {}
    for name, score in (("accuracy", right), ("log_loss", loss)):
        difference = score(first) - score(second)
        sums = np.bincount(codes, difference)
        found[name] = float(difference.mean())
        spread = np.ptp(sums / sizes) > 0
        resampled = counts @ sums / (counts @ sizes)
        found[f"{name}_interval"] = np.quantile(resampled, [tail, 1 - tail]).tolist() if spread else None
    return found
