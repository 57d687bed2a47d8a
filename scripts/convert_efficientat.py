"""Turn a published EfficientAT checkpoint into a Transformers folder, or such a folder back.

    python scripts/convert_efficientat.py mn10_as_mAP_471.pt --output mn10_as --labels class_labels_indices.csv
    python scripts/convert_efficientat.py mn10_as --to_original mn10_as.pt

Files are those of https://github.com/fschmid56/EfficientAT/releases; code in them is not run.
"""

import argparse
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", type=Path, help="original .pt file; with --to_original, a folder")
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--output", type=Path, help="folder to write, in Transformers' format; must not be there")
    goal.add_argument("--to_original", type=Path, metavar="FILE", help=".pt file to write; must not be there")
    parser.add_argument("--labels", type=Path, help="csv of label names, columns index and display_name")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    from hf_musiclf.errors import UserError

    target = args.output or args.to_original
    if target.exists():
        raise UserError(f"{target} is there already; remove it, or write elsewhere")
    if args.to_original and args.labels:
        raise UserError("--labels goes with --output: an original file has no names of labels; leave it out")
    print(_to_original(args.model, target) if args.to_original else _to_transformers(args.model, target, args.labels))


def _to_transformers(path: Path, folder: Path, labels: Path | None) -> str:
    from hf_musiclf.labels import label_mappings
    from hf_musiclf.models.efficientat_checkpoints import load_original
    from hf_musiclf.models.efficientat_folders import read_label_names, save_folder

    config, state_dict = load_original(path)
    if labels:
        config.label2id, config.id2label = label_mappings(read_label_names(labels, config.num_labels))
    save_folder(config, state_dict, folder)
    return f"{folder}: EfficientAT of width {config.width_mult}, {config.num_labels} labels"


def _to_original(folder: Path, file: Path) -> str:
    import torch

    from hf_musiclf.errors import UserError
    from hf_musiclf.files import write_whole
    from hf_musiclf.models.efficientat_checkpoints import to_original
    from hf_musiclf.models.efficientat_folders import load_folder

    model = load_folder(folder)
    if model.config.head_type != "projection":
        raise UserError(f"{folder} has a head of type {model.config.head_type!r}, which an original file cannot hold")
    state_dict = to_original(model.state_dict())
    write_whole(file, lambda beside: torch.save(state_dict, beside))
    return f"{file}: {len(state_dict)} entries"


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(main)
