"""Publishing: a finished run, an ensemble or the splits of a data set becomes a repository on the Hub, whole."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.utils import disable_progress_bars
from transformers.dynamic_module_utils import get_relative_import_files

from hf_musiclf.cards import model_card
from hf_musiclf.data.tracks import Tracks
from hf_musiclf.ensembles.cards import card as ensemble_card
from hf_musiclf.ensembles.folders import ENSEMBLE_FILE, MODEL_SUFFIXES
from hf_musiclf.errors import UserError
from hf_musiclf.files import read_json
from hf_musiclf.hub_access import (
    Destination,
    asking_the_hub,
    find_destination,
    private_words,
    publish_files,
    refuse_token,
    try_again,
)
from hf_musiclf.predictions import PREDICTIONS_FILE
from hf_musiclf.runs import CODE_FILES_OF, REPORT_FILE, Run, code_files

CARD, DATA_FACTS = "README.md", "splits.json"
# What Transformers reads of a folder, and what else a recipe leaves for readers. All other files are the user's own.
OF_A_MODEL = ("*.safetensors", "*.safetensors.index.json", *CODE_FILES_OF)
FOR_READERS = (CARD, REPORT_FILE, PREDICTIONS_FILE, "report/*.png")
# Of an earlier model in the same repository nothing may stay that would be read with, or before, this one.
OBSOLETE = (*OF_A_MODEL, *FOR_READERS, ENSEMBLE_FILE, "members/*/*")
OF_A_DATA_SET = (CARD, DATA_FACTS, "data/*.parquet", "data/*.csv")


def publish_run(
    folder: Path, hub_model_id: str | None = None, private: bool | None = None, token: str | None = None
) -> str:
    """Publish the model of a finished run, or an ensemble, in one commit; returns its address.

    hub_model_id: NAME or USER/NAME; None: the folder's name. private: of a new repository, None: as the account has it.
    token: None: that of `hf auth login` or HF_TOKEN. Checkpoints, run.json and files of other origin stay here. The
    card is made anew, so that it names the model by its id. The same call again goes on where it broke off, see
    `publish_files`. Raises UserError for a folder without a finished run or with links, and as `find_destination` does;
    PublishError, with the command to try again, where the Hub does not take it.
    """
    report, name = finished_run(folder), hub_model_id or folder.resolve().name
    words = ["python", "scripts/push.py", folder, "--hub_model_id", name, *private_words(private)]
    what_to_do = try_again(f"the run in {folder}", words)
    with asking_the_hub(what_to_do):
        to = find_destination(name, private, token)
    files = run_files(folder, report, to.repo_id)
    refuse_token(files, to.token)
    with asking_the_hub(what_to_do):
        return publish_files(to, files, f"{report['recipe']} by hf-musiclf", OBSOLETE)


def publish_if_asked(run: Run) -> dict[str, Any] | None:
    """Publish the finished run where `--push_to_hub` asks for it, from the first process; returns its report.

    The other processes need not wait: nothing of what they hold is needed any more.
    """
    if run.publish and run.is_main:
        if run.arguments["disable_tqdm"]:
            disable_progress_bars()
        where = publish_run(run.output_dir, run.publish.hub_model_id, run.publish.private, run.publish.token)
        print(f"published: {where}", flush=True)
    return run.report


def finished_run(folder: Path) -> dict[str, Any]:
    """The report of the run or ensemble in a folder. Raises UserError where it is not finished or holds no model."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name that of a finished run")
    report = read_json(folder / REPORT_FILE)
    if report is None or "recipe" not in report:
        raise UserError(f"{folder} holds no finished run: its {REPORT_FILE} is missing; see `--output_dir` of the run")
    if "folds" in report:
        raise UserError(f"{folder} holds a cross-validation, which has no model of its own; publish a run instead")
    if not (folder / ENSEMBLE_FILE).is_file():
        for needed in ("config.json", "preprocessor_config.json", "*.safetensors"):
            if not any(folder.glob(needed)):
                raise UserError(f"{folder} holds no whole model: {needed} is missing; run the recipe again")
    return report


