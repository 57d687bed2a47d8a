"""Publish to the Hub what is finished here: a run, an ensemble, or the folder that build_dataset.py made.

    python scripts/push.py runs/demo --hub_model_id my-genres
    python scripts/push.py runs/demo --hub_model_id my-genres --private
    python scripts/push.py runs/ensemble --hub_model_id my-ensemble
    python scripts/push.py runs/demo --hub_model_id my-genres --space
    python scripts/push.py my_gtzan --hub_dataset_id my-gtzan

Needs a token that may write: `hf auth login`, or HF_TOKEN. A model goes up with its extractor, its code where a class
is ours, card, report, predictions and pictures, in one commit; checkpoints and what tells of this machine stay here. An
upload that broke off goes on where it was by the same command. --space writes RUN/space, a page in the browser that
serves the model, and publishes that too; `python RUN/space/start.py` runs it here.
"""

import argparse
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, an ensemble or a data set")
    parser.add_argument("--hub_model_id", metavar="NAME", help="NAME or USER/NAME (default: the folder's name)")
    parser.add_argument("--hub_dataset_id", metavar="NAME", help="the same, for a data set")
    parser.add_argument(
        "--private",
        nargs="?",
        type=_yes_or_no,
        const=True,
        help="True: for you alone (default: as your account has it; True for audio of your own)",
    )
    parser.add_argument("--space", action="store_true", help="a page that serves the model, as a Space of its name")
    parser.add_argument("--space_only", action="store_true", help="write RUN/space alone, and publish nothing")
    parser.add_argument(
        "--space_requirement",
        metavar="REQUIREMENT",
        help="what pip is to install hf-musiclf by in the Space (default: its source is copied there)",
    )
    parser.add_argument(
        "--allow_restricted_audio",
        action="store_true",
        help="publish recordings whose licence restricts it, as those of GTZAN (rights never cleared) and MAESTRO (CC "
        "BY-NC-SA 4.0); you answer for it",
    )
    return parser.parse_args(argv)


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() == "true"


def main(argv=None) -> None:
    args = parse_args(argv)
    from hf_musiclf.errors import UserError
    from hf_musiclf.hub import DATA_FACTS, publish_dataset, publish_run

    with_space = args.space or args.space_only
    if (args.run / DATA_FACTS).is_file():
        if args.hub_model_id or with_space:
            raise UserError(f"{args.run} holds a data set; name it by --hub_dataset_id, without --space")
        where = publish_dataset(args.run, args.hub_dataset_id, args.private, args.allow_restricted_audio)
        print(f"published: {where}")
        return
    if args.hub_dataset_id or args.allow_restricted_audio:
        raise UserError(f"{args.run} holds no data set of scripts/build_dataset.py; name a model by --hub_model_id")
    if args.space_requirement and not with_space:
        raise UserError("space_requirement is for --space; add it, or leave it out")
    if not args.space_only:
        print(f"published: {publish_run(args.run, args.hub_model_id, args.private)}", flush=True)
    if with_space:
        _space(args)


def _space(args: argparse.Namespace) -> None:
    from hf_musiclf.errors import UserError
    from hf_musiclf.hub import finished_run
    from hf_musiclf.hub_access import find_destination
    from hf_musiclf.spaces import publish_space, write_space

    data, name = finished_run(args.run)["data"], args.hub_model_id or args.run.resolve().name
    if args.space_only and "/" not in name:
        raise UserError(f"hub_model_id={name}: name the model as USER/NAME, since the Hub is not asked who you are")
    model = name if args.space_only else find_destination(name).repo_id
    folder = write_space(args.run / "space", model, f"Music {data['task']} of {data['source']}", args.space_requirement)
    print(f"the Space: {folder}; `python {folder / 'start.py'}` runs it here", flush=True)
    if not args.space_only:
        where = publish_space(folder, args.run, model, args.private, requirement=args.space_requirement or "")
        print(f"published: {where}")
        if args.private:
            print("to read a private model, the Space needs a secret HF_TOKEN that may read: set it in its settings")


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(main)
