"""Probabilities of several models as one: weighted means, and weights from validation.

Probabilities of members are `(members, n, labels)`; weights are `(members,)`, none negative, of sum 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hf_musiclf.errors import UserError
from hf_musiclf.predictions import Predictions, in_order_of
from hf_musiclf.probabilities import checked

# As `probabilities.log_losses` clips what a model calls impossible.
LEAST_LIKELIHOOD = np.finfo(np.float64).eps
# In nats: how far fitted weights may lie above the least loss; a thousandth of what a report shows.
TOLERANCE = 1e-6


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


@dataclass(frozen=True)
class Mixture:
    """Members that were held out from the same tracks, and their weights.

    splits: name -> what each member says, in one order of tracks and labels; without validation where theirs differ.
    """

    weights: np.ndarray
    splits: Mapping[str, Sequence[Predictions]]

    def mixed(self, split: str) -> Predictions:
        """What the ensemble says of a split."""
        members = self.splits[split]
        return replace(members[0], probabilities=mix([member.probabilities for member in members], self.weights))


def make_mixture(
    names: Sequence[str], members: Sequence[Mapping[str, Predictions]], weights: str | Sequence[float]
) -> Mixture:
    """Members on the same tracks.

    members: of each, split -> what it says. weights: equal, fit (on validation alone), or one a member. Raises
    UserError where tracks, groups or labels differ, of validation only where weights are to be fitted.
    """
    splits = {"test": _together(names, members, "test")}
    try:
        splits["validation"] = _together(names, members, "validation")
    except UserError:
        if weights == "fit":
            raise
    if weights == "fit":
        held_out = splits["validation"]
        fitted = fit_weights([member.probabilities for member in held_out], held_out[0].label_ids)
    else:
        fitted = checked_weights(None if weights == "equal" else weights, len(members))
    return Mixture(fitted, splits)


def _together(names: Sequence[str], members: Sequence[Mapping[str, Predictions]], split: str) -> list[Predictions]:
    for name, said in zip(names, members, strict=True):
        if split not in said:
            needs = "which an ensemble is scored on; name runs that have some"
            if split == "validation":
                needs = "which weights=fit needs; take equal"
            raise UserError(f"{name} says nothing of {split} tracks, {needs}")
    first = members[0][split]
    return [in_order_of(first, said[split], (names[0], name), split) for name, said in zip(names, members, strict=True)]
