"""What the Trainer is told besides: the epoch for random windows, and when to stop."""

from transformers import EarlyStoppingCallback, TrainerCallback

from hf_musiclf.data.window_dataset import RandomWindows
from hf_musiclf.waveform_augmentation import AugmentedWindows


class EpochCallback(TrainerCallback):
    """Tells random and augmented training windows which epoch begins, before any worker of that epoch starts.

    Accelerate tells a dataset only where one process runs.
    """

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if isinstance(train_dataloader.dataset, (RandomWindows, AugmentedWindows)):
            train_dataloader.dataset.set_epoch(int(state.epoch or 0))


class EarlyStopping(EarlyStoppingCallback):
    """Keeps its patience across a resume, which Transformers' own starts anew."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        saved = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(saved, dict):
            self.early_stopping_patience_counter = saved["attributes"]["early_stopping_patience_counter"]
