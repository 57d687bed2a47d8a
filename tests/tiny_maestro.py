"""MAESTRO at small size: its table, and noise or chords for its audio."""

import csv
import io
import zipfile

import soundfile
from conftest import noise

from hf_musiclf.splits import SPLITS

SHORT = {"min_track_seconds": 0.1}  # for half a second of noise


def as_csv(records, encoding="utf-8-sig"):
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, list(records[0]))
    rows.writeheader()
    rows.writerows(records)
    return text.getvalue().encode(encoding)


def row(composer, title, number, split="train", duration=0.5):
    name = f"2004/{composer.split()[-1]}_{number}.wav"
    names = ("canonical_composer", "canonical_title", "split", "audio_filename", "duration")
    return dict(zip(names, (composer, title, split, name, str(duration)), strict=True))


def write_maestro(folder, rows, seconds=0.5):
    """The table and every file it names, each other noise; returns the folder as a string."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "maestro-v3.0.0.csv").write_bytes(as_csv(rows))
    for number, entry in enumerate(rows):
        path = folder / entry["audio_filename"]
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(seconds, 8000, number), 8000)
    return str(folder)


def three_composers():
    """Ten studies each of Chopin and Liszt, two performances of each; two of Berg; and two of a double credit."""
    rows = [
        row(composer, f"Etude Op. 10 No. {number}", f"{number}{take}", SPLITS[number % 3])
        for composer in ("Frédéric Chopin", "Franz Liszt")
        for number in range(1, 11)
        for take in "ab"
    ]
    rows += [row("Alban Berg", "Sonata Op. 1", "a"), row("Alban Berg", "Four Songs, Op. 2", "b")]
    return rows + [row("Franz Schubert / Franz Liszt", "Erlkoenig", number) for number in range(2)]


def reasons(table):
    """Track -> why it was left out."""
    return {entry["track"]: entry["reason"] for entry in table.skipped}


def packed(path, contents, compression=zipfile.ZIP_STORED):
    """`contents`, name -> bytes, in a zip archive."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def laid_out(path, contents, form):
    """`contents`, name -> bytes, in a folder or a zip archive."""
    if form != "folder":
        return packed(path.with_suffix(".zip"), contents, getattr(zipfile, form))
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
