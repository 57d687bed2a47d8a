"""The planted shortcut: its tone, its marks, and the experiment at small size."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from hf_musiclf.data.synthetic.planted import plant
from hf_musiclf.data.synthetic.shortcut import MODES, NO_MARK, add_telltale, mark_frequencies, marks

SCRIPT = Path(__file__).parents[1] / "scripts" / "planted_shortcut.py"
RATE, LABELS = 16_000, 10


@pytest.fixture(scope="module")
def noise():
    return (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)


@pytest.mark.parametrize("mark", range(LABELS))
def test_the_difference_to_the_track_is_a_tone_of_the_marks_frequency_and_level(noise, mark):
    added = add_telltale(noise, RATE, mark, LABELS, level_db=-12.0) - noise
    spectrum = np.abs(np.fft.rfft(added * np.hanning(len(added))))
    peak = np.fft.rfftfreq(len(added), 1 / RATE)[spectrum.argmax()]
    assert peak == pytest.approx(mark_frequencies(LABELS, RATE)[mark], abs=RATE / len(added))
    level = 20 * np.log10(added.std() / noise.std())
    assert level == pytest.approx(-12.0, abs=0.05)


def test_a_mel_filterbank_of_32_bands_gives_every_mark_a_band_of_its_own():
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 33) / 2595) - 1)
    bands = np.searchsorted(edges, mark_frequencies(LABELS, RATE))
    assert len(set(bands)) == LABELS


def test_the_level_is_relative_to_the_track(noise):
    quiet, loud = (scale * noise for scale in (0.1, 1.0))
    tones = [add_telltale(track, RATE, 3, LABELS) - track for track in (quiet, loud)]
    np.testing.assert_allclose(10 * tones[0], tones[1], atol=1e-6)


def test_no_mark_leaves_the_track_as_it_is(noise):
    np.testing.assert_array_equal(add_telltale(noise, RATE, NO_MARK, LABELS), noise)


def test_a_sum_that_would_clip_is_scaled_as_a_whole():
    square = np.sign(np.sin(np.arange(RATE) / 7)).astype(np.float32)
    marked = add_telltale(square, RATE, 0, LABELS, level_db=0.0)
    assert np.abs(marked).max() == pytest.approx(1.0) and marked.dtype == np.float32


def test_biased_marks_agree_with_the_label_at_the_asked_rate_and_else_with_any_other():
    labels = np.arange(20_000) % LABELS
    found = marks(labels, np.arange(len(labels)), LABELS, rate=0.9, seed=1)
    # Three standard deviations of a share of 20,000 draws; of 2,000 over nine others, each expected 222 times.
    assert (found == labels).mean() == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 20_000))
    others = np.bincount((found - labels)[found != labels] % LABELS, minlength=LABELS)
    assert others[0] == 0 and others[1:].min() > 150


def test_misleading_marks_are_never_the_labels_and_random_ones_as_often_as_any():
    labels, rows = np.arange(20_000) % LABELS, np.arange(20_000)
    assert not (marks(labels, rows, LABELS, mode="misleading") == labels).any()
    agrees = (marks(labels, rows, LABELS, mode="random") == labels).mean()
    assert agrees == pytest.approx(1 / LABELS, abs=3 * np.sqrt(0.09 / 20_000))
    assert set(marks(labels, rows, LABELS, mode="none")) == {NO_MARK}


@pytest.mark.parametrize("mode", MODES)
def test_a_track_has_its_mark_of_the_seed_and_its_row_alone(mode):
    labels, rows = np.arange(200) % LABELS, np.arange(200)
    found = marks(labels, rows, LABELS, 0.5, seed=7, mode=mode)
    some = np.random.default_rng(0).permutation(200)[:50]
    np.testing.assert_array_equal(marks(labels[some], rows[some], LABELS, 0.5, seed=7, mode=mode), found[some])
    if mode != "none":
        assert (marks(labels, rows, LABELS, 0.5, seed=8, mode=mode) != found).any()


def test_what_makes_no_mark_is_refused(noise):
    with pytest.raises(ValueError, match="mode='anti' is not known; choose biased"):
        marks([0], [0], LABELS, mode="anti")
    with pytest.raises(ValueError, match=r"rate=1.5 must lie in \[0, 1\]"):
        marks([0], [0], LABELS, rate=1.5)
    with pytest.raises(ValueError, match="raise n_marks"):
        marks([10], [0], LABELS)
    with pytest.raises(ValueError, match=r"mark=10 must lie in 0\.\.9"):
        add_telltale(noise, RATE, 10, LABELS)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("planted_shortcut", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_experiment_leaves_table_report_and_picture_and_goes_on_where_it_stopped(script, tmp_path, monkeypatch):
    small = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=16,num_mel_bins=32,"
    small += "frequency_stride=16,time_stride=16"
    argv = ["--output_dir", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache"), "--seeds", "2"]
    argv += ["--debias", "none", "poe", "--artists_per_genre", "3", "--track_seconds", "1", "--max_steps", "2"]
    argv += ["--window_seconds", "0.5", "--weak_epochs", "1", "--use_cpu", "True"]
    argv += ["--weak_model_config", small]
    argv += ["--model", "random", "--model_config", "width_mult=0.1,num_mel_bins=32,head_type=probe"]
    report = script.main(argv)
    assert [row["kind"] for row in report["rows"]] == ["none", "poe", "weak"]
    assert (tmp_path / "out" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    saved = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    unbiased = saved["rows"][1]["tests"]["unbiased"]
    gains = np.subtract(unbiased["by_seed"], saved["rows"][0]["tests"]["unbiased"]["by_seed"])
    assert unbiased["gain"] == pytest.approx(gains.mean())
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").splitlines()
    assert len(table) == 5 and {line.count("|") for line in table} == {9}

    monkeypatch.setattr(script, "train_once", lambda *args: pytest.fail("a finished run was trained again"))
    assert script.main(argv)["rows"] == report["rows"]
    with pytest.raises(ValueError, match="is of another setting"):
        script.main([*argv, "--level_db", "-10"])


@pytest.mark.parametrize("kind", ["no_shortcut", "none", "poe", "mixture", "learned_mixin"])
def test_a_flag_of_one_loss_is_for_that_loss_alone(script, kind):
    flags = ["--entropy_penalty", "0.1", "--weak_epochs", "2", "--cross_entropy_weight=3", "--debias_alpha", "0.5"]
    kept = script.flags_of(kind, flags)
    assert kept[: kept.index("--weak_epochs")] == (["--entropy_penalty", "0.1"] if kind == "learned_mixin" else [])
    assert not any(word.startswith("--cross_entropy_weight") for word in kept)
    assert ("--debias_alpha" in kept) == ("0.5" in kept) == (kind != "learned_mixin")
    assert kept[-1] == f"--debias={'poe' if kind in ('no_shortcut', 'none') else kind}"


def test_a_mistyped_flag_is_told_before_anything_is_rendered(script, tmp_path):
    with pytest.raises(ValueError, match="weak_epochs"):
        script.main(["--output_dir", str(tmp_path / "out"), "--weak_epoch", "3"])
    assert not (tmp_path / "out").exists()


def test_training_is_biased_and_every_test_is_of_the_same_unheard_tracks(script, tmp_path):
    args, _ = script.parse_args(["--artists_per_genre", "4", "--track_seconds", "0.5"])
    table = script.load_clean(args, tmp_path)
    tracks = plant(table, tmp_path, seed=0, rate=1.0, level_db=0.0)
    paths, names, labels = (
        [row["audio"]["path"] for row in tracks.table.rows],
        *map(tracks.table.column, ("track", "label")),
    )
    mark_of = [int(Path(path).stem.split(".")[2]) if "dB" in path else NO_MARK for path in paths]
    said = {split: [(labels[row], mark_of[row]) for row in rows] for split, rows in tracks.splits.items()}
    for split in ("train", "validation", "test_biased"):
        assert all(label == mark for label, mark in said[split])
    assert {mark for _, mark in said["test_silent"]} == {NO_MARK}
    assert 0 < np.mean([label == mark for label, mark in said["test"]]) < 0.5  # one in ten, of twenty tracks
    assert all(mark not in (label, NO_MARK) for label, mark in said["test_misleading"])
    heard = [[names[row] for row in tracks.splits[split]] for split in script.TESTS]
    assert heard[0] and all(other == heard[0] for other in heard)
    groups = {split: {tracks.table.groups[row] for row in rows} for split, rows in tracks.splits.items()}
    assert not groups["train"] & groups["test"] and not groups["validation"] & groups["test"]
