"""Splits over groups, stratified by label.

A group (an artist, a composition) is what must not stand on both sides of a split: a network recognises the artist's
voice, room and mastering more easily than the genre (Pampalk, Flexer and Widmer, ISMIR 2005, "artist filter").
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from hf_musiclf.errors import UserError

SPLITS = ("train", "validation", "test")
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}

# The search starts anew from this many random assignments and keeps the best; on GTZAN's 240 artists the cost of the
# best has stopped falling by then.
RESTARTS = 24
# Cost of a split without any item of a label, far above what shares that are off can add up to.
MISSING_LABEL_COST = 1e4


def grouped_split(
    labels: Sequence[int],
    groups: Sequence[str | None] | None = None,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Split items so that no group is shared and every label has its share in every split.

    labels: `(n,)` ints. groups: `(n,)` group of each item, None where it is unknown: such an item goes to the first
    split (training), since it might share a group with anything. Without `groups` every item is its own group: a
    stratified random split. fractions: split name -> share, adding up to 1, training first. seed: same seed, same
    split.

    The sum over labels and splits of the squared distance from the wanted counts, in units of the wanted counts, is
    brought down by moving one group at a time, from several random starts. Returns split name -> ascending item
    indices. A label may still be missing from a split where its groups are too few: see `check_every_label`.
    """
    labels = np.asarray(labels)
    label_ids = np.unique(labels)
    if not np.isclose(sum(fractions.values()), 1.0):
        raise ValueError(f"fractions={dict(fractions)} add up to {sum(fractions.values()):.3f}, not to 1")
    names = list(fractions)
    group_of = list(range(len(labels)) if groups is None else groups)
    known = [item for item, group in enumerate(group_of) if group is not None]
    group_names = sorted({group_of[item] for item in known})
    row_of = {group: row for row, group in enumerate(group_names)}
    counts = np.zeros((len(group_names), len(label_ids)))
    columns = np.searchsorted(label_ids, labels)
    for item in known:
        counts[row_of[group_of[item]], columns[item]] += 1
    totals = np.bincount(columns, minlength=len(label_ids)).astype(float)
    targets = np.array(list(fractions.values()))[:, None] * totals
    fixed = np.zeros_like(targets)
    fixed[0] = totals - counts.sum(0)

    rng = np.random.default_rng(seed)
    shares = np.array(list(fractions.values()))
    best_cost, best = np.inf, np.zeros(len(group_names), int)
    for _ in range(RESTARTS):
        start = rng.choice(len(names), size=len(group_names), p=shares)
        # In a new order each time: among equal moves the first is taken, which must not favour any group.
        order = rng.permutation(len(group_names))
        assignment, cost = _descend(counts[order], targets, fixed, start)
        if cost < best_cost - 1e-9:
            best_cost = cost
            best[order] = assignment
    split_of = np.zeros(len(labels), int)
    for item in known:
        split_of[item] = best[row_of[group_of[item]]]
    return {name: np.flatnonzero(split_of == index) for index, name in enumerate(names)}


