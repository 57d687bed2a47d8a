"""What the order of axes in memory is worth to convolutions on a CPU: channels last, as training has it, or not.

    python benchmarks/convolutions.py
    python benchmarks/convolutions.py --precisions float32 --threads 1 --output convolutions.json

Forward and backward pass of a batch of random inputs, without an optimiser. `plain` has the weights as they are loaded,
`last` has them with their channels last in memory, as MusicTrainer turns those of the small networks on a CPU, but not
those of EfficientAT. What a class itself does with its inputs, on a CPU, is in both. Speeds are windows a second,
medians of the repetitions; the speed-up is the median of the repetitions' own; the difference is the largest of the
logits, in evaluation.
"""

import copy
import json
import statistics
from functools import partial
from pathlib import Path

import torch
import yaml
from machine import begin, make_parser, write_figures
from timing import median_ratio, take_turns
from transformers import set_seed

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.models.loading import load_classifier

LABELS = tuple("abcdefghij")
CONFIGS = Path(__file__).resolve().parent.parent / "recipes/configs"
FOUR_LAYERS = json.dumps(yaml.safe_load((CONFIGS / "four_layer_cnn.yaml").read_text())["model_config"])
# name -> model type, config, window in seconds, as in the recipes and their configs.
MODELS = {
    "cnn": ("spectrogram_cnn", None, 5.0),
    "four_layer_cnn": ("spectrogram_cnn", FOUR_LAYERS, 5.0),
    "crnn": ("spectrogram_crnn", "hop_length=512", 10.0),
    "vgg": ("spectrogram_vgg", "hop_length=512", 10.0),
    "efficientat": ("efficientat", "width_mult=0.4", 10.0),
}
PRECISIONS = ("float32", "bf16")


def compare(name, precision, args):
    """One row of the table."""
    model_type, config, seconds = MODELS[name]
    set_seed(0)
    loaded = load_classifier(ModelArguments("random", config), LABELS, seconds, model_type, verbose=False)
    samples = round(seconds * loaded.features.sampling_rate)
    inputs = loaded.features(0.1 * torch.randn(args.batch, samples), torch.full((args.batch,), samples))
    labels = torch.arange(args.batch) % len(LABELS)
    models = {"plain": loaded.model, "last": copy.deepcopy(loaded.model).to(memory_format=torch.channels_last)}

    def step(model):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
        model.zero_grad()

    with torch.inference_mode():
        plain, last = (model.eval()(**inputs).logits for model in models.values())
    ways = {way: partial(step, model.train()) for way, model in models.items()}
    spent, _ = take_turns(ways, torch.device("cpu"), args.repetitions)
    row = {"model": name, "precision": precision, "batch": args.batch}
    row |= {f"{way}_windows_per_second": args.batch / statistics.median(lasted) for way, lasted in spent.items()}
    ratio = median_ratio(spent["plain"], spent["last"])
    return row | {"speed_up": ratio, "largest_difference": float((plain - last).abs().max())}


def main(argv=None):
    parser = make_parser(__doc__, threads=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="which to time")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of the steps")
    parser.add_argument("--batch", type=int, default=16, help="windows a step")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each")
    args = parser.parse_args(argv)
    machine = begin(args, "torch", "transformers")
    print(f"{args.threads} threads, batches of {args.batch}, medians of {args.repetitions} repetitions")
    print("model           precision  plain windows/s  last windows/s  speed-up  largest difference")
    rows = []
    for name in args.models:
        for precision in args.precisions:
            rows.append(row := compare(name, precision, args))
            speeds = f"{row['plain_windows_per_second']:17.1f}{row['last_windows_per_second']:16.1f}"
            difference = f"{row['largest_difference']:20.1e}"
            print(f"{name:16}{precision:9}{speeds}{row['speed_up']:10.2f}{difference}", flush=True)
    write_figures(args, machine, rows)


if __name__ == "__main__":
    main()
