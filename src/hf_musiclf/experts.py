"""Where the weak model of a debiased training comes from: trained in a short run of its own and kept, or given."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from accelerate.utils import parse_flag_from_env, reduce
from transformers import AutoConfig, PreTrainedConfig, set_seed

from hf_musiclf.arguments import DataArguments, ModelArguments, RecipeTrainingArguments
from hf_musiclf.balancing import class_weights
from hf_musiclf.data.loading import cut_windows
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows
from hf_musiclf.debiasing import Debiasing, HeardAt, WeakModel
from hf_musiclf.embeddings import hash_weights
from hf_musiclf.errors import UserError
from hf_musiclf.files import write_json, write_whole
from hf_musiclf.labels import label_mappings
from hf_musiclf.models.freezing import truncate
from hf_musiclf.models.loading import FAMILIES, LoadedModel, load_classifier, quiet_transformers
from hf_musiclf.models.standardisation import set_standardisation
from hf_musiclf.probabilities import softmax
from hf_musiclf.reach import only_local
from hf_musiclf.splits import grouped_folds
from hf_musiclf.trainer import MusicTrainer

FORMAT = 3  # of what is kept; a change trains anew
ABOUT_FILE = "weak.json"
# The arguments that a weak model follows from, beside its start and its tracks.
FOLLOWS_FROM = (
    "weak_model", "weak_model_config", "weak_layers", "weak_epochs", "weak_learning_rate", "learning_rate",
    "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "max_grad_norm",
    "label_smoothing_factor", "optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "freeze_batch_norm",
    "mixed_precision", "per_device_train_batch_size", "gradient_accumulation_steps", "dataloader_drop_last",
    "world_size", "seed", "data_seed", "train_sampling_strategy", "accelerator_config", "waveform_augmentation",
)  # fmt: skip
FOLLOWS_FROM_DATA = (
    "window_seconds",
    "eval_hop_seconds",
    "train_windows",
    "windows_per_track",
    "balance",
    "balance_power",
)


def make_debiasing(
    loaded: LoadedModel, tracks: Tracks, data_args: DataArguments, args: RecipeTrainingArguments
) -> Debiasing:
    """The weak model of `args`: given with a head for these labels, trained first, or to learn jointly.

    loaded: the main model. Weak models that are trained first see the windows that the main one sees, of the training
    tracks; each is kept in `cache_dir`, under what it follows from, and taken from there by the next run. Raises
    UserError as `load_classifier` does, and for training groups too few for `weak_folds`.
    """
    if args.weak_model == "random" and args.weak_model_config is None:
        raise UserError(
            f"debias={args.debias} needs a weak model; pass --weak_model a checkpoint, or --weak_model_config for a "
            "small one from scratch"
        )
    if args.weak_model_type not in (None, *FAMILIES):
        raise UserError(f"weak_model_type={args.weak_model_type!r} is not known; choose {', '.join(FAMILIES)}")
    _refuse_shards(args)
    maker = _Maker(loaded, tracks, data_args, args)
    if args.weak_training == "joint":
        members, member_of_row = [maker.standardised(maker.untrained(), tracks)], {}
    elif maker.is_given():
        if args.weak_folds:
            raise UserError(f"weak_folds={args.weak_folds}: {args.weak_model} has its head already; leave one out")
        if args.weak_layers:
            raise UserError(
                f"weak_layers={args.weak_layers} takes layers from under the head that {args.weak_model} has already; "
                "pass --weak_layers 0 for all of them"
            )
        if maker.verbose:
            print(f"{args.weak_model} has its head already and is used as it is; weak_epochs and the like do nothing")
        members, member_of_row = [maker.untrained()], {}
    elif args.weak_folds:
        members, member_of_row = maker.out_of_fold()
    else:
        members, member_of_row = [maker.trained(tracks.splits["train"])], {}
    for member in members:
        member.model.to(args.device)
        if args.weak_training == "first":
            member.model.requires_grad_(False)
    weak = WeakModel(members, member_of_row, maker.facts(members[0]))
    return Debiasing(weak, args, lambda split: _weak_logits(weak, split, tracks, data_args, args))


def _refuse_shards(args: RecipeTrainingArguments) -> None:
    """Raise UserError for ways to share the work that a weak model does not go with, before any model trains."""
    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise UserError(
            f"debias={args.debias}: a weak model does not go with FSDP; launch without it, or pass --debias none"
        )
    if args.weak_training == "joint" or args.debias == "learned_mixin":
        if args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            raise UserError("weak_training=joint and learned_mixin do not go with DeepSpeed; use poe")
        if args.n_gpu > 1:
            raise UserError("weak_training=joint and learned_mixin need a process a GPU; use accelerate launch")


def weights_of(train: EvaluationWindows | RandomWindows, tracks: Tracks, data_args: DataArguments) -> np.ndarray | None:
    """`(labels,)` weights of the labels' losses over the training windows, None where they are not to be weighed."""
    if data_args.balance != "weighted_loss":
        return None
    # Where all windows are trained on, long tracks have more; else each track has equally many.
    labels = train.label_of_window if isinstance(train, EvaluationWindows) else train.label_of_track
    return class_weights(labels, len(tracks.labels), data_args.balance_power)


