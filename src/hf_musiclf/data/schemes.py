"""How splits are drawn: each scheme is called with a table of tracks and a seed, and returns split name -> row indices.

Schemes are classes, since a table that goes to another process is pickled with its schemes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_musiclf.errors import UserError
from hf_musiclf.splits import SPLITS, check_every_label, grouped_folds, grouped_split, merge_groups

if TYPE_CHECKING:
    from hf_musiclf.data.tracks import TrackTable

Groups = Sequence[str | None]


def groups_of_table(table: "TrackTable") -> Groups:
    return table.groups


def duplicates_of_table(table: "TrackTable") -> Groups:
    """Every track a group of its own, but for exact duplicates, which stand together."""
    return merge_groups([f"{row:09d}" for row in range(len(table))], table.column("audio_hash"))


@dataclass(frozen=True)
class Stratified:
    """A stratified 80/10/10 split that shares no group.

    name: of the scheme. group_word: what a group is, "" for the track itself. instead: the way out where a label has
    too few groups, for the message. groups_of: table -> `(n,)` group of each row, None where unknown: such rows are
    trained on. Raises UserError where a label is missing from a split.
    """

    name: str
    group_word: str
    instead: str
    groups_of: Callable[["TrackTable"], Groups] = groups_of_table

    def __call__(self, table: "TrackTable", seed: int) -> dict[str, np.ndarray]:
        labels, groups = table.column("label"), self.groups_of(table)
        splits = grouped_split(labels, groups, seed=seed)
        told = (groups, self.group_word) if self.group_word else ()
        check_every_label(splits, labels, table.labels, self.name, self.instead, *told)
        return splits

    def fold(self, table: "TrackTable", seed: int, n_folds: int, fold: int) -> dict[str, np.ndarray]:
        """One fold of a cross-validation, see `splits.grouped_folds`; `fold` counts from 0.

        Raises UserError for a label without training, and where there is nothing to test or to choose the model on.
        """
        labels, groups = np.asarray(table.column("label")), self.groups_of(table)
        splits = grouped_folds(labels, groups, n_folds, fold, seed)
        which = f"folds={n_folds}: fold {fold + 1} of {n_folds} (--fold {fold}) leaves"
        counts = []  # known groups of each label
        for label, name in enumerate(table.labels):
            items = np.flatnonzero(labels == label)
            counts.append(len({groups[item] for item in items} - {None}))
            if not np.isin(items, splits["train"]).any():
                # A label by one group is all in the fold that tests it, however many folds there are.
                others = "pass another --folds or --split_seed, or " if counts[-1] > 1 else ""
                held = self._told(counts[-1])
                raise UserError(f"{which} no {name!r} for train: the data hold it by {held}; {others}{self.instead}")
        for split in ("test", "validation"):
            if not len(splits[split]):
                few = f"no label has more than {self._told(max(counts))}"
                raise UserError(f"{which} no track for {split}: {few}; {self._way_out(max(counts), n_folds)}")
        return splits

    def _told(self, count: int) -> str:
        what = f"known {self.group_word}" if self.group_word else "distinct track"
        return f"{count} {what}{'s' if count != 1 else ''}"

    def _way_out(self, most: int, n_folds: int) -> str:
        """What to do about an empty split of a fold. most: known groups of the label that has most."""
        if most < len(SPLITS):  # not one for each
            return self.instead
        return f"pass --folds {most}" if n_folds != most else f"pass another --split_seed, or {self.instead}"


RANDOM = Stratified("random", "", "three tracks a label are the least that can be split", duplicates_of_table)


@dataclass(frozen=True)
class Given:
    """The train, validation and test that come with the data; the seed changes nothing.

    name: of the scheme. split_of: `(n,)` split of each row, "" where none is stated: such rows are left out. Raises
    UserError for an empty split, and for a label that training lacks.
    """

    name: str
    split_of: tuple[str, ...]

    def __call__(self, table: "TrackTable", seed: int) -> dict[str, np.ndarray]:
        split_of = np.array(self.split_of)
        splits = {split: np.flatnonzero(split_of == split) for split in SPLITS}
        labels = np.asarray(table.column("label"))
        for split, items in splits.items():
            if not len(items):
                others = ", ".join(name for name in table.schemes if name != self.name)
                raise UserError(
                    f"split_scheme={self.name}: {table.source.name} has no readable track in {split}; use "
                    f"--split_scheme {others}"
                )
            unseen = np.setdiff1d(labels[items], labels[splits["train"]])
            if len(unseen):
                raise UserError(
                    f"split_scheme={self.name}: {table.source.name} has {table.labels[unseen[0]]!r} in {split} and not "
                    "in train, so it cannot be learned; correct the split, or use another --split_scheme"
                )
        return splits
