"""Cross-validate a recipe: every track of known group is predicted once, by a model that heard nothing of that group.

    python scripts/cross_validate.py recipes/efficientat_gtzan.py --folds 5 --data_dir my_gtzan
    python scripts/cross_validate.py recipes/clap_maestro.py --folds 5 --data_dir my_maestro --output_dir runs/cv
    accelerate launch --num_processes 2 scripts/cross_validate.py recipes/ast_gtzan.py --folds 10 --split_scheme artist

All other flags are the recipe's. Every fold is drawn before the first one trains. Each is a run of its own in
OUTPUT_DIR/fold_N, N from 1; the same command again goes on at the fold, and in it at the checkpoint, where it stopped.
OUTPUT_DIR then holds one report with bootstrap intervals over groups and the spread over folds, every prediction, and
pictures. Tracks of unknown group are trained on and never tested; the report counts them.
"""

import argparse
import functools
import importlib.util
import shlex
import sys
from pathlib import Path


def load_recipe(path: Path):
    """The module of a recipe. Raises UserError where the file is none."""
    from hf_musiclf.errors import UserError

    if not path.is_file():
        near = ", ".join(str(other) for other in sorted(Path(__file__).parents[1].glob("recipes/*.py")))
        raise UserError(f"{path} is no file; the recipes are {near}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not (hasattr(module, "main") and hasattr(module, "DEFAULTS")):
        raise UserError(f"{path} is no recipe: it lacks main or DEFAULTS")
    return module


def main(argv=None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipe", type=Path, help="a file of recipes/")
    parser.add_argument("--folds", type=int, default=5, help="number of folds (default: 5)")
    parser.add_argument("--output_dir", type=Path, help="folder for all folds (default: runs/RECIPE_cv)")
    args, flags = parser.parse_known_args(argv)

    from hf_musiclf.arguments import parse_recipe
    from hf_musiclf.crossvalidation import check_folder, combine_folds, describe_folds, plan_folds, run_folds
    from hf_musiclf.errors import UserError
    from hf_musiclf.launching import without_paths
    from hf_musiclf.runs import launcher_words

    if args.folds < 2:
        raise UserError(f"folds={args.folds} must be 2 or more")
    for flag in ("--fold", "--resume_from_checkpoint"):
        if any(word.partition("=")[0] == flag for word in flags):
            raise UserError(f"{flag} would be the same for every fold; leave it out")
    recipe = load_recipe(args.recipe)
    folder = args.output_dir or Path("runs") / f"{args.recipe.stem}_cv"
    check_folder(folder)
    parse = functools.partial(parse_recipe, recipe.DEFAULTS)
    training_args = parse(flags)[2]
    if training_args.push_to_hub:
        raise UserError(
            f"push_to_hub would publish every fold; leave it out, and publish one: scripts/push.py {folder}/fold_1"
        )
    is_main = training_args.process_index == 0

    def run_fold(words):
        ours, sys.argv = sys.argv, [str(args.recipe), *words]  # from which a run knows its command
        try:
            return recipe.main(words)
        finally:
            sys.argv = ours

    plan = plan_folds(parse, flags, args.folds, folder)
    reports = run_folds(run_fold, plan, verbose=is_main)
    if not is_main:
        return {}
    words = without_paths(sys.argv[1:] if argv is None else argv)
    command = shlex.join([*launcher_words(training_args), "scripts/cross_validate.py", *words])
    report = combine_folds(plan, reports, folder, command)
    print(describe_folds(report))
    print(f"report.json, predictions.csv and pictures: {folder}")
    return report


if __name__ == "__main__":
    from hf_musiclf.launching import run_script

    run_script(main)
