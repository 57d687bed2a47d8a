"""Classify whole tracks with a model that a recipe saved, or with several as one.

    python scripts/predict.py runs/demo song.mp3 music/ --top_k 5
    python scripts/predict.py runs/demo https://example.org/song.ogg --timeline song.png
    python scripts/predict.py runs/ast music/ --with runs/efficientat --with runs/cnn --csv music.csv
    python scripts/predict.py NAME/OF-THE-HUB music/ --json > music.jsonl

A folder is searched for audio files. What cannot be read is told on standard error, the others go on, and the exit
code is 1. `runs/ensemble`, which scripts/ensemble.py left, is a model as any other.
"""

import argparse
import sys
from pathlib import Path

AUDIO_SUFFIXES = {".wav", ".au", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".wma"}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a saved model, or the folder of an ensemble")
    parser.add_argument("tracks", nargs="+", metavar="FILE_OR_FOLDER", help="audio files, folders of them, URLs")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], metavar="MODEL",
        help="another model of the same labels: the mean of all is told (may be given several times)",
    )  # fmt: skip
    parser.add_argument("--top_k", type=int, default=3, help="labels shown for each track (default: 3)")
    parser.add_argument("--json", action="store_true", help="a line of JSON a track on standard output, no table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the probabilities of all labels, a row a track")
    parser.add_argument(
        "--timeline", type=Path, metavar="PNG_OR_FOLDER",
        help="draw spectrogram and probabilities over time: a .png for one track, for several a folder",
    )  # fmt: skip
    parser.add_argument("--hop_seconds", type=float, help="between window starts (default: as in its evaluation)")
    parser.add_argument(
        "--batch_size", type=int, help="windows that a model hears at once (default: 4 on a CPU, 16 on a GPU)"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: a GPU where there is one)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that a model brings along")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    from hf_musiclf.predicting import predict

    return predict(args, [track for place in args.tracks for track in _tracks_of(place)])


def _tracks_of(place: str) -> list[str]:
    """The audio files of a folder; a file or URL as it is."""
    if place.startswith(("http://", "https://")) or not Path(place).is_dir():
        return [place]
    found = (file for file in Path(place).rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())
    return [str(file) for file in sorted(found) if file.name[0] != "."]


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(lambda: sys.exit(main()))
