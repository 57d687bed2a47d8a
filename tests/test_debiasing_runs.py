"""Debiased runs as a user meets them: on two processes, in half precision, resumed, refused, and what they publish."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from debiased_runs import (
    MAIN_CONFIG,
    WEAK_CONFIG,
    parts_of_a_run,
    run_small,
    small_flags,
    trainer_of_a_run,
    write_small_corpus,
)
from recipe_runs import ROOT, WAV2VEC2, Killed, dies_in_step, recipe, tiny_flags
from safetensors.torch import load_file, save_file
from transformers import set_seed

from hf_musiclf.debiasing import STATE_FILE
from hf_musiclf.errors import UserError
from hf_musiclf.experts import make_debiasing
from hf_musiclf.report import save_model
from hf_musiclf.runs import BYTES_A_PARAMETER
from hf_musiclf.trainer import MusicTrainer

LOSSES = ("poe", "poe_ce", "learned_mixin", "mixture")
# Gradients as they are, and no masks of dropout: what is drawn differs between one process and two, and by weak model.
EXACT = dict(
    model_config=MAIN_CONFIG.replace("prob=0.1", "prob=0"), weak_model_config=WEAK_CONFIG.replace("prob=0.1", "prob=0"),
    optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", weight_decay=0.0, logging_steps=1,
)  # fmt: skip
ALONE = {name: value for name, value in EXACT.items() if not name.startswith("weak_")}


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_corpus(tmp_path_factory.mktemp("small") / "synthetic")


def trained(corpus, folder, **changes):
    """A trainer after its training."""
    trainer = trainer_of_a_run(corpus, folder, **changes)
    set_seed(0)
    trainer.train()
    return trainer


def given_by(trainer, folder):
    """Flags that give another run the weak model of this one."""
    member = trainer.debiasing.weak.members[0]
    member.model.save_pretrained(folder / "given")
    member.features.extractor.save_pretrained(folder / "given")
    return dict(weak_model=folder / "given", weak_model_config=None)


def logged(history, name):
    return [entry[name] for entry in history if name in entry]


# Clipping


@pytest.mark.parametrize("limit, weak_rate", [(0.01, 0.5), (0.01, 50.0), (0.0, 0.5)])
def test_a_joint_weak_model_does_not_shrink_the_steps_of_the_main_one(limit, weak_rate, small, tmp_path):
    """It learns, but does not count for the loss here; all gradients are far above the norm that they are cut to, where
    they are cut. What is logged is the main model's norm."""
    clipped = dict(max_steps=3, max_grad_norm=limit, learning_rate=0.5 if limit else 0.01)
    alone = trained(small, tmp_path / "alone", **{**ALONE, **clipped})
    beside = trained(
        small, tmp_path / "beside", debias="poe", debias_alpha=0, weak_training="joint", weak_learning_rate=weak_rate,
        **{**EXACT, **clipped},
    )  # fmt: skip
    norms = logged(alone.state.log_history, "grad_norm")
    assert len(norms) == 3 and min(norms) > 0.1
    assert logged(beside.state.log_history, "grad_norm") == pytest.approx(norms, rel=1e-5)
    found = beside.pair.main.state_dict()
    # A first gradient of norm 1,600 makes, where it is not cut, steps whose rounding is as much larger.
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-7 if limit else 1e-5, rtol=1e-6, msg=name)


@pytest.mark.parametrize("times", [1e-3, 1.0, 1e3])
def test_both_sides_are_clipped_to_the_norm_each_and_unscaled_once(times, small, tmp_path, monkeypatch):
    """A scaler of float16 raises where it is asked twice before a step."""
    trainer = trainer_of_a_run(
        small, tmp_path / "run", debias="learned_mixin", weak_training="joint", max_grad_norm=0.5
    )
    unscaled = []
    monkeypatch.setattr(trainer.accelerator, "unscale_gradients", lambda *args: unscaled.append(1))
    main, beside = list(trainer.pair.main.parameters()), trainer.pair.parameters_beside()
    for parameter in main:
        parameter.grad = torch.ones_like(parameter)
    for parameter in beside:
        parameter.grad = torch.full_like(parameter, times)
    norm = trainer._clip_grad_norm(trainer.pair)
    assert norm == pytest.approx(sum(parameter.numel() for parameter in main) ** 0.5)
    of_main, of_beside = (torch.cat([p.grad.flatten() for p in part]).norm().item() for part in (main, beside))
    whole = times * sum(parameter.numel() for parameter in beside) ** 0.5
    assert of_main == pytest.approx(0.5, rel=1e-4) and of_beside == pytest.approx(min(0.5, whole), rel=1e-4)
    assert len(unscaled) == 1


