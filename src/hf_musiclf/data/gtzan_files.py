"""GTZAN's excerpts in a folder of any of its layouts, or in its archive, which is read from front to end."""

import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from hf_musiclf.errors import UserError

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
AUDIO_SUFFIXES = (".wav", ".au", ".flac", ".mp3", ".ogg", ".opus")
# An excerpt has 1.3 MB; a member a hundred times as large is no excerpt and would only fill the memory.
MAX_MEMBER_BYTES = 130_000_000
WAYS_TO_DATA = (
    "three ways to data: --data_dir with a folder of genre folders, --data_dir with genres.tar.gz, or --dataset "
    "synthetic, which needs no download"
)


def _track_and_genre(path: PurePosixPath) -> tuple[str, str] | None:
    """`blues/blues.00000.wav` -> ("blues.00000", "blues"); None for what is no excerpt of a genre."""
    if path.name.startswith("._") or path.suffix.lower() not in AUDIO_SUFFIXES or path.parent.name not in GENRES:
        return None
    return path.stem, path.parent.name


def find_files(folder: Path) -> list[tuple[str, str, Path]]:
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


def read_archive(path: Path) -> Iterator[tuple[str, str, dict]]:
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


def folder_fingerprint(found: list[tuple[str, str, Path]]) -> str:
    digest = hashlib.sha256()
    for track, _, file in found:
        status = file.stat()
        digest.update(f"{track} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
