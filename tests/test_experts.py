"""Where weak models come from: trained as any model is, kept under what they follow from, blind to their own fold."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from debiased_runs import (
    CONVOLUTIONAL,
    MAIN_CONFIG,
    WEAK_CONFIG,
    parts_of_a_run,
    same,
    trainer_of_a_run,
    write_small_corpus,
)
from recipe_runs import WAV2VEC2, Killed, dies_in_step
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    set_seed,
)

from hf_musiclf import experts
from hf_musiclf.arguments import ModelArguments
from hf_musiclf.errors import UserError
from hf_musiclf.experts import ABOUT_FILE, make_debiasing
from hf_musiclf.files import write_whole
from hf_musiclf.models.efficientat import EfficientAtModel
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.trainer import MusicTrainer

STEPS_OF_ONE_EPOCH = 4  # 60 training tracks in batches of 16


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_small_corpus(tmp_path_factory.mktemp("small") / "synthetic")


@pytest.fixture
def steps(monkeypatch):
    """Grows by one with each step of any training."""
    taken, step = [], MusicTrainer.training_step

    def counted(self, *args, **kwargs):
        taken.append(1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(MusicTrainer, "training_step", counted)
    return taken


def made(corpus, folder, change=lambda tracks: tracks, **changes):
    """The weak model or models of a run whose tracks go through `change`; kept beneath `folder`."""
    changes = {"debias": "poe", "cache_dir": folder / "cache", **changes}
    _, loaded, tracks, data_args, args = parts_of_a_run(corpus, folder / "run", **changes)
    return make_debiasing(loaded, change(tracks), data_args, args).weak


def state_of(weak):
    return weak.members[0].model.state_dict()


def kept(folder):
    """What lies in the cache, half or whole."""
    return sorted(path.name for path in (folder / "cache" / "hf_musiclf_weak").glob("*"))


def write_checkpoint(folder, labels, seed=0):
    """A tiny AST that has never been trained; returns the folder."""
    set_seed(seed)
    args = ModelArguments(model="random", model_config=WEAK_CONFIG)
    loaded = load_classifier(args, labels, 1.28, "audio-spectrogram-transformer", verbose=False)
    loaded.model.save_pretrained(folder)
    loaded.features.extractor.save_pretrained(folder)
    return folder


# Trained first


def test_a_weak_model_is_trained_as_a_recipe_trains_it(small, tmp_path):
    weak = made(small, tmp_path, mask_bands=8, mask_frames=16)  # masks are for the main model
    trainer = trainer_of_a_run(small, tmp_path / "main", model_config=WEAK_CONFIG)
    set_seed(0)
    trainer.train()
    assert same(state_of(weak), trainer.loaded.model.state_dict())
    assert not any(parameter.requires_grad for parameter in weak.members[0].model.parameters())
    assert weak.facts == {
        "class": "ASTForAudioClassification", "start": "from scratch", "training": "first", "members": 1,
        "parameters": sum(value.numel() for value in state_of(weak).values()),
    }  # fmt: skip


def test_the_main_model_and_the_arguments_stay_as_they_are(small, tmp_path):
    _, loaded, tracks, data_args, args = parts_of_a_run(
        small, tmp_path / "run", debias="poe", layer_lr_decay=0.5, mask_bands=4, train_layers="last:1",
        cache_dir=tmp_path / "cache",
    )  # fmt: skip
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    learns = [parameter.requires_grad for parameter in loaded.model.parameters()]
    asked, splits = args.to_dict(), {split: rows.tolist() for split, rows in tracks.splits.items()}
    make_debiasing(loaded, tracks, data_args, args)
    assert same(before, loaded.model.state_dict())
    assert learns == [parameter.requires_grad for parameter in loaded.model.parameters()]
    assert asked == args.to_dict() and splits == {split: rows.tolist() for split, rows in tracks.splits.items()}


def test_a_weak_model_learns_at_its_own_rate(small, tmp_path):
    start = write_checkpoint(tmp_path / "start", ("a", "b", "c"))
    still, default = (
        made(small, tmp_path, weak_model=start, weak_model_config=None, weak_learning_rate=rate)
        for rate in (1e-12, None)
    )
    moved = [(state_of(default)[key] - value).abs().max() for key, value in state_of(still).items()]
    assert max(moved) > 1e-3
    began = load_classifier(ModelArguments(model=str(start)), ("a", "b", "c"), 1.28, still.members[0].family).model
    for key, value in began.audio_spectrogram_transformer.state_dict().items():
        torch.testing.assert_close(state_of(still)[f"audio_spectrogram_transformer.{key}"], value, atol=1e-9, rtol=0)


def test_a_weak_model_of_another_rate_is_trained_on_what_it_hears_beside_the_main_one(small, tmp_path, monkeypatch):
    """It hears 16 kHz resampled to its 32, and not the file read at 32: a network tells the two apart."""
    forward, heard = EfficientAtModel.forward, {True: set(), False: set()}

    def listen(self, input_values, *args, **kwargs):
        heard[self.training] |= {hash(item.numpy().tobytes()) for item in input_values}
        return forward(self, input_values, *args, **kwargs)

    monkeypatch.setattr(EfficientAtModel, "forward", listen)
    changes = dict(debias="poe", train_windows="all", cache_dir=tmp_path / "cache", **CONVOLUTIONAL)
    _, loaded, tracks, data_args, args = parts_of_a_run(small, tmp_path / "run", **changes)
    make_debiasing(loaded, tracks, data_args, args).speak("train")
    assert len(heard[True]) > 60 and heard[True] == heard[False]


def test_a_weak_checkpoint_brings_its_own_family(small, tmp_path):
    """A wav2vec 2.0 beside an AST, named by its folder alone."""
    start, config = tmp_path / "start", json.loads(WAV2VEC2["weak_model_config"])
    model = Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**config))
    model.save_pretrained(start)
    Wav2Vec2FeatureExtractor().save_pretrained(start)
    weak = made(small, tmp_path, weak_model=start, weak_model_config=None)
    assert weak.members[0].family == "wav2vec2"


@pytest.mark.parametrize("rate, of_gate", [(None, 2e-3), (0.5, 2e-3)])
def test_the_gate_learns_at_the_main_rate_whatever_that_of_the_weak_model(rate, of_gate, small, tmp_path):
    changes = dict(debias="learned_mixin", weak_learning_rate=rate, learning_rate=2e-3, cache_dir=tmp_path / "cache")
    trainer = trainer_of_a_run(small, tmp_path / "run", **changes)
    groups = trainer.create_optimizer().param_groups
    gate = {id(parameter) for parameter in trainer.pair.gate.parameters()}
    assert {group["lr"] for group in groups if gate & {id(parameter) for parameter in group["params"]}} == {of_gate}


# Kept


@pytest.fixture(scope="module")
def first(small, tmp_path_factory):
    """A folder beneath which one weak model is kept, and the model; to be read, but models may be added."""
    folder = tmp_path_factory.mktemp("kept")
    return folder, made(small, folder)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(debias="mixture", debias_alpha=0.3),
        dict(num_train_epochs=7, max_steps=3, mask_bands=4, layer_lr_decay=0.5, head_learning_rate=1.0),
        dict(model_config=MAIN_CONFIG.replace("num_hidden_layers=2", "num_hidden_layers=1")),
    ],
    ids=["nothing", "the loss", "the main training", "the main model"],
)
def test_the_next_run_takes_what_is_kept_whatever_else_it_changes(changes, first, small, steps):
    folder, weak = first
    again = made(small, folder, **changes)
    assert not steps and same(state_of(weak), state_of(again))
    assert not any(parameter.requires_grad for parameter in again.members[0].model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        dict(weak_epochs=2),
        dict(weak_learning_rate=1e-3),
        dict(seed=1),
        dict(split_seed=1),
        dict(per_device_train_batch_size=20),
        dict(label_smoothing_factor=0.1),
        dict(optim="sgd"),
        dict(train_windows="all"),
        dict(bf16=True),
        dict(weak_model_config=WEAK_CONFIG.replace("prob=0.1", "prob=0.2")),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_a_weak_model_follows_from_trains_it_anew(changes, first, small, steps):
    folder, weak = first
    other = made(small, folder, **changes)
    assert steps and not same(state_of(weak), state_of(other))
    taken = len(steps)
    assert same(state_of(other), state_of(made(small, folder, **changes))) and len(steps) == taken
    assert all((folder / "cache" / "hf_musiclf_weak" / name / ABOUT_FILE).is_file() for name in kept(folder))


def renamed(tracks):
    """Labels of other names: the same sounds, the same numbers of labels."""
    return replace(tracks, table=replace(tracks.table, labels=tuple(f"new {label}" for label in tracks.labels)))


def permuted(tracks):
    """The same names, but each track has the next label."""
    rows, labels = tracks.table.rows, tracks.table.column("label")
    others = [(label + 1) % len(tracks.labels) for label in labels]
    rows = rows.remove_columns("label").add_column("label", others, feature=rows.features["label"])
    return replace(tracks, table=replace(tracks.table, rows=rows))


@pytest.mark.parametrize("change", [renamed, permuted])
def test_two_tasks_on_the_same_tracks_share_no_weak_model(change, first, small, steps):
    folder, weak = first
    before = kept(folder)
    other = made(small, folder, change)
    assert len(steps) == STEPS_OF_ONE_EPOCH and len(kept(folder)) == len(before) + 1
    config = other.members[0].model.config
    assert (config.label2id == weak.members[0].model.config.label2id) == (change is permuted)
    assert same(state_of(other), state_of(made(small, folder, change))) and len(steps) == STEPS_OF_ONE_EPOCH
    assert same(state_of(weak), state_of(made(small, folder))) and len(steps) == STEPS_OF_ONE_EPOCH


def test_another_version_of_transformers_trains_anew(small, first, steps, monkeypatch):
    folder, weak = first
    about = json.loads((folder / "cache" / "hf_musiclf_weak" / kept(folder)[0] / ABOUT_FILE).read_text())
    assert about["transformers"] == experts.transformers.__version__
    monkeypatch.setattr(experts.transformers, "__version__", "5.0.0")
    assert same(state_of(made(small, folder)), state_of(weak)) and len(steps) == STEPS_OF_ONE_EPOCH


def test_a_checkpoint_that_changes_in_its_place_is_another_one(small, tmp_path, steps):
    for seed, expected in [(0, 1), (0, 1), (1, 2)]:
        start = write_checkpoint(tmp_path / "start", ("a", "b", "c"), seed)
        made(small, tmp_path, weak_model=start, weak_model_config=None)
        assert len(kept(tmp_path)) == expected and len(steps) == expected * STEPS_OF_ONE_EPOCH


def test_a_kill_while_the_weak_model_trains_leaves_nothing_and_the_next_run_trains_it(small, tmp_path, monkeypatch):
    changes = dict(debias="poe", cache_dir=tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(2))
        with pytest.raises(Killed):
            trainer_of_a_run(small, tmp_path / "run", **changes)
    assert kept(tmp_path) == [] and list((tmp_path / "run").rglob("*")) == []
    with monkeypatch.context() as patch:  # killed between its files
        patch.setattr(experts, "write_json", dies_in_step(1))
        with pytest.raises(Killed):
            trainer_of_a_run(small, tmp_path / "run", **changes)
    assert kept(tmp_path) == []
    trainer = trainer_of_a_run(small, tmp_path / "run", **changes)
    (folder,) = (tmp_path / "cache" / "hf_musiclf_weak").iterdir()
    assert json.loads((folder / ABOUT_FILE).read_text())["weak_epochs"] == "1.0"
    assert same(state_of(trainer.debiasing.weak), state_of(made(small, tmp_path)))


def test_two_runs_may_keep_the_same_weak_model_at_once(small, tmp_path, monkeypatch):
    def by_the_other_first(path, write):
        write_whole(path, write)
        return write_whole(path, write)

    monkeypatch.setattr(experts, "write_whole", by_the_other_first)
    weak = made(small, tmp_path)
    assert len(kept(tmp_path)) == 1 and same(state_of(weak), state_of(made(small, tmp_path)))


def test_a_cut_weak_model_comes_back_cut(small, tmp_path):
    changes = dict(weak_model_config=MAIN_CONFIG, weak_layers=1)
    trained, again = made(small, tmp_path, **changes), made(small, tmp_path, **changes)
    assert trained.members[0].model.config.num_hidden_layers == 1
    assert same(state_of(trained), state_of(again))
    assert not any(".layers.1." in key for key in state_of(again))


# Given, and joint


def test_a_checkpoint_with_a_head_for_these_labels_is_used_as_it_is(small, tmp_path, steps):
    _, _, tracks, *_ = parts_of_a_run(small, tmp_path / "run", cache_dir=tmp_path / "cache")
    given = dict(weak_model=write_checkpoint(tmp_path / "given", tracks.labels), weak_model_config=None)
    start = load_classifier(
        ModelArguments(model=str(given["weak_model"])), tracks.labels, 1.28, "audio-spectrogram-transformer"
    )
    weak = made(small, tmp_path, **given)
    assert not steps and kept(tmp_path) == []
    assert same(state_of(weak), start.model.state_dict()) and weak.facts["training"] == "given"
    for mistake in (dict(weak_folds=3), dict(weak_layers=1)):
        ((flag, value),) = mistake.items()
        with pytest.raises(
            UserError, match=rf"{flag}={value}.* has( its head)? already; (leave one out|pass --weak_layers 0)"
        ) as caught:
            made(small, tmp_path, **given, **mistake)
        assert "\n" not in str(caught.value)
    assert made(small, tmp_path, **given, weak_training="joint").facts["training"] == "joint"


@pytest.mark.parametrize("weak", [{}, CONVOLUTIONAL], ids=["ast", "efficientat"])
def test_a_joint_weak_model_learns_beside_the_main_one_by_its_own_loss_alone(weak, small, tmp_path):
    """What the main model gets out of it, or not, is none of its business: alpha changes nothing for it."""
    states = []
    for alpha in (0.0, 3.0):
        trainer = trainer_of_a_run(
            small, tmp_path / "run", debias="poe", debias_alpha=alpha, weak_training="joint", optim="sgd", max_steps=2,
            learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0, cache_dir=tmp_path / "cache", **weak,
        )  # fmt: skip
        member = trainer.debiasing.weak.members[0].model
        before = {key: value.clone() for key, value in member.state_dict().items()}
        assert all(parameter.requires_grad for parameter in member.parameters())
        set_seed(0)
        trainer.train()
        assert not same(before, member.state_dict()) and kept(tmp_path) == []
        states.append(
            [{key: value.clone() for key, value in m.state_dict().items()} for m in (member, trainer.loaded.model)]
        )
    assert same(states[0][0], states[1][0])
    assert not same(states[0][1], states[1][1])


@pytest.mark.parametrize("how", ["first", "joint"])
def test_a_weak_network_that_standardises_its_inputs_knows_them_before_it_learns(how, small, tmp_path, monkeypatch):
    """Of bins in decibels, far from 0: their mean over training windows, not the 0 of a new batch norm."""
    seen = []
    monkeypatch.setattr(MusicTrainer, "train", lambda self, **kwargs: seen.append(self.loaded.model))
    monkeypatch.setattr(experts._Maker, "_keep", lambda self, trainer, folder, about: trainer.loaded.save(folder))
    cnn = dict(weak_model_type="spectrogram_cnn", weak_model_config="channels=[4],dense_sizes=[],num_mel_bins=8")
    weak = made(small, tmp_path, **cnn, weak_training=how)
    (model,) = {id(model): model for model in (*seen, *(member.model for member in weak.members))}.values()
    norm = model.base_model.standardisation
    assert norm.num_batches_tracked > 0 and (norm.running_mean.abs() > 5).all()


@pytest.mark.parametrize("start, still", [("a checkpoint", True), ("from scratch", False)])
def test_batch_norms_of_a_joint_weak_model_stay_where_those_of_a_pretrained_one_are_to(start, still, small, tmp_path):
    weak = dict(CONVOLUTIONAL)
    if start != "from scratch":
        fresh = made(small, tmp_path, **weak, weak_training="joint").members[0]
        fresh.model.config.id2label = {0: "a", 1: "b"}
        fresh.save(tmp_path / "start")
        weak = dict(weak_model=tmp_path / "start", weak_model_config=None)
    trainer = trainer_of_a_run(
        small, tmp_path / "run", debias="poe", weak_training="joint", freeze_batch_norm=True, max_steps=2,
        cache_dir=tmp_path / "cache", **weak,
    )  # fmt: skip
    norms = [m for m in trainer.debiasing.weak.members[0].model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    trainer.train()
    assert all(torch.equal(*pair) for pair in zip(before, (n.running_mean for n in norms), strict=True)) == still


# Out of fold


@pytest.fixture
def folds(small, tmp_path, monkeypatch):
    """Weak models of three folds that are not trained, but say of everything that it has the label of their number;
    groups of three tracks, every seventh track of unknown group; and the rows that each was to be trained on."""
    given = []

    def trained(self, rows):
        loaded = self.untrained()
        torch.nn.init.zeros_(loaded.model.classifier.dense.weight)
        loaded.model.classifier.dense.bias.data = 50.0 * torch.eye(10)[len(given)]
        given.append(rows.tolist())
        return loaded

    monkeypatch.setattr(experts._Maker, "trained", trained)
    _, loaded, tracks, data_args, args = parts_of_a_run(small, tmp_path / "run", debias="poe", weak_folds=3)
    groups = tuple(None if row % 7 == 0 else f"group {row % 20}" for row in range(len(tracks.table)))
    tracks = replace(tracks, table=replace(tracks.table, groups=groups))
    return tracks, make_debiasing(loaded, tracks, data_args, args), given


def test_no_member_has_heard_a_row_that_it_speaks_for_nor_its_group(folds):
    tracks, debiasing, given = folds
    member_of_row, train = debiasing.weak.member_of_row, tracks.splits["train"].tolist()
    assert len(given) == len(debiasing.weak.members) == 3
    assert sorted(member_of_row) == train  # each training row has one, and no other row has
    groups = tracks.table.groups
    assert sum(groups[row] is None for row in train) > 3 and max(Counter(filter(None, groups)).values()) > 2
    for row, member in member_of_row.items():
        heard = given[member]
        assert row not in heard and (groups[row] is None or groups[row] not in {groups[other] for other in heard})
        assert all(row in other for number, other in enumerate(given) if number != member)
    assert all(set(rows) < set(train) for rows in given)
    unknown = [member for row, member in member_of_row.items() if groups[row] is None]
    assert len(set(unknown)) > 1  # each is a group of its own, not all of them one


def test_a_split_is_spoken_of_by_who_has_not_heard_it(folds):
    tracks, debiasing, _ = folds
    spoken, labels = debiasing.speak("train")
    per_track = len(spoken) // len(tracks.splits["train"])
    expected = [debiasing.weak.member_of_row[row] for row in tracks.splits["train"] for _ in range(per_track)]
    assert spoken.argmax(1).tolist() == expected
    of_rows = np.asarray(tracks.table.column("label"))[tracks.splits["train"]]
    assert labels.tolist() == np.repeat(of_rows, per_track).tolist()
    for split in ("validation", "test"):  # which none has heard: all of them, in equal parts
        np.testing.assert_allclose(np.exp(debiasing.speak(split)[0]), [[1 / 3] * 3 + [0] * 7] * 20, atol=1e-6)
