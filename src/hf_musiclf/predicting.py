"""Many tracks, one after the other: a table, lines of JSON, a CSV, pictures; what fails is told and left out."""

import csv
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from tqdm import tqdm

from hf_musiclf.audio_readers import AudioError
from hf_musiclf.ensembles import Ensemble, EnsembleScores, open_classifier
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_whole
from hf_musiclf.inference import TrackClassifier, TrackScores
from hf_musiclf.models.music_pipeline import is_url
from hf_musiclf.plot_style import save
from hf_musiclf.timeline import plot_timeline

WIDEST_NAME = 48  # characters of a track's name in the table; of longer ones the end is shown

Scores = TrackScores | EnsembleScores


def predict(args: Namespace, tracks: Sequence[str]) -> int:
    """What `scripts/predict.py` was asked for, on standard output; 1 if some track failed, else 0.

    args: of that script. tracks: paths and URLs. Raises UserError for what is wrong before a track is heard.
    """
    tracks = list(dict.fromkeys(tracks))
    _check(args, tracks)
    pictures = picture_paths(args.timeline, tracks) if args.timeline else {}
    classify = open_models(
        [args.model, *args.others], find_device(args.device), args.batch_size, args.trust_remote_code
    )
    table, said, failed = Table(tracks, classify.labels, args.top_k), {}, 0
    if not args.json:
        print(table.head(), flush=True)
    for track, scores in hear(classify, tracks, args.hop_seconds):
        if isinstance(scores, Exception):
            tqdm.write(f"error: {scores}", file=sys.stderr)
        else:
            said[track] = scores
            failed += not _draw(track, scores, pictures[track]) if pictures else 0
        if args.json:
            tqdm.write(json.dumps(as_json(track, scores, args.top_k), ensure_ascii=False), file=sys.stdout)
        elif track in said:
            tqdm.write(table.row(track, scores), file=sys.stdout)
        sys.stdout.flush()
    if args.csv:
        write_csv(args.csv, classify.labels, said)
    return 0 if len(said) == len(tracks) and not failed else 1


def _draw(track: str, scores: Scores, path: Path) -> bool:
    """The picture of a track, read once more for it; False where that fails, which is told: the scores stand."""
    try:
        save(plot_timeline(track, scores, name_of(track)), path)
    except AudioError as error:
        tqdm.write(f"error: no picture: {error}", file=sys.stderr)
        return False
    return True


def hear(
    classify: TrackClassifier | Ensemble, tracks: Sequence[str], hop_seconds: float | None = None
) -> Iterator[tuple[str, Scores | Exception]]:
    """Each track with its scores, or with the error that tells why it has none. A bar on standard error."""
    for track in tqdm(tracks, desc="Classifying", unit="track", disable=len(tracks) < 2, file=sys.stderr):
        try:
            yield track, classify(track, hop_seconds)
        except AudioError as error:
            yield track, error
        except UserError:
            raise
        except ValueError as error:  # of features, for a track that is too short for this model
            yield track, AudioError(f"{name_of(track)}: {error}; leave it out")


def open_models(
    names: Sequence[str], device: str, batch_size: int | None = None, trust_remote_code: bool = False
) -> TrackClassifier | Ensemble:
    """A saved model or ensemble; of several models their mean. Raises UserError where their labels differ."""
    opened = [open_classifier(name, device, batch_size, trust_remote_code) for name in names]
    if len(opened) == 1:
        return opened[0]
    for name, classify in zip(names, opened, strict=True):
        if isinstance(classify, Ensemble):
            raise UserError(f"{name} is an ensemble; name its members instead")
    return Ensemble(opened)