# Resumed


def test_a_run_does_not_go_on_beside_a_weak_model_of_other_weights(small, tmp_path, monkeypatch):
    changes = dict(
        debias="poe", cache_dir=tmp_path / "cache", output_dir=tmp_path / "run", save_strategy="steps", save_steps=2,
        eval_strategy="no", load_best_model_at_end=False,
    )  # fmt: skip
    trainer_of_a_run(small, tmp_path / "first", debias="poe", cache_dir=tmp_path / "cache")  # trains the weak model
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(3))
        with pytest.raises(Killed):
            run_small(small, **changes)
    (kept,) = (tmp_path / "cache" / "hf_musiclf_weak").iterdir()
    shutil.copytree(kept, tmp_path / "as_it_was")
    weights = load_file(kept / "model.safetensors")
    weights["classifier.dense.bias"][0] += 1e-6  # one number of one layer
    save_file(weights, kept / "model.safetensors", {"format": "pt"})
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    message = r"checkpoint-2 was trained beside a weak model of other weights \(\w{16}, now \w{16}\); put that one back"
    with pytest.raises(UserError, match=message) as caught:
        run_small(small, **changes)
    assert "\n" not in str(caught.value) and "--overwrite_output_dir True" in str(caught.value)
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before

    shutil.rmtree(kept)
    (tmp_path / "as_it_was").rename(kept)
    assert run_small(small, **changes)["training"]["steps"] == 4
    save_file(weights, kept / "model.safetensors", {"format": "pt"})
    assert run_small(small, **changes, overwrite_output_dir=True)["training"]["steps"] == 4


@pytest.mark.parametrize(
    "earlier, now, learnt",
    [
        (dict(debias="none"), dict(debias="poe", weak_training="joint"), r"nothing learnt, and here weak would"),
        (
            dict(debias="poe", weak_training="joint"),
            dict(debias="learned_mixin", weak_training="joint"),
            "weak learnt, and here gate, weak would",
        ),
    ],
)
def test_a_checkpoint_of_another_debiasing_is_named(earlier, now, learnt, small, tmp_path):
    saved = dict(save_strategy="steps", save_steps=2, max_steps=2, cache_dir=tmp_path / "cache")
    trainer_of_a_run(small, tmp_path / "earlier", **earlier, **saved).train()
    trainer = trainer_of_a_run(small, tmp_path / "now", **now, **saved)
    with pytest.raises(
        UserError, match=rf"checkpoint-2: beside its model {learnt}; resume with the --debias"
    ) as caught:
        trainer.train(resume_from_checkpoint=str(tmp_path / "earlier" / "checkpoint-2"))
    assert "\n" not in str(caught.value)


# Disk


@pytest.mark.parametrize("how", ["first", "joint"])
def test_what_learns_beside_the_main_model_needs_room_in_checkpoints_too(how, small, tmp_path, monkeypatch):
    changes = dict(debias="learned_mixin", weak_training=how, cache_dir=tmp_path / "cache", save_total_limit=2)
    trainer = trainer_of_a_run(small, tmp_path / "run", **changes)
    main = sum(parameter.numel() for parameter in trainer.pair.main.parameters())
    beside = sum(parameter.numel() for parameter in trainer.pair.parameters_beside())
    assert beside > (1000 if how == "joint" else 10)
    needed = BYTES_A_PARAMETER * (4 * 3 * (main + beside) + main)  # four checkpoints of weights and two moments
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr("hf_musiclf.runs.shutil.disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        if fits:
            trainer_of_a_run(small, tmp_path / "run", **changes)
        else:
            with pytest.raises(UserError, match="4 checkpoints and the model need"):
                trainer_of_a_run(small, tmp_path / "run", **changes)


# Refused


def test_masks_are_refused_for_waveforms_before_a_weak_model_trains(small, tmp_path, monkeypatch):
    monkeypatch.setattr(MusicTrainer, "training_step", lambda *args: pytest.fail("a model was trained"))
    words = tiny_flags("wav2vec2_poe_gtzan", small, output_dir=tmp_path / "run", mask_frames=4, cache_dir=tmp_path)
    with pytest.raises(UserError, match=r"^mixup_alpha, mask_bands and mask_frames are for spectrograms"):
        recipe(ROOT / "recipes" / "wav2vec2_poe_gtzan.py").main(words)


@pytest.mark.parametrize(
    "changes",
    [dict(), dict(weak_training="joint"), dict(debias="learned_mixin"), dict(weak_folds=2)],
    ids=["first", "joint", "gate", "folds"],
)
@pytest.mark.parametrize("by", ["launcher", "flag"])
def test_fsdp_is_refused_before_anything_trains(by, changes, small, tmp_path, monkeypatch):
    _, loaded, tracks, data_args, args = parts_of_a_run(small, tmp_path / "run", **{"debias": "poe", **changes})
    monkeypatch.setattr(MusicTrainer, "training_step", lambda *args: pytest.fail("a model was trained"))
    if by == "launcher":
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    else:
        args.fsdp = True
    with pytest.raises(
        UserError, match=r"^debias=\w+: a weak model does not go with FSDP; launch without it, or pass "
    ):
        make_debiasing(loaded, tracks, data_args, args)


@pytest.mark.parametrize("changes", [dict(weak_training="joint"), dict(debias="learned_mixin")], ids=["joint", "gate"])
def test_what_learns_beside_takes_a_process_a_gpu_and_no_deepspeed(changes, small, tmp_path, monkeypatch):
    _, loaded, tracks, data_args, args = parts_of_a_run(small, tmp_path / "run", **{"debias": "poe", **changes})
    args._n_gpu = 2
    with pytest.raises(UserError, match="need a process a GPU; use accelerate launch"):
        make_debiasing(loaded, tracks, data_args, args)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match="do not go with DeepSpeed; use poe"):
        make_debiasing(loaded, tracks, data_args, args)


