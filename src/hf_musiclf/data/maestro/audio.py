"""Audio of MAESTRO's performances: which files are there and sound, told from their headers, or by decoding them."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from tqdm import tqdm

from hf_musiclf.audio import AudioInfo, audio_info
from hf_musiclf.data.maestro.files import WAYS_TO_DATA, Archive, Folder, MaestroTable, Performance
from hf_musiclf.data.tracks import decoded_batches, track_features
from hf_musiclf.errors import UserError

# What people turn 100 GB of WAV into; tried in this order where the file that the table names is not there.
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# The table's duration is that of the MIDI, which is aligned with the audio to about 3 ms (Hawthorne et al., section 3);
# codecs add or take a tenth of a second. A second less than promised is a file that was cut short.
SHORTER_SECONDS = 1.0


def find_audio(files: Folder | Archive, audio_filename: str) -> str | None:
    """Name within the corpus of the file that the table names, or of the same in another format; None: not there."""
    named = PurePosixPath(audio_filename)
    others = (str(named.with_suffix(suffix)) for suffix in SUFFIXES)
    return next((name for name in (audio_filename, *others) if files.locate(name)), None)


def header_and_fingerprint(files: Folder | Archive, name: str) -> tuple[AudioInfo, str]:
    """Length and rate from the header, and a name for the file's content that an exact copy shares; no decoding.

    Raises AudioError as `audio_info` does, and UserError where an archive's member is damaged.
    """
    return audio_info(files.locate(name)), files.fingerprint(name)


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
        fault = row["error"] or _fault(row["duration"], performance.duration_seconds, min_track_seconds)
        if fault:
            faults.append({"track": performance.track, "reason": fault})
        else:
            rows[performance.track] = row
    if not rows and faults:
        raise UserError(f"{table.name}: none of its {len(there)} audio files can be used: {faults[0]['reason']}")
    missing = [
        {"track": performance.track, "reason": f"{performance.audio_filename}: no such file"}
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

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows = pool.map(row, names.items())
        return list(tqdm(rows, total=len(names), desc="Reading headers", unit="file", disable=None))


def _decoded(table: MaestroTable, names: Mapping[Performance, str]) -> list[dict[str, Any]]:
    files = (_file(table, *item) for item in names.items())
    with tqdm(total=len(names), desc="Decoding audio", unit="file", disable=None) as progress:
        rows = []
        for batch in decoded_batches(files, track_features(["none yet"])):
            rows += batch.to_pylist()
            progress.update(len(batch))
    return rows
