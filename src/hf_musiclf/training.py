"""The one Trainer subclass, and train_and_evaluate: resume, fit, choose on validation, test once, save, draw."""

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainerCallback

from hf_musiclf.arguments import RecipeTrainingArguments
from hf_musiclf.cards import write_card
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows, collate_windows
from hf_musiclf.errors import UserError
from hf_musiclf.files import is_disk_full, write_json
from hf_musiclf.metrics import classification_metrics
from hf_musiclf.models.freezing import frozen_modules, learning_rate_scales
from hf_musiclf.models.loading import LoadedModel, quiet_transformers
from hf_musiclf.probabilities import mean_by_track, softmax
from hf_musiclf.report import describe_report, write_report
from hf_musiclf.runs import REPORT_FILE, Run, claim_folder, how_to_go_on, remove_half_checkpoints

# A checkpoint holds the weights, and Adam's two moments of those that learn, in float32.
MOMENTS_OF_ADAM = 2
BYTES_A_PARAMETER = 4


class EpochCallback(TrainerCallback):
    """Tells random training windows which epoch begins, before any worker of that epoch starts.

    Accelerate tells a dataset only where one process runs.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if isinstance(train_dataloader.dataset, RandomWindows):
            train_dataloader.dataset.set_epoch(int(state.epoch or 0))


class _EarlyStopping(EarlyStoppingCallback):
    """Keeps its patience across a resume, which Transformers' own starts anew."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(saved, dict):
            self.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]


