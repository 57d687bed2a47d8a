"""scripts/push.py: what it takes, and the Space that it writes."""

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
import yaml
from recipe_runs import ROOT

from hf_musiclf import spaces
from hf_musiclf.errors import PublishError, UserError
from hf_musiclf.spaces import publish_space, requirements, write_space

PACKAGE = ROOT / "src" / "hf_musiclf"


@pytest.fixture
def push():
    spec = importlib.util.spec_from_file_location("push", ROOT / "scripts" / "push.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *words: module.main(list(map(str, words)))


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "my-run", ignore=shutil.ignore_patterns("checkpoint-*"))


@pytest.fixture
def app(tmp_path, monkeypatch):
    """A stand-in for scripts/app.py that tells its model and whence it has our package."""
    path = tmp_path / "app.py"
    path.write_text(
        "import os\nimport hf_musiclf.windows\n"
        "print(os.environ['HF_MUSICLF_MODEL'], hf_musiclf.windows.__file__, __name__)\n"
    )
    monkeypatch.setattr(spaces, "APP", path)
    return path


def metadata_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_space_serves_the_published_model_by_the_very_app(hub, push, run, capsys):
    push(run, "--hub_model_id", "tiny", "--private", "--space")
    found = hub.repository("ada/tiny", "space")
    assert found.sdk == "gradio" and found.private and len(found.commits) == 2
    assert found.files["app.py"].content == (ROOT / "scripts" / "app.py").read_bytes()
    ours = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert {f"hf_musiclf/{path}" for path in ours} <= set(found.files) and "LICENSE" in found.files
    assert not any("__pycache__" in path or path.endswith(".safetensors") for path in found.files)
    about = metadata_of(found.files["README.md"].content.decode())
    assert about["models"] == ["ada/tiny"] and about["app_file"] == "start.py" and about["sdk"] == "gradio"
    assert about["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    told = capsys.readouterr().out
    assert f"published: {hub.url}/ada/tiny\n" in told and f"published: {hub.url}/spaces/ada/tiny\n" in told
    assert "the Space needs a secret HF_TOKEN" in told
    push(run, "--hub_model_id", "tiny", "--private", "--space")
    assert len(found.commits) == 2 and len(hub.repository("ada/tiny").commits) == 2  # nothing has changed


def test_a_space_runs_by_itself(app, tmp_path, monkeypatch):
    folder = write_space(tmp_path / "space", "ada/tiny", "Music")
    command = [sys.executable, str(folder / "start.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["ada/tiny", str(folder / "hf_musiclf" / "windows.py"), "__main__"], done.stderr
    monkeypatch.setenv("HF_MUSICLF_MODEL", "runs/mine")
    assert runpy.run_path(str(folder / "start.py"))["os"].environ["HF_MUSICLF_MODEL"] == "runs/mine"


def test_a_space_asks_for_what_the_package_asks_for_and_gradio():
    asked = requirements()
    listed = re.findall(r'"(.+?)",', (ROOT / "setup.py").read_text().split("install_requires=[")[1].split("]")[0])
    assert asked[:-1] == listed and asked[-1].startswith("gradio>=")
    assert requirements("hf-musiclf @ git+https://example.org/x") == [
        "hf-musiclf @ git+https://example.org/x", asked[-1],
    ]  # fmt: skip
    assert any(line.startswith("pytest") for line in metadata.requires("hf-musiclf"))  # which it leaves out


def test_with_a_requirement_the_package_is_not_copied(app, tmp_path):
    folder = write_space(tmp_path / "space", "ada/tiny", "Music", "hf-musiclf @ git+https://example.org/x")
    assert {path.name for path in folder.iterdir()} == {"app.py", "start.py", "README.md", "requirements.txt"}


def test_a_space_is_written_whole_and_over_nothing_else(app, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists and is no Space of ours; move it away"):
        write_space(tmp_path / "mine", "ada/tiny", "Music")
    write_space(tmp_path / "space", "ada/tiny", "Music")
    write_space(tmp_path / "space", "ada/other", "Music")
    assert "'ada/other'" in (tmp_path / "space" / "start.py").read_text()
    app.unlink()
    with pytest.raises(UserError, match=r"app\.py is missing: it comes with the clone of hf-musiclf"):
        write_space(tmp_path / "third", "ada/tiny", "Music")
    assert not (tmp_path / "third").exists()


def test_of_an_earlier_space_no_module_stays(hub, app, run, tmp_path):
    folder = write_space(tmp_path / "space", "ada/tiny", "Music")
    publish_space(folder, run, "ada/tiny")
    found = hub.repository("ada/tiny", "space")
    old = {f"hf_musiclf/{path}gone.py": found.files["app.py"] for path in ("", "data/", "data/maestro/")}
    found.commit("an earlier one", {**found.files, **old, "notes.md": found.files["app.py"]})
    publish_space(folder, run, "ada/tiny")
    assert not [path for path in found.files if path.endswith("gone.py")] and "notes.md" in found.files


def test_a_space_is_written_without_the_hub(push, run, app):
    with pytest.raises(UserError, match="name the model as USER/NAME, since the Hub is not asked who you are"):
        push(run, "--space_only")
    push(run, "--space_only", "--hub_model_id", "ada/tiny")
    assert metadata_of((run / "space" / "README.md").read_text())["models"] == ["ada/tiny"]


def test_a_space_that_fails_names_its_command(hub, push, run, app):
    hub.fail("POST", "/api/spaces/.*/commit/", 500)
    with pytest.raises(
        PublishError, match=r"the Space in .* is whole; try again with `.* --hub_model_id ada/tiny --space`"
    ):
        push(run, "--hub_model_id", "tiny", "--space")
    assert "model.safetensors" in hub.repository("ada/tiny").files


@pytest.mark.parametrize(
    "words, message",
    [
        (["--hub_dataset_id", "x"], "holds no data set of scripts/build_dataset.py; name a model by --hub_model_id"),
        (["--space_requirement", "x"], "space_requirement is for --space; add it"),
        (["--hub_model_id", "a..b"], r"'a\.\.b' is no name for the Hub \(Cannot have"),
        (["--hub_model_id", "ada/"], "'ada/' is no name for the Hub"),
        (["--hub_model_id", "linus/x"], "linus/x is not yours: the token is of ada and choir; begin the name with one"),
    ],
)
def test_a_mistake_is_one_line(hub, push, run, words, message):
    with pytest.raises(UserError, match=message) as caught:
        push(run, *words)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_what_is_no_finished_run_is_told(hub, push, finished, tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder; name that of a finished run"):
        push(tmp_path / "nowhere")
    (tmp_path / "cv").mkdir()
    (tmp_path / "cv" / "report.json").write_text('{"recipe": "cnn_gtzan", "folds": {}}')
    with pytest.raises(UserError, match="holds a cross-validation, which has no model of its own; publish a run"):
        push(tmp_path / "cv")
