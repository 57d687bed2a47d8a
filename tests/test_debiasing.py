"""Training beside a weak model: what both hear, what the loss takes, what is saved, and that prediction is of one."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchaudio
from debiased_runs import (
    CONVOLUTIONAL,
    WEAK_CONFIG,
    parts_of_a_run,
    run_small,
    same,
    small_flags,
    trainer_of_a_run,
    write_small_corpus,
)
from recipe_runs import CLAP, Killed, dies_in_step, recipe
from safetensors.torch import load_file
from transformers import set_seed

from hf_musiclf.arguments import ModelArguments, parse_recipe
from hf_musiclf.data.loading import cut_windows
from hf_musiclf.data.synthetic import GENRES
from hf_musiclf.data.window_dataset import collate_windows
from hf_musiclf.debiasing import STATE_FILE, HeardAt, Paired, WeakModel, scoring_layer, tell
from hf_musiclf.errors import UserError
from hf_musiclf.experts import make_debiasing
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.losses import MixinGate, expert_statistics
from hf_musiclf.models.loading import FAMILIES, load_classifier
from hf_musiclf.probabilities import mean_by_track, softmax
from hf_musiclf.stages import make_trainer
from hf_musiclf.trainer import MusicTrainer

AST = "audio-spectrogram-transformer"
WEAK = r"^the weak model \(--weak_model, --weak_model_config, --weak_layers\): "
# What compares weights takes plain gradient steps: Adam makes steps of full length out of gradients that are rounding.
PLAIN_STEPS = dict(optim="sgd", learning_rate=0.5, lr_scheduler_type="constant", weight_decay=0.0)


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """They take half the time of such a run, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_corpus(tmp_path_factory.mktemp("small") / "synthetic")


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """The folder of a run without a weak model."""
    folder = tmp_path_factory.mktemp("run") / "alone"
    run_small(small, output_dir=folder, **PLAIN_STEPS)
    return folder


