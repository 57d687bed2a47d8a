"""Labels of unequal numbers: rare ones are repeated in training, or their loss weighs more.

Nothing changes in validation and test. Both ways are measured by what they do to macro F1; neither adds music that was
not there. power: how far, 1 as often as the most frequent label, 0.5 the square root of how often it comes, between
that and nothing (Mahajan et al., "Exploring the limits of weakly supervised pretraining", ECCV 2018).
"""

from collections.abc import Sequence

import numpy as np


def oversampled(rows: Sequence[int], labels: Sequence[int], seed: int = 0, power: float = 1.0) -> np.ndarray:
    """Training rows, those of rarer labels repeated until every label stands there as often as the most frequent one.

    With a power below 1 less often: of `most` and `count` rows it is then `most ** power * count ** (1 - power)`.

    rows: `(n,)` rows of a table, of training alone: whoever repeats before splitting has one track on both sides.
    labels: `(n,)` of the same. Every row of a label comes equally often, up to a rest of one that the seed draws. The
    rows themselves come first, in their order, the repetitions behind them.

    >>> oversampled([4, 5, 6, 7], [0, 0, 0, 1]).tolist()
    [4, 5, 6, 7, 7, 7]
    >>> oversampled([4, 5, 6, 7, 8], [0, 0, 0, 0, 1], power=0.5).tolist()
    [4, 5, 6, 7, 8, 8]
    """
    rows, labels = np.asarray(rows, dtype=np.int64), np.asarray(labels)
    rng = np.random.default_rng(seed)
    found, counts = np.unique(labels, return_counts=True)
    more = []
    for label, count in zip(found, counts, strict=True):
        wanted = round(counts.max() ** power * count ** (1 - power))
        whole, rest = divmod(wanted - count, count)
        of_label = rows[labels == label]
        more += [np.tile(of_label, whole), rng.choice(of_label, rest, replace=False)]
    return np.concatenate([rows, *more]) if len(rows) else rows


def class_weights(labels: Sequence[int], n_labels: int, power: float = 1.0) -> np.ndarray:
    """`(n_labels,)` float64: weight of each label's loss, inverse to how often it comes, 1 on average over `labels`.

    With a power below 1 inverse to that power of it.

    labels: `(n,)` of the training windows. A label that is not there has weight 0 (King and Zeng, "Logistic Regression
    in Rare Events Data", 2001; scikit-learn's "balanced").

    >>> class_weights([0, 0, 0, 1], 2).tolist()
    [0.6666666666666666, 2.0]
    """
    counts = np.bincount(labels, minlength=n_labels)
    present = counts > 0
    weights = np.zeros(n_labels)
    weights[present] = counts[present] ** -float(power)
    return weights * (len(labels) / (weights * counts).sum()) if len(labels) else weights
