"""Changes of training windows in the workers: what they do to sound, and what they follow from."""

import ast
import random
import sys

import numpy as np
import pytest
import soundfile
import torch
from conftest import noise
from recipe_runs import ROOT, Killed, dies_in_step, run_recipe
from torch.utils.data import DataLoader
from transformers import TrainerState

from hf_musiclf.arguments import RecipeTrainingArguments, parse_recipe
from hf_musiclf.arguments.augmentation import WAVEFORM_AUGMENTATIONS, parse_waveform_augmentation
from hf_musiclf.callbacks import EpochCallback
from hf_musiclf.data.gtzan import load_gtzan
from hf_musiclf.data.gtzan_files import GENRES
from hf_musiclf.data.window_dataset import EvaluationWindows, RandomWindows, collate_windows
from hf_musiclf.debiasing import Debiasing
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.trainer import MusicTrainer
from hf_musiclf.waveform_augmentation import AugmentedWindows, WaveformAugmentation

RATE = 16_000
EVERYTHING = ",".join(f"{name}=1" for name in WAVEFORM_AUGMENTATIONS)


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """They take half the time of such a run, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        yield


def augmentation(text, rate=RATE):
    return WaveformAugmentation(parse_waveform_augmentation(text), rate)


def changed(text, waveform, seed=0, offset=0, window=None):
    window = len(waveform) if window is None else window
    return augmentation(text)(waveform, offset, window, np.random.SeedSequence(seed))


def tone(frequency, seconds=3.0, level=0.3):
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def peak_frequency(waveform):
    """Hz, of the loudest partial."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 8 * len(waveform)))
    return spectrum.argmax() * RATE / (8 * len(waveform))


def decibels(waveform):
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))


# What it does to sound


@pytest.mark.parametrize("semitones, expected", [(12, 880), (-12, 220), (0, 440), (1, 466.16)])
def test_a_shifted_tone_lies_by_so_many_semitones_higher_and_lasts_as_long(semitones, expected):
    shifted = changed(f"pitch_shift=[1,{semitones},{semitones}]", tone(440))
    assert peak_frequency(shifted) == pytest.approx(expected, rel=0.005) and len(shifted) == 3 * RATE


@pytest.mark.parametrize("tempo", [0.5, 0.8, 1.25, 2.0])
def test_a_stretched_tone_keeps_pitch_and_length_and_bursts_come_at_another_pace(tempo):
    long = tone(440, 6.0)
    stretched = changed(f"time_stretch=[1,{tempo},{tempo}]", long, window=3 * RATE)
    assert len(stretched) == 3 * RATE
    assert peak_frequency(stretched) == pytest.approx(440, rel=0.005)
    # Music to the end: what runs faster has heard more of the track, and no silence was put after it.
    assert decibels(stretched[-RATE // 10 :]) == pytest.approx(decibels(long), abs=2)  # its last block fades
    clicks = np.zeros(6 * RATE, np.float32)
    clicks[RATE] = 1
    place = np.abs(changed(f"time_stretch=[1,{tempo},{tempo}]", clicks, window=3 * RATE)).argmax()
    assert place / RATE == pytest.approx(1 / tempo, abs=0.01)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0])