# Arguments


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(debias="pow"), r"debias='pow' is not known; choose none, poe, poe_ce, mixture, learned_mixin"),
        (dict(debias="poe", weak_training="last"), r"weak_training='last' is not known; choose first or joint"),
        (dict(debias_alpha=1.0), r"debias_alpha=1\.0 does nothing with debias=none; leave it out, or choose a loss by"),
        (dict(debias="learned_mixin", debias_alpha=1.0), r"debias_alpha goes with --debias poe, poe_ce, mixture"),
        (dict(debias="poe", debias_alpha=-0.5), r"debias_alpha=-0\.5 must be 0 or more for poe"),
        (dict(debias="poe_ce", debias_alpha="inf"), r"debias_alpha=inf must be 0 or more for poe_ce"),
        (dict(debias="mixture", debias_alpha=1.0), r"debias_alpha=1\.0 must lie in \[0, 1\) for mixture"),
        (dict(debias="mixture", debias_alpha=-0.5), r"debias_alpha=-0\.5 must lie in \[0, 1\) for mixture"),
        (dict(debias="mixture", debias_alpha="nan"), r"debias_alpha=nan must lie in \[0, 1\) for mixture"),
        (
            dict(debias="poe", cross_entropy_weight=0.5),
            r"cross_entropy_weight goes with --debias poe_ce, not poe; leave",
        ),
        (
            dict(debias="poe_ce", entropy_penalty=0.1),
            r"entropy_penalty goes with --debias learned_mixin, not poe_ce; lea",
        ),
        (dict(debias="poe_ce", cross_entropy_weight=-1.0), r"cross_entropy_weight=-1\.0 must be 0 or more"),
        (dict(debias="learned_mixin", entropy_penalty="nan"), r"entropy_penalty=nan must be 0 or more"),
        (dict(debias="poe", weak_epochs=0), r"weak_epochs=0\.0 must be above 0"),
        (dict(debias="poe", weak_epochs="inf"), r"weak_epochs=inf must be above 0"),
        (dict(debias="poe", weak_learning_rate=0), r"weak_learning_rate=0\.0 must be above 0"),
        (dict(debias="poe", weak_layers=-1), r"weak_layers=-1 must be 0, for all of them, or more"),
        (dict(debias="poe", weak_folds=1), r"weak_folds=1 must be 0 or 2 and more"),
        (dict(debias="poe", weak_folds=-2), r"weak_folds=-2 must be 0 or 2 and more"),
        (
            dict(debias="poe", weak_folds=3, weak_training="joint"),
            r"weak_folds=3 needs weak models that are trained first; see weak_training",
        ),
        (
            dict(debias="poe", weak_epochs=2, weak_training="joint"),
            r"weak_epochs=2\.0 does nothing with weak_training=joint, where the weak model has the epochs of the main",
        ),
        (dict(debias="poe", mixup_alpha=0.3), r"mixup_alpha=0\.3 mixes what the weak model of --debias hears apart"),
        (
            dict(debias="poe", weak_model_config=None),
            r"debias=poe needs a weak model; pass --weak_model a checkpoint, or --weak_model_config for a small one",
        ),
        (dict(debias="poe", weak_model_type="resnet"), r"weak_model_type='resnet' is not known; choose .*efficientat"),
        (dict(debias="poe", weak_layers=2), WEAK + r"2 encoder layers are to be kept of 1"),
        (dict(debias="poe", weak_layers=1, **CONVOLUTIONAL), WEAK + r"EfficientAt\w+ is one network, of whose layers"),
        (dict(debias="poe", weak_model_config="hidden=16"), WEAK + r"model_config: 'hidden' is no field of ASTConfig"),
        (dict(debias="poe", weak_folds=61), r"weak_folds=61: training has 60 groups; lower it"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_nothing_is_written(small, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        recipe().main(small_flags(small, output_dir=tmp_path / "run", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


WEAK_FLAGS = dict(
    debias_alpha="0.5", cross_entropy_weight="1.0", entropy_penalty="0.0", weak_model="random", weak_model_type=AST,
    weak_model_config="hidden_size=8", weak_layers="2", weak_training="first", weak_epochs="3", weak_folds="0",
    weak_learning_rate="0.1",
)  # fmt: skip


@pytest.mark.parametrize("name", WEAK_FLAGS)
def test_a_flag_or_key_of_a_weak_model_is_refused_where_there_is_none_and_a_default_is_not(name, tmp_path):
    """By the source that says `debias: none`, or one that counts more; what a flag leaves out may stand in a file."""
    value, config, weak = WEAK_FLAGS[name], tmp_path / "c.yaml", {"debias": "poe", name: WEAK_FLAGS[name]}
    config.write_text(f"{name}: {value}\n", encoding="utf-8")
    flag, file, none = [f"--{name}", value], ["--config", str(config)], ["--debias", "none"]
    dashes = [f"--{name.replace('_', '-')}={value}"]
    other = {"debias": "learned_mixin"} if name == "entropy_penalty" else {"debias": "poe_ce"}
    for defaults, words in [({}, flag), ({}, dashes), ({}, file), (weak, [*flag, *none]), (other, [*none, *flag])]:
        with pytest.raises(
            UserError, match=rf"^{name}=\S+ does nothing with debias=none; leave it out, or cho"
        ) as caught:
            parse_recipe({"use_cpu": True, **defaults}, words)
        assert "\n" not in str(caught.value)
    for defaults, words in [(weak, none), (other, [*file, *none]), (other, flag), (other, file), ({}, none)]:
        *_, args = parse_recipe({"use_cpu": True, **defaults}, words)
        assert args.debias == ("none" if words[-1] == "none" else other["debias"])


def test_the_epochs_of_a_weak_model_that_a_recipe_trains_first_may_stand_beside_a_joint_one():
    defaults = {"use_cpu": True, "debias": "poe", "weak_epochs": 2, "weak_model_config": "hidden_size=8"}
    assert parse_recipe(defaults, ["--weak_training", "joint"])[2].weak_training == "joint"


def test_none_in_a_file_takes_a_recipes_weak_model_away_but_not_one_beside_it(tmp_path):
    config, defaults = tmp_path / "c.yaml", {"use_cpu": True, "debias": "poe", "weak_layers": 2}
    config.write_text("debias: none\nweak_layers: null\n", encoding="utf-8")
    assert parse_recipe(defaults, ["--config", str(config)])[2].debias == "none"
    config.write_text("debias: none\nweak_layers: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^weak_layers=1 does nothing with debias=none"):
        parse_recipe(defaults, ["--config", str(config)])


def test_each_loss_has_the_alpha_of_its_paper_and_zero_is_a_value(small, tmp_path):
    usual = [("poe", None, 1.0), ("poe_ce", None, 1.0), ("mixture", None, 0.1)]
    for debias, given, alpha in [*usual, ("poe", 0, 0.0), ("mixture", 0, 0.0), ("mixture", 0.99, 0.99)]:
        *_, args = parts_of_a_run(small, tmp_path, debias=debias, debias_alpha=given)
        assert args.alpha == alpha


# The layer that makes the scores, and the pair


def tiny_model(family, **changes):
    config, window = {
        AST: ("hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,num_mel_bins=64", 1.28),
        "clap-audio-classification": (CLAP["model_config"], 1.0),
        "efficientat": ("width_mult=0.1,num_mel_bins=32", 1.0),
    }[family]
    torch.manual_seed(0)
    return load_classifier(ModelArguments(model="random", model_config=config), GENRES, window, family, verbose=False)


def inputs_of(loaded, batch=3, seconds=1.0):
    samples = round(seconds * loaded.features.sampling_rate)
    waveforms = 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))
    return loaded.features(waveforms, torch.full((batch,), samples))


@pytest.mark.parametrize("family", [AST, "clap-audio-classification", "efficientat"])
def test_what_the_scoring_layer_gives_is_the_logits(family):
    assert family in FAMILIES
    loaded = tiny_model(family)
    layer, seen = scoring_layer(loaded.model), []
    layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    logits = loaded.model.eval()(**inputs_of(loaded)).logits
    ((vector, scores),) = seen
    assert torch.equal(scores, logits) and vector.shape == (3, layer.in_features)


def test_a_pair_evaluates_as_the_main_model_alone_and_trains_with_what_its_parts_give():
    main, weak = tiny_model(AST), tiny_model("efficientat")
    gate = MixinGate(scoring_layer(main.model).in_features)
    pair = Paired(main.model, weak.model, gate)
    inputs, weak_inputs, labels = inputs_of(main), inputs_of(weak), torch.tensor([0, 1, 2])

    pair.eval()
    found, expected = pair(**inputs, labels=labels), main.model(**inputs, labels=labels)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)

    pair.train()
    weak.model.eval()  # whose batch norms would make the second pass another one
    found = pair(weak_inputs=weak_inputs, **inputs)
    assert torch.equal(found["logits"], expected.logits)
    assert torch.equal(found["weak_logits"], weak.model(**weak_inputs).logits)
    vectors = []
    scoring_layer(main.model).register_forward_pre_hook(lambda module, given: vectors.append(given[0]))
    main.model(**inputs)
    assert torch.equal(found["gate"], gate(vectors[0]))
    beside = {name for name, _ in pair.named_parameters()} - {
        f"main.{name}" for name, _ in main.model.named_parameters()
    }
    assert len(beside) == len(pair.parameters_beside()) and all(not key.startswith("main.") for key in pair.beside())


# What the weak model hears


@pytest.mark.parametrize("rates", [(16_000, 32_000), (32_000, 16_000), (44_100, 16_000), (48_000, 44_100)])
def test_lengths_after_resampling_are_those_of_torchaudio(rates):
    rate, other = rates
    features = lambda waveforms, lengths: {"waveforms": waveforms, "lengths": lengths}  # noqa: E731
    known = {"sampling_rate": other, "extractor": None, "__call__": staticmethod(features)}
    features = HeardAt(type("Features", (), known)(), rate)
    for samples in (1, 2, 3, 441, 1_000, 20_480, 163_003, 163_334):  # the last two are lost to torchaudio's float32
        lengths = torch.tensor([samples, max(1, samples // 3)])
        given = features(torch.zeros(2, samples), lengths)
        assert given["waveforms"].shape[1] == given["lengths"].max() == given["lengths"][0]
        for length, found in zip(lengths, given["lengths"], strict=True):
            alone = torchaudio.functional.resample(torch.zeros(1, int(length)), rate, other).shape[1]
            assert found == alone


def test_each_row_is_heard_by_its_member_alone():
    """Members that say their own number and the first sample that they were given."""

    class Says(torch.nn.Module):
        def __init__(self, number):
            super().__init__()
            self.number = number

        def forward(self, sample):
            assert not self.training and not torch.is_grad_enabled()
            return SimpleNamespace(logits=torch.stack([torch.full_like(sample, self.number), sample], dim=1))

    hears = lambda self, waveforms, lengths: {"sample": waveforms[:, 0]}  # noqa: E731
    features = type("Features", (), {"__call__": hears})
    members = [SimpleNamespace(model=Says(number), features=features()) for number in range(3)]
    weak = WeakModel(members, member_of_row={10: 2, 11: 0, 12: 2, 13: 1})
    waveforms, rows = torch.arange(4.0)[:, None].expand(4, 5), torch.tensor([13, 10, 11, 12])
    found = weak.logits(waveforms, torch.full((4,), 5), rows)
    assert found.tolist() == [[1, 0], [2, 1], [0, 2], [2, 3]]


class Listens:
    """Features that keep what they were given."""

    def __init__(self, features):
        self.features, self.heard = features, []

    def __getattr__(self, name):
        return getattr(self.features, name)

    def __call__(self, waveforms, lengths):
        self.heard.append((waveforms.clone(), lengths.clone()))
        return self.features(waveforms, lengths)


@pytest.mark.parametrize("training", ["first", "joint"])
@pytest.mark.parametrize("weak", [{}, CONVOLUTIONAL], ids=["same rate", "twice the rate"])
def test_both_hear_the_very_same_windows_and_a_frozen_weak_model_stays_as_it_is(training, weak, small, tmp_path):
    trainer = trainer_of_a_run(
        small, tmp_path / "run", debias="poe", weak_training=training, max_steps=3, mask_bands=4, mask_frames=8, **weak
    )
    members = trainer.debiasing.weak.members
    main_hears, weak_hears = Listens(trainer.features), Listens(members[0].features.features)
    trainer.features = main_hears
    members[0].features.features = weak_hears
    before = {key: value.clone() for key, value in members[0].model.state_dict().items()}
    trainer.train()
    assert len(main_hears.heard) == len(weak_hears.heard) == 3
    for (waveforms, lengths), (others, other_lengths) in zip(main_hears.heard, weak_hears.heard, strict=True):
        if weak:
            waveforms, lengths = torchaudio.functional.resample(waveforms, 16_000, 32_000), 2 * lengths
        assert waveforms.abs().max() > 0.01
        assert torch.equal(waveforms, others) and torch.equal(lengths, other_lengths)
    assert same(before, members[0].model.state_dict()) == (training == "first")


# The loss of a batch


def losses_of(corpus, folder, **changes):
    trainer = trainer_of_a_run(
        corpus, folder, max_steps=2, logging_steps=1, learning_rate=0.0, weak_learning_rate=2e-3,
        model_config="hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,num_mel_bins=64",
        **changes,
    )  # fmt: skip
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer


@pytest.mark.parametrize("debias", ["poe", "learned_mixin"])
def test_a_batch_in_two_parts_has_the_loss_of_the_whole_also_with_smoothed_labels(debias, small, tmp_path):
    changes = dict(debias=debias, label_smoothing_factor=0.1)
    if debias == "learned_mixin":
        changes.update(weak_training="joint", weak_model_config=WEAK_CONFIG.replace("prob=0.1", "prob=0"))
    # A weak model that was trained first follows from the size of its batches: the second run takes that of the first.
    whole, trainer = losses_of(small, tmp_path / "1x16", per_device_train_batch_size=16, **changes)
    given = {}
    if debias == "poe":
        member = trainer.debiasing.weak.members[0]
        member.model.save_pretrained(tmp_path / "weak")
        member.features.extractor.save_pretrained(tmp_path / "weak")
        given = dict(weak_model=tmp_path / "weak", weak_model_config=None)
    parts, _ = losses_of(
        small, tmp_path / "2x8", per_device_train_batch_size=8, gradient_accumulation_steps=2, **{**changes, **given}
    )
    assert len(whole) == 2 and min(whole) > 1e-3
    assert parts == pytest.approx(whole, rel=1e-4)


# Whole runs


def scores_of(members, corpus, folder):
    """Test split: `(windows, labels)` mean probabilities of the members, by plain batches; windows of 16 kHz."""
    trainer = trainer_of_a_run(corpus, folder)
    windows = trainer.windows["test"]
    batch = collate_windows([windows[index] for index in range(len(windows))])
    logits = []
    for member in members:
        features, waveforms, lengths = member.features.features, batch["waveforms"], batch["lengths"]
        rate = features.sampling_rate
        if rate != 16_000:
            waveforms, lengths = torchaudio.functional.resample(waveforms, 16_000, rate), lengths * (rate // 16_000)
        with torch.no_grad():
            logits.append(member.model.eval()(**features(waveforms, lengths)).logits.numpy())
    return np.mean([softmax(values) for values in logits], axis=0), windows


def noted(monkeypatch):
    """A list to which every `Debiasing` that a run makes is added."""
    made = []
    monkeypatch.setattr(
        "hf_musiclf.stages.make_debiasing", lambda *args: made.append(make_debiasing(*args)) or made[-1]
    )
    return made


def check_the_row_of_the_weak_model(report, probabilities, windows):
    """That the report scores these `(windows, labels)` probabilities of the test split."""
    _, by_track = mean_by_track(probabilities, windows.track_of_window)
    row = report["baselines"]["the weak model alone"]
    for level, scores, labels in (
        ("window", probabilities, windows.label_of_window),
        ("track", by_track, windows.label_of_track),
    ):
        assert row[level]["accuracy"] == pytest.approx((scores.argmax(1) == labels).mean())
        expected = -np.log(scores[np.arange(len(labels)), labels]).mean()
        assert row[level]["log_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "debias, how",
    [
        *((debias, how) for debias in ("poe", "poe_ce", "learned_mixin", "mixture") for how in ("first", "joint")),
        ("learned_mixin", "folds"),
    ],
)
def test_a_run_leaves_the_main_model_alone_and_tells_of_the_weak_one(
    debias, how, small, alone, tmp_path, monkeypatch, capsys
):
    made = noted(monkeypatch)
    folder, extra = tmp_path / "run", dict(weak_folds=3) if how == "folds" else {}
    training = "joint" if how == "joint" else "first"
    report = run_small(small, output_dir=folder, debias=debias, weak_training=training, **extra)

    of_none, of_this = ({path.name for path in place.iterdir()} for place in (alone, folder))
    assert of_this == of_none
    plain, weights = (load_file(place / "model.safetensors") for place in (alone, folder))
    assert {key: value.shape for key, value in weights.items()} == {key: value.shape for key, value in plain.items()}
    learns_beside = how == "joint" or debias == "learned_mixin"
    assert (folder / f"checkpoint-{report['training']['steps']}" / STATE_FILE).is_file() == learns_beside

    weak = made[0].weak
    assert len(weak.members) == (3 if how == "folds" else 1)
    probabilities, windows = scores_of(weak.members, small, tmp_path / "again")
    check_the_row_of_the_weak_model(report, probabilities, windows)

    about = report["training"]["debiasing"]
    assert about["loss"] == debias and about["weak"]["members"] == len(weak.members)
    assert about["weak"]["training"] == ("out of fold" if how == "folds" else how)
    assert {split: "agreement" in found for split, found in about["statistics"].items()} == {
        "train": False, "validation": True, "test": True,
    }  # fmt: skip
    classify = TrackClassifier(str(folder))
    batch = collate_windows([windows[index] for index in range(len(windows))])
    with torch.no_grad():
        main = classify.model(**classify.features(batch["waveforms"], batch["lengths"])).logits
    product = debias in ("poe", "poe_ce")
    expected = expert_statistics(np.log(probabilities), windows.label_of_window, main, about["alpha"] or 1.0)
    if product:
        assert 0 <= about["memorised_share"] < 1
    else:  # whose gradient these two are about
        expected["gradient_left"] = expected["gradient_left_wrong"] = None
        assert about["memorised_share"] is None
    assert about["statistics"]["test"] == pytest.approx(expected, abs=1e-5)

    said, card = capsys.readouterr().out, (folder / "README.md").read_text(encoding="utf-8")
    # Before the main model trains, but of one that learns along with it, and after.
    assert said.count("weak model: accuracy by window") == (1 if how == "joint" else 2)
    assert said.count("agrees with the main model") == 2 and "the weak model alone: accuracy" in said
    ways = {"first": "trained first and frozen", "joint": "trained along", "folds": "one for each part of the training"}
    assert "beside a weak model" in card and [way for way, words in ways.items() if words in card] == [how]
    assert "weak model" not in (alone / "README.md").read_text(encoding="utf-8")


def test_a_weak_model_of_another_rate_hears_no_masks_from_the_first_window_to_the_report(small, tmp_path, monkeypatch):
    """AST at 16 kHz, with masks, beside EfficientAT at 32 kHz, which is scored on the very windows of the main one."""
    made = noted(monkeypatch)
    report = run_small(small, output_dir=tmp_path / "run", debias="poe", mask_bands=4, mask_frames=8, **CONVOLUTIONAL)
    (member,) = made[0].weak.members
    assert member.features.features.sampling_rate == 32_000 and member.family == "efficientat"
    check_the_row_of_the_weak_model(report, *scores_of([member], small, tmp_path / "again"))
    statistics = report["training"]["debiasing"]["statistics"]
    # Two windows a track, whichever split; the mean over windows of the test split is the report's.
    assert [statistics[split]["n"] for split in ("train", "validation", "test")] == [120, 20, 20]
    of_windows = report["baselines"]["the weak model alone"]["window"]["accuracy"]
    assert statistics["test"]["accuracy"] == pytest.approx(of_windows)


def test_a_weak_model_that_does_not_count_changes_nothing(small, alone, tmp_path):
    """Windows, their order and dropout are drawn as without it, whatever the weak model's own training drew."""
    run_small(small, output_dir=tmp_path / "run", debias="poe", debias_alpha=0, **PLAIN_STEPS)
    one, other = (load_file(place / "model.safetensors") for place in (alone, tmp_path / "run"))
    trainer = trainer_of_a_run(small, tmp_path / "counts", debias="poe", debias_alpha=0.5, **PLAIN_STEPS)
    set_seed(0)
    trainer.train()
    third = trainer.loaded.model.state_dict()
    moved = max(
        (value - third[name]).abs().max() for name, value in TrackClassifier(str(alone)).model.named_parameters()
    )
    assert moved > 1e-4  # where it counts, it is seen
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-6, rtol=1e-6, msg=key)


HEAD = dict(train_layers="head", train_windows="all", model_config=None)


@pytest.mark.parametrize("how", ["first", "joint", "kept embeddings"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(how, small, alone, tmp_path, monkeypatch):
    # 60 training tracks in batches of 16: 4 steps an epoch. Killed in the sixth of the main training, and resumed from
    # the third, within an epoch; the last weights are kept, so that what came after the kill counts. The first run
    # trains the weak model, the others take it from the cache: the gate, too, has to start alike.
    changes = dict(
        cache_dir=tmp_path / "cache", debias="learned_mixin", weak_training="joint" if how == "joint" else "first",
        num_train_epochs=2, eval_strategy="no", save_strategy="steps", save_steps=3, save_total_limit=9,
        load_best_model_at_end=False,
    )  # fmt: skip
    if how == "kept embeddings":  # all windows, two a track, are half as many epochs
        changes.update(HEAD, model=alone, num_train_epochs=1)
    whole = run_small(small, output_dir=tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(6))
        with pytest.raises(Killed):
            run_small(small, output_dir=tmp_path / "killed", **changes)
    beside = load_file(tmp_path / "killed" / "checkpoint-3" / STATE_FILE)
    assert any(key.startswith("gate.") for key in beside)
    assert any(key.startswith("weak.") for key in beside) == (how == "joint")
    resumed = run_small(small, output_dir=tmp_path / "killed", **changes)
    assert resumed["training"]["steps"] == whole["training"]["steps"] == 8
    assert resumed["test"] == whole["test"] and resumed["baselines"] == whole["baselines"]
    assert resumed["training"]["debiasing"] == whole["training"]["debiasing"]
    for name in ("model.safetensors", f"checkpoint-8/{STATE_FILE}"):
        one, other = (load_file(tmp_path / place / name) for place in ("whole", "killed"))
        assert same(one, other), name
    assert not (tmp_path / "killed" / STATE_FILE).exists()


# A head on kept embeddings


@pytest.mark.parametrize(
    "changes",
    [
        dict(debias="poe"),
        dict(debias="learned_mixin"),
        dict(debias="poe_ce", weak_folds=2),
    ],
    ids=["poe", "learned_mixin", "poe_ce out of fold"],
)
def test_kept_embeddings_train_the_same_head_beside_a_weak_model(changes, small, alone, tmp_path):
    """The weak model is frozen and speaks of each window once; the gate of a learned mixin learns beside the head."""

    def trained(name, **more):
        trainer = trainer_of_a_run(small, tmp_path / name, model=alone, **HEAD, **PLAIN_STEPS, **{**changes, **more})
        assert bool(trainer.embedded) == (name == "kept")
        set_seed(0)
        trainer.train()
        parts = dict(trainer.loaded.model.classifier.named_parameters())
        if trainer.pair:
            parts.update(trainer.pair.gate.named_parameters(prefix="gate"))
        return trainer.logits(trainer.windows["test"]), {name: value.detach().clone() for name, value in parts.items()}

    changes = {**changes, "cache_dir": tmp_path / "cache"}
    (scores, head), (others, other_head) = trained("kept"), trained("plain", cache_embeddings=False)
    assert ("gate.linear.weight" in head) == (changes["debias"] == "learned_mixin") and set(head) == set(other_head)
    np.testing.assert_allclose(scores, others, atol=1e-5, rtol=0)
    for name, value in head.items():
        torch.testing.assert_close(value, other_head[name], atol=1e-5, rtol=0, msg=name)
    # And the weak model counts.
    changes = {name: value for name, value in changes.items() if name == "cache_dir"}
    alone_scores, _ = trained("alone", cache_embeddings=False)
    assert np.abs(scores - alone_scores).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [dict(weak_training="joint"), dict(balance="oversample"), dict(mask_bands=4)],
    ids=lambda c: next(iter(c)),
)
def test_embeddings_are_not_kept_where_windows_differ_or_the_weak_model_learns(changes, small, alone, tmp_path):
    changes = dict(model=alone, debias="poe", cache_dir=tmp_path / "cache", **HEAD, **changes)
    run, loaded, tracks, data_args, args = parts_of_a_run(small, tmp_path / "run", **changes)
    tracks = replace(tracks, splits={**tracks.splits, "train": tracks.splits["train"][1:]})  # one label is rarer
    windows = cut_windows(tracks, data_args, loaded.features.sampling_rate, args.seed)
    assert not make_trainer(run, loaded, tracks, windows, data_args, args).embedded


# What is told


@pytest.mark.parametrize("share, warned", [(None, False), (0.0, False), (0.5, False), (0.51, True)])
def test_a_weak_model_that_has_memorised_is_told_above_one_half(share, warned):
    train, validation = (
        dict(accuracy=accuracy, entropy_nats=entropy) for accuracy, entropy in ((0.9, 0.126), (0.4, 2))
    )
    statistics = {"train": train, "validation": {**validation, "n": 20, "agreement": 0.25}}
    about = {"statistics": statistics, "memorised_share": share, "weak": {"training": "first"}}
    said, *warning = tell(about).split("\n")
    known = "train 0.900 (entropy 0.13 nats), validation 0.400 (entropy 2.00 nats, agrees with the main model on 25%)"
    assert said == f"weak model: accuracy by window {known}"
    assert len(warning) == warned
    if warned:
        assert "warning: the weak model has memorised its training windows: 51% of the gradient" in warning[0]
        assert "or on the 12 of 20 that it gets wrong, is missing there" in warning[0]
        ways = [tell({**about, "weak": {"training": how}}) for how in ("first", "out of fold", "joint", "given")]
        assert [way.count("--weak_folds 5") for way in ways] == [1, 0, 1, 0] and len(set(ways)) == 4


def test_memorised_is_what_is_known_of_training_alone(small, tmp_path):
    """A weak model that knows every training window by heart and nothing else, and one that knows all alike."""
    trainer = trainer_of_a_run(small, tmp_path / "run", debias="poe")
    debiasing, labels = trainer.debiasing, np.arange(60) % 10
    sure, none = np.log(0.99 * np.eye(10)[labels] + 1e-3), np.zeros((60, 10))
    debiasing.speak = lambda split: (sure if split == "train" else none, labels)
    about = debiasing.describe()
    assert set(about["statistics"]) == {"train", "validation"}  # nothing is read off the test split
    assert about["memorised_share"] > 0.9 and "warning" in tell(about)
    debiasing.speak = lambda split: (sure, labels)
    assert debiasing.describe()["memorised_share"] == 0 and "warning" not in tell(debiasing.describe())
