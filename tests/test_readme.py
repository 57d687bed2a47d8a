"""What the README says of using, training and publishing: its very lines run."""

import importlib.util
import re
import shlex
import shutil

import numpy as np
import pytest
import soundfile
from conftest import noise, write_gtzan
from recipe_runs import ROOT, data_flags, flags, recipe

README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title):
    """`(language, text)` of the code blocks under a heading."""
    found = re.findall(r"```(\w*)\n(.*?)```", README.split(f"## {title}\n")[1].split("\n## ")[0], re.S)
    assert found, title
    return found


def commands(title):
    """The words of each command line under a heading."""
    lines = [line for language, text in section(title) if language == "bash" for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def run(words, *more):
    """Run `python SCRIPT ...` or `accelerate launch RECIPE ...` in this process. more: words behind those."""
    path, *words = [word for word in words if word not in ("python", "accelerate", "launch")]
    if path.startswith("recipes/"):
        return recipe(ROOT / path).main([*words, *more])
    spec = importlib.util.spec_from_file_location(path[8:-3], ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([*words, *more])


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A folder with what the README's lines name: runs, a song, a folder of music."""
    for name in ("demo", "other"):
        shutil.copytree(finished[0], tmp_path / "runs" / name, ignore=shutil.ignore_patterns("checkpoint-*"))
    (tmp_path / "music").mkdir()
    for number, name in enumerate(("song.mp3", "music/one.mp3", "music/two.mp3")):
        soundfile.write(tmp_path / name, noise(3, 44_100, number), 44_100, format="MP3")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_used_as_the_readme_says(here, finished, capsys, monkeypatch):
    labels = set(finished[1]["data"]["labels"])
    found = []
    for language, text in section("Use a model"):
        if language == "python":
            names = {"waveform": noise(3, 16_000)}
            for line in text.splitlines():
                found.append(eval(line, names) if line.startswith("classify(") else exec(line, names))
    whole, timeline, first = (answer for answer in found if answer)
    assert {entry["label"] for entry in whole} <= labels and sum(entry["score"] for entry in whole) <= 1 + 1e-6
    assert timeline["scores"] == whole and timeline["timeline"][-1]["end"] == pytest.approx(3, abs=0.1)
    assert {entry["label"] for entry in first} <= labels

    monkeypatch.setattr("hf_musiclf.app.serve", lambda models, *rest: found.append(models))
    for words in commands("Use a model"):
        assert not run(words)
    told = capsys.readouterr().out
    assert "song.mp3" in told and "two.mp3" in told
    rows = (here / "music.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3 and len(list((here / "music_pictures").glob("*.png"))) == 2
    assert found[-1] == ["runs/demo"]


def test_own_music_is_trained_on_as_the_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label, hertz in (("low", 200), ("high", 3000)):
        (tmp_path / "my_music" / label).mkdir(parents=True)
        for number in range(20):
            tone = np.sin(2 * np.pi * (hertz + number) * np.arange(24_000) / 16_000).astype(np.float32)
            soundfile.write(tmp_path / "my_music" / label / f"{number}.wav", 0.3 * tone, 16_000)
    (words,) = commands("Train on your own music")
    report = run(words, *flags(output_dir=tmp_path / "run"))
    assert report["data"]["labels"] == ["high", "low"] and report["split_scheme"] == "random"


def test_runs_and_splits_are_published_as_the_readme_says(here, hub, corpus):
    login, trained, later, splits = commands("Publish")
    assert login == ["hf", "auth", "login"]
    run(trained, *flags(**data_flags(corpus), output_dir=here / "run"))
    published = hub.repository("ada/my-genres")
    assert {"config.json", "model.safetensors", "README.md", "report.json"} <= set(published.files)
    run(later)
    assert len(published.commits) == 3 and hub.repository("ada/my-genres", "space").files["app.py"]
    run(splits, "--data_dir", str(write_gtzan(here / "my_gtzan", tracks_per_genre=10)), "--split_scheme", "random")
    table = hub.repository("ada/my_splits", "dataset").files
    assert "README.md" in table and not any(name.endswith(".parquet") for name in table)
