"""MAESTRO: 199 hours of piano competition recordings (Hawthorne et al. 2019), to be classified by composer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa

from hf_musiclf.data.download import download_file
from hf_musiclf.data.maestro.audio import usable_rows
from hf_musiclf.data.maestro.files import WAYS_TO_DATA, read_table
from hf_musiclf.data.maestro.selection import DOUBLE_CREDITS, composition_of_tracks, credit, match_composers, select
from hf_musiclf.data.maestro.titles import normalise_title
from hf_musiclf.data.tracks import (
    GroupScheme,
    Source,
    TrackTable,
    groups_without_duplicates,
    track_features,
)
from hf_musiclf.errors import UserError
from hf_musiclf.splits import SPLITS, check_every_label, grouped_split

MAESTRO = Source(
    name="MAESTRO",
    task="composer",
    group_word="composition",
    licence="CC BY-NC-SA 4.0",
    citation="C. Hawthorne et al., Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset, "
    "ICLR 2019",
    hub_id=None,
)
# Address and digest as the data set's page gives them, https://magenta.tensorflow.org/datasets/maestro.
ARCHIVE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0.zip"
ARCHIVE_SHA256 = "6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291"

BY_COMPOSITION = GroupScheme(
    "composition",
    "composition",
    instead="raise --min_pieces_per_composer, or use --split_scheme performance (compositions are then shared, and the "
    "leakage report says how many)",
)


def load_maestro(
    data_dir: str | None,
    *,
    composers: Sequence[str] | None = None,
    max_performances_per_piece: int | None = 3,
    min_pieces_per_composer: int = 3,
    double_credits: str = "leave_out",
    min_track_seconds: float = 10.0,
    check_audio: bool = False,
) -> TrackTable:
    """The table of MAESTRO's performances, by composer.

    data_dir: the unzipped folder or the zip archive, any version. composers: full names or surnames, None: all.
    max_performances_per_piece: of one composer and title, None: all. min_pieces_per_composer: compositions, three being
    the least that three splits need. double_credits: what to do with "Franz Schubert / Franz Liszt": leave it out, or
    take the first or second for its composer. min_track_seconds: shorter performances are left out. check_audio: decode
    all audio once instead of trusting headers; slow.

    Raises UserError where there is no data, no audio, or fewer than two composers are left.
    """
    _check(data_dir, double_credits, max_performances_per_piece, min_pieces_per_composer, min_track_seconds)
    table = read_table(Path(data_dir).expanduser())
    credited, skipped = credit(table.performances, double_credits)
    skipped = [*table.skipped, *skipped]
    if composers:
        chosen = match_composers(composers, sorted(set(credited.values())))
        credited = {performance: composer for performance, composer in credited.items() if composer in chosen}
    rows, faults = usable_rows(table, credited, min_track_seconds, check_audio)
    group_of = composition_of_tracks(credited)
    kept, left_out = select(
        {performance: composer for performance, composer in credited.items() if performance.track in rows},
        group_of,
        max_performances_per_piece,
        min_pieces_per_composer,
    )
    labels = tuple(sorted(set(kept.values())))
    features = track_features(labels)
    content = [{**rows[performance.track], "label": labels.index(composer)} for performance, composer in kept.items()]
    columns = {name: [row[name] for row in content] for name in features}
    dataset = datasets.Dataset(pa.table(columns, schema=features.arrow_schema))
    groups = groups_without_duplicates([group_of[performance.track] for performance in kept], dataset)
    schemes = {"composition": BY_COMPOSITION, "title": split_titles, "performance": split_performances}
    if table.has_splits:
        schemes["official"] = OfficialScheme({performance.track: performance.split for performance in kept})
    return TrackTable(MAESTRO, dataset, labels, groups, (*skipped, *faults, *left_out), schemes)


def download_archive(cache_dir: str | None = None) -> Path:
    """MAESTRO v3's archive, 101 GB, kept in the cache folder of `datasets` or in cache_dir, checked by its SHA-256.

    It is read in place, not unzipped. Raises UserError where it cannot be had; what has come is kept for the next try.
    """
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "hf_musiclf_maestro"
    return download_file(ARCHIVE_URL, folder / Path(ARCHIVE_URL).name, ARCHIVE_SHA256, "101 GB", "MAESTRO v3.0.0")


def _check(data_dir, double_credits, max_performances, min_pieces, min_seconds) -> None:
    if data_dir is None:
        raise UserError(f"MAESTRO needs --data_dir; {WAYS_TO_DATA}")
    if double_credits not in DOUBLE_CREDITS:
        raise UserError(f"double_credits={double_credits!r} is not known; choose from {', '.join(DOUBLE_CREDITS)}")
    for name, value in (("max_performances_per_piece", max_performances), ("min_pieces_per_composer", min_pieces)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} is below 1; pass 1 or more")
    if not min_seconds >= 0:
        raise UserError(f"min_track_seconds={min_seconds} is below 0; pass 0 or more")


# Split schemes


def split_performances(table: TrackTable, seed: int) -> dict[str, np.ndarray]:
    """A stratified random split of performances, which share compositions; to show what that is worth.

    Of MAESTRO v3 with the defaults and seed 0, 89 of 101 test performances play a composition of training, by the rule
    of `works.compositions` (tests/test_maestro.py counts them).
    """
    labels = table.column("label")
    splits = grouped_split(labels, seed=seed)
    instead = "three performances a composer are the least that can be split"
    check_every_label(splits, labels, table.labels, "performance", instead)
    return splits


def split_titles(table: TrackTable, seed: int) -> dict[str, np.ndarray]:
    """A stratified split that shares no normalised title; works known by several titles still stand on both sides.

    For comparison with what is split by titles: see `works.py` for how many works leak.
    """
    labels, titles = table.column("label"), table.column("title")
    groups = [f"{table.labels[label]}: {normalise_title(title)}" for label, title in zip(labels, titles, strict=True)]
    splits = grouped_split(labels, groups, seed=seed)
    instead = "three titles a composer are the least that can be split"
    check_every_label(splits, labels, table.labels, "title", instead, groups, "title")
    return splits


@dataclass(frozen=True)
class OfficialScheme:
    """The table's own split, made for transcription: not every composer is in every part. The seed changes nothing.

    split_of: track -> split. Raises UserError where a part is empty.
    """

    split_of: Mapping[str, str]

    def __call__(self, table: TrackTable, seed: int) -> dict[str, np.ndarray]:
        split_of = np.array([self.split_of[track] for track in table.column("track")])
        splits = {split: np.flatnonzero(split_of == split) for split in SPLITS}
        empty = [split for split, items in splits.items() if not len(items)]
        if empty:
            held = ", ".join(f"{count} {split!r}" for split, count in sorted(Counter(split_of.tolist()).items()))
            raise UserError(
                f"split_scheme=official: none of the {len(table)} performances is in {empty[0]} (they are {held}); use "
                "--split_scheme composition"
            )
        return splits
