"""Write the splits of a source as Parquet files with a dataset card, and publish them if asked to.

    python scripts/build_dataset.py gtzan --data_dir GTZAN_FOLDER_OR_ARCHIVE --output my_gtzan
    python scripts/build_dataset.py maestro --data_dir MAESTRO_FOLDER_OR_ZIP --output my_maestro
    python scripts/build_dataset.py folder --data_dir my_music --output my_splits
    python scripts/build_dataset.py synthetic --output my_synthetic
    python scripts/build_dataset.py gtzan --output my_gtzan --push_to_hub --hub_dataset_id gtzan-by-artist
    python scripts/build_dataset.py folder --data_dir my_music --output my_splits --push_to_hub --private False

`datasets.load_dataset("my_gtzan")` then gives train, validation and test; a recipe takes it by
`--dataset_name my_gtzan --split_scheme given`. All flags that a recipe has for its data are understood.

What is published is OUTPUT, in one commit. Of recordings whose licence restricts it, GTZAN's (rights never cleared),
MAESTRO's (CC BY-NC-SA 4.0) and those of a data set of the Hub, that is the table of the splits alone, unless
--allow_restricted_audio says otherwise. Music of your own goes up with its audio, and is private unless you say
--private False.
"""

import shlex
import sys
from dataclasses import replace
from pathlib import Path


def add_own(parser) -> None:
    from transformers.hf_argparser import string_to_bool

    parser.add_argument("source", nargs="?", help="gtzan, maestro, folder or synthetic; none with --dataset_name")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--push_to_hub", nargs="?", type=string_to_bool, const=True, default=False, help="publish it")
    parser.add_argument("--hub_dataset_id", metavar="NAME", help="NAME or USER/NAME (default: the folder's name)")
    parser.add_argument(
        "--private",
        nargs="?",
        type=string_to_bool,
        const=True,
        help="True: for you alone (default: as your account has it; True for audio of your own)",
    )
    parser.add_argument(
        "--allow_restricted_audio",
        nargs="?",
        type=string_to_bool,
        const=True,
        default=False,
        help="publish recordings whose licence restricts it: GTZAN's rights were never cleared, MAESTRO is CC BY-NC-SA "
        "4.0; you answer for it",
    )


def main(argv=None) -> None:
    from hf_musiclf.arguments import parse_data
    from hf_musiclf.cards import dataset_card
    from hf_musiclf.data.export import write_parquet, write_tables
    from hf_musiclf.data.loading import load_tracks
    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_json, write_whole
    from hf_musiclf.hub import DATA_FACTS, dataset_facts, publish_dataset
    from hf_musiclf.hub_access import find_destination
    from hf_musiclf.launching import without_paths

    argv = sys.argv[1:] if argv is None else argv
    data_args, args = parse_data(argv, __doc__, add_own)
    if sum([bool(args.source), bool(args.dataset_name), "--dataset" in argv]) != 1:
        raise UserError("name one source: gtzan, maestro, folder or synthetic; or a data set by --dataset_name")
    for name in ("hub_dataset_id", "private", "allow_restricted_audio"):
        if getattr(args, name) and not args.push_to_hub:
            raise UserError(f"{name}={getattr(args, name)} publishes nothing without --push_to_hub; add it")
    if args.output.exists():
        again = f"; `python scripts/push.py {args.output}` publishes it" if args.push_to_hub else ""
        raise UserError(f"--output {args.output} exists; name a new folder{again}")
    if args.push_to_hub:  # before anything is decoded
        find_destination(args.hub_dataset_id or args.output.name, args.private, repo_type="dataset")
    tracks = load_tracks(replace(data_args, dataset=args.source or args.dataset))
    restriction = tracks.table.source.restriction
    audio = not (args.push_to_hub and restriction and not args.allow_restricted_audio)
    if args.push_to_hub and restriction:
        kept = "the audio goes up, as you said" if audio else "the audio stays here, only the table of splits goes up"
        print(f"warning: {tracks.table.source.name}: {restriction}; {kept}", flush=True)
    command = shlex.join(without_paths(["python", "scripts/build_dataset.py", *argv]))

    def write(folder: Path) -> None:
        files = (write_parquet if audio else write_tables)(tracks, folder)
        inside = {split: [path.relative_to(folder).as_posix() for path in paths] for split, paths in files.items()}
        dataset_card(tracks, args.output.name, command, inside, audio).save(folder / "README.md")
        write_json(folder / DATA_FACTS, dataset_facts(tracks, audio))

    write_whole(args.output, write)
    print(f"{args.output}: {', '.join(f'{split} {len(items)}' for split, items in tracks.splits.items())} tracks")
    if args.push_to_hub:
        where = publish_dataset(args.output, args.hub_dataset_id, args.private, args.allow_restricted_audio)
        print(f"published: {where}")


if __name__ == "__main__":
    from hf_musiclf.launching import run_script

    run_script(main)
