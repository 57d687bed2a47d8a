"""GTZAN: 1,000 excerpts of 30 s in ten genres (Tzanetakis and Cook 2002), from a folder, its archive, or the Hub.

`gtzan_index.csv` holds facts on the excerpts: artist and title after B. L. Sturm, "An Analysis of the GTZAN Music Genre
Dataset", MIRUM 2012, and the fault-filtered split of Kereliuk, Sturm and Larsen, "Deep Learning and Music Adversaries",
IEEE Transactions on Multimedia 17(11), 2015. `scripts/build_gtzan_index.py` makes it.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from pathlib import Path

import datasets
import numpy as np

from hf_musiclf.data.artists import artist_groups
from hf_musiclf.data.gtzan_files import GENRES, WAYS_TO_DATA, find_files, folder_fingerprint, read_archive
from hf_musiclf.data.schemes import RANDOM, Stratified
from hf_musiclf.data.tracks import (
    Source,
    TrackTable,
    decoded_batches,
    decoder_identity,
    groups_without_duplicates,
    readable_rows,
    track_features,
)
from hf_musiclf.errors import UserError
from hf_musiclf.files import FULL_DISK_ERRNOS, file_digest
from hf_musiclf.reach import hub_is_out_of_reach
from hf_musiclf.splits import SPLITS

# jazz.00054, which the published split lists, cannot be decoded in most copies of GTZAN.
MAX_MISSING_OF_PUBLISHED = 1

HUB_ID = "marsyas/gtzan"
HUB_FILE = "data/genres.tar.gz"
HUB_MD5 = "5b3d6dddb579ab49814ab86dba69e7c7"

GTZAN = Source(
    name="GTZAN",
    task="genre",
    group_word="artist",
    licence="none stated: the recordings are commercial and their rights were never cleared; for research only",
    citation="G. Tzanetakis and P. Cook, Musical Genre Classification of Audio Signals, IEEE Transactions on Speech "
    "and Audio Processing 10(5), 2002",
    hub_id=HUB_ID,
    restriction="commercial recordings whose rights were never cleared",
)
BY_ARTIST = Stratified(
    "artist",
    "artist",
    instead="use --split_scheme random (artists are then shared, and the leakage report says how many)",
)


def load_gtzan(
    data_dir: str | None = None, cache_dir: str | None = None, index_path: Path | None = None, source: Source = GTZAN
) -> TrackTable:
    """The table of GTZAN's tracks.

    data_dir: a folder in any of GTZAN's layouts, or the archive; None downloads the archive from the Hub. cache_dir:
    where the prepared table is kept. index_path: CSV with track, artist, title (and fault_filtered) of a corpus other
    than GTZAN. Raises UserError where there is no data, a genre is missing or nothing can be decoded.
    """
    path = Path(data_dir).expanduser() if data_dir else download_archive()
    if not path.exists():
        raise UserError(f"data_dir={data_dir} does not exist; {WAYS_TO_DATA}")
    index = read_index(index_path)
    rows, skipped = readable_rows(_prepared(path, index, cache_dir))
    # Sorted, so that a folder and an archive of any order give the same split.
    rows = rows.select(np.argsort(rows["track"][:]))
    if not len(rows):
        raise UserError(
            f"data_dir={path}: none of its {len(skipped)} audio files can be decoded: {skipped[0]['reason']}"
        )
    groups = groups_without_duplicates(artist_groups(rows["artist"][:]), rows)
    schemes = {"artist": BY_ARTIST, "random": RANDOM}
    if any(facts["fault_filtered"] for facts in index.values()):
        schemes["fault_filtered"] = _split_fault_filtered
    return TrackTable(source, rows, GENRES, groups, skipped, schemes)


def _prepared(path: Path, index: Mapping[str, Mapping[str, str | None]], cache_dir: str | None) -> datasets.Dataset:
    """Every track of a folder or an archive, decoded once; from the cache if nothing has changed since."""
    if path.is_dir():
        fingerprint = folder_fingerprint(find_files(path))
    else:
        fingerprint = f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
    builder = GtzanBuilder(
        cache_dir=cache_dir,
        source_path=str(path.resolve()),
        fingerprint=fingerprint,
        decoder=decoder_identity(),
        index=index,
    )
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, (UserError, OSError)):
            raise error.__cause__ from error
        raise
    return builder.as_dataset(split="tracks")


def read_index(path: Path | None = None) -> dict[str, dict[str, str | None]]:
    """Facts on each excerpt: `{"blues.00000": {"artist", "title", "fault_filtered"}}`, None where unknown."""
    source = path or package_files("hf_musiclf.data") / "gtzan_index.csv"
    with source.open(encoding="utf-8", newline="") as file:
        return {
            row["track"]: {key: row.get(key) or None for key in ("artist", "title", "fault_filtered")}
            for row in csv.DictReader(file)
        }


def _split_fault_filtered(table: TrackTable, seed: int) -> dict[str, np.ndarray]:
    """The published split: the seed changes nothing. Raises UserError where a part of it is missing."""
    split_of_track = {track: facts["fault_filtered"] for track, facts in read_index().items()}
    split_of = np.array([split_of_track.get(track) or "" for track in table.column("track")])
    splits = {split: np.flatnonzero(split_of == split) for split in SPLITS}
    listed = {split: list(split_of_track.values()).count(split) for split in SPLITS}
    missing = sum(listed.values()) - sum(len(items) for items in splits.values())
    if missing > MAX_MISSING_OF_PUBLISHED:
        held = ", ".join(f"{len(splits[split])} of {listed[split]} {split}" for split in SPLITS)
        raise UserError(
            f"split_scheme=fault_filtered: the data hold {held} tracks; the published split needs all of GTZAN: use "
            "--split_scheme random or artist"
        )
    return splits


@dataclass
class GtzanConfig(datasets.BuilderConfig):
    """source_path: folder or archive. fingerprint: of their content. decoder: see `decoder_identity`.

    A change of any of these makes a new table.
    """

    source_path: str = ""
    fingerprint: str = ""
    decoder: str = ""
    index: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)


class GtzanBuilder(datasets.ArrowBasedBuilder):
    """Table of GTZAN's tracks in one split, "tracks": a folder's audio stays where it is, an archive's is inside."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = GtzanConfig

    def _info(self):
        return datasets.DatasetInfo(features=track_features(GENRES), citation=GTZAN.citation)

    def _split_generators(self, dl_manager):
        return [datasets.SplitGenerator(name="tracks", gen_kwargs={"path": Path(self.config.source_path)})]

    def _generate_tables(self, path: Path):
        if path.is_dir():
            found = ((track, genre, {"path": str(file), "bytes": None}) for track, genre, file in find_files(path))
        else:
            found = read_archive(path)
        rows = (
            {
                "track": track,
                "label": GENRES.index(genre),
                "audio": audio,
                "artist": self.config.index.get(track, {}).get("artist"),
                "title": self.config.index.get(track, {}).get("title"),
            }
            for track, genre, audio in found
        )
        yield from enumerate(decoded_batches(rows, self.info.features))


def download_archive() -> Path:
    """GTZAN's archive from the Hub, 1.2 GB, kept in the Hub's cache, checked by its MD5.

    Raises UserError where it cannot be had or is another file, OSError where the disk is full.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    local = hub_is_out_of_reach()
    try:
        path = Path(huggingface_hub.hf_hub_download(HUB_ID, HUB_FILE, repo_type="dataset", local_files_only=local))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) in FULL_DISK_ERRNOS:  # no fault of the data, so not told as one
            raise
        reason = "the Hub cannot be reached" if local else type(error).__name__
        raise UserError(f"GTZAN cannot be downloaded from {HUB_ID} ({reason}); {WAYS_TO_DATA}") from error
    digest = file_digest(path, "md5")
    if digest != HUB_MD5:
        raise UserError(f"{path} has MD5 {digest}, GTZAN's archive has {HUB_MD5}; delete it and try again")
    return path
