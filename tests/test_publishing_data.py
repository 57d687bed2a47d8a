"""Splits go to the Hub: without recordings that nobody may publish, unless somebody answers for it."""

import csv
import importlib.util
import io
import json
import shlex

import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard
from recipe_runs import ROOT

from hf_musiclf.data.loading import load_tracks
from hf_musiclf.errors import PublishError, UserError
from hf_musiclf.hub import publish_dataset


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def build(tmp_path, gtzan_folder):
    """Run build_dataset.py into `tmp_path/out`; returns that folder."""

    def run(*flags, source="gtzan", data_dir=gtzan_folder):
        scheme = ("--split_scheme", "random", "--cache_dir", str(tmp_path / "cache"))
        output = tmp_path / "out"
        script("build_dataset")([source, "--data_dir", str(data_dir), "--output", str(output), *scheme, *flags])
        return output

    return run


def test_of_gtzan_the_table_of_splits_goes_up_and_no_audio(hub, build, gtzan_folder, capsys):
    folder = build("--push_to_hub", "--hub_dataset_id", "choir/gtzan-splits")
    found = hub.repository("choir/gtzan-splits", "dataset")
    assert len(found.commits) == 2 and not found.private
    assert set(found.files) - {".gitattributes"} == {
        "README.md", "splits.json", "data/train.csv", "data/validation.csv", "data/test.csv",
    }  # fmt: skip
    assert "rights were never cleared; the audio stays here" in capsys.readouterr().out
    rows = {
        split: list(csv.DictReader(io.StringIO(found.files[f"data/{split}.csv"].content.decode())))
        for split in ("train", "validation", "test")
    }
    tracks = {row["track"]: row for part in rows.values() for row in part}
    assert len(tracks) == 40 and all(row["split"] == split for split, part in rows.items() for row in part)
    assert all(row["label"] == track.split(".")[0] and row["audio_hash"] for track, row in tracks.items())
    facts = json.loads(found.files["splits.json"].content)
    assert facts["audio"] is False and facts["source"] == "GTZAN"
    card = DatasetCard(found.files["README.md"].content.decode())
    card.validate()
    assert 'load_dataset("choir/gtzan-splits")' in card.text and "The recordings are not here: commercial" in card.text
    assert "`audio`" not in card.text and (folder / "README.md").is_file()


def test_the_table_is_of_the_very_split_that_a_recipe_draws(build, gtzan_folder, tmp_path):
    from hf_musiclf.arguments import DataArguments
    from hf_musiclf.data.export import write_tables

    args = DataArguments(data_dir=str(gtzan_folder), split_scheme="random", cache_dir=str(tmp_path / "cache"))
    tracks = load_tracks(args, verbose=False)
    for split, (path,) in write_tables(tracks, tmp_path / "tables").items():
        with path.open(newline="") as file:
            found = [(row["track"], row["audio_hash"], row["group"]) for row in csv.DictReader(file)]
        names, hashes = tracks.table.column("track"), tracks.table.column("audio_hash")
        assert found == [(names[i], hashes[i], tracks.table.groups[i] or "") for i in tracks.splits[split]]


def test_restricted_audio_goes_up_where_somebody_answers_for_it(hub, build, capsys):
    build("--push_to_hub", "--private", "--allow_restricted_audio")
    found = hub.repository("ada/out", "dataset")
    table = pq.read_table(io.BytesIO(found.files["data/train-00000-of-00001.parquet"].content))
    assert found.private and all(row["bytes"] for row in table.column("audio").to_pylist())
    assert "rights were never cleared; the audio goes up, as you said" in capsys.readouterr().out


def test_audio_that_was_built_to_be_used_here_is_not_published_later(hub, build):
    folder = build()
    with pytest.raises(UserError, match=r"holds audio of GTZAN \(commercial recordings whose rights were never"):
        script("push")([str(folder)])
    assert not hub.asked


def test_ones_own_music_is_private_unless_said_otherwise(hub, build, gtzan_folder):
    folder = build("--push_to_hub", source="folder", data_dir=gtzan_folder / "genres")
    assert hub.repository("ada/out", "dataset").private and any(folder.glob("data/*.parquet"))
    script("push")([str(folder), "--hub_dataset_id", "open", "--private", "False"])
    assert not hub.repository("ada/open", "dataset").private


def test_the_demo_corpus_is_free(hub, build, corpus):
    build("--push_to_hub", source="synthetic", data_dir=corpus)
    found = hub.repository("ada/out", "dataset")
    card = DatasetCard(found.files["README.md"].content.decode())
    assert card.data.license == "apache-2.0" and "data/test-00000-of-00001.parquet" in found.files


def test_audio_of_an_earlier_push_goes_when_a_table_takes_its_place(hub, build, gtzan_folder, tmp_path):
    folder = build("--push_to_hub", "--allow_restricted_audio")
    folder.rename(tmp_path / "with_audio")
    build("--push_to_hub")
    assert not any(path.endswith(".parquet") for path in hub.repository("ada/out", "dataset").files)


def test_maestro_asks_for_the_same_confirmation():
    from hf_musiclf.data.maestro import MAESTRO

    assert MAESTRO.restriction.startswith("CC BY-NC-SA 4.0") and MAESTRO.licence_id == "cc-by-nc-sa-4.0"


def test_a_failed_push_leaves_the_folder_and_names_the_command(hub, build, tmp_path):
    hub.fail("POST", "/commit/")
    with pytest.raises(PublishError) as caught:
        build("--push_to_hub", "--hub_dataset_id", "my-splits", "--private", "--allow_restricted_audio")
    folder = tmp_path / "out"
    words = f"push.py {folder} --hub_dataset_id my-splits --private True --allow_restricted_audio`"
    assert str(caught.value).endswith(f"the data set in {folder} is whole; try again with `python scripts/{words}")
    publish_dataset(folder, "my-splits", True, True)
    assert hub.repository("ada/my-splits", "dataset").private


def test_the_command_to_try_again_runs_where_nothing_was_said_of_privacy(hub, build, tmp_path):
    hub.fail("POST", "/commit/")
    with pytest.raises(PublishError) as caught:
        build("--push_to_hub")
    words = shlex.split(str(caught.value).split("`")[1])
    assert words == ["python", "scripts/push.py", str(tmp_path / "out"), "--hub_dataset_id", "out"]
    script("push")(words[2:])
    assert "data/train.csv" in hub.repository("ada/out", "dataset").files


def test_a_folder_that_was_renamed_is_named_by_its_id_all_the_same(hub, build, tmp_path):
    publish_dataset(build("--push_to_hub").rename(tmp_path / "renamed"), "other")
    card = hub.repository("ada/other", "dataset").files["README.md"].content.decode()
    assert 'load_dataset("ada/other")' in card and 'load_dataset("out")' not in card


def test_a_name_is_refused_before_anything_is_decoded(hub, tmp_path):
    flags = ["gtzan", "--data_dir", "nowhere", "--output", str(tmp_path / "out"), "--push_to_hub"]
    with pytest.raises(UserError, match="google/x is not yours"):
        script("build_dataset")([*flags, "--hub_dataset_id", "google/x"])
    with pytest.raises(UserError, match="hub_dataset_id=x publishes nothing without --push_to_hub"):
        script("build_dataset")([*flags[:-1], "--hub_dataset_id", "x"])
