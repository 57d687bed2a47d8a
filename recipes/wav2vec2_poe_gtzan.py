"""Fine-tune Wav2Vec2 on GTZAN genres by a product of experts: what a weak model knows need not be learnt.

    accelerate launch recipes/wav2vec2_poe_gtzan.py
    accelerate launch recipes/wav2vec2_poe_gtzan.py --debias none
    accelerate launch recipes/wav2vec2_poe_gtzan.py --model microsoft/wavlm-base-plus --per_device_train_batch_size 16
    accelerate launch --cpu recipes/wav2vec2_poe_gtzan.py --config recipes/configs/wav2vec2_small.yaml

The weak model, the first layers of a smaller Wav2Vec2, is trained first and kept; it stands for shortcuts such as the
recording. --debias takes poe, poe_ce, learned_mixin, mixture (additive) or none; prediction uses the main model alone,
and what is saved is a plain model of Transformers. --model takes HuBERT, WavLM, data2vec, w2v-BERT and Whisper too. The
same command again goes on where a killed run stopped. Baevski et al., "wav2vec 2.0", NeurIPS 2020; Clark, Yatskar and
Zettlemoyer, "Don't Take the Easy Way Out", EMNLP 2019; Sanh et al., "Learning from others' mistakes", ICLR 2021.

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
    eval_hop_seconds=5.0,
    windows_per_track=2,
    # model
    model="facebook/wav2vec2-large-960h-lv60-self",
    train_layers="all",  # but for its convolutions, which stay as they are
    # the weak model
    debias="poe",
    weak_model="facebook/wav2vec2-base",
    weak_layers=2,
    weak_epochs=3,
    weak_learning_rate=1e-4,
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
    output_dir="runs/wav2vec2_poe_gtzan",
    logging_steps=10,
    dataloader_num_workers=2,
    dataloader_persistent_workers=True,
    ddp_find_unused_parameters=True,  # dropped layers take no part in a step
    seed=0,
)


def main(argv=None):
    data_args, model_args, training_args = parse_recipe(DEFAULTS, argv, __doc__)
    run = start_run(__file__, data_args, model_args, training_args)
    if run.report:  # finished, and now to be published
        return publish_if_asked(run)
    tracks = load_tracks(data_args, verbose=run.is_main)
    loaded = load_classifier(model_args, tracks.labels, data_args.window_seconds, "wav2vec2", verbose=run.is_main)
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, training_args.seed)
    trainer = make_trainer(run, loaded, tracks, windows, data_args, training_args)
    return train_and_evaluate(trainer, run, tracks)


if __name__ == "__main__":
    run_script(main)
