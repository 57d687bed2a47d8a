"""Render one track to listen to.

python -m hf_musiclf.data.synthetic reggae reggae.wav
python -m hf_musiclf.data.synthetic jazz jazz.wav --artist 3 --track 1 --seconds 30
"""

import argparse
from pathlib import Path

import soundfile

from hf_musiclf.data.synthetic import GENRES, render_track
from hf_musiclf.files import write_whole

SAMPLING_RATE = 22_050


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genre", choices=GENRES)
    parser.add_argument("output", type=Path, help="WAV file to write")
    parser.add_argument(
        "--artist", type=int, default=999, help="number of the artist (default: 999, not in the corpus)"
    )
    parser.add_argument("--track", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    waveform = render_track(args.genre, args.artist, args.track, args.seconds, SAMPLING_RATE)
    write_whole(args.output, lambda beside: soundfile.write(beside, waveform, SAMPLING_RATE, format="WAV"))
    print(f"{args.output}: {args.seconds:g} s of {args.genre}")


if __name__ == "__main__":
    main()