def test_a_track_too_short_for_the_model_is_named_before_anything_trains(small, tmp_path):
    corpus = tmp_path / "synthetic"
    shutil.copytree(small, corpus)
    path = sorted(corpus.rglob("*.wav"))[3]
    soundfile.write(path, np.zeros(1700), 16_000)
    # 2000 samples are what one frame of these convolutions takes.
    config = json.loads(WAV2VEC2["model_config"]) | dict(conv_kernel=[2000, 1], conv_stride=[500, 1])
    words = tiny_flags(
        "wav2vec2_poe_gtzan", corpus, output_dir=tmp_path / "run", model_config=json.dumps(config), cache_dir=tmp_path
    )
    with pytest.raises(
        UserError, match=rf"{path.name}: a waveform of 1700 samples is shorter than the 2000 th"
    ) as caught:
        recipe(ROOT / "recipes" / "wav2vec2_poe_gtzan.py").main(words)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value) and not (tmp_path / "run").exists()


# Two processes

# Both runs by one launch, most of which is imports.
LAUNCHED = """
import json, sys
import hf_musiclf.report
from recipe_runs import recipe
hf_musiclf.report.draw_report = lambda *args, **kwargs: None
for words in json.loads(sys.argv[1]):
    recipe().main(words)
"""
LEARNS_BESIDE = {
    "joint": dict(debias="poe", weak_training="joint", weak_learning_rate=0.2),
    "mixin": dict(debias="learned_mixin", entropy_penalty=0.1),
}