def grouped_folds(
    labels: Sequence[int], groups: Sequence[str | None] | None, n_folds: int, fold: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """One fold of a stratified cross-validation that shares no group: split name -> ascending item indices.

    labels, groups, seed: as in `grouped_split`. Over all folds each item of known group is tested once; items of
    unknown group are always trained on. Of what is not tested, a tenth of all items is held out for validation. Raises
    ValueError for a fold that there is not.
    """
    if not (n_folds >= 2 and 0 <= fold < n_folds):
        raise ValueError(f"fold={fold} of n_folds={n_folds} is not there; folds count from 0, and are two at least")
    labels = np.asarray(labels)
    groups = [str(item) for item in range(len(labels))] if groups is None else groups
    known = np.array([item for item, group in enumerate(groups) if group is not None], dtype=int)
    parts = _fold_parts(tuple(labels[known].tolist()), tuple(groups[item] for item in known), n_folds, seed)
    test = known[parts[str(fold)]]
    rest = np.setdiff1d(np.arange(len(labels)), test)
    share = FRACTIONS["validation"] * n_folds / (n_folds - 1)
    inner = grouped_split(
        labels[rest], [groups[item] for item in rest], {"train": 1 - share, "validation": share}, seed + 1 + fold
    )
    return {"train": rest[inner["train"]], "validation": rest[inner["validation"]], "test": test}


@lru_cache(maxsize=1)  # the folds of one cross-validation share it, and it takes seconds where groups are many
def _fold_parts(labels: tuple[int, ...], groups: tuple[str, ...], n_folds: int, seed: int) -> Mapping[str, np.ndarray]:
    return grouped_split(labels, groups, {str(fold): 1 / n_folds for fold in range(n_folds)}, seed)


def _cost(sums: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Distance of `sums` from `targets`, both `(..., splits, labels)`, summed over the last axis."""
    off = (sums - targets) ** 2 / np.maximum(targets, 1.0)
    return (off + MISSING_LABEL_COST * (sums < 0.5)).sum(-1)


def _descend(counts, targets, fixed, assignment) -> tuple[np.ndarray, float]:
    """Move the one group that lowers the cost most, until none does. counts: `(groups, labels)`."""
    n_splits = len(targets)
    assignment = assignment.copy()
    rows = np.arange(len(counts))
    sums = fixed + np.stack([counts[assignment == split].sum(0) for split in range(n_splits)])
    while True:
        base = _cost(sums, targets)
        # Cost of each group's own split without it, and of every split with it.
        without = _cost(sums[assignment] - counts, targets[assignment]) - base[assignment]
        with_it = _cost(sums[None] + counts[:, None], targets[None]) - base[None]
        change = without[:, None] + with_it
        change[rows, assignment] = 0.0
        best = np.unravel_index(np.argmin(change), change.shape) if change.size else None
        if best is None or change[best] > -1e-9:
            return assignment, float(base.sum())
        group, split = best
        sums[assignment[group]] -= counts[group]
        sums[split] += counts[group]
        assignment[group] = split


def check_every_label(
    splits: Mapping[str, np.ndarray],
    labels: Sequence[int],
    names: Sequence[str],
    scheme: str,
    instead: str,
    groups: Sequence[str | None] | None = None,
    group_word: str = "group",
) -> None:
    """Refuse a split in which a label is missing from a part.

    instead: what to use instead, for the message. groups, group_word: to say how many groups the label has. Raises
    UserError naming the first such label, the split and the counts.
    """
    labels = np.asarray(labels)
    for label, name in enumerate(names):
        items = np.flatnonzero(labels == label)
        for split, members in splits.items():
            if not np.isin(items, members).any():
                why = ""
                if groups is not None:
                    known = {groups[item] for item in items} - {None}
                    why = f" by {len(known)} known {group_word}{'s' if len(known) != 1 else ''}"
                raise UserError(
                    f"split_scheme={scheme} leaves no {name!r} for {split}: the data hold {len(items)} {name!r} "
                    f"track{'s' if len(items) != 1 else ''}{why}; {instead}"
                )


def merge_groups(groups: Sequence[str | None], keys: Sequence[str | None]) -> list[str | None]:
    """Give items that share a key (an exact duplicate's hash) one group, transitively.

    groups: `(n,)`, None where unknown. keys: `(n,)`, None never matches. Items of unknown group that share a key with
    an item of known group get that group. The merged group takes its alphabetically first name.

    >>> merge_groups(["a", "b", "c", None], ["x", "x", "y", "y"])
    ['a', 'a', 'c', 'c']
    """
    parent: dict[str, str] = {group: group for group in groups if group is not None}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    groups_of_key: dict[str, list[str]] = defaultdict(list)
    for group, key in zip(groups, keys, strict=True):
        if group is not None and key is not None:
            groups_of_key[key].append(group)
    for members in groups_of_key.values():
        for other in members[1:]:
            first, second = sorted((root(members[0]), root(other)))
            parent[second] = first
    merged: list[str | None] = []
    for group, key in zip(groups, keys, strict=True):
        if group is None and key is not None and groups_of_key.get(key):
            group = groups_of_key[key][0]
        merged.append(None if group is None else root(group))
    return merged


def count_labels(items: Sequence[int], labels: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """Items a label, zero counts included: `{name: count}`."""
    counts = Counter(labels[item] for item in items)
    return {name: counts.get(label, 0) for label, name in enumerate(names)}
