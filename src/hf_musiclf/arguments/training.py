"""Transformers' TrainingArguments for a recipe."""

import copy
from dataclasses import dataclass, field

from transformers import TrainingArguments

from hf_musiclf.arguments.augmentation import (
    describe_waveform_augmentations,
    parse_waveform_augmentation,
    require_audiomentations,
)
from hf_musiclf.arguments.debias import DebiasArguments
from hf_musiclf.errors import UserError


@dataclass
class RecipeTrainingArguments(TrainingArguments, DebiasArguments):
    """Transformers' TrainingArguments with the defaults of a recipe and what a recipe adds."""

    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete what an earlier run left in --output_dir. Default: refuse, or resume."}
    )
    bootstrap_resamples: int = field(
        default=2000, metadata={"help": "Bootstrap resamples of groups behind each 95 %% interval."}
    )
    validation_windows_per_track: int = field(
        default=20,
        metadata={
            "help": "Windows of each validation track that are scored while training, spread evenly over it; 0: all. "
            "20 are all that a recipe hears of GTZAN's 30 s. The report is of all windows, of validation and of test."
        },
    )
    cache_embeddings: bool = field(
        default=True,
        metadata={
            "help": "With --train_layers head, --train_windows all and no augmentation: run the backbone once for "
            "every window, keep the embeddings in --cache_dir, and train the head on them."
        },
    )
    freeze_batch_norm: bool = field(
        default=False,
        metadata={
            "help": "Batch norms keep the statistics of the checkpoint, their scales and shifts learn; for small data."
        },
    )
    mixup_alpha: float = field(
        default=0.0, metadata={"help": "Mix each training window with another one, share of Beta(alpha, alpha); 0: no."}
    )
    mask_bands: int = field(
        default=0,
        metadata={
            "help": "Training spectrograms lose one span of up to so many bands, half of them at most, which take "
            "their mean over the batch; 0: none."
        },
    )
    mask_frames: int = field(
        default=0,
        metadata={
            "help": "Training spectrograms lose one span of up to so many frames, half of them at most, where each "
            "band takes its mean over the batch; 0: none."
        },
    )
    waveform_augmentation: str | None = field(
        default=None,
        metadata={
            "help": "Training windows are changed as they are read: NAME=probability or "
            "NAME=[probability,lowest,highest], separated by commas, of "
            f"{describe_waveform_augmentations()}. Default: none."
        },
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={"help": "Learning rate of each encoder layer over that of the layer above it; 1: the same for all."},
    )
    head_first_epochs: int = field(
        default=0,
        metadata={
            "help": "Before all layers learn: epochs of the new head alone, on embeddings of all windows; 0: none."
        },
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the classification head. Default: --learning_rate."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better model. Default: never."}
    )
    push_to_hub: bool = field(
        default=False,
        metadata={"help": "Publish the finished run on the Hub; one that is finished already is published as it is."},
    )
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Its name there, NAME or USER/NAME. Default: the last part of --output_dir."},
    )
    hub_private_repo: bool | None = field(
        default=None,
        metadata={"help": "True: a repository that is made is for you alone; False: for all. Default: your account's."},
    )
    # The model's inputs are made from waveforms on its device, so no column of a batch may be dropped before that.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: see features/."})

    def __post_init__(self):
        if self.bootstrap_resamples < 100:
            raise UserError(
                f"bootstrap_resamples={self.bootstrap_resamples} is too few for an interval; use 100 or more"
            )
        if self.validation_windows_per_track < 0:
            raise UserError(
                f"validation_windows_per_track={self.validation_windows_per_track} must be 0, for all, or more"
            )
        for name in ("mixup_alpha", "mask_bands", "mask_frames"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"{name}={getattr(self, name)} must be 0 or more")
        if self.waveform_changes:
            require_audiomentations()
        self.check_debias()
        if self.debias != "none" and self.mixup_alpha:
            raise UserError(f"mixup_alpha={self.mixup_alpha} mixes what the weak model of --debias hears apart; use 0")
        if self.head_learning_rate is not None and not 0 <= self.head_learning_rate < float("inf"):
            raise UserError(f"head_learning_rate={self.head_learning_rate} must be 0 or more")
        if self.head_learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate={self.learning_rate} with a head_learning_rate; use --train_layers head")
        if self.head_first_epochs < 0:
            raise UserError(f"head_first_epochs={self.head_first_epochs} must be 0 or more")
        if not 0 < self.layer_lr_decay <= 1:
            raise UserError(f"layer_lr_decay={self.layer_lr_decay} must lie in (0, 1]")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise UserError(f"early_stopping_patience={self.early_stopping_patience} must be 1 or more evaluations")
        if self.remove_unused_columns:
            raise UserError("remove_unused_columns=True would drop the waveforms; leave it False")
        self._check_push()
        if (
            self.early_stopping_patience is not None
            and str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no"
        ):
            raise UserError("early_stopping_patience needs evaluations; set --eval_strategy to epoch or steps")
        try:
            super().__post_init__()
        except ValueError as error:  # flags that contradict each other
            raise UserError(" ".join(str(error).split())) from error
        if self.device.type == "cpu":  # pinned memory is for copies to a GPU
            self.dataloader_pin_memory = False
        if not self.dataloader_num_workers:  # there is none to keep
            self.dataloader_persistent_workers = False

    def _check_push(self) -> None:
        """Only the finished model is published, at the end and in one commit, so that nobody finds half a model."""
        for name in ("hub_model_id", "hub_private_repo", "hub_token"):
            if getattr(self, name) and not self.push_to_hub:
                value = "..." if name == "hub_token" else getattr(self, name)
                raise UserError(f"{name}={value} publishes nothing without --push_to_hub; add it, or leave {name} out")
        strategy = getattr(self.hub_strategy, "value", self.hub_strategy)
        if strategy not in ("every_save", "end"):  # the default of Transformers, which cannot be told from a wish
            raise UserError(f"hub_strategy={strategy}: only the finished model is published, at the end; leave it out")
        if self.hub_always_push or self.hub_revision:
            flag = "hub_always_push" if self.hub_always_push else "hub_revision"
            raise UserError(f"{flag}={getattr(self, flag)}: a run is published once, on main; leave it out")

    def plain(self) -> "RecipeTrainingArguments":
        """A copy for a run before or beside the real one: cross-entropy, one rate, nothing augmented or written."""
        args = copy.copy(self)
        args.debias, args.mixup_alpha, args.mask_bands, args.mask_frames = "none", 0.0, 0, 0
        args.waveform_augmentation = None
        args.head_learning_rate, args.layer_lr_decay, args.early_stopping_patience = None, 1.0, None
        args.eval_strategy = args.save_strategy = args.logging_strategy = "no"
        args.load_best_model_at_end, args.max_steps = False, -1
        args.report_to, args.logging_first_step, args.eval_on_start = [], False, False
        args.push_to_hub = False
        return args

    @property
    def augments(self) -> bool:
        """Whether training sees other inputs than evaluation does of the same windows."""
        return self.augments_batches or bool(self.waveform_changes)

    @property
    def augments_batches(self) -> bool:
        """Whether it does so on the model's device, see augmentation.py."""
        return bool(self.mixup_alpha or self.mask_bands or self.mask_frames)

    @property
    def waveform_changes(self) -> dict[str, tuple[float, ...]]:
        """`waveform_augmentation` without what is never applied, see `parse_waveform_augmentation`."""
        changes = parse_waveform_augmentation(self.waveform_augmentation)
        return {name: numbers for name, numbers in changes.items() if numbers[0] > 0}
