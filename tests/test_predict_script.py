"""scripts/predict.py: tables, JSON, CSV and pictures of many tracks."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import noise
from recipe_runs import CNN, EFFICIENTAT, ROOT, recipe

from hf_musiclf.arguments import ModelArguments
from hf_musiclf.audio_readers import AudioError
from hf_musiclf.ensembles import Ensemble
from hf_musiclf.errors import UserError
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.models.loading import load_classifier
from hf_musiclf.predicting import clock, picture_paths
from hf_musiclf.timeline import plot_timeline

LABELS = ("blues", "jazz", "rock")


@pytest.fixture(scope="module")
def script():
    return recipe(ROOT / "scripts" / "predict.py")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two tiny models whose labels are the same in another order, and of one with others."""
    made = []
    known = (
        ("spectrogram_cnn", CNN, LABELS), ("efficientat", EFFICIENTAT, LABELS[::-1]), ("spectrogram_cnn", CNN, "abc"),
    )  # fmt: skip
    for seed, (model_type, tiny, labels) in enumerate(known):
        torch.manual_seed(seed)
        args = ModelArguments(model="random", model_config=tiny["model_config"])
        loaded = load_classifier(args, labels, 1.0, model_type, verbose=False)
        loaded.model.config.hop_seconds = 0.5
        made.append(tmp_path_factory.mktemp("models") / f"model{seed}")
        loaded.save(made[-1])
    return [str(folder) for folder in made]


@pytest.fixture
def music(tmp_path):
    """A folder of three tracks, one of them within a folder of its own, and of what is none."""
    folder = tmp_path / "music"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(["a.wav", "b.flac", "more/a.wav"]):
        soundfile.write(folder / name, noise(1.2 + number, 16_000, number), 16_000)
    (folder / "broken.mp3").write_text("no audio")
    (folder / ".hidden.wav").write_text("no audio")
    (folder / "notes.txt").write_text("no audio")
    return folder


def run(script, *words):
    return script.main([*map(str, words), "--device", "cpu"])


# What is told


def test_the_table_has_a_row_a_track_and_failures_are_told(script, models, music, capsys):
    assert run(script, models[0], music, music / "nothing.ogg", "--top_k", "2") == 1
    said = capsys.readouterr()
    head, *rows = said.out.splitlines()
    assert head.split() == ["track", "most", "probable", "then", "windows", "length"]
    classify = TrackClassifier(models[0])
    for row, name in zip(rows, ["a.wav", "b.flac", "more/a.wav"], strict=True):
        scores = classify(music / name)
        cells = [cell for label, score in scores.top(2) for cell in (label, f"{score:.2f}")]
        told = [*cells, str(scores.n_windows), clock(scores.duration_seconds)]
        assert row.split()[1:] == told and row.split()[0].endswith(name)
        assert len(row) == len(head)  # columns stand below their names
    failures = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(failures) == 2 and "Traceback" not in said.err
    assert "music/broken.mp3: " in failures[0] and "music/nothing.ogg: no such file" in failures[1]
    assert "Classifying" in said.err and "Classifying" not in said.out


def test_all_is_well_is_exit_code_0(script, models, music, capsys):
    assert run(script, models[0], music / "a.wav") == 0
    assert "error" not in capsys.readouterr().err


def test_lines_of_json_are_one_an_input(script, models, music, capsys):
    assert run(script, models[0], music, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["track"].rpartition("music/")[2] for line in lines] == ["a.wav", "b.flac", "broken.mp3", "more/a.wav"]
    broken = lines.pop(2)
    assert set(broken) == {"track", "error"} and "broken.mp3" in broken["error"]
    for line in lines:
        scores = TrackClassifier(models[0])(line["track"])
        assert [entry["label"] for entry in line["scores"]] == [label for label, _ in scores.top(3)]
        assert sum(entry["score"] for entry in line["scores"]) == pytest.approx(1, abs=1e-5)
        assert (line["windows"], line["seconds"]) == (scores.n_windows, round(scores.duration_seconds, 3))


