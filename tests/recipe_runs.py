"""How the tests run a recipe: flags for a tiny model, and a stand-in for a kill."""

import importlib.util
import json
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
EFFICIENTAT = {
    "model_config": "width_mult=0.1,num_mel_bins=32",
    "window_seconds": 1.0,
    "eval_hop_seconds": 1.0,
    "windows_per_track": 1,
    "head_first_epochs": 0,
    "mask_bands": 4,
    "mask_frames": 16,
}
CLAP = {
    "model_config": json.dumps(
        dict(
            spec_size=64, num_mel_bins=16, depths=[1, 1], num_attention_heads=[1, 2], patch_embeds_hidden_size=8,
            window_size=4, sampling_rate=8_000,
        )
    ),
    "window_seconds": 1.0,
    "eval_hop_seconds": 1.0,
    "windows_per_track": 1,
}  # fmt: skip
WAV2VEC2 = {
    "model_config": json.dumps(
        dict(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8, 8],
            conv_kernel=[10, 8], conv_stride=[10, 8], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
            classifier_proj_size=8, mask_time_prob=0,
        )
    ),
    "weak_model": "random",
    "weak_model_config": json.dumps(
        dict(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, conv_dim=[4, 4],
            conv_kernel=[10, 8], conv_stride=[10, 8], num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
            classifier_proj_size=8, mask_time_prob=0,
        )
    ),
    "weak_layers": 1,
    "weak_epochs": 1,
    "windows_per_track": 1,
}  # fmt: skip
SPECTROGRAM = {
    "window_seconds": 1.0,
    "eval_hop_seconds": 1.0,
    "windows_per_track": 1,
    "mask_bands": 4,
    "mask_frames": 8,
}
CNN = {**SPECTROGRAM, "model_config": "features=log_mel,num_mel_bins=32,channels=[4,8],dense_sizes=[8]"}
CRNN = {
    **SPECTROGRAM,
    "model_config": "features=mfcc,num_mel_bins=32,conv_channels=[4,8],bin_pools=[2,2],frame_pools=[2,2],rnn_size=8",
}
VGG = {**SPECTROGRAM, "model_config": "features=[log_mel,chroma],num_mel_bins=32,width_mult=0.05"}
# Every recipe by the name of its file -> the flags, beside those of TINY, with which it is tiny. A new one goes here.
TINY_RECIPES = {
    "ast_gtzan": {},
    "clap_maestro": CLAP,
    "cnn_gtzan": CNN,
    "efficientat_gtzan": EFFICIENTAT,
    "efficientat_maestro": EFFICIENTAT,
    "gru_gtzan": CRNN,
    "vgg_gtzan": VGG,
    "wav2vec2_poe_gtzan": WAV2VEC2,
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


def tiny_flags(name, corpus, **changes):
    """What `recipes/NAME.py` takes to run at small size on the corpus."""
    assert name in TINY_RECIPES, f"recipes/{name}.py has no entry in TINY_RECIPES of tests/recipe_runs.py; add one"
    return flags(**{**data_flags(corpus), **TINY_RECIPES[name], **changes})


def run_recipe(name, corpus, **changes):
    """The report of `recipes/NAME.py`, run at small size on the corpus."""
    return recipe(ROOT / "recipes" / f"{name}.py").main(tiny_flags(name, corpus, **changes))


class Killed(BaseException):
    """Stands for a kill: nothing in the library catches it to carry on."""


def dies_in_step(number):
    """A `MusicTrainer.training_step` that is killed the number-th time."""
    from hf_musiclf.trainer import MusicTrainer

    step, calls = MusicTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return step(self, *args, **kwargs)

    return training_step
