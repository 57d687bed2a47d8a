"""A Space of the Hub that serves one published model: scripts/app.py, this package beside it, and what it needs."""

import shutil
import sys
from importlib import metadata
from pathlib import Path

import yaml

from hf_musiclf.errors import UserError
from hf_musiclf.files import write_whole
from hf_musiclf.hub_access import (
    asking_the_hub,
    find_destination,
    private_words,
    publish_files,
    refuse_token,
    try_again,
)

PACKAGE = Path(__file__).parent
DEEPEST_PACKAGE = 4  # folders below PACKAGE: two there are, and room for those of other versions
# Of the clone that this package is installed from: a wheel has neither.
APP, LICENCE = PACKAGE.parents[1] / "scripts" / "app.py", PACKAGE.parents[1] / "LICENSE"
START = '''"""Starts app.py with the model that this Space is for."""

import os
import runpy
from pathlib import Path

os.environ.setdefault("HF_MUSICLF_MODEL", {model!r})
runpy.run_path(str(Path(__file__).with_name("app.py")), run_name="__main__")
'''


def write_space(folder: Path, model: str, title: str, requirement: str | None = None) -> Path:
    """Make a folder that runs as a Space, or here by `python FOLDER/start.py`; an earlier one is replaced.

    model: Hub id. requirement: what pip installs this package by; None, as long as no index has it: the package itself
    is copied into the folder. Raises UserError where there is no clone to take app.py from, or a file in the way.
    """
    if not APP.is_file():
        raise UserError(f"{APP} is missing: it comes with the clone of hf-musiclf, not with the installed package")
    if folder.exists() and not (folder / "start.py").is_file():
        raise UserError(f"{folder} exists and is no Space of ours; move it away")

    def write(beside: Path) -> None:
        beside.mkdir()
        shutil.copyfile(APP, beside / "app.py")
        (beside / "start.py").write_text(START.format(model=model), encoding="utf-8")
        (beside / "README.md").write_text(_card(model, title), encoding="utf-8")
        (beside / "requirements.txt").write_text("\n".join(requirements(requirement)) + "\n", encoding="utf-8")
        if requirement is None:
            ours = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(PACKAGE, beside / "hf_musiclf", ignore=ours)
            shutil.copyfile(LICENCE, beside / "LICENSE")
        if folder.exists():
            shutil.rmtree(folder)

    return write_whole(folder, write)


def requirements(requirement: str | None = None) -> list[str]:
    """What pip is to install: all that this package asks for, with Gradio, and the package itself where it is told."""
    asked = [line.partition(";") for line in metadata.requires("hf-musiclf") or ()]
    needed = [name.strip() for name, _, marker in asked if not marker or 'extra == "app"' in marker]
    return needed if requirement is None else [requirement, *(name for name in needed if name.startswith("gradio"))]


def _card(model: str, title: str) -> str:
    """README.md: what the Hub reads to run the Space, see https://huggingface.co/docs/hub/spaces-config-reference."""
    about = {
        "title": title,
        "sdk": "gradio",
        "sdk_version": _gradio_version(),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
        "app_file": "start.py",
        "license": "apache-2.0",
        "models": [model],
        "tags": ["music", "audio-classification", "hf-musiclf"],
    }
    known = {key: value for key, value in about.items() if value is not None}
    text = yaml.safe_dump(known, sort_keys=False)
    return f"---\n{text}---\n\n# {title}\n\nDrop a file of music, and see what `{model}` says of it over time.\n"


def _gradio_version() -> str | None:
    try:
        return metadata.version("gradio")
    except metadata.PackageNotFoundError:
        return None  # the Hub takes its newest


def publish_space(
    folder: Path, run: Path, name: str, private: bool | None = None, token: str | None = None, requirement: str = ""
) -> str:
    """Publish what `write_space` made, in one commit; returns its address. Raises as `hub.publish_run` does.

    run: the folder of its model, for the command to try again.
    """
    words = ["python", "scripts/push.py", run, "--hub_model_id", name, "--space", *private_words(private)]
    what_to_do = try_again(
        f"the Space in {folder}", [*words, *(["--space_requirement", requirement] * bool(requirement))]
    )
    with asking_the_hub(what_to_do):
        to = find_destination(name, private, token, "space")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in paths}
    refuse_token(files, to.token)
    code = [f"hf_musiclf/{'*/' * depth}*.py" for depth in range(DEEPEST_PACKAGE + 1)]
    with asking_the_hub(what_to_do):
        return publish_files(to, files, "Space by hf-musiclf", code, "gradio")
