"""How the tests train beside a weak model: a small corpus, flags for a weak model, and the parts of a run."""

from recipe_runs import RECIPE, data_flags, flags, recipe
from transformers import set_seed

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.runs import start_run
from hf_musiclf.stages import make_trainer

MAIN_CONFIG = (
    "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,num_mel_bins=64,"
    "frequency_stride=16,time_stride=16,hidden_dropout_prob=0.1"
)
WEAK_CONFIG = (
    "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=16,num_mel_bins=32,"
    "frequency_stride=16,time_stride=16,hidden_dropout_prob=0.1"
)
# 60 training tracks and 10 each of validation and test, of two windows.
SMALL = dict(model_config=MAIN_CONFIG, eval_hop_seconds=1.28, num_train_epochs=1, bootstrap_resamples=100)
WEAK = dict(weak_model_config=WEAK_CONFIG, weak_epochs=1)
# Another architecture, at another rate: 32 kHz.
CONVOLUTIONAL = dict(weak_model_type="efficientat", weak_model_config="width_mult=0.1,num_mel_bins=32")
WITHOUT_EVALUATION = dict(eval_strategy="no", save_strategy="no", load_best_model_at_end=False)


def write_small_corpus(folder):
    """Two windows a track, eight artists a genre, so that each split has every genre; returns the folder."""
    write_corpus(folder, tracks_per_artist=1, artists_per_genre=8, seconds=1.5, sampling_rate=16_000)
    return folder


def small_flags(corpus, **changes):
    weak = dict(WEAK) if changes.get("debias", "none") != "none" else {}
    if changes.get("weak_training") == "joint":
        weak.pop("weak_epochs", None)
    return flags(**{**data_flags(corpus), **SMALL, **weak, **changes})


def run_small(corpus, **changes):
    """The report of the AST recipe at small size."""
    return recipe().main(small_flags(corpus, **changes))


def parts_of_a_run(corpus, folder, **changes):
    """Run, main model, tracks, and arguments of data and training, as the AST recipe makes them."""
    module = recipe()
    words = small_flags(corpus, output_dir=folder, **{**WITHOUT_EVALUATION, **changes})
    data_args, model_args, args = parse_recipe(module.DEFAULTS, words, module.__doc__)
    run = start_run(str(RECIPE), data_args, model_args, args)
    tracks = load_tracks(data_args, verbose=False)
    set_seed(args.seed)
    loaded = load_classifier(
        model_args, tracks.labels, data_args.window_seconds, "audio-spectrogram-transformer", verbose=False
    )
    return run, loaded, tracks, data_args, args


def trainer_of_a_run(corpus, folder, **changes):
    run, loaded, tracks, data_args, args = parts_of_a_run(corpus, folder, **changes)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, args.seed)
    return make_trainer(run, loaded, tracks, windows, data_args, args)


def same(left, right):
    """Whether two state dicts are equal to the bit."""
    return set(left) == set(right) and all((left[key] == right[key]).all() for key in left)
