"""A recipe's bad input: one clear line, nothing half written, nothing lost."""

import subprocess
import sys
from pathlib import Path

import pytest
from recipe_runs import RECIPE, Killed, data_flags, dies_in_step, flags, recipe

from hf_musiclf.data.synthetic import write_corpus
from hf_musiclf.errors import UserError
from hf_musiclf.trainer import MusicTrainer


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(dataset="gtzan", data_dir="nowhere"), r"data_dir=nowhere does not exist; three ways to data"),
        (dict(dataset="gtzam"), r"dataset='gtzam' is not known; did you mean gtzan\?"),
        (
            dict(split_scheme="artists"),
            r"split_scheme='artists' is not known for synthetic corpus; choose from artist, random",
        ),
        (dict(train_layers="last:9"), r"train_layers=last:9: the model has 2 encoder layers"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(corpus, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        recipe().main(flags(**{**data_flags(corpus), "output_dir": tmp_path / "run", **changes}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_corrupt_archive_is_one_line(tmp_path):
    (tmp_path / "genres.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1000))
    with pytest.raises(UserError, match="is not a whole tar archive"):
        recipe().main(flags(data_dir=tmp_path / "genres.tar.gz", output_dir=tmp_path / "run"))


def test_a_script_ends_with_code_two_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--learning_rat", "1"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "ast_gtzan.py: error: unknown flag --learning_rat; did you mean --learning_rate?"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_finished_run_is_refused(finished, corpus):
    folder, _ = finished
    with pytest.raises(UserError, match="holds a finished run; choose another --output_dir, or pass --overwrite"):
        recipe().main(flags(**data_flags(corpus), output_dir=folder))


def test_overwriting_clears_the_run_and_nothing_else(corpus, tmp_path):
    recipe().main(flags(**data_flags(corpus), output_dir=tmp_path, max_steps=1))
    for mine in ("notes.txt", "labels.csv", "labels.json"):
        (tmp_path / mine).write_text("mine")
    before = (tmp_path / "report.json").read_text()
    recipe().main(flags(**data_flags(corpus), output_dir=tmp_path, max_steps=2, overwrite_output_dir=True))
    assert (tmp_path / "report.json").read_text() != before
    assert all((tmp_path / mine).read_text() == "mine" for mine in ("notes.txt", "labels.csv", "labels.json"))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_mistake_deletes_nothing_even_when_told_to_overwrite(corpus, tmp_path):
    recipe().main(flags(**data_flags(corpus), output_dir=tmp_path, max_steps=1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"gone holds no synthetic corpus"):
        recipe().main(
            flags(**{**data_flags(corpus), "data_dir": "gone"}, output_dir=tmp_path, overwrite_output_dir=True)
        )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_is_not_resumed_on_other_tracks(corpus, tmp_path, monkeypatch):
    other = tmp_path / "other"
    write_corpus(other, tracks_per_artist=1, artists_per_genre=8, seconds=3.0, sampling_rate=16_000, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(6))
        with pytest.raises(Killed):
            recipe().main(flags(**data_flags(corpus), output_dir=tmp_path / "run"))
    with pytest.raises(UserError, match="holds an unfinished run with other tracks in its splits"):
        recipe().main(flags(**{**data_flags(corpus), "data_dir": other}, output_dir=tmp_path / "run"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_of_another_origin_is_never_touched(corpus, tmp_path, overwrite):
    (tmp_path / "model.safetensors").write_bytes(b"somebody's")
    with pytest.raises(UserError, match=r"holds a model of another origin \(model\.safetensors\)"):
        recipe().main(flags(**data_flags(corpus), output_dir=tmp_path, overwrite_output_dir=overwrite))
    assert (tmp_path / "model.safetensors").read_bytes() == b"somebody's"


def test_an_unfinished_run_with_other_arguments_is_refused(corpus, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MusicTrainer, "training_step", dies_in_step(1))
        with pytest.raises(Killed):
            recipe().main(flags(**data_flags(corpus), output_dir=tmp_path))
    with pytest.raises(UserError, match=r"holds an unfinished run with learning_rate=0\.002, not 0\.1"):
        recipe().main(flags(**data_flags(corpus), output_dir=tmp_path, learning_rate=0.1))


def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(corpus, tmp_path, monkeypatch):
    def full(self, output_dir=None, state_dict=None):
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        (Path(output_dir) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MusicTrainer, "_save", full)
    with pytest.raises(UserError, match=r"is full; free some, then run the same command again: it starts over"):
        recipe().main(flags(**data_flags(corpus), output_dir=tmp_path))
    assert not list(tmp_path.glob("checkpoint-*")) and not (tmp_path / "report.json").exists()


def test_too_small_a_disk_is_refused_before_training(corpus, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("hf_musiclf.runs.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"3 checkpoints and the model need .* MB, the disk has 0\.0 MB left"):
        recipe().main(flags(**data_flags(corpus), output_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
