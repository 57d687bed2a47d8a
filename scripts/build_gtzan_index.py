"""Make src/hf_musiclf/data/gtzan_index.csv from its published sources.

    python scripts/build_gtzan_index.py --index GTZANindex.txt --filtered FOLDER

GTZANindex.txt (`file ::: artist ::: title`): B. L. Sturm, "An Analysis of the GTZAN Music Genre Dataset", MIRUM 2012.
FOLDER holds train_filtered.txt, valid_filtered.txt and test_filtered.txt: C. Kereliuk, B. L. Sturm and J. Larsen, "Deep
Learning and Music Adversaries", IEEE Transactions on Multimedia 17(11), 2015.
"""

import argparse
import csv
from pathlib import Path

FILTERED_FILES = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}


def read_index(path: Path) -> dict[str, tuple[str, str]]:
    """`{"blues.00000": (artist, title)}`, empty strings where unknown."""
    tracks = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("##") or not line.strip():
            continue
        file, artist, title = (" ".join(part.split()) for part in line.split(":::"))
        tracks[file.removesuffix(".wav")] = (artist, title)
    return tracks


def read_filtered(folder: Path) -> dict[str, str]:
    """`{"blues.00012": "test"}`."""
    return {
        Path(line.strip()).stem: split
        for split, name in FILTERED_FILES.items()
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
        if line.strip()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True, help="Sturm's GTZANindex.txt")
    parser.add_argument("--filtered", type=Path, required=True, help="folder of the three *_filtered.txt")
    parser.add_argument("--output", type=Path, default=Path("src/hf_musiclf/data/gtzan_index.csv"))
    args = parser.parse_args()
    tracks, filtered = read_index(args.index), read_filtered(args.filtered)
    with args.output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["track", "artist", "title", "fault_filtered"])
        writer.writerows([track, *tracks[track], filtered.get(track, "")] for track in sorted(tracks))
    print(
        f"{args.output}: {len(tracks)} tracks, {sum(track in filtered for track in tracks)} of them in a filtered split"
    )


if __name__ == "__main__":
    main()
