"""A synthetic music corpus in GTZAN's layout, for demos and tests that need music but no download.

Ten genres differ as genres do: tempo, swing, drums, harmony, instruments, density, balance. Artists have habits (keys,
tempo, patterns, instruments, equaliser, room, hiss), so that a random split leaks them as it does in GTZAN. Some
artists and tracks borrow from a neighbouring genre, so that no classifier should be perfect. Of the default corpus, an
SVM on statistics of MFCC, chroma and spectral contrast gets 90.1 % of the tracks right (95 % interval 87.1 % to 92.8 %)
in four random folds, and 82.4 % (78.4 % to 86.3 %) in four folds that keep artists whole:

    python benchmarks/synthetic_difficulty.py

`styles` holds the tables, `score` writes the songs, `sound` plays them; imports point from the last to the first.

    >>> render_track("blues", artist=3, track=0, seconds=2.0).shape
    (44100,)
"""

from __future__ import annotations

import csv
import json
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from hf_musiclf.data.synthetic.score import compose, stream
from hf_musiclf.data.synthetic.sound import Player, master
from hf_musiclf.data.synthetic.styles import GENRES, LOWEST
from hf_musiclf.errors import UserError
from hf_musiclf.launching import available_cores

__all__ = ["GENRES", "RENDERER", "compose", "render_track", "write_corpus"]

RENDERER = 2  # raise it when samples or defaults change: it keys the cache, and older corpora on disk are refused


def render_track(
    genre: str, artist: int, track: int, seconds: float = 15.0, sampling_rate: int = 22050, seed: int = 0
) -> np.ndarray:
    """An excerpt of a track: `(time,)` float32 in [-1, 1], the same samples for the same arguments.

    genre: one of `GENRES`. artist, track, seed: 0 or more. sampling_rate: Hz. Raises ValueError for another genre, a
    negative number, less than 0.1 s, or a rate below 8000 Hz, at which the cymbals would vanish.
    """
    if seconds < 0.1 or sampling_rate < 8000:
        raise ValueError(f"seconds={seconds}, sampling_rate={sampling_rate}: needs at least 0.1 s and 8000 Hz")
    song, n = compose(genre, artist, track, seed), round(seconds * sampling_rate)
    rng = stream(seed, genre, artist, track, use=1)
    player, mix = Player(song, n, sampling_rate, rng), np.zeros(n)
    for role, balance, gain in zip(("drums", *LOWEST), song.style.balance, song.habits.gains, strict=True):
        bus = player.drums() if role == "drums" else player.part(role)
        mix += balance * 10 ** (gain / 20) * bus / (bus.std() + 1e-9)
    return master(mix, song, sampling_rate, rng)


def write_corpus(
    folder: str | Path, tracks_per_artist: int = 2, artists_per_genre: int = 20, seconds: float = 15.0,
    sampling_rate: int = 22050, seed: int = 0,
) -> Path:  # fmt: skip
    """Write the corpus as GTZAN lies on disk and return its folder; one that is already there is returned as it is.

    Makes `genres/<genre>/<genre>.NNNNN.wav` (16-bit PCM mono of `seconds` s at `sampling_rate` Hz), `index.csv` with
    the columns track, artist and title, and `corpus.json` with the parameters. The folder appears complete or not at
    all, also when several processes ask for it at once. Raises ValueError if it exists as anything else.
    """
    folder = Path(folder)
    parameters = {"tracks_per_artist": tracks_per_artist, "artists_per_genre": artists_per_genre, "seconds": seconds,
                  "sampling_rate": sampling_rate, "seed": seed, "renderer": RENDERER}  # fmt: skip
    if min(tracks_per_artist, artists_per_genre) < 1:
        raise ValueError(f"{tracks_per_artist=}, {artists_per_genre=}: at least one of each is needed")
    plan = {f"genres/{genre}/{genre}.{number:05d}.wav": (genre, *divmod(number, tracks_per_artist))
            for genre in GENRES for number in range(artists_per_genre * tracks_per_artist)}  # fmt: skip
    if folder.exists():
        return _checked(folder, parameters, plan)
    building = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        _write(building, parameters, plan)
        building.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        _checked(folder, parameters, plan)  # another process was first
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _checked(folder: Path, parameters: dict, plan: dict) -> Path:
    try:
        found = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{folder} exists and is no synthetic corpus; pass a folder that does not exist yet") from None
    if found != parameters:
        raise UserError(f"{folder} holds the synthetic corpus of {found}, not {parameters}; delete it or pass another")
    if missing := [path for path in plan if not (folder / path).is_file()]:
        raise UserError(f"{folder} has lost {len(missing)} of its {len(plan)} tracks, as {missing[0]}; delete it")
    return folder


def _write(folder: Path, parameters: dict, plan: dict) -> None:
    rate, seed = parameters["sampling_rate"], parameters["seed"]
    for genre in GENRES:
        (folder / "genres" / genre).mkdir(parents=True)

    def write_track(path: str) -> None:
        samples = render_track(*plan[path], parameters["seconds"], rate, seed)
        soundfile.write(folder / path, samples, rate, subtype="PCM_16")

    # Threads: NumPy releases the interpreter in its long loops, and a process pool would re-import the caller's script
    with ThreadPoolExecutor(available_cores()) as pool:
        list(tqdm(pool.map(write_track, plan), total=len(plan), desc="Rendering synthetic music", unit="track"))
    with open(folder / "index.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["track", "artist", "title"])
        for path, (genre, artist, track) in plan.items():
            key, name = compose(genre, artist, track, seed).key, Path(path).stem
            title = f"{genre.title()} in {key}, no. {artist * parameters['tracks_per_artist'] + track}"
            table.writerow([name, f"Synthetic {genre} {artist}", title])
    (folder / "corpus.json").write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")
