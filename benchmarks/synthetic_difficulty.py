"""How hard the synthetic corpus is, and how much a random split of it flatters.

    python benchmarks/synthetic_difficulty.py
    python benchmarks/synthetic_difficulty.py --repeats 10 --output synthetic_difficulty.json

Writes the default corpus of hf_musiclf.data.synthetic to a temporary folder, describes each track by the mean and
deviation over time of 20 MFCC, chroma and spectral contrast and by the deviation of the MFCCs' differences, and
cross-validates a support vector machine on the genres in four folds, drawn in two ways:

    random    tracks are dealt out: an artist stands on both sides
    artist    artists are dealt out whole

Accuracies are over all tracks of all repeats; the 95 % interval is a bootstrap over artists. Needs librosa, which
`pip install -e .[dev]` brings.
"""

import csv
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import soundfile
from machine import begin, make_parser, write_figures
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hf_musiclf.data.synthetic import GENRES, RENDERER, write_corpus
from hf_musiclf.intervals import bootstrap_intervals

FOLDS = 4
SPLITS = {"random": StratifiedKFold, "artist": StratifiedGroupKFold}


def track_features(path):
    """One vector for a whole track: `(138,)`."""
    samples, rate = soundfile.read(path, dtype="float32")
    magnitude = np.abs(librosa.stft(samples, n_fft=2048, hop_length=1024))
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=rate)
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=20)
    chroma = librosa.feature.chroma_stft(S=magnitude**2, sr=rate, tuning=0.0)
    contrast = librosa.feature.spectral_contrast(S=magnitude, sr=rate)
    series = (mfcc, chroma, contrast)
    values = [value for rows in series for value in (rows.mean(axis=1), rows.std(axis=1))]
    return np.concatenate([*values, np.diff(mfcc, axis=1).std(axis=1)])


def describe_corpus(folder):
    """Features `(tracks, 138)`, genres `(tracks,)` int, artists `(tracks,)` str of a corpus on disk."""
    with open(folder / "index.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    genres = [row["track"].split(".")[0] for row in rows]
    paths = [folder / "genres" / genre / f"{row['track']}.wav" for genre, row in zip(genres, rows, strict=True)]
    with ProcessPoolExecutor() as pool:
        features = np.array(list(pool.map(track_features, paths, chunksize=8)))
    return features, np.array([GENRES.index(genre) for genre in genres]), np.array([row["artist"] for row in rows])


def evaluate(split, features, genres, artists, repeats):
    """One row of the table: the accuracy of the split and its interval."""
    predicted = np.empty((repeats, len(genres)), int)
    for repeat in range(repeats):
        folds = SPLITS[split](FOLDS, shuffle=True, random_state=repeat)
        for train, test in folds.split(features, genres, artists if split == "artist" else None):
            model = make_pipeline(StandardScaler(), SVC(C=10))
            predicted[repeat, test] = model.fit(features[train], genres[train]).predict(features[test])
    certain = np.eye(len(GENRES))[predicted.ravel()]
    interval = bootstrap_intervals(certain, np.tile(genres, repeats), np.tile(artists, repeats))["accuracy"]
    return {"split": split, "accuracy": float((predicted == genres).mean()), "interval": [float(x) for x in interval]}


def main(argv=None):
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of the corpus")
    parser.add_argument("--repeats", type=int, default=3, help="times the folds are drawn anew")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        features, genres, artists = describe_corpus(write_corpus(Path(folder) / "corpus", seed=args.seed))
    machine = begin(args, "numpy", "librosa", "scikit-learn") | {"renderer": RENDERER}
    print(f"{len(genres)} tracks of {len(set(artists))} artists, {FOLDS} folds, {args.repeats} times")
    print("split   accuracy  95 % interval")
    rows = []
    for split in SPLITS:
        rows.append(evaluate(split, features, genres, artists, args.repeats))
        low, high = rows[-1]["interval"]
        print(f"{split:8}{rows[-1]['accuracy']:7.1%}  {low:.1%} to {high:.1%}", flush=True)
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