@pytest.fixture(scope="module")
def one_and_two(small, tmp_path_factory):
    """A folder with runs on one process and, with batches of half the size, on two: `one/NAME` and `two/NAME`.

    The first three batches of an epoch, which are whole, each model clipped to a norm far below its own; the learned
    mixin has a weak model that is given, the same for both.
    """
    folder, words = tmp_path_factory.mktemp("processes"), []
    given = given_by(trainer_of_a_run(small, folder / "weak", **EXACT, debias="poe"), folder)
    for name, changes in LEARNS_BESIDE.items():
        changes = EXACT | changes | (given if name == "mixin" else {}) | dict(
            max_grad_norm=0.1, max_steps=3, eval_strategy="no", save_strategy="steps", save_steps=3,
            load_best_model_at_end=False, ddp_find_unused_parameters=False,
        )  # fmt: skip
        run_small(small, **changes, output_dir=folder / "one" / name, per_device_train_batch_size=16)
        two = small_flags(small, **changes, output_dir=folder / "two" / name, per_device_train_batch_size=8)
        words.append(two)
    script = folder / "launched.py"
    script.write_text(LAUNCHED, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    beside = (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, beside))}
    done = subprocess.run([*command, json.dumps(words)], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", LEARNS_BESIDE)
def test_two_processes_train_as_one_with_batches_of_twice_the_size(name, one_and_two):
    folders = [one_and_two / processes / name for processes in ("one", "two")]
    one, two = (json.loads((folder / "report.json").read_text(encoding="utf-8"))["training"] for folder in folders)
    assert (one["processes"], two["processes"]) == (1, 2)
    for quantity in ("loss", "grad_norm"):
        found, expected = (logged(training["history"], quantity) for training in (two, one))
        assert len(expected) == 3 and found == pytest.approx(expected, rel=1e-3), quantity
    for file in ("model.safetensors", f"checkpoint-3/{STATE_FILE}"):
        found, expected = (load_file(folder / file) for folder in folders[::-1])
        assert set(found) == set(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)
    for split, expected in one["debiasing"]["statistics"].items():
        for key, value in expected.items():
            found = two["debiasing"]["statistics"][split][key]
            assert found == (value if value is None else pytest.approx(value, rel=1e-3, abs=1e-4)), key


def test_training_may_drop_its_last_batch_and_evaluation_does_not(small, tmp_path):
    changes = dict(dataloader_drop_last=True, per_device_eval_batch_size=7, cache_dir=tmp_path / "cache")
    report = run_small(small, output_dir=tmp_path / "run", debias="poe", **changes)
    assert report["training"]["steps"] == 3  # of 60 tracks in batches of 16
    assert [report[split]["window"]["n"] for split in ("validation", "test")] == [20, 20]
    assert report["training"]["debiasing"]["statistics"]["train"]["n"] == 120


# Half precision


@pytest.mark.parametrize("how", ["first", "joint"])
@pytest.mark.parametrize("debias", LOSSES)
def test_in_bfloat16_every_loss_is_finite_and_near_to_that_in_float32(debias, how, small, tmp_path):
    changes = dict(EXACT, debias=debias, weak_training=how, max_steps=3, weak_learning_rate=0.5)
    # One weak model for both: trained in bfloat16, it would be another one.
    if how == "first":
        changes.update(given_by(trainer_of_a_run(small, tmp_path / "weak", **changes), tmp_path))
    changes["cache_dir"] = tmp_path / "cache"
    whole, half = (trained(small, tmp_path / str(bf16), **changes, bf16=bf16) for bf16 in (False, True))
    assert half.accelerator.mixed_precision == "bf16"
    losses, expected = (logged(trainer.state.log_history, "loss") for trainer in (half, whole))
    assert len(losses) == 3 and np.isfinite(losses).all() and losses != expected
    # bfloat16 has 8 bits: a relative step of 1/256 for each product of a handful of layers.
    assert losses == pytest.approx(expected, rel=0.02)
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in half.model.parameters())


# What is published

ALONE_IN_A_PROCESS = """
import json, sys
import soundfile
from transformers import pipeline
classify = pipeline("audio-classification", model=sys.argv[1])
found = {}
for path in sys.argv[2:]:
    waveform, rate = soundfile.read(path, dtype="float32")
    scores = classify({"raw": waveform, "sampling_rate": rate}, top_k=None)
    found[path] = {score["label"]: score["score"] for score in scores}
assert not any(name.partition(".")[0] == "hf_musiclf" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.mark.parametrize("how", ["first", "joint"])
def test_what_a_debiased_run_publishes_is_a_plain_model_of_its_own_scores(how, small, tmp_path):
    """Tracks of one window each, so that what the pipeline hears is all that was scored."""
    trainer = trained(
        small, tmp_path / "run", debias="learned_mixin", weak_training=how, window_seconds=1.5, eval_hop_seconds=1.5,
        cache_dir=tmp_path / "cache", weak_learning_rate=2e-3,
    )  # fmt: skip
    folder, windows = tmp_path / "published", trainer.windows["test"]
    save_model(trainer, folder, is_main=True)
    logits = trainer.logits(windows)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    paths = [windows.audio[int(row)]["audio"]["path"] for row in windows.rows]
    assert len(paths) == len(windows) == 10 and np.ptp(expected, axis=0).max() > 1e-3
    command = [sys.executable, "-c", ALONE_IN_A_PROCESS, str(folder), *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    labels = [trainer.pair.main.config.id2label[number] for number in range(10)]
    np.testing.assert_allclose([[found[path][label] for label in labels] for path in paths], expected, atol=1e-5)

    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "music_pipeline.py",
    }  # fmt: skip
    published = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    weak = trainer.debiasing.weak.members[0].model
    traces = {name: value.detach().numpy().tobytes() for name, value in weak.named_parameters()}
    # Ones and zeros of norms and biases are anywhere.
    told = {name: value for name, value in traces.items() if len(set(value)) > 16}
    assert len(told) > 10 and not [name for name, value in told.items() if value in published]
    gate = trainer.pair.gate.linear.weight.detach().numpy().tobytes()
    assert gate not in published and b"gate" not in published and b"weak" not in published
    main = trainer.pair.main.classifier.dense.weight.detach().numpy().tobytes()
    assert main in published  # by the same search, what is published is found
