"""MAESTRO at small size: its table, and noise or chords for its audio."""

import csv
import io

import soundfile
from conftest import noise


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