class _Maker:
    """Makes weak models for one set of arguments."""

    def __init__(self, loaded, tracks: Tracks, data_args: DataArguments, args: RecipeTrainingArguments):
        self.tracks, self.data_args, self.args = tracks, data_args, args
        self.sampling_rate = loaded.features.sampling_rate
        self.config = self._read_config()
        own_type = self.config.model_type if self.config and self.config.model_type in FAMILIES else None
        self.model_type = args.weak_model_type or own_type or loaded.family
        self.model_args = ModelArguments(model=args.weak_model, model_config=args.weak_model_config)
        self.verbose = args.process_index == 0

    def _read_config(self) -> PreTrainedConfig | None:
        """That of the checkpoint; None where there is none that can be read."""
        name = self.args.weak_model
        if name == "random":
            return None
        try:
            return AutoConfig.from_pretrained(name, local_files_only=only_local(name), trust_remote_code=False)
        except (OSError, ValueError):
            return None  # whatever is wrong, load_classifier tells it

    def is_given(self) -> bool:
        """Whether the checkpoint brings a head for these labels."""
        return self.config is not None and self.config.label2id == label_mappings(self.tracks.labels)[0]

    def untrained(self) -> LoadedModel:
        """The weak model as it starts; it hears windows at the main model's rate, in training as beside it."""
        set_seed(self.args.seed)
        window = self.data_args.window_seconds
        try:
            loaded = load_classifier(self.model_args, self.tracks.labels, window, self.model_type, verbose=False)
            if self.args.weak_layers:
                truncate(loaded.model, self.args.weak_layers)
        except UserError as error:
            raise UserError(f"the weak model (--weak_model, --weak_model_config, --weak_layers): {error}") from error
        if self.verbose:
            count = sum(parameter.numel() for parameter in loaded.model.parameters())
            print(f"weak model: {type(loaded.model).__name__} of {count:,} parameters", flush=True)
        return replace(loaded, features=HeardAt(loaded.features, self.sampling_rate))

    def facts(self, member: LoadedModel) -> dict[str, Any]:
        count = sum(parameter.numel() for parameter in member.model.parameters())
        start = {key: member.facts[key] for key in ("class", "start")}
        training = self.args.weak_training
        if training == "first":
            training = "given" if self.is_given() else "out of fold" if self.args.weak_folds else "first"
        return {**start, "parameters": count, "training": training, "members": self.args.weak_folds or 1}

    def out_of_fold(self) -> tuple[list[LoadedModel], dict[int, int]]:
        """A weak model for each part of the training groups, trained on the others; and which row is of which part."""
        rows = self.tracks.splits["train"]
        labels = np.asarray(self.tracks.table.column("label"))[rows]
        # A track of unknown group is its own: its own windows are what must not have been heard.
        groups = [self.tracks.table.groups[row] or f"track {row}" for row in rows]
        if len(set(groups)) < self.args.weak_folds:
            raise UserError(f"weak_folds={self.args.weak_folds}: training has {len(set(groups))} groups; lower it")
        members, member_of_row = [], {}
        for fold in range(self.args.weak_folds):
            heard = grouped_folds(labels, groups, self.args.weak_folds, fold, self.args.seed)
            apart = rows[heard["test"]]
            members.append(self.trained(np.setdiff1d(rows, apart)))
            member_of_row.update(dict.fromkeys(apart.tolist(), fold))
        return members, member_of_row

    def trained(self, rows: np.ndarray) -> LoadedModel:
        """A weak model trained on these rows of the table, now or by an earlier run."""
        loaded, args = self.untrained(), self.args
        tracks = replace(self.tracks, splits={**self.tracks.splits, "train": np.asarray(rows)})
        about = self._about(tracks, loaded)
        folder = self._folder(about)
        if not self._all_have(folder / ABOUT_FILE):
            if self.verbose:
                print(f"training the weak model on {len(rows)} tracks", flush=True)
            set_seed(args.seed)
            trainer = self._trainer(self.standardised(loaded, tracks), tracks)
            with quiet_transformers():
                trainer.train()
                if args.local_process_index == 0 and not (folder / ABOUT_FILE).is_file():  # a disk a machine
                    self._keep(trainer, folder, about)
            trainer.accelerator.wait_for_everyone()
        with quiet_transformers():
            kept = type(loaded.model).from_pretrained(folder)
        loaded.model.load_state_dict(kept.state_dict())
        if self.verbose:
            print(f"the weak model is kept in {folder}", flush=True)
        return loaded

    def standardised(self, loaded: LoadedModel, tracks: Tracks) -> LoadedModel:
        """The same model; a network that standardises its own inputs has that of training windows from the start."""
        windows = cut_windows(tracks, self.data_args, self.sampling_rate, self.args.seed)["train"]
        set_standardisation(loaded.model, loaded.features, windows, self.args.seed)
        return loaded

    def _all_have(self, path: Path) -> bool:
        """Whether every process sees the file: all of them train, or none."""
        there = torch.tensor(float(path.is_file()), device=self.args.device)
        return bool(reduce(there, "mean") == 1)

    def _trainer(self, loaded: LoadedModel, tracks: Tracks) -> MusicTrainer:
        args = self.args.plain()
        args.num_train_epochs = self.args.weak_epochs
        args.learning_rate = self.args.weak_learning_rate or self.args.learning_rate
        args.waveform_augmentation = self.args.waveform_augmentation
        windows = cut_windows(tracks, self.data_args, self.sampling_rate, args.seed)
        return MusicTrainer(loaded, windows, args, class_weights=weights_of(windows["train"], tracks, self.data_args))

    def _about(self, tracks: Tracks, loaded: LoadedModel) -> dict[str, Any]:
        """What a trained weak model follows from; the name of a checkpoint does not tell which weights it holds."""
        start = hashlib.sha256()
        hash_weights(start, loaded.model)
        args, data, labels = self.args, self.data_args, tracks.table.column("label")
        return {
            "format": FORMAT,
            "sampling_rate": self.sampling_rate,
            "model_type": self.model_type,
            "tracks": tracks.digest(),
            "labels": [tracks.labels[labels[row]] for row in tracks.splits["train"]],
            "start": start.hexdigest(),
            "config": loaded.model.config.to_dict(),
            "extractor": loaded.features.extractor.to_dict(),
            "transformers": transformers.__version__,
            **{name: str(getattr(args, name)) for name in FOLLOWS_FROM},
            **{name: str(getattr(data, name)) for name in FOLLOWS_FROM_DATA},
        }

    def _folder(self, about: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]
        root = Path(self.data_args.cache_dir or datasets.config.HF_DATASETS_CACHE)
        return root / "hf_musiclf_weak" / digest

    def _keep(self, trainer: MusicTrainer, folder: Path, about: Mapping[str, Any]) -> None:
        def write(beside: Path) -> None:
            trainer.loaded.save(beside)
            write_json(beside / ABOUT_FILE, about)

        try:
            write_whole(folder, write)
        except OSError:
            if not (folder / ABOUT_FILE).is_file():  # another run has kept the same model meanwhile
                raise


def _weak_logits(
    weak: WeakModel, split: str, tracks: Tracks, data_args: DataArguments, args: RecipeTrainingArguments
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities `(windows, labels)` that the weak model gives the windows of a split, and their labels.

    On training windows each track has the member that has not heard it, elsewhere the mean of all members'
    probabilities. All processes take part.
    """
    every = replace(data_args, train_windows="all", balance="none")
    rate = weak.members[0].features.sampling_rate
    windows = cut_windows(tracks, every, rate)  # the very windows that the main model hears
    found = []
    for member in weak.members:
        trainer = MusicTrainer(replace(member, embeds=False), windows, args.plain())
        found.append(softmax(trainer.logits(windows[split])))
    chosen = windows[split]
    if split == "train" and weak.member_of_row:
        speaks = np.array([weak.member_of_row[int(row)] for row in chosen.rows])[chosen.track_of_window]
        probabilities = np.stack(found)[speaks, np.arange(len(chosen))]
    else:
        probabilities = np.mean(found, axis=0)
    return np.log(probabilities.clip(1e-30)), chosen.label_of_window
