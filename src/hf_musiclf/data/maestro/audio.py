"""Audio of MAESTRO's performances: which files are there and sound, told from their headers, or by decoding them."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_STORED

from tqdm import tqdm

from hf_musiclf.audio import AudioInfo, audio_info, read_audio
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.data.maestro.files import WAYS_TO_DATA, Archive, Folder, MaestroTable, Performance
from hf_musiclf.data.tracks import decoded_row
from hf_musiclf.errors import UserError
from hf_musiclf.launching import available_cores
from hf_musiclf.zip_members import is_member_path, member_info, split_member_path

# What people turn 100 GB of WAV into; tried in this order where the file that the table names is not there.
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# The table's duration is that of the MIDI, which is aligned with the audio to about 3 ms (Hawthorne et al., section 3);
# codecs add or take a tenth of a second. A second less than promised is a file that was cut short.
SHORTER_SECONDS = 1.0
# Formats whose header at the beginning says how long the file should be, not how long it is: the end is decoded to see
# that it is there. WAV's size is compared with the file's, and the length of an Ogg is that of its last page.
PROBED_FORMATS = ("FLAC", "MP3")
PROBE_SECONDS = 0.1


def find_audio(files: Folder | Archive, audio_filename: str) -> str | None:
    """Name within the corpus of the file that the table names, or of the same in another format; None: not there."""
    named = PurePosixPath(audio_filename)
    others = (str(named.with_suffix(suffix)) for suffix in SUFFIXES)
    return next((name for name in (audio_filename, *others) if files.locate(name)), None)


def header_and_fingerprint(files: Folder | Archive, name: str) -> tuple[AudioInfo, str]:
    """Length and rate from the header, and a name for the file's content that an exact copy shares.

    Nothing is decoded but the last tenth of a second of `PROBED_FORMATS`; of a deflated member of an archive, which
    would be inflated as a whole, nothing at all. Raises AudioError as `audio_info` does, or where the end of a
    file is missing, and UserError where an archive's member is damaged.
    """
    path = files.locate(name)
    info = audio_info(path)
    stored = not is_member_path(path) or member_info(path).compress_type == ZIP_STORED
    if info.format in PROBED_FORMATS and stored:
        try:
            read_audio(path, start_seconds=max(0.0, info.duration_seconds - PROBE_SECONDS))
        except AudioError as error:
            told = f"is cut short or damaged, the end of its {info.duration_seconds:.2f} s cannot be decoded"
            raise AudioError(f"{_shown_name(path)}: {told}; fetch it again") from error
    return info, files.fingerprint(name)


def _shown_name(path: str) -> str:
    """How errors of audio begin: with the last two parts of the file's name."""
    return "/".join(Path(split_member_path(path)[0] if is_member_path(path) else path).parts[-2:])


def _without_name(reason: str, path: str) -> str:
    """The reason alone, since the track's name stands before it."""
    if is_member_path(path):
        reason = reason.removeprefix(f"{_shown_name(path)} in {Path(split_member_path(path)[1]).name}: ")
    return reason.removeprefix(f"{_shown_name(path)}: ")


def usable_rows(
    table: MaestroTable, credited: Iterable[Performance], min_track_seconds: float, check_audio: bool
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """Track -> its row of `tracks.track_features`, without label; and track and reason of what has no usable audio.

    Lengths and rates are of the headers, audio_hash is of the file; with check_audio both are of the decoded samples.
    Raises UserError where not one file is there, or can be used.
    """
    names = {performance: find_audio(table.files, performance.audio_filename) for performance in credited}
    there = {performance: name for performance, name in names.items() if name}
    if not there and names:
        first = next(iter(names)).audio_filename
        raise UserError(f"{table.name}: none of its {len(names)} audio files is there, such as {first}; {WAYS_TO_DATA}")
    rows, faults = {}, []
    found = _decoded(table, there) if check_audio else _read_headers(table, there)
    for performance, row in zip(there, found, strict=True):
        path = row["audio"]["path"]
        fault = (
            _without_name(row["error"], path)
            if row["error"]
            else _fault(row["duration"], performance.duration_seconds, min_track_seconds)
        )
        if fault:
            faults.append({"track": performance.track, "reason": fault})
        else:
            rows[performance.track] = row
    if not rows and faults:
        raise UserError(f"{table.name}: none of its {len(there)} audio files can be used: {faults[0]['reason']}")
    missing = [
        {"track": performance.track, "reason": f"its audio file {performance.audio_filename} is not there"}
        for performance, name in names.items()
        if not name
    ]
    return rows, missing + faults


def _fault(lasts: float, promised: float, min_track_seconds: float) -> str | None:
    if lasts < promised - SHORTER_SECONDS:
        return f"is cut short, lasts {lasts:.2f} of {promised:.2f} s; fetch it again"
    if lasts < min_track_seconds:
        return f"lasts {lasts:.2f} s, less than min_track_seconds={min_track_seconds}"
    return None


def _file(table: MaestroTable, performance: Performance, name: str) -> dict[str, Any]:
    audio = {"path": table.files.locate(name), "bytes": None}
    artist = performance.composer
    return {"track": performance.track, "audio": audio, "artist": artist, "title": performance.title, "label": None}


def _read_headers(table: MaestroTable, names: Mapping[Performance, str]) -> list[dict[str, Any]]:
    def row(item: tuple[Performance, str]) -> dict[str, Any]:
        file = _file(table, *item)
        try:
            info, fingerprint = header_and_fingerprint(table.files, item[1])
        except (UserError, OSError) as error:
            return {**file, "duration": None, "sampling_rate": None, "audio_hash": None, "error": str(error)}
        found = {"duration": info.duration_seconds, "sampling_rate": info.sampling_rate, "audio_hash": fingerprint}
        return {**file, **found, "error": None}

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        rows = pool.map(row, names.items())
        return list(tqdm(rows, total=len(names), desc="Reading headers", unit="file", disable=None))


def _decoded(table: MaestroTable, names: Mapping[Performance, str]) -> list[dict[str, Any]]:
    files = [_file(table, *item) for item in names.items()]
    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        rows = pool.map(decoded_row, files)
        return list(tqdm(rows, total=len(files), desc="Decoding audio", unit="file", disable=None))
