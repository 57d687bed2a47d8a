"""A page in the browser that classifies music: drop a file or record, and see the scores over time.

    python scripts/app.py --model runs/demo
    python scripts/app.py --model runs/ast --model runs/ensemble --max_minutes 30
    python scripts/app.py --model runs/demo --examples music/ --host 0.0.0.0 --port 8000

Needs Gradio: pip install ".[app]". Nothing is fetched from elsewhere, and nothing that is dropped is kept. Without
--host only this machine sees the page. As a Space it takes its models from the variable HF_MUSICLF_MODEL, with commas
between them.
"""

import argparse
import os
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        action="append",
        metavar="RUN_OR_ID",
        help="folder or Hub id of a saved model, or the folder of an ensemble; several times: the page lets one choose "
        "(default: HF_MUSICLF_MODEL of the environment)",
    )
    parser.add_argument("--examples", type=Path, metavar="FOLDER", help="clips to try (default: synthetic music)")
    parser.add_argument("--max_minutes", type=float, default=15.0, help="of music in a file (default: 15)")
    parser.add_argument(
        "--max_megabytes", type=float, default=100.0, help="of a file, 1 MB: 2**20 bytes (default: 100)"
    )
    parser.add_argument(
        "--host",
        help="address to serve at; 0.0.0.0: all of this machine's. Browsers give the microphone to localhost and https "
        "only (default: GRADIO_SERVER_NAME, or 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, help="(default: GRADIO_SERVER_PORT, or the first free one from 7860 on)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: a GPU where there is one)")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the code that a model brings along")
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    from hf_musiclf.app import Limits, serve
    from hf_musiclf.predicting import find_device

    named = os.environ.get("HF_MUSICLF_MODEL", "").split(",")
    serve(
        args.model or [model.strip() for model in named if model.strip()],
        Limits(args.max_minutes, args.max_megabytes),
        args.examples,
        args.host,
        args.port,
        find_device(args.device),
        args.trust_remote_code,
    )


if __name__ == "__main__":
    if "-h" in sys.argv or "--help" in sys.argv:
        parse_args()
    from hf_musiclf.launching import run_script

    run_script(main)