class Table:
    """Columns for the terminal: the track, its most probable labels, its windows and its length."""

    def __init__(self, tracks: Sequence[str], labels: Sequence[str], top_k: int):
        self.name_width = min(WIDEST_NAME, max(len(_shown(track)) for track in tracks))
        self.label_width, self.top_k = max(8, *map(len, labels)), min(top_k, len(labels))

    def head(self) -> str:
        told = ["most probable", "then", *[""] * self.top_k][: self.top_k]
        columns = "  ".join(f"{word:{self.label_width + 5}}" for word in told)
        return f"{'track':{self.name_width}}  {columns}  windows   length"

    def row(self, track: str, scores: Scores) -> str:
        cells = "  ".join(f"{label:{self.label_width}} {score:.2f}" for label, score in scores.top(self.top_k))
        name = _shown(track)
        name = name if len(name) <= self.name_width else f"…{name[1 - self.name_width :]}"
        return f"{name:{self.name_width}}  {cells}  {scores.n_windows:7} {clock(scores.duration_seconds):>8}"


def as_json(track: str, scores: Scores | Exception, top_k: int) -> dict[str, Any]:
    """A line of JSON: what a track is, or why it has no scores."""
    if isinstance(scores, Exception):
        return {"track": _shown(track), "error": str(scores)}
    ranked = [{"label": label, "score": round(score, 6)} for label, score in scores.top(top_k)]
    seconds = round(scores.duration_seconds, 3)
    return {"track": _shown(track), "scores": ranked, "windows": scores.n_windows, "seconds": seconds}


def write_csv(path: Path, labels: Sequence[str], said: dict[str, Scores]) -> None:
    """A row a track: its name, its label, its seconds and windows, then the probability of every label."""

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["track", "label", "seconds", "windows", *labels])
            for track, scores in said.items():
                about = [scores.top(1)[0][0], f"{scores.duration_seconds:.3f}", scores.n_windows]
                rows.writerow([_shown(track), *about, *(f"{value:.6f}" for value in scores.probabilities)])

    write_whole(path, write)


def picture_paths(place: Path, tracks: Sequence[str]) -> dict[str, Path]:
    """Where each track's picture goes: the .png for the only track, or a file in a folder.

    Tracks of one name are numbered. Raises UserError for one .png and several tracks.

    >>> {track: path.as_posix() for track, path in picture_paths(Path("out"), ["a/x.wav", "b/x.wav", "y.mp3"]).items()}
    {'a/x.wav': 'out/x.1.png', 'b/x.wav': 'out/x.2.png', 'y.mp3': 'out/y.png'}
    """
    if place.suffix == ".png":
        if len(tracks) > 1:
            raise UserError(f"timeline={place} is one picture for {len(tracks)} tracks; name a folder")
        return {tracks[0]: place}
    stems = [PurePosixPath(name_of(track)).stem for track in tracks]
    numbers, counts, paths = Counter(), Counter(stems), {}
    for track, stem in zip(tracks, stems, strict=True):
        numbers[stem] += 1
        paths[track] = place / (f"{stem}.{numbers[stem]}.png" if counts[stem] > 1 else f"{stem}.png")
    return paths


def name_of(track: str) -> str:
    """The file's name of a path or URL."""
    return unquote(PurePosixPath(urlsplit(track).path).name) if is_url(track) else Path(track).name


def clock(seconds: float) -> str:
    """
    >>> clock(18.2), clock(3725)
    ('0:18', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _shown(track: str) -> str:
    """A URL without what stands behind its ?, where there may be a secret."""
    return track.partition("?")[0] if is_url(track) else track


def _check(args: Namespace, tracks: Sequence[str]) -> None:
    if not tracks:
        raise UserError(f"{args.tracks[0]} holds no audio file; name files, folders that hold some, or URLs")
    for name in ("top_k", "batch_size"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"{name}={getattr(args, name)} must be 1 or more")
    if args.csv and args.csv.is_dir():
        raise UserError(f"csv={args.csv} is a folder; name a file")
    if args.timeline and args.timeline.suffix != ".png" and args.timeline.is_file():
        raise UserError(f"timeline={args.timeline} is a file; name a .png or a folder")


def find_device(asked: str | None) -> str:
    """The device that was asked for, or None: a GPU where there is one. Raises UserError where it is not here."""
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device={asked} is not here; pass cpu, or leave it out") from error
    return asked