class MusicTrainer(Trainer):
    """Trainer over windows: a batch of waveforms becomes model inputs on the model's device.

    loaded: model and features. windows: split name -> windows, with train, validation and test. The model is chosen by
    `metric_for_best_model` on the validation split.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        windows: dict[str, EvaluationWindows | RandomWindows],
        args: RecipeTrainingArguments,
        **kwargs,
    ):
        _check_space(loaded, args)  # before Trainer makes the folder
        self.loaded, self.windows, self.features = loaded, windows, loaded.features
        self.frozen = frozen_modules(loaded.model)
        # Who scores whole tracks with the saved model takes the windows that evaluation took.
        loaded.model.config.hop_seconds = windows["validation"].hop / loaded.features.sampling_rate
        callbacks = [EpochCallback(), *(kwargs.pop("callbacks", None) or [])]
        if args.early_stopping_patience is not None:
            callbacks.append(_EarlyStopping(args.early_stopping_patience))
        super().__init__(
            model=loaded.model,
            args=args,
            train_dataset=windows["train"],
            eval_dataset=windows["validation"],
            data_collator=collate_windows,
            processing_class=loaded.features.extractor,
            compute_metrics=self._validation_metrics,
            callbacks=callbacks,
            **kwargs,
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        if "waveforms" in inputs:
            inputs = dict(inputs)
            inputs.update(self.features(inputs.pop("waveforms"), inputs.pop("lengths")))
        return inputs

    def compute_loss(self, model, inputs, *args, **kwargs):
        # What does not learn must not change either: batch norms would go on counting, dropout would blur features.
        for module in self.frozen:
            module.eval()
        return super().compute_loss(model, inputs, *args, **kwargs)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Trainer's own, its groups split by depth where `layer_lr_decay` asks for it."""
        optimizer = super().create_optimizer(model)
        if self.args.layer_lr_decay < 1:
            if self.is_fsdp_enabled:  # which trains flat slices, not the parameters of the layers
                raise UserError("layer_lr_decay does not go with FSDP; leave one out")
            scales = learning_rate_scales(self.loaded.model, self.args.layer_lr_decay)
            groups: dict[tuple[int, float], dict[str, Any]] = {}
            for number, group in enumerate(optimizer.param_groups):
                for parameter in group["params"]:
                    scale = scales.get(parameter, 1.0)
                    split = groups.setdefault((number, scale), {**group, "lr": group["lr"] * scale, "params": []})
                    split["params"].append(parameter)
            optimizer.param_groups = list(groups.values())
        return optimizer

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if model is not None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._load_weights(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_weights(self.state.best_model_checkpoint)

    def _load_weights(self, folder: str) -> None:
        """Load a checkpoint's weights, every one of them.

        Transformers 5 saves some classes, AST among them, under the key names of their published checkpoints, which
        differ from the names inside the model. `from_pretrained` translates them; Trainer's own loading (as of 5.23)
        does not, warns of missing keys, and goes on with the weights that it has.
        """
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        saved = type(model).from_pretrained(folder)
        model.load_state_dict(saved.state_dict(), strict=True)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted: Transformers estimates it from token counts, which waveforms do not have."""
        return 0

    def _validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        windows = self.windows["validation"]
        probabilities = softmax(prediction.predictions)
        of_windows = classification_metrics(probabilities, windows.label_of_window)
        _, by_track = mean_by_track(probabilities, windows.track_of_window)
        of_tracks = classification_metrics(by_track, windows.label_of_track)
        return {
            "track_accuracy": of_tracks["accuracy"],
            "track_macro_f1": of_tracks["macro_f1"],
            "track_log_loss": of_tracks["log_loss"],
            "window_accuracy": of_windows["accuracy"],
        }

    def logits(self, windows: EvaluationWindows) -> np.ndarray:
        """`(windows, labels)` float32, each window once and in order, on any number of processes."""
        metrics, self.compute_metrics = self.compute_metrics, None
        try:
            logits = self.predict(windows).predictions
        finally:
            self.compute_metrics = metrics
        assert len(logits) == len(windows), f"{len(logits)} logits for {len(windows)} windows"
        return logits.astype(np.float32)

    def test_logits_of(self, model: torch.nn.Module) -> np.ndarray:
        """`(windows, labels)` of the test split by another model that takes the same features, a baseline."""
        other = MusicTrainer(replace(self.loaded, model=model), self.windows, self.args)
        return other.logits(self.windows["test"])


def train_and_evaluate(
    trainer: MusicTrainer, run: Run, tracks: Tracks, baselines: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Fit, choose the model on validation, read the test split once, and leave everything in the run's folder.

    baselines: name -> logits `(windows, labels)` of the test split by something else, scored beside the model. Returns
    the report (see `report.build_report`). A failure says how to go on. Raises UserError for a full disk, for a
    training that diverged, and for a folder whose unfinished run had other tracks.
    """
    with trainer.args.main_process_first(local=False, desc="claiming the output folder"):
        if run.is_main:
            claim_folder(run, tracks.digest(), trainer.args.world_size, tracks.leakage)
    try:
        with quiet_transformers():  # Trainer's own bars stay
            training = _fit(trainer, run)
            logits = {split: trainer.logits(trainer.windows[split]) for split in ("validation", "test")}
            if not all(np.isfinite(values).all() for values in logits.values()):
                raise UserError("the training diverged: the model's outputs are not finite; lower --learning_rate")
            report = write_report(trainer, run, tracks, logits, training, baselines or {})
        if run.is_main:  # report.json comes last: it marks the run as finished
            write_card(run.output_dir, report)
            write_json(run.output_dir / REPORT_FILE, report)
            print(describe_report(report, run.output_dir), flush=True)
        return report
    except BaseException as error:
        if run.is_main:
            remove_half_checkpoints(run.output_dir)
        if is_disk_full(error):
            folder = run.output_dir
            raise UserError(
                f"the disk of output_dir={folder} is full; free some, then {how_to_go_on(folder)}"
            ) from error
        if run.is_main and not isinstance(error, UserError):
            print(f"\nthe run did not finish; {how_to_go_on(run.output_dir)}", file=sys.stderr, flush=True)
        raise


def _fit(trainer: MusicTrainer, run: Run) -> dict[str, Any]:
    """Train, from the run's checkpoint where there is one; returns what the report says of it."""
    started = time.monotonic()
    fitted = trainer.train(resume_from_checkpoint=str(run.checkpoint) if run.checkpoint else None)
    seconds = time.monotonic() - started
    return {
        "seconds_since_start_or_resume": round(seconds, 1),
        "steps": fitted.global_step,
        "epochs": round(trainer.state.epoch or 0, 3),
        "processes": trainer.args.world_size,
        "device": str(trainer.args.device),
        "train_loss_since_start_or_resume": fitted.training_loss,
        "mixed_precision": trainer.accelerator.mixed_precision,
        "best_step": trainer.state.best_global_step,
        "best_metric": trainer.state.best_metric,
        "metric_for_best_model": trainer.args.metric_for_best_model,
        "history": trainer.state.log_history,
    }


def _check_space(loaded: LoadedModel, args: RecipeTrainingArguments) -> None:
    """Refuse to start a run whose checkpoints cannot fit."""
    folder = Path(args.output_dir)
    kept = (args.save_total_limit or 1) + 2  # the best, and the one being written before an old one goes
    weights = loaded.facts["parameters"] * BYTES_A_PARAMETER
    moments = loaded.facts["trainable"] * BYTES_A_PARAMETER * MOMENTS_OF_ADAM
    there = sum(path.stat().st_size for path in folder.glob("checkpoint-*/*") if path.is_file())
    needed = (weights + moments) * kept + weights - there
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"output_dir={folder}: {kept} checkpoints and the model need {needed / 1e6:,.1f} MB, the disk has "
            f"{free / 1e6:,.1f} MB left; free some, or name a folder on another disk"
        )
