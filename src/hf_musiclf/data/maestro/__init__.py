"""MAESTRO: 199 hours of piano competition recordings (Hawthorne et al. 2019), to be classified by composer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa

from hf_musiclf.data.download import download_file
from hf_musiclf.data.maestro.audio import usable_rows
from hf_musiclf.data.maestro.files import WAYS_TO_DATA, Performance, read_table
from hf_musiclf.data.maestro.selection import by_composition, credit, match_composers, select
from hf_musiclf.data.maestro.titles import normalise_title
from hf_musiclf.data.schemes import RANDOM, Given, Stratified
from hf_musiclf.data.tracks import (
    Source,
    TrackTable,
    groups_without_duplicates,
    track_features,
)
from hf_musiclf.errors import UserError

MAESTRO = Source(
    name="MAESTRO",
    task="composer",
    group_word="composition",
    licence="CC BY-NC-SA 4.0",
    citation="C. Hawthorne et al., Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset, "
    "ICLR 2019",
    hub_id=None,
    # https://creativecommons.org/licenses/by-nc-sa/4.0/, as https://magenta.tensorflow.org/datasets/maestro names it.
    restriction="CC BY-NC-SA 4.0: name its makers, nothing commercial, the same licence",
    licence_id="cc-by-nc-sa-4.0",
)
# Address and digest as the data set's page gives them, https://magenta.tensorflow.org/datasets/maestro.
ARCHIVE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0.zip"
ARCHIVE_SHA256 = "6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291"


def groups_by_title(table: TrackTable) -> list[str]:
    """Composer and normalised title of each row: works that are known by several titles fall apart."""
    labels, titles = table.column("label"), table.column("title")
    return [f"{table.labels[label]}: {normalise_title(title)}" for label, title in zip(labels, titles, strict=True)]


INSTEAD = (
    "raise --min_pieces_per_composer, or use --split_scheme performance (compositions are then shared, and the leakage "
    "report says how many)"
)
# How much the second and third let leak of MAESTRO v3: see works.py and tests/test_maestro_v3.py.
SCHEMES = {
    "composition": Stratified("composition", "composition", INSTEAD),
    "title": Stratified("title", "title", INSTEAD, groups_by_title),
    "performance": replace(RANDOM, name="performance"),
}


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
    max_performances_per_piece: see `select`, None: all. min_pieces_per_composer: compositions, three being
    the least that three splits need. double_credits: what to do with "Franz Schubert / Franz Liszt": leave it out, or
    take the first or second for its composer. min_track_seconds: shorter performances are left out. check_audio: decode
    all audio once instead of trusting headers; slow.

    Raises UserError where there is no data, no audio, or fewer than two composers are left.
    """
    if not data_dir:
        raise UserError(f"MAESTRO needs --data_dir; {WAYS_TO_DATA}")
    assert min_pieces_per_composer >= 1 and min_track_seconds >= 0
    assert max_performances_per_piece is None or max_performances_per_piece >= 1
    table = read_table(Path(data_dir).expanduser())
    credited, skipped = credit(table.performances, double_credits)
    if composers:
        chosen = match_composers(composers, sorted(set(credited.values())))
        credited = {performance: name for performance, name in credited.items() if name in chosen}
    credited, group_of, unnamed = by_composition(credited)
    rows, faults = usable_rows(table, credited, min_track_seconds, check_audio)
    usable = {performance: composer for performance, composer in credited.items() if performance.track in rows}
    kept, left_out = select(usable, group_of, max_performances_per_piece, min_pieces_per_composer)
    labels = tuple(sorted(set(kept.values())))
    dataset = _dataset(kept, rows, labels)
    groups = groups_without_duplicates([group_of[performance.track] for performance in kept], dataset)
    # Made for transcription: not every composer is in every part.
    official = {"official": Given("official", tuple(performance.split for performance in kept))}
    schemes = {**SCHEMES, **(official if table.has_splits else {})}
    skipped = (*table.skipped, *skipped, *unnamed, *faults, *left_out)
    return TrackTable(MAESTRO, dataset, labels, groups, skipped, schemes)


def _dataset(kept: Mapping[Performance, str], rows: Mapping[str, dict], labels: tuple[str, ...]) -> datasets.Dataset:
    features = track_features(labels)
    content = [{**rows[performance.track], "label": labels.index(composer)} for performance, composer in kept.items()]
    columns = {name: [row[name] for row in content] for name in features}
    return datasets.Dataset(pa.table(columns, schema=features.arrow_schema))


def download_archive(cache_dir: str | None = None) -> Path:
    """MAESTRO v3's archive, 101 GB, kept in the cache folder of `datasets` or in cache_dir, checked by its SHA-256.

    It is read in place, not unzipped. Raises UserError where it cannot be had; what has come is kept for the next try.
    """
    folder = Path(cache_dir or datasets.config.HF_DATASETS_CACHE) / "hf_musiclf_maestro"
    return download_file(ARCHIVE_URL, folder / Path(ARCHIVE_URL).name, ARCHIVE_SHA256, "101 GB", "MAESTRO v3.0.0")
