"""What it costs to classify whole tracks: our batched pipeline against the stock one called a window at a time.

    python benchmarks/whole_tracks.py
    python benchmarks/whole_tracks.py --threads 1 --short_tracks 20 --output whole_tracks.json
    python benchmarks/whole_tracks.py --models runs/demo --minutes

    classifier   hf_musiclf.inference.TrackClassifier, as scripts/predict.py has it
    pipeline     `pipeline("music-classification")`, given all paths
    stock        `pipeline("audio-classification")` called for every window, of which the mean is taken; the file is
                 read by soundfile and brought to the model's rate by soxr, whole
    batched      the same, but given all windows of a track at once, with `batch_size`

All score the same windows of the same files, a long one at 44.1 kHz stereo and a folder of short ones at 22,050 Hz
mono, both 16-bit WAV of noisy tones, from disk to probabilities; models are loaded before. They take turns, after a
first window each that is not counted. Times are medians over the repetitions, a ratio is the median of the repetitions'
own and should be 2 or more over `stock`; the difference is the largest of the probabilities from the stock pipeline's.

Memory is the peak resident set of a fresh process that scores one track of so many minutes, less that of one that
scores a track of one window. `ast` is the demo's AST (0.8 M parameters, 5.12 s), `efficientat` mn10 (4 M, 10 s), both
from random weights; other names are folders of saved models. Windows do not overlap, but for the last.
"""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from machine import begin, make_parser, peak_bytes, write_figures
from signals import mono, write_recording
from timing import answer, in_process, median_ratio, now
from transformers import pipeline, set_seed

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.loading import load_classifier, quiet_transformers
from hf_musiclf.models.music_pipeline import usual_batch_size, window_seconds_of, window_starts
from hf_musiclf.predicting import find_device

TARGET_RATIO = 2
LABELS = tuple("abcdefghij")
# name -> model type, window in seconds, config; ast: that of recipes/configs/demo.yaml
MODELS = {
    "ast": (
        "audio-spectrogram-transformer",
        5.12,
        "hidden_size=128,num_hidden_layers=4,num_attention_heads=4,intermediate_size=512,num_mel_bins=64,"
        "frequency_stride=16,time_stride=16",
    ),
    "efficientat": ("efficientat", 10.0, None),
}
OURS, RIVALS = ("classifier", "pipeline"), ("stock", "batched")
WAYS = (*OURS, *RIVALS)
LONG, SHORT = {"rate": 44_100, "channels": 2}, {"rate": 22_050, "channels": 1}


def save_model(name, folder):
    """The folder of an untrained model; one that is named by its folder is where it is."""
    if name not in MODELS:
        return name
    set_seed(0)
    model_type, window_seconds, config = MODELS[name]
    loaded = load_classifier(ModelArguments("random", config), LABELS, window_seconds, model_type, verbose=False)
    with quiet_transformers():
        loaded.save(folder)
    return str(folder)


def by_windows(classify, path, labels, batch):
    """`(labels,)`: the mean of what the stock pipeline says of the windows. batch: None for one after the other."""
    extractor = classify.feature_extractor
    rate = extractor.sampling_rate
    window = round(window_seconds_of(extractor) * rate)
    samples, its_rate = soundfile.read(path, dtype="float32", always_2d=True)
    wave = soxr.resample(mono(samples), its_rate, rate)
    starts = window_starts(len(wave), window, window)
    windows = [{"raw": wave[start : start + window], "sampling_rate": rate} for start in starts]
    if batch:
        said = classify(windows, top_k=len(labels), batch_size=batch)
    else:
        said = [classify(one, top_k=len(labels)) for one in windows]
    score_of = [{score["label"]: score["score"] for score in scores} for scores in said]
    return np.mean([[scores[label] for label in labels] for scores in score_of], axis=0)


def make_way(way, model, batch):
    """A function from a list of paths to `(tracks, labels)`, its model loaded."""
    device = find_device(None)
    if way in RIVALS:
        classify = pipeline("audio-classification", model=model, device=device)
        labels = [classify.model.config.id2label[index] for index in range(classify.model.config.num_labels)]
        at_once = batch if way == "batched" else None
        return lambda paths: np.stack([by_windows(classify, path, labels, at_once) for path in paths])
    if way == "pipeline":
        classify = pipeline("music-classification", model=model, device=device)
        hop_seconds, labels = classify.window_seconds, classify.labels

        def by_pipeline(paths):
            tracks = classify(paths, top_k=None, batch_size=batch, hop_seconds=hop_seconds)
            score_of = [{score["label"]: score["score"] for score in scores} for scores in tracks]
            return np.array([[scores[label] for label in labels] for scores in score_of])

        return by_pipeline
    classify = TrackClassifier(model, device, batch)
    hop_seconds = classify.pipeline.window_seconds
    return lambda paths: np.stack([classify(path, hop_seconds).probabilities for path in paths])


