"""Write the splits of a source as Parquet files with a dataset card.

    python scripts/build_dataset.py gtzan --data_dir GTZAN_FOLDER_OR_ARCHIVE --output my_gtzan
    python scripts/build_dataset.py maestro --data_dir MAESTRO_FOLDER_OR_ZIP --output my_maestro
    python scripts/build_dataset.py folder --data_dir my_music --output my_splits
    python scripts/build_dataset.py synthetic --output my_synthetic

`datasets.load_dataset("my_gtzan")` then gives train, validation and test; a recipe takes it by
`--dataset_name my_gtzan --split_scheme given`. All flags that a recipe has for its data are understood.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path


def main(argv=None) -> None:
    from hf_musiclf.arguments import parse_data
    from hf_musiclf.cards import dataset_card
    from hf_musiclf.data.export import write_parquet
    from hf_musiclf.data.loading import load_tracks
    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_whole
    from hf_musiclf.launching import without_paths

    def own(parser):
        parser.add_argument("source", nargs="?", help="gtzan, maestro, folder or synthetic; none with --dataset_name")
        parser.add_argument("--output", type=Path, required=True, help="folder to make")

    argv = sys.argv[1:] if argv is None else argv
    data_args, args = parse_data(argv, __doc__, own)
    if sum([bool(args.source), bool(args.dataset_name), "--dataset" in argv]) != 1:
        raise UserError("name one source: gtzan, maestro, folder or synthetic; or a data set by --dataset_name")
    if args.output.exists():
        raise UserError(f"--output {args.output} exists; name a new folder")
    tracks = load_tracks(replace(data_args, dataset=args.source or args.dataset))
    command = shlex.join(without_paths(["python", "scripts/build_dataset.py", *argv]))

    def write(folder: Path) -> None:
        files = write_parquet(tracks, folder)
        inside = {split: [path.relative_to(folder).as_posix() for path in paths] for split, paths in files.items()}
        dataset_card(tracks, args.output.name, command, inside).save(folder / "README.md")

    write_whole(args.output, write)
    print(f"{args.output}: {', '.join(f'{split} {len(items)}' for split, items in tracks.splits.items())} tracks")


if __name__ == "__main__":
    from hf_musiclf.launching import run_script

    run_script(main)