def test_the_csv_holds_the_probabilities_of_all_labels(script, models, music, tmp_path, capsys):
    run(script, models[0], music, "--csv", tmp_path / "new" / "out.csv", "--top_k", "1")
    with (tmp_path / "new" / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and list(rows[0]) == ["track", "label", "seconds", "windows", *LABELS]
    for row in rows:
        scores = TrackClassifier(models[0])(row["track"])
        np.testing.assert_allclose([float(row[label]) for label in LABELS], scores.probabilities, atol=1e-6)
        assert row["label"] == scores.top(1)[0][0]


def test_several_models_are_their_mean(script, models, music, capsys):
    assert run(script, models[0], music / "b.flac", "--with", models[1], "--json") == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    members = [TrackClassifier(model) for model in models[:2]]
    alone = [member(music / "b.flac") for member in members]
    expected = (alone[0].probabilities + alone[1].probabilities[::-1]) / 2
    found = {entry["label"]: entry["score"] for entry in line["scores"]}
    np.testing.assert_allclose([found[label] for label in LABELS], expected, atol=2e-6)
    assert line["windows"] == sum(scores.n_windows for scores in alone)
    assert Ensemble(members)(music / "b.flac").duration_seconds == pytest.approx(2.2)


def test_an_array_and_a_url_reach_all_members(models, music, monkeypatch):
    classify = Ensemble([TrackClassifier(model) for model in models[:2]])
    samples, rate = soundfile.read(music / "a.wav")
    expected = classify(music / "a.wav").probabilities
    of_array = classify({"array": samples, "sampling_rate": rate}).probabilities
    np.testing.assert_allclose(of_array, expected, atol=1e-5)
    fetched = []

    def fetch(url, folder, unreadable):
        fetched.append(url)
        return shutil.copy(music / "a.wav", folder)

    monkeypatch.setattr("hf_musiclf.models.music_pipeline._fetch", fetch)
    np.testing.assert_array_equal(classify("http://somewhere/a.wav").probabilities, expected)
    assert len(fetched) == 1  # not once a member


def test_pictures_are_one_a_track(script, models, music, tmp_path, capsys):
    assert run(script, models[0], music, "--timeline", tmp_path / "pictures") == 1
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.1.png", "a.2.png", "b.png"]
    assert run(script, models[0], music / "a.wav", "--with", models[1], "--timeline", tmp_path / "one.png") == 0
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_fails_costs_neither_the_scores_nor_the_others(
    script, models, music, tmp_path, capsys, monkeypatch
):
    def fails_for_b(track, *rest):
        if track.endswith("b.flac"):
            raise AudioError("b.flac: is gone by now")
        return plot_timeline(track, *rest)

    monkeypatch.setattr("hf_musiclf.predicting.plot_timeline", fails_for_b)
    assert run(script, models[0], music / "b.flac", music / "a.wav", "--timeline", tmp_path / "pictures") == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3 and "error: no picture: b.flac: is gone by now" in said.err
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["a.png"]


def test_the_same_track_named_twice_is_heard_once(script, models, music, capsys):
    assert run(script, models[0], music / "a.wav", music / "a.wav") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_url_is_shown_without_its_secrets(script, models, capsys):
    assert run(script, models[0], "http://127.0.0.1:9/a.wav?token=hidden", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["track"] == "http://127.0.0.1:9/a.wav" and "cannot be fetched" in said.err
    assert "hidden" not in said.out + said.err
    assert picture_paths(Path("out"), ["http://x/a%20b.wav?c"]) == {"http://x/a%20b.wav?c": Path("out/a b.png")}


# What is refused before a track is heard


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--top_k", "0"], "top_k=0 must be 1 or more"),
        (["--batch_size", "0"], "batch_size=0 must be 1 or more"),
        (["--hop_seconds", "9"], r"hop_seconds=9\.0 must lie in \(0, 1\.0\], the window"),
        (["--timeline", "a.png"], r"timeline=a\.png is one picture for 4 tracks; name a folder"),
        (["--timeline", "{music}/notes.txt"], r"notes\.txt is a file; name a \.png or a folder"),
        (["--csv", "{music}"], "is a folder; name a file"),
        (["--device", "abacus"], "device=abacus is not here; pass cpu"),
        (["--with", "{other}"], "the labels of the ensemble and model 2 differ"),
        (["--with", "nowhere"], "model='nowhere' cannot be loaded"),
    ],
)
def test_mistakes_are_told_with_the_way_out(script, models, music, words, told):
    words = [word.format(music=music, other=models[2]) for word in words]
    device = [] if "--device" in words else ["--device", "cpu"]
    with pytest.raises(UserError, match=told):
        script.main([models[0], str(music), *words, *device])


def test_a_folder_without_audio_is_refused(script, models, tmp_path):
    with pytest.raises(UserError, match="holds no audio file; name files"):
        run(script, models[0], tmp_path)


def test_an_ensemble_within_an_ensemble_is_refused(script, models, music, tmp_path):
    (tmp_path / "ensemble.json").write_text(
        json.dumps({"labels": LABELS, "members": [{"folder": model, "weight": 1.0} for model in models[:2]]})
    )
    with pytest.raises(UserError, match="is an ensemble; name its members instead"):
        run(script, models[0], music, "--with", tmp_path)
    assert run(script, tmp_path, music / "a.wav") == 0


def test_help_waits_for_no_library():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['predict.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'scripts' / 'predict.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code and not {'torch', 'numpy', 'hf_musiclf'} & set(sys.modules)\n"
        "    print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--timeline" in done.stdout and done.stdout.splitlines()[-1] == "done", done.stderr
