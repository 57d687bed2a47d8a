"""How the tests run a recipe: flags for a tiny model, and a stand-in for a kill."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "ast_gtzan.py"
TINY = {
    "model": "random",
    "model_config": "hidden_size=32,num_hidden_layers=2,num_attention_heads=2,intermediate_size=32,num_mel_bins=64,"
    "frequency_stride=16,time_stride=16",
    "window_seconds": 1.28,
    "eval_hop_seconds": 0.8,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 16,
    "learning_rate": 2e-3,
    "dataloader_num_workers": 0,
    "bootstrap_resamples": 200,
    "use_cpu": True,
    "disable_tqdm": True,
}


def recipe(path=RECIPE):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flags(**changes):
    return [f"--{key}={value}" for key, value in {**TINY, **changes}.items() if value is not None]


def data_flags(corpus):
    return dict(dataset="synthetic", data_dir=corpus, cache_dir=corpus.parent / "cache", split_scheme="artist")


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it to carry on."""


def dies_in_step(number):
    """A `MusicTrainer.training_step` that is killed the number-th time."""
    from hf_musiclf.training import MusicTrainer

    step, calls = MusicTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return step(self, *args, **kwargs)

    return training_step
