"""Classify whole tracks with a model that a recipe saved, or with an ensemble of them.

    python scripts/predict.py runs/demo song.mp3 another.wav
    python scripts/predict.py runs/demo music/ --top_k 5
    python scripts/predict.py runs/ensemble music/           # what scripts/ensemble.py left

A folder is searched for audio files. A file that cannot be read is told, the others go on, and the exit code is 1.
"""

import argparse
import sys
from pathlib import Path

AUDIO_SUFFIXES = {".wav", ".au", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".wma"}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of a saved model, or the folder of an ensemble")
    parser.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    parser.add_argument("--top_k", type=int, default=3, help="labels shown for each track (default: 3)")
    parser.add_argument("--hop_seconds", type=float, help="between window starts (default: the model's window)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: a GPU where there is one)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that a model brings along")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    import torch
    from tqdm import tqdm

    from hf_musiclf.audio_readers import AudioError
    from hf_musiclf.ensembles import open_classifier
    from hf_musiclf.errors import UserError

    files = [file for path in args.paths for file in _audio_files(path)]
    if not files:
        raise UserError(f"{args.paths[0]} holds no audio file")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    classify = open_classifier(args.model, device, trust_remote_code=args.trust_remote_code)
    failed = 0
    for file in tqdm(files, desc="Classifying", unit="track", disable=len(files) < 10):
        try:
            scores = classify(file, args.hop_seconds)
        except AudioError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        shown = ", ".join(f"{label} {probability:.2f}" for label, probability in scores.top(args.top_k))
        print(f"{file}: {shown}  ({scores.n_windows} windows)")
    return 1 if failed else 0


def _audio_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES and file.name[0] != ".")


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(lambda: sys.exit(main()))
