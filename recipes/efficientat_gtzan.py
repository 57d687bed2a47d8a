"""Fine-tune EfficientAT, a MobileNetV3 taught by transformers on AudioSet, on GTZAN genres.

    accelerate launch recipes/efficientat_gtzan.py
    accelerate launch recipes/efficientat_gtzan.py --data_dir GTZAN_FOLDER_OR_ARCHIVE --model mn04_as_mAP_432.pt
    accelerate launch recipes/efficientat_gtzan.py --config recipes/configs/head.yaml
    python scripts/cross_validate.py recipes/efficientat_gtzan.py --folds 5 --data_dir GTZAN_FOLDER_OR_ARCHIVE

--model takes a release (mn04_as, mn10_as, mn20_as, ...), which is downloaded, an original .pt file, or a folder. With
configs/head.yaml the embeddings of all windows are computed once and kept. The model, its report and its card go to
--output_dir; the same command again goes on where a killed run stopped. Schmid, Koutini and Widmer, "Efficient
Large-Scale Audio Tagging Via Transformer-to-CNN Knowledge Distillation", ICASSP 2023.

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
    window_seconds=10.0,
    eval_hop_seconds=2.5,
    windows_per_track=4,
    # model
    model="mn10_as",
    train_layers="all",
    # augmentation: masks of a sixth of what the model was trained with; --mixup_alpha 0.3 is its mixup
    mask_bands=8,
    mask_frames=32,
    # optimisation: the head is new and learns first, the rest should stay near what it has learnt
    head_first_epochs=40,
    num_train_epochs=6,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=32,
    learning_rate=3e-5,
    head_learning_rate=3e-4,
    layer_lr_decay=0.8,
    freeze_batch_norm=True,
    warmup_steps=0.1,
    weight_decay=0.0,
    lr_scheduler_type="cosine",
    # evaluation
    eval_strategy="epoch",
    save_strategy="epoch",
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="track_log_loss",
    greater_is_better=False,
    # the rest
    output_dir="runs/efficientat_gtzan",
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
    loaded = load_classifier(model_args, tracks.labels, data_args.window_seconds, "efficientat", verbose=run.is_main)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, training_args.seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    return train_and_evaluate(trainer, run, tracks)


if __name__ == "__main__":
    run_script(main)
