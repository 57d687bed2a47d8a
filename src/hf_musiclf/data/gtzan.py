"""GTZAN: 1,000 excerpts of 30 s in ten genres (Tzanetakis and Cook 2002), from a folder, its archive, or the Hub.

`gtzan_index.csv` holds facts on the excerpts: artist and title after B. L. Sturm, "An Analysis of the GTZAN Music Genre
Dataset", MIRUM 2012, and the fault-filtered split of Kereliuk, Sturm and Larsen, "Deep Learning and Music Adversaries",
IEEE Transactions on Multimedia 17(11), 2015. `scripts/build_gtzan_index.py` makes it.
"""

import csv
import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import datasets
import numpy as np

from hf_musiclf.data.artists import artist_groups
from hf_musiclf.data.tracks import (
    FULL_DISK_ERRNOS,
    GroupScheme,
    Source,
    TrackTable,
    decoded_batches,
    decoder_identity,
    groups_without_duplicates,
    random_scheme,
    readable_rows,
    track_features,
)
from hf_musiclf.errors import UserError
from hf_musiclf.reach import hub_is_out_of_reach
from hf_musiclf.splits import SPLITS

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
AUDIO_SUFFIXES = (".wav", ".au", ".flac", ".mp3", ".ogg", ".opus")
# An excerpt has 1.3 MB; a member a hundred times as large is no excerpt and would only fill the memory.
MAX_MEMBER_BYTES = 130_000_000

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
)
WAYS_TO_DATA = (
    "three ways to data: --data_dir with a folder of genre folders, --data_dir with genres.tar.gz, or --dataset "
    "synthetic, which needs no download"
)
BY_ARTIST = GroupScheme(
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
    schemes = {"artist": BY_ARTIST, "random": random_scheme}
    if any(facts["fault_filtered"] for facts in index.values()):
        schemes["fault_filtered"] = _split_fault_filtered
    return TrackTable(source, rows, GENRES, groups, skipped, schemes)


def _prepared(path: Path, index: Mapping[str, Mapping[str, str | None]], cache_dir: str | None) -> datasets.Dataset:
    """Every track of a folder or an archive, decoded once; from the cache if nothing has changed since."""
    if path.is_dir():
        fingerprint = _folder_fingerprint(_find_files(path))
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


# Split schemes


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


# Files


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
            found = ((track, genre, {"path": str(file), "bytes": None}) for track, genre, file in _find_files(path))
        else:
            found = _read_archive(path)
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


def _track_and_genre(path: PurePosixPath) -> tuple[str, str] | None:
    """`blues/blues.00000.wav` -> ("blues.00000", "blues"); None for what is no excerpt of a genre."""
    if path.name.startswith("._") or path.suffix.lower() not in AUDIO_SUFFIXES or path.parent.name not in GENRES:
        return None
    return path.stem, path.parent.name


def _find_files(folder: Path) -> list[tuple[str, str, Path]]:
    """`(track, genre, file)` of every excerpt, sorted. Raises UserError where a genre has none."""
    roots = [folder / "genres_original", folder / "genres", folder]
    root = next((root for root in roots if any((root / genre).is_dir() for genre in GENRES)), None)
    if root is None:
        inside = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise UserError(f"data_dir={folder} holds no genre folder such as blues/ (it holds {inside}); {WAYS_TO_DATA}")
    found = []
    for genre in GENRES:
        for file in sorted((root / genre).glob("*")):
            if _track_and_genre(PurePosixPath(file.as_posix())) and file.is_file():
                found.append((file.stem, genre, file))
    _check_complete(found, root)
    return found


def _read_archive(path: Path) -> Iterator[tuple[str, str, dict]]:
    """`(track, genre, audio)` of every excerpt, read once from front to end; nothing is written to disk."""
    found = []
    try:
        with _opened(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                _check_member(member, path)
                named = _track_and_genre(PurePosixPath(member.name))
                if named is None or not member.isfile():
                    continue
                found.append((*named, member.name))
                yield (
                    *named,
                    {"path": f"{named[0]}{PurePosixPath(member.name).suffix}", "bytes": _read(archive, member)},
                )
            _check_end(archive)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise UserError(
            f"data_dir={path} is not a whole tar archive ({' '.join(str(error).split()) or type(error).__name__}); "
            "download it again, or pass the unpacked folder"
        ) from error
    _check_complete(found, path)


def _opened(path: Path) -> BinaryIO:
    """The archive's bytes, unpacked where it is a .gz: gzip checks the sum, which tarfile's own reader does not."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if gzipped else path.open("rb")


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse an archive whose members end before it does: tarfile takes a damaged header, or none, for the end.

    Two blocks of 512 zeros end an archive (POSIX.1-2017, pax); tarfile has read the first.
    """
    rest = archive.fileobj.read(512)
    if not rest:
        raise tarfile.ReadError("it ends without an end mark")
    while rest:
        if any(rest):
            raise tarfile.ReadError(f"its headers are damaged after {archive.offset} bytes")
        rest = archive.fileobj.read(1 << 20)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member).read()
    if len(content) < member.size:
        raise tarfile.ReadError(f"{member.name} ends early")
    return content


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    """Refuse an archive that could write or read outside of itself: it is not GTZAN's."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(
            f"data_dir={path}: member {member.name!r} points outside the archive; this is not GTZAN's archive"
        )
    if not (member.isfile() or member.isdir()):
        raise UserError(f"data_dir={path}: member {member.name!r} is a link or a device; this is not GTZAN's archive")
    if member.size > MAX_MEMBER_BYTES:
        raise UserError(
            f"data_dir={path}: member {member.name!r} has {member.size} bytes; no GTZAN excerpt has so many"
        )


def _check_complete(found: list[tuple], where: Path) -> None:
    missing = [genre for genre in GENRES if genre not in {genre for _, genre, _ in found}]
    if missing:
        raise UserError(
            f"data_dir={where} has audio of {len(GENRES) - len(missing)} of GTZAN's {len(GENRES)} genres; "
            f"missing: {', '.join(missing)}"
        )
    twice = [track for track, count in Counter(track for track, _, _ in found).items() if count > 1]
    if twice:
        raise UserError(f"data_dir={where} holds {twice[0]} twice, in two formats or two genres; keep one")


def _folder_fingerprint(found: list[tuple[str, str, Path]]) -> str:
    digest = hashlib.sha256()
    for track, _, file in found:
        status = file.stat()
        digest.update(f"{track} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


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
        if getattr(error, "errno", None) in FULL_DISK_ERRNOS:
            raise
        reason = "the Hub cannot be reached" if local else type(error).__name__
        raise UserError(f"GTZAN cannot be downloaded from {HUB_ID} ({reason}); {WAYS_TO_DATA}") from error
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != HUB_MD5:
        raise UserError(f"{path} has MD5 {digest.hexdigest()}, GTZAN's archive has {HUB_MD5}; delete it and try again")
    return path
