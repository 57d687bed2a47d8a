"""Average several saved models into one: tested where all were held out, saved as a folder that predicts.

    python scripts/ensemble.py runs/ast runs/efficientat --output_dir runs/ensemble
    python scripts/ensemble.py runs/ast runs/efficientat --weights fit --output_dir runs/fitted
    python scripts/ensemble.py runs/cv_ast runs/cv_efficientat --output_dir runs/cv_ensemble
    python scripts/predict.py runs/ensemble song.mp3

The probabilities are those of the runs' predictions.csv, and no audio is read. Models that left none, as those of the
Hub may, hear the tracks: then pass the data flags of the recipe, by which the same split is drawn. Models whose test
tracks differ are refused, as what one is tested on the other may have been trained on. Folders of
scripts/cross_validate.py are averaged fold by fold and evaluated; no model is saved of them.
"""

import functools
import shlex
import sys
from pathlib import Path


def add_own(parser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a run, Hub id, or folder of a cross-validation"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--weights",
        default="equal",
        help="equal (default); fit: those with the least log loss on validation alone, where the models were chosen "
        "too: with few tracks they follow chance, and equal ones may do as well on test; or numbers, one a model: 2,1",
    )
    parser.add_argument("--link", action="store_true", help="name the models instead of copying them into the folder")
    parser.add_argument("--bootstrap_resamples", type=int, default=2000, help="of the intervals (default: 2000)")
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda, mps: for models that hear the tracks (default: cpu)"
    )
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that a model brings along")


def main(argv=None) -> dict:
    from hf_musiclf.arguments import parse_data

    argv = sys.argv[1:] if argv is None else argv
    data_args, args = parse_data(argv, __doc__, add_own)

    from hf_musiclf.ensembles.cards import describe
    from hf_musiclf.ensembles.report import evaluate, write_ensemble
    from hf_musiclf.ensembles.runs import find_runs, gather, load_as_asked, names_to_tell, parse_weights
    from hf_musiclf.errors import UserError
    from hf_musiclf.inference import TrackClassifier
    from hf_musiclf.launching import without_paths
    from hf_musiclf.mixtures import make_mixture

    if args.output_dir.exists():
        raise UserError(f"output_dir={args.output_dir} exists; name a new folder")
    if args.bootstrap_resamples < 100:
        raise UserError(f"bootstrap_resamples={args.bootstrap_resamples} is too few for an interval; use 100 or more")
    weights = parse_weights(args.weights)
    load = functools.partial(load_as_asked, data_args)
    open_model = functools.partial(TrackClassifier, device=args.device, trust_remote_code=args.trust_remote_code)
    parts = [gather(members, load, open_model) for members in find_runs(args.runs)]
    mixtures = [make_mixture([member.name for member in part.members], part.predictions, weights) for part in parts]
    command = shlex.join(without_paths(["python", "scripts/ensemble.py", *argv]))
    report = evaluate(mixtures, parts, names_to_tell(args.runs), args.weights, command, args.bootstrap_resamples)
    copied = write_ensemble(args.output_dir, report, mixtures, parts, args.link)
    print(describe(report))
    kept = "no model is saved of folds" if len(mixtures) > 1 else f"{copied / 1e6:.1f} MB of models copied"
    print(f"report.json, predictions.csv, card and pictures: {args.output_dir}; {kept}")
    return report


if __name__ == "__main__":
    from hf_musiclf.launching import run_script

    run_script(main)