def test_speed_moves_pitch_and_tempo_by_one_factor_and_keeps_length_and_level(speed):
    moved = changed(f"speed=[1,{speed},{speed}]", tone(440, 6.0), window=3 * RATE)
    assert len(moved) == 3 * RATE
    assert peak_frequency(moved) == pytest.approx(440 * speed, rel=1e-3)
    assert decibels(moved[: RATE * 5 // 2]) == pytest.approx(decibels(tone(440)), abs=0.1)
    clicks = np.zeros(6 * RATE, np.float32)
    clicks[RATE] = 1
    place = np.abs(changed(f"speed=[1,{speed},{speed}]", clicks, window=3 * RATE)).argmax()
    assert place / RATE == pytest.approx(1 / speed, abs=1e-3)


def test_speed_and_tempo_multiply_and_enough_of_the_track_is_read_for_both():
    both = "speed=[1,1.25,1.25],time_stretch=[1,1.6,1.6]"
    assert augmentation(both).reach(RATE) == 2 * RATE
    moved = changed(both, tone(440, 6.0), window=3 * RATE)
    assert peak_frequency(moved) == pytest.approx(550, rel=0.005)
    assert decibels(moved[-RATE // 2 : -RATE // 10]) == pytest.approx(decibels(tone(440)), abs=1)


def test_where_a_track_has_no_more_a_faster_window_ends_in_zeros_and_is_as_long():
    faster = changed("time_stretch=[1,2,2]", tone(440))
    assert len(faster) == 3 * RATE and not faster[RATE * 3 // 2 :].any()
    assert decibels(faster[: RATE * 4 // 3]) == pytest.approx(decibels(tone(440)), abs=1)


@pytest.mark.parametrize("ratio", [0, 20, 40])
def test_noise_lies_so_many_decibels_under_the_signal(ratio):
    signal = tone(440)
    added = changed(f"noise=[1,{ratio},{ratio}]", signal) - signal
    assert decibels(signal) - decibels(added) == pytest.approx(ratio, abs=0.5)
    # White: as much in every quarter of the band.
    powers = np.square(np.abs(np.fft.rfft(added)))[:-1].reshape(4, -1).sum(1)
    np.testing.assert_allclose(powers / powers.sum(), 0.25, atol=0.02)


def test_noise_comes_after_everything_else_and_is_measured_against_that():
    finished = changed("equalizer=[1,12,12],gain=[1,-30,-30]", tone(440))
    added = changed("noise=[1,20,20],gain=[1,-30,-30],equalizer=[1,12,12]", tone(440)) - finished
    assert decibels(finished) - decibels(added) == pytest.approx(20, abs=0.5)


def test_gain_is_in_decibels_polarity_turns_the_sign_and_nothing_is_clipped():
    assert decibels(changed("gain=[1,-6,-6]", tone(440))) == pytest.approx(decibels(tone(440)) - 6, abs=1e-3)
    np.testing.assert_array_equal(changed("polarity_inversion=1", tone(440)), -tone(440))
    loud = changed("gain=[1,12,12]", tone(440, level=0.9))
    assert loud.max() == pytest.approx(0.9 * 10 ** (12 / 20), rel=1e-4)


def test_the_equalizer_moves_bands_within_its_range():
    flat = changed("equalizer=[1,0,0]", noise(3.0, RATE))
    np.testing.assert_allclose(flat, noise(3.0, RATE), atol=1e-4)
    before = np.square(np.abs(np.fft.rfft(noise(3.0, RATE))))
    moved = []
    for seed in range(5):
        after = np.square(np.abs(np.fft.rfft(changed("equalizer=[1,-6,6]", noise(3.0, RATE), seed))))
        moved.append(
            [10 * np.log10(after[band].sum() / before[band].sum()) for band in np.array_split(range(24000), 8)]
        )
    assert np.std(moved) > 0.5 and np.abs(moved).max() < 12  # neighbouring bands add up


@pytest.mark.parametrize("waveform", [noise(0.5, RATE), noise(1 / RATE, RATE), np.zeros(4000, np.float32)])
@pytest.mark.parametrize("name", WAVEFORM_AUGMENTATIONS)
def test_any_window_stays_finite_float32_and_as_long(name, waveform):
    for seed in range(3):
        found = changed(f"{name}=1", waveform, seed)
        assert found.dtype == np.float32 and found.shape == waveform.shape and np.isfinite(found).all()
        assert waveform.any() or not found.any()  # silence stays silence


@pytest.mark.parametrize("name", WAVEFORM_AUGMENTATIONS)
def test_a_probability_is_the_share_of_windows_that_change(name):
    waveform = noise(0.2, RATE)

    def share(probability, times):
        augment = augmentation(f"{name}={probability}")
        found = [augment(waveform, 0, len(waveform), np.random.SeedSequence(seed)) for seed in range(times)]
        return np.mean([not np.array_equal(one, waveform) for one in found])

    assert share(0, 20) == 0 and share(1, 20) == 1
    assert 0.15 < share(0.3, 200) < 0.45  # five standard deviations


# What it follows from


def test_the_global_generators_are_after_it_what_they_were_before():
    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()
    first = changed(EVERYTHING, noise(0.5, RATE), seed=1)
    assert random.getstate() == before[0]
    assert all(np.array_equal(*pair) for pair in zip(np.random.get_state(), before[1], strict=True))
    random.seed(4)
    np.random.seed(4)
    np.testing.assert_array_equal(first, changed(EVERYTHING, noise(0.5, RATE), seed=1))
    assert not np.array_equal(first, changed(EVERYTHING, noise(0.5, RATE), seed=2))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Twenty tracks, two of each genre: a long one and one shorter than a window."""
    folder = tmp_path_factory.mktemp("windows")
    for label, genre in enumerate(GENRES):
        (folder / genre).mkdir()
        for number, seconds in enumerate((1.5, 0.3)):
            samples = noise(seconds, RATE, label, number)
            soundfile.write(folder / genre / f"{genre}.{number:05d}.wav", samples, RATE, subtype="FLOAT")
    return load_gtzan(str(folder), str(folder / "cache"))


KINDS = {
    "random": lambda table: RandomWindows(table, range(20), RATE, RATE // 2, seed=5, per_track=2),
    "all": lambda table: EvaluationWindows(table, range(20), RATE, RATE // 2, RATE // 4),
}


def windows_of(table, kind, text=EVERYTHING, seed=5):
    return AugmentedWindows(KINDS[kind](table), augmentation(text), seed)


def heard(windows, epoch, **options):
    """The waveforms of an epoch, in the order of the windows."""
    windows.set_epoch(epoch)
    found = []
    for batch in DataLoader(windows, batch_size=8, collate_fn=collate_windows, **options):
        found += [waveform[:length] for waveform, length in zip(batch["waveforms"], batch["lengths"], strict=True)]
    return found


def equal(first, second):
    return [torch.equal(*pair) for pair in zip(first, second, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_windows_follow_from_seed_epoch_and_place_alone_whatever_the_workers(kind, table):
    windows = windows_of(table, kind)
    first = heard(windows, 0)
    random.seed(9)
    np.random.seed(9)
    assert all(equal(first, heard(windows_of(table, kind), 0, num_workers=2)))
    assert not any(equal(first, heard(windows, 1)))
    assert all(equal(first, heard(windows, 0)))
    assert not any(equal(first, heard(windows_of(table, kind, seed=6), 0)))
    assert len({waveform.numpy().tobytes() for waveform in first}) == len(first)


@pytest.mark.parametrize("kind", KINDS)
def test_workers_that_live_across_epochs_hear_that_the_epoch_is_another(kind, table):
    windows = windows_of(table, kind)
    loader = DataLoader(windows, batch_size=8, collate_fn=collate_windows, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        windows.set_epoch(epoch)
        found = torch.cat([batch["waveforms"].flatten() for batch in loader])
        windows.set_epoch(epoch)
        alone = DataLoader(windows, batch_size=8, collate_fn=collate_windows)
        assert torch.equal(found, torch.cat([batch["waveforms"].flatten() for batch in alone]))


@pytest.mark.parametrize("kind", KINDS)
def test_items_keep_label_row_and_length_and_without_a_change_every_sample(kind, table):
    plain, augmented, never = KINDS[kind](table), windows_of(table, kind), windows_of(table, kind, "noise=0")
    read_around = windows_of(table, kind, "time_stretch=[1e-12,0.5,2]")  # so as to stretch it, which never comes
    for index in range(len(plain)):
        item = plain[index]
        for other in (augmented[index], never[index], read_around[index]):
            assert (other["labels"], other["row"]) == (item["labels"], item["row"])
            assert len(other["waveform"]) == len(item["waveform"])
        np.testing.assert_array_equal(never[index]["waveform"], item["waveform"])
        np.testing.assert_array_equal(read_around[index]["waveform"], item["waveform"])


def test_a_faster_window_at_the_end_of_a_track_is_music_to_its_end(table):
    plain = KINDS["all"](table)
    faster = windows_of(table, "all", "time_stretch=[1,1.9,1.9]")
    last = np.flatnonzero(plain.start_of_window == 3 * RATE // 2 - RATE // 2)
    assert len(last) == 10
    for index in last:
        assert decibels(faster[index]["waveform"][-RATE // 20 :]) > decibels(plain[index]["waveform"]) - 3


# As a flag


def parse(*words):
    return parse_recipe(dict(output_dir="runs/x", use_cpu=True), words)[2]


def test_a_mapping_in_a_file_says_what_the_flag_says(tmp_path):
    text = "waveform_augmentation: {noise: 0.3, pitch_shift: [0.5, -1, 1], gain: 0}\n"
    (tmp_path / "c.yaml").write_text(text)
    from_file = parse("--config", str(tmp_path / "c.yaml"))
    from_flag = parse("--waveform_augmentation", "noise=0.3,pitch_shift=[0.5,-1,1]")
    assert from_file.waveform_changes == from_flag.waveform_changes
    assert from_flag.waveform_changes == {"pitch_shift": (0.5, -1.0, 1.0), "noise": (0.3, 20.0, 40.0)}
    assert from_file.augments and not from_file.augments_batches and not from_file.plain().augments
    assert not parse("--waveform_augmentation", "noise=0").augments and not parse().augments


@pytest.mark.parametrize(
    "text, message",
    [
        ("pich_shift=0.5", r"'pich_shift' is not known; did you mean pitch_shift\?"),
        ("reverb=1", r"'reverb' is not known; choose from speed, .*noise"),
        ("noise=1.5", r"noise=1\.5: the probability 1\.5 must lie in \[0, 1\]"),
        ("gain=-0.1", r"the probability -0\.1 must lie in \[0, 1\]"),
        ("noise", r"noise=None is not a probability, or that and a range; write noise=0\.5 or noise=\[0\.5,20,40\]"),
        ("noise=[0.5,20]", r"noise=\[0\.5, 20\] is not a probability, or that and a range"),
        ("polarity_inversion=[0.5,1,2]", r"is not a probability; write polarity_inversion=0\.5"),
        ("gain=[0.5,0,-6]", r"the range must ascend and lie in \[-60, 24\] dB"),
        ("time_stretch=[0.5,0.4,1]", r"must ascend and lie in \[0\.5, 2\] times the tempo"),
        ("noise=0.5]", r"is not NAME=probability or NAME=\[probability,lowest,highest\]"),
    ],
)
def test_a_mistake_is_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse("--waveform_augmentation", text)
    assert "\n" not in str(caught.value)


def test_help_names_every_change_with_its_range(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    for name, amount in WAVEFORM_AUGMENTATIONS.items():
        assert (f"{name} ({amount.lowest:g} to {amount.highest:g} {amount.unit})" if amount else name) in text


def test_an_equalizer_whose_bands_lie_above_half_the_rate_is_refused():
    with pytest.raises(UserError, match=r"needs a sampling rate above 8808 Hz, this model's is 8000"):
        augmentation("equalizer=0.5", rate=8000)


def test_without_audiomentations_the_way_out_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    with pytest.raises(UserError, match=r"pip install 'audiomentations>=0\.42'"):
        parse("--waveform_augmentation", "gain=0.5")
    parse()


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "hf_musiclf").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_imported_before_it_is_asked_for(path):
    """What takes a second stands within a function, or is not there."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[0] for name in [*names, getattr(node, "module", None) or ""]}
    assert not found & {"audiomentations", "librosa", "numba"}


def test_the_callback_tells_the_epoch_that_a_resumed_run_is_in(table):
    windows = windows_of(table, "all")
    first, second = heard(windows, 0), heard(windows, 1)
    loader = DataLoader(windows, batch_size=8, collate_fn=collate_windows)
    for epoch, expected in ((1.25, second), (0.5, first)):
        EpochCallback().on_epoch_begin(None, TrainerState(epoch=epoch), None, train_dataloader=loader)
        assert all(equal([torch.from_numpy(windows[index]["waveform"]) for index in range(len(windows))], expected))


# In a run


def listen(monkeypatch, owner, name, pick):
    """The waveforms that come by a method, one list for training and one for evaluation."""
    method, found = getattr(owner, name), {True: [], False: []}

    def recorded(self, *args, **kwargs):
        training, waveforms = pick(self, *args)
        if waveforms is not None:
            found[training].append(waveforms.clone())
        return method(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)
    return found


def of_batches(trainer, inputs):
    return trainer.model.training, inputs.get("waveforms")


def levels(batches):
    return {round(decibels(batch.numpy()) / 10) for batch in batches}


@pytest.mark.parametrize("weak_training", ["first", "joint"])
def test_main_and_weak_model_hear_the_same_augmented_windows_in_training_alone(
    weak_training, corpus, tmp_path, monkeypatch
):
    batches = listen(monkeypatch, MusicTrainer, "_prepare_inputs", of_batches)
    beside = listen(monkeypatch, Debiasing, "inputs", lambda self, waveforms, *others: (True, waveforms))
    report = run_recipe(
        "wav2vec2_poe_gtzan", corpus, output_dir=tmp_path / "run", max_steps=2, weak_training=weak_training,
        weak_epochs=None if weak_training == "joint" else 1, cache_dir=tmp_path / "cache",
        waveform_augmentation="gain=[1,-60,-60]",
    )  # fmt: skip
    main, weak = batches[True], beside[True]
    assert len(weak) == 2 and all(equal(main[-2:], weak))
    quiet, usual = levels(weak), levels(batches[False])
    assert max(quiet) <= min(usual) - 4  # of ten decibels each
    # The weak model that was trained first has learnt of augmented windows too.
    assert len(main) == 2 or (weak_training == "first" and max(levels(main[:-2])) <= min(usual) - 4)
    assert report["training"]["waveform_augmentation"] == {"gain": (1.0, -60.0, -60.0)}
    assert report["arguments"]["waveform_augmentation"] == "gain=[1,-60,-60]"


def test_a_frozen_backbone_hears_augmented_windows_the_plain_way(corpus, tmp_path, capsys):
    run_recipe(
        "ast_gtzan", corpus, output_dir=tmp_path / "run", max_steps=2, train_layers="head", train_windows="all",
        cache_dir=tmp_path / "cache", waveform_augmentation="gain=0.5",
    )  # fmt: skip
    assert "with --train_windows all and no augmentation it would be run once" in capsys.readouterr().out
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_run_that_was_killed_within_an_epoch_ends_as_one_that_was_not(corpus, tmp_path, monkeypatch):
    # 60 training tracks: 4 steps an epoch. Killed in the second one, two steps after a save.
    changes = dict(
        waveform_augmentation="pitch_shift=0.5,time_stretch=0.5,noise=0.5,gain=0.5", max_steps=7,
        eval_strategy="no", save_strategy="steps", save_steps=5, load_best_model_at_end=False,
    )  # fmt: skip
    whole = run_recipe("ast_gtzan", corpus, output_dir=tmp_path / "whole", **changes)
    changes["dataloader_num_workers"] = 2
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(7))
        with pytest.raises(Killed):
            run_recipe("ast_gtzan", corpus, output_dir=tmp_path / "killed", **changes)
    resumed = run_recipe("ast_gtzan", corpus, output_dir=tmp_path / "killed", **changes)
    assert resumed["test"] == whole["test"] and resumed["training"]["steps"] == whole["training"]["steps"] == 7
    one, other = (TrackClassifier(str(tmp_path / name)).model.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_arguments_are_json(tmp_path):
    args = RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True, waveform_augmentation="noise=0.5")
    assert args.to_dict()["waveform_augmentation"] == "noise=0.5"
