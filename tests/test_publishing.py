"""A run goes to the Hub by the real client over HTTP, and comes back the same; what fails there costs nothing here."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from huggingface_hub import ModelCard
from recipe_runs import ROOT, data_flags, run_recipe

from hf_musiclf.app.voices import report_of
from hf_musiclf.ensembles import open_classifier
from hf_musiclf.errors import PublishError, UserError
from hf_musiclf.files import read_json
from hf_musiclf.hub import publish_run
from hf_musiclf.inference import TrackClassifier
from hf_musiclf.reach import hub_is_out_of_reach
from hf_musiclf.trainer import MusicTrainer

ONE_STEP = dict(max_steps=1, eval_strategy="no", save_strategy="no", load_best_model_at_end=False)
# Recipes whose model classes, with the AST of `finished`, are all that there are.
CLASSES = ("clap_maestro", "cnn_gtzan", "efficientat_gtzan", "gru_gtzan", "vgg_gtzan", "wav2vec2_poe_gtzan")
WITHOUT_US = """
import json, sys
sys.modules["hf_musiclf"] = None  # from here on it cannot be imported
import numpy as np
from transformers import pipeline
found = {}
for name, rate in json.loads(sys.argv[1]).items():
    music = np.random.default_rng(0).uniform(-0.5, 0.5, rate).astype(np.float32)
    classify = pipeline("audio-classification", model=name, trust_remote_code=True, device="cpu")
    said = classify({"array": music, "sampling_rate": rate}, top_k=None)
    found[name] = {entry["label"]: entry["score"] for entry in said}
    whole = pipeline("music-classification", model=name, trust_remote_code=True, device="cpu", top_k=None)
    said = whole({"array": np.tile(music, 3), "sampling_rate": rate})
    found[f"{name}, whole"] = {entry["label"]: entry["score"] for entry in said}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs(finished, corpus, tmp_path_factory):
    """Recipe -> folder of a finished run, of every class that recipes save."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_musiclf.report.draw_report", lambda *args, **kwargs: None)
        for name in CLASSES:
            plain = dict(debias="none", weak_model=None, weak_model_config=None, weak_layers=None, weak_epochs=None)
            changes = plain if "wav2vec2" in name else {}
            run_recipe(name, corpus, output_dir=folder / name, **ONE_STEP, **changes)
    return {"ast_gtzan": finished[0], **{name: folder / name for name in CLASSES}}


@pytest.fixture
def run(finished, tmp_path):
    """A finished run with its pictures, to be changed."""
    ignored = shutil.ignore_patterns("checkpoint-*")
    return shutil.copytree(finished[0], tmp_path / "my-run", ignore=ignored)


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summaries(repository):
    return [summary for _, summary, _ in repository.commits]


def test_every_class_gives_the_same_scores_from_the_hub_without_our_package(hub, runs, tmp_path):
    rates = {}
    for name, folder in runs.items():
        publish_run(folder, f"tiny-{name}")
        rate = json.loads((folder / "preprocessor_config.json").read_text())["sampling_rate"]
        rates |= {f"ada/tiny-{name}": rate, str(folder): rate}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "empty"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", WITHOUT_US, json.dumps(rates)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len({json.loads((folder / "config.json").read_text())["model_type"] for folder in runs.values()}) == 7
    for name, folder in runs.items():
        for heard in ("", ", whole"):
            here = found[f"{folder}{heard}"]
            assert found[f"ada/tiny-{name}{heard}"] == pytest.approx(here, abs=1e-6) and len(here) == 10


def test_a_repository_holds_the_run_in_one_commit_and_nothing_of_the_machine(hub, run, tmp_path):
    (run / "checkpoint-9").mkdir()
    for name in ("checkpoint-9/model.safetensors", "training_args.bin", "notes.txt", "mine.json", "mine.py"):
        (run / name).write_bytes(b"stays here")
    assert publish_run(run, "my-run") == f"{hub.url}/ada/my-run"
    found = hub.repository("ada/my-run")
    assert summaries(found) == ["initial commit", "ast_gtzan by hf-musiclf"] and not found.private
    code = {"music_pipeline.py"} & set(os.listdir(run))
    assert set(found.files) == {
        ".gitattributes", "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
        "predictions.csv", "report.json", "report/confusion_matrix.png", "report/per_class.png",
        "report/roc_curves.png", "report/validation.png", *code,
    }  # fmt: skip
    for path, file in found.files.items():
        if path not in ("README.md", ".gitattributes"):
            assert file.content == (run / path).read_bytes()
        assert str(tmp_path.parent).encode() not in file.content and b"hf_writer" not in file.content
    card = ModelCard(found.files["README.md"].content.decode())
    card.validate()
    assert 'pipeline("audio-classification", model="ada/my-run"' in card.text
    assert card.data.model_name == "ada/my-run" and "my-run" not in (run / "README.md").read_text()


def test_a_recipe_publishes_once_at_the_end_and_trainer_nothing(hub, corpus, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    flags = dict(output_dir=folder, push_to_hub=True, hub_model_id="choir/tiny", hub_private_repo=True)
    token = dict(hub_token="hf_writer")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(sys, "argv", ["x.py", "--hub_token", "hf_writer", "--hub_private_repo"])
    run_recipe("cnn_gtzan", corpus, **flags, **token)
    found = hub.repository("choir/tiny")
    assert found.private and len(found.commits) == 2 and list(folder.glob("checkpoint-*"))
    assert not any("checkpoint" in path for path in found.files) and "cnn.py" in found.files
    assert f"published: {hub.url}/choir/tiny" in capsys.readouterr().out
    assert "--hub_token '<TOKEN>'" in json.loads((folder / "report.json").read_text())["command"]
    assert not any(b"hf_writer" in text for path, text in content(folder).items() if not path.startswith("checkpoint-"))

    # The same command again publishes what is finished, and nothing new where nothing is; it trains nothing.
    monkeypatch.setattr(MusicTrainer, "__init__", None)
    before = content(folder)
    report = run_recipe("cnn_gtzan", corpus, **flags, **token)
    assert len(found.commits) == 2 and report["recipe"] == "cnn_gtzan"
    run_recipe("cnn_gtzan", corpus, **{**flags, "hub_model_id": "other"}, **token)
    assert set(hub.repository("ada/other").files) == set(found.files) and content(folder) == before
    with pytest.raises(UserError, match=r"holds a finished run with learning_rate=0\.002, not 0\.1"):
        run_recipe("cnn_gtzan", corpus, **flags, **token, learning_rate=0.1)


def test_what_the_hub_would_refuse_is_refused_before_training(hub, corpus, tmp_path, monkeypatch):
    flags = dict(output_dir=tmp_path / "run", push_to_hub=True)
    for change, message in {
        "a--b": "'a--b' is no name for the Hub",
        "google/x": "google/x is not yours: the token is of ada and choir",
        "x/y/z": "'x/y/z' is no name for the Hub",
    }.items():
        with pytest.raises(UserError, match=message):
            run_recipe("cnn_gtzan", corpus, **flags, hub_model_id=change)
    hub.store.tokens["hf_reader"] = {"name": "ada", "role": "read", "orgs": []}
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(PublishError, match=r"the token may only read; make one that may write at .*/settings/tokens"):
        run_recipe("cnn_gtzan", corpus, **flags)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PublishError, match="the Hub does not accept the token; make one"):
        run_recipe("cnn_gtzan", corpus, **flags)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(PublishError, match=r"the Hub asks for a token: make one .* `hf auth login`"):
        run_recipe("cnn_gtzan", corpus, **flags)
    assert not (tmp_path / "run").exists() and not hub.store.repositories


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(hub_model_id="x"), "hub_model_id=x publishes nothing without --push_to_hub"),
        (dict(hub_private_repo=True), "hub_private_repo=True publishes nothing without --push_to_hub"),
        (dict(hub_token="hf_secret"), r"hub_token=\.\.\. publishes nothing"),
        (dict(push_to_hub=True, hub_strategy="checkpoint"), "hub_strategy=checkpoint: only the finished model is"),
        (dict(push_to_hub=True, hub_always_push=True), "hub_always_push=True: a run is published once"),
        (dict(push_to_hub=True, hub_revision="v1"), "hub_revision=v1: a run is published once, on main"),
    ],
)
def test_a_flag_that_would_do_something_else_is_refused(corpus, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        run_recipe("cnn_gtzan", corpus, output_dir=tmp_path / "run", **flags)


def test_folds_are_not_published(corpus, tmp_path):
    flags = [f"--{key}={value}" for key, value in data_flags(corpus).items()]
    with pytest.raises(UserError, match="push_to_hub would publish every fold; leave it out, and publish one"):
        script("cross_validate").main(
            [str(ROOT / "recipes" / "cnn_gtzan.py"), "--output_dir", str(tmp_path), *flags, "--push_to_hub"]
        )


# When the Hub, or the way to it, fails


def test_a_push_that_fails_at_the_end_leaves_the_run_whole_and_says_how_to_go_on(hub, corpus, tmp_path):
    folder = tmp_path / "a run"
    hub.fail("POST", "/commit/main")
    with pytest.raises(PublishError) as caught:
        run_recipe("cnn_gtzan", corpus, **ONE_STEP, output_dir=folder, push_to_hub=True, hub_model_id="tiny")
    assert str(caught.value) == (
        f"the Hub has trouble (HTTP 503: told to answer 503); the run in {folder} is whole; try again with "
        f"`python scripts/push.py '{folder}' --hub_model_id tiny`"
    )
    assert caught.value.exit_code == 1 and (folder / "report.json").is_file()
    assert len(hub.repository("ada/tiny").commits) == 1 and TrackClassifier(str(folder))
    script("push").main([str(folder), "--hub_model_id", "tiny"])
    assert "model.safetensors" in hub.repository("ada/tiny").files


def test_the_client_tries_again_by_itself_and_waits_as_long_as_the_hub_asks(hub, run):
    hub.fail("PUT", f"/lfs/{digest(run / 'model.safetensors')}", status=503, times=2)
    hub.fail("POST", "/preupload/", status=429, headers={"Retry-After": "3"})
    publish_run(run)
    assert hub.waited[0] == 4 and hub.waited[1:] == [1, 2]  # seconds: one more than was asked for; then doubled
    assert hub.repository("ada/my-run").files["model.safetensors"].content == (run / "model.safetensors").read_bytes()


def test_an_upload_that_breaks_off_goes_on_where_it_was(hub, run):
    before, model = content(run), digest(run / "model.safetensors")
    hub.fail("PUT", model, drop=1000, times=6)
    with pytest.raises(
        PublishError, match=r"the connection to http://127.* failed \(.*\); the run in .* is whole; try"
    ):
        publish_run(run)
    assert len(hub.requests("PUT", model)) == 6 and len(hub.repository("ada/my-run").commits) == 1
    kept = set(hub.store.large)
    assert len(kept) == 4 and model not in kept  # the pictures
    hub.asked.clear()
    publish_run(run)
    assert [asked.path for asked in hub.requests("PUT", "/lfs/")] == [f"/lfs/{model}"]
    assert hub.repository("ada/my-run").files["model.safetensors"].oid == model and content(run) == before


def test_large_files_go_up_in_parts(hub, run):
    hub.part_bytes = 20_000
    size = (run / "model.safetensors").stat().st_size
    publish_run(run)
    sent = hub.requests("PUT", digest(run / "model.safetensors"))
    assert len(sent) == -(-size // 20_000) > 1 and sum(asked.body_bytes for asked in sent) == size


@pytest.mark.parametrize(
    "method, path, status, reason",
    [
        ("GET", "/whoami", 500, r"the Hub has trouble \(HTTP 500"),
        ("GET", "/whoami", 429, r"the Hub asks to wait: too many requests \(HTTP 429"),
        ("POST", "/repos/create", 403, r"the Hub refuses: the token may not write there \(HTTP 403"),
        ("POST", "/repos/create", 402, r"the Hub asks for payment: .* \(HTTP 402"),
        ("POST", "/preupload/", 401, r"the Hub does not accept the token any more \(HTTP 401"),
        ("POST", "/preupload/", 429, r"the Hub asks to wait: too many requests \(HTTP 429"),
        ("POST", "/lfs/objects/batch", 502, r"the Hub has trouble \(HTTP 502"),
        ("PUT", "/lfs/", 503, r"the Hub has trouble \(HTTP 503"),
        ("POST", "/commit/", 409, r"the Hub tells of a conflict: .* \(HTTP 409"),
        ("POST", "/commit/", 412, r"somebody else has committed to it at the same time \(HTTP 412"),
    ],
)
def test_whatever_the_hub_answers_is_one_line(hub, run, method, path, status, reason):
    hub.fail(method, path, status, times=99)
    with pytest.raises(PublishError, match=rf"{reason}.*\); the run in .* is whole; try again with `python") as caught:
        publish_run(run)
    assert "\n" not in str(caught.value)
    assert all(len(repository.commits) == 1 for repository in hub.store.repositories.values())


@pytest.mark.parametrize("private, flag", [(None, ""), (True, " --private True"), (False, " --private False")])
def test_the_command_to_try_again_asks_for_the_same_privacy(hub, run, private, flag):
    hub.fail("GET", "/whoami", 500)
    with pytest.raises(PublishError, match=rf"--hub_model_id my-run{flag}`$"):
        publish_run(run, private=private)


def test_a_name_that_another_command_takes_meanwhile_is_told(hub, run):
    publish_run(run)
    hub.fail("GET", "/api/models/ada/my-run", 404, headers={"X-Error-Code": "RepoNotFound"})
    publish_run(run)  # it was made between the question and the answer: 409 is no fault then
    assert len(hub.repository("ada/my-run").commits) == 2


def test_without_the_hub_a_script_ends_with_code_one_and_one_line(run, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_writer", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(ROOT / "scripts" / "push.py"), "my-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip() == (
        "push.py: error: the connection to http://127.0.0.1:9 failed ([Errno 111] Connection refused); the run in "
        "my-run is whole; try again with `python scripts/push.py my-run --hub_model_id my-run`"
    )


# What may not be mixed up


def test_a_public_repository_is_not_taken_for_a_private_one(hub, run):
    publish_run(run)
    with pytest.raises(UserError, match="ada/my-run is there already and public; make it private in its settings"):
        publish_run(run, private=True)


def test_a_token_in_a_file_is_not_published(hub, run):
    (run / "predictions.csv").write_text("track,hf_writer\n")
    with pytest.raises(UserError, match=r"predictions\.csv holds the token"):
        publish_run(run)
    assert not hub.store.repositories


@pytest.mark.parametrize(
    "lost, message",
    [
        ("report.json", "holds no finished run: its report.json is missing"),
        ("model.safetensors", r"holds no whole model: \*\.safetensors is missing"),
        ("config.json", r"holds no whole model: config\.json is missing"),
    ],
)
def test_half_a_run_is_not_published(hub, run, lost, message):
    (run / lost).unlink()
    with pytest.raises(UserError, match=message):
        publish_run(run)
    assert not hub.asked


def test_code_that_a_config_names_must_be_there(hub, runs, tmp_path):
    folder = shutil.copytree(runs["cnn_gtzan"], tmp_path / "cnn")
    (folder / "cnn.py").unlink()
    with pytest.raises(UserError, match=r"holds no whole model: cnn\.py is missing"):
        publish_run(folder)


def test_an_ensemble_comes_back_by_its_id_and_a_model_takes_its_place_whole(hub, runs, tmp_path, monkeypatch):
    made, link = tmp_path / "duo", tmp_path / "linked"
    names = [str(runs["ast_gtzan"]), str(runs["cnn_gtzan"])]
    script("ensemble").main([*names, "--output_dir", str(made), "--bootstrap_resamples", "100", "--weights", "2,1"])
    publish_run(made)
    found = hub.repository("ada/duo")
    assert {"ensemble.json", "members/1/model.safetensors", "members/2/cnn.py"} <= set(found.files)
    assert "predict.py ada/duo song.mp3" in found.files["README.md"].content.decode()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    hub_is_out_of_reach.cache_clear()
    try:
        music = tmp_path / "noise.wav"
        soundfile.write(music, np.random.default_rng(0).uniform(-0.5, 0.5, 40_000), 16_000)
        ours, fetched = open_classifier(str(made))(music), open_classifier("ada/duo")(music)
        np.testing.assert_allclose(fetched.probabilities, ours.probabilities, atol=1e-6)
        assert report_of("ada/duo") == read_json(made / "report.json") and report_of("ada/nobody") is None
        with pytest.raises(UserError, match="ada/duo is an ensemble; name its members instead"):
            script("ensemble").main(["ada/duo", names[0], "--output_dir", str(tmp_path / "nested")])
    finally:
        hub_is_out_of_reach.cache_clear()

    found.commit("by hand", {**found.files, "notes.md": found.files["README.md"]})
    publish_run(runs["ast_gtzan"], "duo")
    left = set(found.files) - {"notes.md", ".gitattributes"}
    assert not any(path.startswith("members/") or path == "ensemble.json" for path in left)
    assert "notes.md" in found.files and "model.safetensors" in left

    script("ensemble").main([*names, "--output_dir", str(link), "--bootstrap_resamples", "100", "--link"])
    with pytest.raises(UserError, match="instead of holding it; make the ensemble again without --link"):
        publish_run(link)
