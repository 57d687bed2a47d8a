"""What the one Trainer adds to Transformers', on its parts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from bare_trainers import bare_trainer, small_ast
from transformers import TrainerControl, TrainerState, TrainingArguments

from hf_musiclf.callbacks import EarlyStopping, EpochCallback
from hf_musiclf.data.window_dataset import RandomWindows
from hf_musiclf.files import is_disk_full
from hf_musiclf.runs import is_whole_checkpoint
from hf_musiclf.training import _windows_per_second


class Numbers(RandomWindows):
    """Sixteen tracks without audio: an item is its number and the epoch that it is shown in."""

    def __init__(self):
        self._epoch = torch.tensor(-1)

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return index, int(self._epoch)


def loader(processes):
    return prepare_data_loader(
        torch.utils.data.DataLoader(Numbers(), batch_size=2, shuffle=True),
        num_processes=processes,
        process_index=0,
        put_on_device=False,
        use_seedable_sampler=True,
        data_seed=0,
    )


def batches_of_epoch(processes, epoch, skipped=0):
    """As Trainer does it: the callback, then for a resume the skipping, then the batches."""
    prepared = loader(processes)
    state = TrainerState(epoch=epoch + skipped / 100)
    EpochCallback().on_epoch_begin(None, state, None, train_dataloader=prepared)
    if skipped:
        prepared = skip_first_batches(prepared, skipped)
    prepared.set_epoch(epoch)
    return [[column.tolist() for column in batch] for batch in prepared]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_windows_heard_few_at_a_time_have_the_loss_and_the_logits_of_all_at_once(tmp_path, smoothing):
    torch.manual_seed(0)
    model = small_ast(num_labels=5).eval()
    batch = {"input_values": torch.randn(7, 32, 16), "labels": torch.arange(7) % 5}
    with torch.no_grad():
        expected = model(batch["input_values"]).logits
    heard = []
    model.register_forward_pre_hook(lambda _, given, named: heard.append(len(named["input_values"])), with_kwargs=True)
    trainer = bare_trainer(model, tmp_path, label_smoothing_factor=smoothing)
    loss, logits, _ = trainer.prediction_step(model, batch, prediction_loss_only=False)
    assert heard == [4, 3]
    torch.testing.assert_close(logits, expected)
    at_once = torch.nn.functional.cross_entropy(expected, batch["labels"], label_smoothing=smoothing)
    torch.testing.assert_close(loss, at_once)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_resumed_within_an_epoch_sees_the_rest_of_that_epoch(processes):
    whole = batches_of_epoch(processes, epoch=3)
    assert batches_of_epoch(processes, epoch=3, skipped=2) == whole[2:]
    assert {epoch for _, epochs in whole for epoch in epochs} == {3}
    assert [tracks for tracks, _ in batches_of_epoch(processes, epoch=0)] != [tracks for tracks, _ in whole]


def test_early_stopping_keeps_its_patience_across_a_resume(tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path), eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="track_accuracy", use_cpu=True,
    )  # fmt: skip
    before = EarlyStopping(3)
    before.early_stopping_patience_counter = 2
    state = TrainerState(stateful_callbacks={"EarlyStopping": before.state()})
    after = EarlyStopping(3)
    after.on_train_begin(args, state, TrainerControl())
    assert after.early_stopping_patience_counter == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_known_however_it_is_told(tmp_path):
    with pytest.raises(Exception) as by_torch, open("/dev/full", "wb") as full:
        torch.save({"weights": torch.zeros(100_000)}, full)
    assert is_disk_full(by_torch.value)
    assert is_disk_full(OSError(28, "No space left on device"))
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = OSError(122, "Disk quota exceeded")
    assert is_disk_full(wrapped)
    assert not is_disk_full(ValueError("a defect"))


def test_a_checkpoint_cut_short_is_not_whole(tmp_path):
    assert not is_whole_checkpoint(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 3, "log_hist')
    assert not is_whole_checkpoint(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 3}')
    assert is_whole_checkpoint(tmp_path)


def test_the_rate_of_training_leaves_out_evaluations_and_what_a_resumed_run_did_before():
    log = [{"eval_runtime": 2.0}, {"loss": 1.0}, {"eval_runtime": 3.0}]
    trainer = SimpleNamespace(state=SimpleNamespace(log_history=log, epoch=2.0), train_dataset=range(100))
    assert _windows_per_second(trainer, {"epoch": 0.0, "log_history": []}, 10.0) == 2 * 100 / (10 - 5)
    assert _windows_per_second(trainer, {"epoch": 1.5, "log_history": log[:2]}, 8.0) == 0.5 * 100 / (8 - 3)
