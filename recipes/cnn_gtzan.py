"""Train a small residual CNN on log-mel spectrograms, from scratch, on GTZAN genres.

    accelerate launch recipes/cnn_gtzan.py
    accelerate launch recipes/cnn_gtzan.py --model_config features=mfcc,num_mfcc=40
    accelerate launch recipes/cnn_gtzan.py --config recipes/configs/four_layer_cnn.yaml
    accelerate launch recipes/cnn_gtzan.py --config recipes/configs/composers.yaml --data_dir MAESTRO
    accelerate launch recipes/cnn_gtzan.py --dataset folder --data_dir MUSIC --split_scheme random

--model_config takes the fields of the network (channels, block, pooling, ...) and of its features: log_mel, mfcc,
chroma, or a stack of them, features=[log_mel,chroma]. The model, its report and its card go to --output_dir; the same
command again goes on where a killed run stopped. Won, Ferraro, Bogdanov and Serra, "Evaluation of CNN-based Automatic
Music Tagging Models", SMC 2020.

Expected: not measured yet on all of GTZAN, see recipes/README.md for what was.
"""

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.hub import publish_if_asked
from hf_musiclf.launching import run_script
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.runs import start_run
from hf_musiclf.stages import make_trainer
from hf_musiclf.training import train_and_evaluate

DEFAULTS = dict(
    # data
    dataset="gtzan",
    split_scheme="artist",
    window_seconds=5.0,
    eval_hop_seconds=2.5,
    windows_per_track=4,
    # model
    model="random",
    # augmentation, on the device
    mixup_alpha=0.3,
    mask_bands=16,
    mask_frames=32,
    # optimisation
    num_train_epochs=60,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=64,
    learning_rate=1e-3,
    warmup_steps=0.1,
    weight_decay=0.05,
    lr_scheduler_type="cosine",
    # evaluation
    eval_strategy="epoch",
    save_strategy="epoch",
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="track_log_loss",
    greater_is_better=False,
    # the rest
    output_dir="runs/cnn_gtzan",
    logging_steps=10,
    dataloader_num_workers=2,
    dataloader_persistent_workers=True,
    ddp_find_unused_parameters=False,
    seed=0,
)


def main(argv=None):
    data_args, model_args, training_args = parse_recipe(DEFAULTS, argv, __doc__)
    run = start_run(__file__, data_args, model_args, training_args)
    if run.report:  # finished, and now to be published
        return publish_if_asked(run)
    tracks = load_tracks(data_args, verbose=run.is_main)
    loaded = load_classifier(
        model_args, tracks.labels, data_args.window_seconds, "spectrogram_cnn", verbose=run.is_main
    )
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, training_args.seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    return train_and_evaluate(trainer, run, tracks)


if __name__ == "__main__":
    run_script(main)
