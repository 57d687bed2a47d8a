"""From data arguments to splits of tracks and of windows."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_musiclf.arguments import DataArguments
from hf_musiclf.balancing import oversampled
from hf_musiclf.data import gtzan, maestro, synthetic
from hf_musiclf.data.folder import load_folder
from hf_musiclf.data.hub import load_hub_dataset
from hf_musiclf.data.tracks import FILE_HASH, Source, Tracks, TrackTable, split_tracks
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows
from hf_musiclf.errors import UserError
from hf_musiclf.leakage import format_leakage
from hf_musiclf.windows import seconds_to_samples

SHOWN_SKIPS = 5
MAESTRO_FLAGS = (
    "download", "check_audio", "composers", "min_pieces_per_composer", "max_performances_per_piece", "double_credits",
    "min_track_seconds",
)  # fmt: skip

SYNTHETIC = Source(
    name="synthetic corpus",
    task="genre",
    group_word="artist",
    licence="Apache-2.0: rendered by this repository, free of any recording",
    citation="hf_musiclf.data.synthetic",
    licence_id="apache-2.0",
)


def _gtzan(args: DataArguments) -> TrackTable:
    return gtzan.load_gtzan(args.data_dir, args.cache_dir)


def _maestro(args: DataArguments) -> TrackTable:
    data_dir = args.data_dir
    if args.download and not data_dir:
        data_dir = str(maestro.download_archive(args.cache_dir))
    return maestro.load_maestro(
        data_dir,
        composers=args.composers,
        max_performances_per_piece=args.max_performances_per_piece or None,
        min_pieces_per_composer=args.min_pieces_per_composer,
        double_credits=args.double_credits,
        min_track_seconds=args.min_track_seconds,
        check_audio=args.check_audio,
    )


def _synthetic(args: DataArguments) -> TrackTable:
    """The synthetic corpus, written once, or one that `write_corpus` left in data_dir; read by GTZAN's loader."""
    if args.data_dir:
        folder = Path(args.data_dir)
        if not (folder / "index.csv").is_file():
            raise UserError(f"data_dir={folder} holds no synthetic corpus; leave --data_dir away to have one made")
    else:
        # A change of the renderer is a new corpus.
        name = f"hf_musiclf_synthetic_{synthetic.RENDERER}"
        folder = Path(args.cache_dir or datasets.config.HF_DATASETS_CACHE) / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        synthetic.write_corpus(folder)
    return gtzan.load_gtzan(str(folder), args.cache_dir, folder / "index.csv", SYNTHETIC)


def _folder(args: DataArguments) -> TrackTable:
    return load_folder(args.data_dir, args.cache_dir, args.label_column, args.group_column)


SOURCES = {"gtzan": _gtzan, "maestro": _maestro, "folder": _folder, "synthetic": _synthetic}


def load_tracks(args: DataArguments, verbose: bool = True) -> Tracks:
    """The splits of tracks that the arguments ask for; prints what was skipped, the counts and the leakage report.

    verbose: False on all processes but the first. Raises UserError for an unknown source or split scheme, and for data
    that cannot be had or cannot bear the scheme.
    """
    _refuse_flags_of_maestro(args)
    if args.dataset_name:
        table = load_hub_dataset(
            args.dataset_name, args.audio_column, args.label_column, args.group_column, args.cache_dir
        )
    elif args.dataset in SOURCES:
        table = SOURCES[args.dataset](args)
    else:
        near = difflib.get_close_matches(args.dataset, SOURCES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(SOURCES)}"
        raise UserError(f"dataset={args.dataset!r} is not known; {hint}")
    scheme = args.split_scheme or next(iter(table.schemes))
    if scheme not in table.schemes:
        raise UserError(
            f"split_scheme={args.split_scheme!r} is not known for {table.source.name}; choose from "
            f"{', '.join(table.schemes)}"
        )
    tracks = split_tracks(table, scheme, args.split_seed, args.folds, args.fold)
    if verbose:
        print(describe_tracks(tracks), flush=True)
    return tracks


def _refuse_flags_of_maestro(args: DataArguments) -> None:
    """A flag that would change nothing is a mistake, and is told."""
    if args.dataset == "maestro" and not args.dataset_name:
        if args.download and args.data_dir:
            raise UserError(f"download and data_dir={args.data_dir} contradict each other; leave one out")
        return
    default = {field.name: field.default for field in fields(DataArguments)}
    for name in MAESTRO_FLAGS:
        if getattr(args, name) != default[name]:
            source = args.dataset_name or args.dataset
            raise UserError(f"{name}={getattr(args, name)} is for --dataset maestro, not for {source}; leave it out")


def describe_tracks(tracks: Tracks) -> str:
    """Counts, skipped files and leakage as lines of text."""
    source, skipped = tracks.table.source, tracks.table.skipped
    lines = [f"{source.name}: {len(tracks.table)} tracks, {len(tracks.labels)} labels", *_left_out(skipped)]
    if any(found.startswith(FILE_HASH) for found in tracks.table.column("audio_hash")):
        lines.append("only headers were read: --check_audio True decodes every file once and leaves damaged ones out")
    lines.append(f"split scheme {tracks.split_scheme}, seed {tracks.split_seed}:")
    for split, counts in tracks.counts().items():
        lines.append(
            f"  {split}: {counts['tracks']} tracks, {counts['groups']} known {source.group_word}s, {counts['hours']} h"
        )
    lines.append("leakage:")
    lines += ["  " + line for line in format_leakage(tracks.leakage, source.group_word).splitlines()]
    return "\n".join(lines)


def _left_out(skipped: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is left out: first what stands for many tracks, then single ones as far as there is room."""
    total = sum(entry.get("count", 1) for entry in skipped)
    lines = [f"warning: {total} track{'s are' if total != 1 else ' is'} left out:"] if total else []
    many = [entry for entry in skipped if "count" in entry]
    single = [entry for entry in skipped if "count" not in entry]
    lines += [f"  {entry['track']}: {entry['reason']}" for entry in [*many, *single[:SHOWN_SKIPS]]]
    if len(single) > SHOWN_SKIPS:
        lines.append(f"  ... and {len(single) - SHOWN_SKIPS} more tracks, see report.json")
    return lines


def cut_windows(
    tracks: Tracks, args: DataArguments, sampling_rate: int, seed: int = 0
) -> dict[str, EvaluationWindows | RandomWindows]:
    """Windows of every split: training ones as `train_windows` and `balance` say, evaluation ones at the hop.

    sampling_rate: the model's, in Hz. seed: of the random training windows.
    """
    window = seconds_to_samples(args.window_seconds, sampling_rate)
    hop = seconds_to_samples(args.eval_hop_seconds or args.window_seconds, sampling_rate)
    windows = {}
    labels = np.asarray(tracks.table.column("label"))
    for split, items in tracks.splits.items():
        if split == "train" and args.balance == "oversample":
            items = oversampled(items, labels[items], seed, args.balance_power)
        if split == "train" and args.train_windows == "random":
            per_track = args.windows_per_track
            windows[split] = RandomWindows(tracks.table, items, sampling_rate, window, seed, per_track)
        else:
            windows[split] = EvaluationWindows(tracks.table, items, sampling_rate, window, hop)
    return windows
