"""Write the splits of a source as Parquet files with a dataset card.

    python scripts/build_dataset.py gtzan --data_dir GTZAN_FOLDER_OR_ARCHIVE --output my_gtzan
    python scripts/build_dataset.py synthetic --output my_synthetic

`datasets.load_dataset("my_gtzan")` then gives train, validation and test; a recipe takes it by
`--dataset_name my_gtzan --split_scheme given`.
"""

import argparse
import shlex
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="source of tracks: gtzan or synthetic")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--data_dir", help="folder or archive with the audio (default: download, where one can)")
    parser.add_argument("--split_scheme", default="artist", help="artist, random or fault_filtered (default: artist)")
    parser.add_argument("--split_seed", type=int, default=0)
    parser.add_argument("--cache_dir", help="folder for prepared tables (default: that of datasets)")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    from hf_musiclf.arguments import DataArguments
    from hf_musiclf.cards import dataset_card
    from hf_musiclf.data.export import write_parquet
    from hf_musiclf.data.loading import load_tracks
    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_whole

    if args.output.exists():
        raise UserError(f"--output {args.output} exists; name a new folder")
    tracks = load_tracks(
        DataArguments(
            dataset=args.dataset,
            data_dir=args.data_dir,
            split_scheme=args.split_scheme,
            split_seed=args.split_seed,
            cache_dir=args.cache_dir,
        )
    )
    command = shlex.join(["python", "scripts/build_dataset.py", *(sys.argv[1:] if argv is None else argv)])

    def write(folder: Path) -> None:
        files = write_parquet(tracks, folder)
        inside = {split: [path.relative_to(folder).as_posix() for path in paths] for split, paths in files.items()}
        dataset_card(tracks, args.output.name, command, inside).save(folder / "README.md")

    write_whole(args.output, write)
    print(f"{args.output}: {', '.join(f'{split} {len(items)}' for split, items in tracks.splits.items())} tracks")


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(main)
