"""Compare finished runs, cross-validations or ensembles, tested on the same tracks: one page of figures and pictures.

    python scripts/compare.py runs/ast runs/efficientat
    python scripts/compare.py runs/a runs/b runs/c --baseline runs/a --names small medium large --output_dir runs/sizes

OUTPUT_DIR gets comparison.html, which is one file to open or to send, comparison.md and its pictures/. Scores are the
reports' own; differences are paired, with intervals over groups. Runs of other test tracks are refused.
"""

import argparse
import shlex
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="RUN",
        help="one of them, with which all others are compared (default: all pairs; of more than four, the first)",
    )
    parser.add_argument("--names", nargs="+", help="what to call the runs, in their order (default: their folders)")
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("runs/comparison"),
        help="folder for the page (default: runs/comparison)",
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    from hf_musiclf.comparison.page import describe, write_comparison
    from hf_musiclf.comparison.runs import read_runs
    from hf_musiclf.comparison.tables import compare_runs
    from hf_musiclf.errors import UserError
    from hf_musiclf.launching import without_paths

    if args.baseline is not None and args.baseline not in args.runs:
        raise UserError(f"baseline={args.baseline} is none of the runs; name one of {', '.join(map(str, args.runs))}")
    baseline = None if args.baseline is None else args.runs.index(args.baseline)
    comparison = compare_runs(read_runs(args.runs, args.names), baseline)
    words = without_paths(sys.argv[1:] if argv is None else argv)
    pages = write_comparison(comparison, args.output_dir, shlex.join(["python", "scripts/compare.py", *words]))
    print(describe(comparison))
    print(*pages, sep="\n")
    return comparison


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(main)