def run_files(folder: Path, report: Mapping[str, Any], repo_id: str) -> dict[str, Path | bytes]:
    """What is published of a finished run or an ensemble: path in the repository -> file, or its content."""
    is_ensemble = (folder / ENSEMBLE_FILE).is_file()
    names = {name for pattern in FOR_READERS for name in _inside(folder, pattern)}
    if is_ensemble:
        names |= {ENSEMBLE_FILE, *_of_members(folder)}
        card = ensemble_card(report, repo_id)
    else:
        names |= {name for pattern in OF_A_MODEL for name in _inside(folder, pattern)} | with_imports(folder)
        card = str(model_card(dict(report), repo_id))
    return {name: folder / name for name in sorted(names)} | {CARD: card.encode()}


def _inside(folder: Path, pattern: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.glob(pattern) if path.is_file()]


def with_imports(folder: Path) -> set[str]:
    """Python files that the saved classes need: those that the configs name, and what these import beside them."""
    found = code_files(folder)
    missing = sorted(name for name in found if not (folder / name).is_file())
    if missing:
        raise UserError(f"{folder} holds no whole model: {missing[0]} is missing; run the recipe again")
    imported = {path for name in found for path in get_relative_import_files(folder / name)}
    return found | {Path(path).resolve().relative_to(folder.resolve()).as_posix() for path in imported}


def _of_members(folder: Path) -> set[str]:
    """Files of an ensemble's models. Raises UserError where it names folders elsewhere on this machine."""
    names = set()
    for member in (read_json(folder / ENSEMBLE_FILE) or {}).get("members", ()):
        place = member.get("folder")
        if place and not place.startswith("members/"):
            raise UserError(
                f"{folder} names its member {place} instead of holding it; make the ensemble again without --link"
            )
        if place:
            names |= {name for suffix in MODEL_SUFFIXES for name in _inside(folder, f"{place}/*{suffix}")}
    return names


def dataset_facts(tracks: Tracks, audio: bool) -> dict[str, Any]:
    """What stands in splits.json beside exported splits, by which they are published later, too."""
    source = tracks.table.source
    return {
        "source": source.name,
        "split_scheme": tracks.split_scheme,
        "split_seed": tracks.split_seed,
        "digest": tracks.digest(),
        "audio": audio,
        "restriction": source.restriction,
        "private": True if source.own else None,
    }


def publish_dataset(
    folder: Path,
    name: str | None = None,
    private: bool | None = None,
    allow_restricted_audio: bool = False,
    token: str | None = None,
) -> str:
    """Publish what scripts/build_dataset.py left in a folder, in one commit; returns its address.

    private: None is as the account has it, but for audio that somebody brought along, which is private. Raises
    UserError as `publish_run` does, and for audio whose licence restricts it where that is not confirmed.
    """
    facts = read_json(folder / DATA_FACTS)
    if facts is None:
        raise UserError(f"{folder} holds no {DATA_FACTS}; make it with scripts/build_dataset.py")
    if facts["audio"] and facts["restriction"] and not allow_restricted_audio:
        raise UserError(
            f"{folder} holds audio of {facts['source']} ({facts['restriction']}); pass --allow_restricted_audio if you "
            "may publish it, or build the table of splits alone: --push_to_hub does"
        )
    private = facts["private"] if private is None else private
    name = name or folder.resolve().name
    words: Sequence[Any] = ["python", "scripts/push.py", folder, "--hub_dataset_id", name, *private_words(private)]
    words = [*words, *(["--allow_restricted_audio"] if allow_restricted_audio else [])]
    what_to_do = try_again(f"the data set in {folder}", words)
    with asking_the_hub(what_to_do):
        to = find_destination(name, private, token, "dataset")
    files = {path: folder / path for pattern in OF_A_DATA_SET for path in _inside(folder, pattern)}
    files |= {CARD: _with_id(folder, to).encode()}
    refuse_token(files, to.token)
    with asking_the_hub(what_to_do):
        return publish_files(to, files, f"{facts['source']} by hf-musiclf", OF_A_DATA_SET)


def _with_id(folder: Path, to: Destination) -> str:
    """The card of a data set, naming it by its id where it named the folder, whatever that is called by now."""
    card = (folder / CARD).read_text(encoding="utf-8")
    return re.sub(r'load_dataset\("[^"]*"\)', f'load_dataset("{to.repo_id}")', card)
