"""Fine-tune the Audio Spectrogram Transformer on GTZAN genres.

    accelerate launch recipes/ast_gtzan.py
    accelerate launch recipes/ast_gtzan.py --data_dir GTZAN_FOLDER_OR_ARCHIVE --train_layers head --learning_rate 1e-3
    accelerate launch --config_file accelerate_config.yaml recipes/ast_gtzan.py
    accelerate launch --cpu recipes/ast_gtzan.py --config recipes/configs/demo.yaml

Without --data_dir the archive (1.2 GB) comes from the Hub. The model, its report and its card go to --output_dir; the
same command again goes on where a killed run stopped. Gong, Chung and Glass, "AST: Audio Spectrogram Transformer",
Interspeech 2021.

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
    window_seconds=10.24,
    eval_hop_seconds=5.12,
    # model
    model="MIT/ast-finetuned-audioset-10-10-0.4593",
    train_layers="all",
    # optimisation
    num_train_epochs=10,
    per_device_train_batch_size=8,
    per_device_eval_batch_size=16,
    learning_rate=3e-5,
    warmup_steps=0.1,
    weight_decay=0.01,
    lr_scheduler_type="cosine",
    # evaluation
    eval_strategy="epoch",
    save_strategy="epoch",
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="track_accuracy",
    greater_is_better=True,
    # the rest
    output_dir="runs/ast_gtzan",
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
        model_args, tracks.labels, data_args.window_seconds, "audio-spectrogram-transformer", verbose=run.is_main
    )
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, training_args.seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    return train_and_evaluate(trainer, run, tracks)


if __name__ == "__main__":
    run_script(main)
