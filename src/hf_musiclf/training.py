"""train_and_evaluate: resume, fit, choose on validation, test once, save, draw."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import set_seed

from hf_musiclf.cards import write_card
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.debiasing import tell
from hf_musiclf.errors import UserError
from hf_musiclf.files import is_disk_full, write_json
from hf_musiclf.hub import publish_if_asked
from hf_musiclf.models.loading import quiet_transformers
from hf_musiclf.report import describe_report, write_report
from hf_musiclf.runs import CHECKPOINT_END, REPORT_FILE, Run, claim_folder, how_to_go_on, remove_half_checkpoints
from hf_musiclf.trainer import MusicTrainer


def train_and_evaluate(
    trainer: MusicTrainer, run: Run, tracks: Tracks, baselines: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Fit, choose the model on validation, read the test split once, and leave everything in the run's folder.

    Then publish it, where that is asked for: whatever becomes of that, the run here is whole.

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
            baselines = dict(baselines or {})
            if trainer.debiasing:
                training["debiasing"] = trainer.debiasing.describe(logits)
                if run.is_main:
                    print(tell(training["debiasing"]), flush=True)
                baselines["the weak model alone"] = trainer.debiasing.speak("test")[0]
            report = write_report(trainer, run, tracks, logits, training, baselines)
            report["seconds_since_start_or_resume"] = round(time.monotonic() - run.started, 1)
        if run.is_main:  # report.json comes last: it marks the run as finished
            write_card(run.output_dir, report)
            write_json(run.output_dir / REPORT_FILE, report)
            print(describe_report(report, run.output_dir), flush=True)
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
    publish_if_asked(run)
    return report


def _windows_per_second(trainer: MusicTrainer, before: Mapping[str, Any], seconds: float) -> float | None:
    """Training windows a second since start or resume, evaluations left out; of kept embeddings where these train.

    before: the trainer's state, as a checkpoint holds it, when these seconds began.
    """
    logged = trainer.state.log_history[len(before["log_history"]) :]
    seconds -= sum(entry.get("eval_runtime", 0.0) for entry in logged)
    epochs = (trainer.state.epoch or 0.0) - before["epoch"]
    return round(epochs * len(trainer.train_dataset) / seconds, 1) if epochs > 0 else None


def _fit(trainer: MusicTrainer, run: Run) -> dict[str, Any]:
    """Train, from the run's checkpoint where there is one; returns what the report says of it."""
    set_seed(trainer.args.seed)  # whatever was scored before, training starts from the seed
    before = {"epoch": 0.0, "log_history": []}
    if run.checkpoint:
        before = json.loads((run.checkpoint / CHECKPOINT_END).read_text(encoding="utf-8"))
    started = time.monotonic()
    fitted = trainer.train(resume_from_checkpoint=str(run.checkpoint) if run.checkpoint else None)
    seconds = time.monotonic() - started
    return {
        "seconds_since_start_or_resume": round(seconds, 1),
        "windows_validated_while_training": len(trainer.validated),
        "train_windows_per_second": _windows_per_second(trainer, before, seconds),
        "steps": fitted.global_step,
        "epochs": round(trainer.state.epoch or 0, 3),
        "processes": trainer.args.world_size,
        "device": str(trainer.args.device),
        "train_loss_since_start_or_resume": fitted.training_loss,
        "mixed_precision": trainer.accelerator.mixed_precision,
        "waveform_augmentation": trainer.args.waveform_changes,
        # Trainer counts the best step where it is not taken, too.
        "best_step": trainer.state.best_global_step if trainer.args.load_best_model_at_end else None,
        "best_metric": trainer.state.best_metric if trainer.args.load_best_model_at_end else None,
        "metric_for_best_model": trainer.args.metric_for_best_model,
        "history": trainer.state.log_history,
    }
