"""Transformers' TrainingArguments for a recipe."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from hf_musiclf.errors import UserError


@dataclass
class RecipeTrainingArguments(TrainingArguments):
    """Transformers' TrainingArguments with the defaults of a recipe and what a recipe adds."""

    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Delete what an earlier run left in --output_dir. Default: refuse, or resume."}
    )
    bootstrap_resamples: int = field(
        default=2000, metadata={"help": "Bootstrap resamples of groups behind each 95 % interval."}
    )
    layer_lr_decay: float = field(
        default=1.0,
        metadata={"help": "Learning rate of each encoder layer over that of the layer above it; 1: the same for all."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better model. Default: never."}
    )
    # The model's inputs are made from waveforms on its device, so no column of a batch may be dropped before that.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: see features/."})

    def __post_init__(self):
        if self.bootstrap_resamples < 100:
            raise UserError(
                f"bootstrap_resamples={self.bootstrap_resamples} is too few for an interval; use 100 or more"
            )
        if not 0 < self.layer_lr_decay <= 1:
            raise UserError(f"layer_lr_decay={self.layer_lr_decay} must lie in (0, 1]")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise UserError(f"early_stopping_patience={self.early_stopping_patience} must be 1 or more evaluations")
        if self.remove_unused_columns:
            raise UserError("remove_unused_columns=True would drop the waveforms; leave it False")
        if self.push_to_hub:
            raise UserError("push_to_hub is not there yet; upload the finished folder with `hf upload NAME OUTPUT_DIR`")
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
