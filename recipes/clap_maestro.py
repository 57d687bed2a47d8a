"""Fine-tune CLAP's audio encoder, with a new MLP head, on MAESTRO's composers.

    accelerate launch recipes/clap_maestro.py --data_dir MAESTRO_FOLDER_OR_ZIP
    accelerate launch recipes/clap_maestro.py --data_dir MAESTRO_FOLDER_OR_ZIP --train_layers head --learning_rate 1e-3
    accelerate launch recipes/clap_maestro.py --data_dir MAESTRO_FOLDER_OR_ZIP --zero_shot True
    accelerate launch --cpu recipes/clap_maestro.py --config recipes/configs/clap_small.yaml --data_dir MAESTRO

The split is by composition: no work stands on both sides, in any performance. --split_scheme performance is the naive
split that lets works leak. Without --data_dir, --download True fetches all of MAESTRO v3 (101 GB). The model, its
report and its card go to --output_dir; the same command again goes on where a killed run stopped. Wu et al.,
"Large-scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation", ICASSP
2023.

Expected: not measured yet on all of MAESTRO, see recipes/README.md for what was.
"""

from hf_musiclf.arguments import parse_recipe
from hf_musiclf.data.loading import cut_windows, load_tracks
from hf_musiclf.hub import publish_if_asked
from hf_musiclf.launching import run_script
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.models.zero_shot import load_zero_shot
from hf_musiclf.runs import start_run
from hf_musiclf.stages import make_trainer
from hf_musiclf.training import train_and_evaluate

DEFAULTS = dict(
    # data
    dataset="maestro",
    split_scheme="composition",
    max_performances_per_piece=3,
    min_pieces_per_composer=3,
    window_seconds=10.0,
    eval_hop_seconds=10.0,
    windows_per_track=4,
    # model
    model="laion/larger_clap_music_and_speech",
    train_layers="all",
    zero_shot_prompt="a piano piece composed by {label}",
    # optimisation
    num_train_epochs=10,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=32,
    learning_rate=5e-5,
    layer_lr_decay=0.7,
    warmup_steps=0.1,
    weight_decay=0.01,
    lr_scheduler_type="cosine",
    # evaluation
    eval_strategy="epoch",
    save_strategy="epoch",
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="track_macro_f1",
    greater_is_better=True,
    # the rest
    output_dir="runs/clap_maestro",
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
        model_args, tracks.labels, data_args.window_seconds, "clap-audio-classification", verbose=run.is_main
    )
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, training_args.seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    baselines = {}
    if model_args.zero_shot:
        untrained = load_zero_shot(model_args, tracks.labels)
        baselines[f"zero shot: {model_args.zero_shot_prompt}"] = trainer.test_logits_of(untrained)
    return train_and_evaluate(trainer, run, tracks, baselines)


if __name__ == "__main__":
    run_script(main)