def compare(ways, name, tracks, first, repetitions):
    """One row of the table. ways: name -> function. tracks: their name and their paths. first: path of the warm-up."""
    title, paths = tracks
    device, seconds, difference = torch.device(find_device(None)), {way: [] for way in ways}, 0.0
    for classify in ways.values():
        classify([first])
    for _ in range(repetitions):
        scores = {}
        for way, classify in ways.items():
            began = now(device)
            scores[way] = classify(paths)
            seconds[way].append(now(device) - began)
        difference = max(difference, *(float(np.abs(scores[way] - scores["stock"]).max()) for way in OURS))
    row = {"model": name, "tracks": title, "device": device.type}
    row |= {f"{way}_seconds": statistics.median(lasted) for way, lasted in seconds.items()}
    for rival in RIVALS:
        row |= {f"{way}_over_{rival}": median_ratio(seconds[rival], seconds[way]) for way in OURS}
    return row | {"largest_difference": difference}


def measure_here(way, model, batch, path):
    """The peak of this process after a track."""
    make_way(way, model, batch)([path])
    return peak_bytes()


def measure_memory(name, model, folder, args):
    """One row a way and length: peak megabytes above a track of one window."""
    first, rows = str(folder / "first.wav"), []
    for way in ("classifier", "stock") if args.minutes else ():
        least = in_process(__file__, way, model, args.batch, first)
        for minutes in args.minutes:
            path = folder / "track.wav"
            write_recording(path, 60 * minutes, **LONG)
            peak = (in_process(__file__, way, model, args.batch, str(path)) - least) / 1e6
            path.unlink()
            rows.append({"model": name, "way": way, "minutes": minutes, "peak_mb": peak})
            print(f"{name:12} {way:11}{minutes:8g} {peak:10.0f} MB", flush=True)
    return rows


def write_tracks(folder, args):
    """Name -> paths of the tracks, and folder/first.wav of one window at most."""
    write_recording(folder / "first.wav", 5, **LONG)
    (folder / "short").mkdir()
    for number in range(args.short_tracks):
        write_recording(folder / "short" / f"{number:03d}.wav", args.short_seconds, **SHORT, seed=number)
    found = {f"{args.short_tracks} of {args.short_seconds:g} s": sorted(map(str, (folder / "short").iterdir()))}
    if args.long_minutes:
        write_recording(folder / "long.wav", 60 * args.long_minutes, **LONG)
        found = {f"1 of {args.long_minutes:g} min": [str(folder / "long.wav")], **found}
    return {title: paths for title, paths in found.items() if paths}


def main(argv=None):
    if answer(measure_here, argv):
        return
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="ast, efficientat, or folders of models")
    parser.add_argument("--long_minutes", type=float, default=5, help="length of the long track; 0: none")
    parser.add_argument("--short_tracks", type=int, default=100, help="files in the folder of short ones; 0: none")
    parser.add_argument("--short_seconds", type=float, default=30, help="length of each")
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5, 20], help="lengths to tell the memory of")
    parser.add_argument("--batch", type=int, help="windows at once of all but stock (default: ours)")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each")
    args = parser.parse_args(argv)
    args.batch = args.batch or usual_batch_size(torch.device(find_device(None)))
    machine = begin(args, "torch", "transformers", "soxr", "soundfile")
    print(f"{args.threads} threads, batches of {args.batch}, medians of {args.repetitions} repetitions")
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tracks = write_tracks(folder, args)
        saved = {name: save_model(name, folder / f"model_{name}") for name in args.models}
        print("model        tracks        way           time  over stock  over batched  largest difference")
        for name, model in saved.items():
            with quiet_transformers():
                ways = {way: make_way(way, model, args.batch) for way in WAYS}
            for title, paths in tracks.items():
                row = compare(ways, name, (title, paths), str(folder / "first.wav"), args.repetitions)
                rows.append(row)
                for way in WAYS:
                    line = f"{name:12} {title:13} {way:10}{row[f'{way}_seconds']:7.2f} s"
                    if way in OURS:
                        line += f"{row[f'{way}_over_stock']:12.2f}{row[f'{way}_over_batched']:14.2f}"
                        line += f"{row['largest_difference']:20.1e}"
                    print(line, flush=True)
        if rows:
            reached = all(row[f"{way}_over_stock"] >= TARGET_RATIO for row in rows for way in OURS)
            print(f"the target of {TARGET_RATIO} over stock is {'reached' if reached else 'not reached'} in every row")
        if args.minutes:
            print("model        way         minutes  peak memory above a track of one window")
        memory = [row for name, model in saved.items() for row in measure_memory(name, model, folder, args)]
    write_figures(args, machine, [*rows, *memory])


if __name__ == "__main__":
    main()
