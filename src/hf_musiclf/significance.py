"""Whether two models differ on the same items by more than chance: paired bootstrap, McNemar's test, Holm's."""

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from hf_musiclf.intervals import BOOTSTRAPPED, Resampled, percentiles, resample


def paired_differences(
    first,
    second,
    labels,
    groups: Sequence[Hashable],
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float | list[float] | None]:
    """Each score of BOOTSTRAPPED of `first` less that of `second` on the same items, and its NAME_interval.

    first, second: `(n, classes)` probabilities. labels: `(n,)` int. groups: `(n,)` ids, None of an item on its own. The
    intervals are by resampling whole groups, the same ones for both: what makes an item hard for both cancels out
    (percentile bootstrap of paired differences: Efron & Tibshirani 1993, ch. 13). They treat resamples without some
    class, and resamples that all say the same, as `intervals.resample` and `intervals.percentiles` do: that of accuracy
    is None where both are right on the same items. A difference that is not defined is None. Raises ValueError as those
    two do.
    """
    return resampled_differences(
        *(resample(probabilities, labels, groups, n_resamples, seed) for probabilities in (first, second)), confidence
    )


def resampled_differences(
    first: Resampled, second: Resampled, confidence: float = 0.95
) -> dict[str, float | list[float] | None]:
    """`paired_differences` of models that are resampled already, by the same labels, groups, number and seed."""
    found = {}
    for name in BOOTSTRAPPED:
        difference = first.point[name] - second.point[name]
        found[name] = None if np.isnan(difference) else difference
        found[f"{name}_interval"] = percentiles(first.drawn[name] - second.drawn[name], confidence)
    return found


def mcnemar(first_right, second_right) -> dict:
    """McNemar's exact test (McNemar 1947; two-sided binomial): are both models as often right where one alone is?

    first_right, second_right: `(tracks,)` bool. Returns the tracks on which the first or the second alone is right,
    and p. It takes the tracks for independent, which several tracks of one artist are not: p is then too small.

    >>> mcnemar([True, False, False, False], [True, True, True, True])
    {'only_first': 0, 'only_second': 3, 'p': 0.25}
    """
    first_right, second_right = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    only_first, only_second = (
        int(np.sum(x & ~y)) for x, y in ((first_right, second_right), (second_right, first_right))
    )
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": p}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p-values: rejecting those up to alpha holds the family-wise error rate at alpha.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    adjusted = np.empty_like(values)
    adjusted[order] = stepped
    return adjusted.tolist()
